"""Whether a plugin keeps its role's contract: every check there is (`CHECKS`), and how they are run.

`check_file` calls each plugin of a drop-in file directly, on generated images, then runs it in a
pipeline whose other roles are fakes (`run_checks`). `maskmill plugins check` shows the verdicts.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from ..errors import PluginError, Problem
from ..images import Image
from ..plugins import hooks as hookspecs
from ..plugins.registry import ROLES, RegisteredPlugin, Registry
from . import plugin_checks, role_checks
from .bench import Bench, Broken, Check, watch_network
from .fakes import write_pictures
from .run_checks import check_observers, run_checks

OBSERVERS = ("run_started", "image_finished", "run_finished")

#: Every check of a plugin, in their order; the role "" stands for all roles.
CHECKS = (
    Check("", "has a docstring", plugin_checks.check_docstring),
    Check("", "documents its options", plugin_checks.check_option_docs),
    Check("", "has the methods of its role", plugin_checks.check_methods),
    Check("", "accepts its options", plugin_checks.check_options, is_essential=True),
    Check("", "finds what it needs", plugin_checks.check_requirements, is_essential=True),
    Check("", "opens and closes", plugin_checks.check_opening, is_essential=True),
    Check("prompt source", "returns prompts inside the image, of its kinds", role_checks.check_prompts),
    Check("prompt source", "returns the same prompts again", role_checks.check_prompts_again),
    Check("prompt source", "predicts its answers without being opened", role_checks.check_prediction),
    Check("backend", "declares the prompts it accepts", role_checks.check_accepted_kinds),
    Check("backend", "returns masks of the right size for each prompt", role_checks.check_masks),
    Check("backend", "returns the same masks again", role_checks.check_masks_again),
    Check("backend", "returns the same masks with its embedding", role_checks.check_embedding),
    Check("filter", "returns only masks that it was given", role_checks.check_filtered_masks),
    Check("filter", "handles an image without masks", role_checks.check_without_masks),
    Check("filter", "returns the same masks again", role_checks.check_filter_again),
    Check("writer", "returns the files it writes, in its folder", role_checks.check_files),
    Check("writer", "writes the same bytes again", role_checks.check_files_again),
    Check("writer", "needs pixels only if it declares so", role_checks.check_needs_pixels),
    Check("writer", "handles a run without images", role_checks.check_empty_run),
    Check("", "declares its network access", plugin_checks.check_network),
    Check("", "prints nothing to standard output", plugin_checks.check_prints),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one check.

    Attributes:
        subject: what was checked, such as "filter 'big'".
        rule: as a statement about the subject.
        problem: how the rule is broken; "" if it is kept.
        hint: what to do, or "".
    """

    subject: str
    rule: str
    problem: str = ""
    hint: str = ""

    def __str__(self) -> str:
        if not self.problem:
            return f"ok       {self.subject}: {self.rule}"
        hint = f"\n         {self.hint}" if self.hint else ""
        return f"problem  {self.subject}: {self.rule}\n         {self.problem}{hint}"


def check_file(
    file: Path, settings: Mapping[str, Any], engines: Sequence[str] = ("inline", "joblib")
) -> Iterator[Verdict]:
    """Check every plugin of a drop-in file.

    Args:
        file: the file.
        settings: options, as in YAML; each goes to the plugins that have it.
        engines: those that run it for real.

    Raises:
        PluginError: the file cannot be loaded, or no plugin has an option of `settings`.
    """
    file = file.resolve()
    registry = Registry.load([file])
    entries = [entry for entry in registry.entries.values() if entry.origin == str(file)]
    hooks = [hook for hook in _hooks(registry, file) if hook not in {of for _, of in ROLES.values()}]
    known = {name for entry in entries for name in _names(entry)}
    if unknown := sorted(set(settings) - known):
        hint = f"there are: {', '.join(sorted(known))}" if known else "its plugins have no options"
        raise PluginError(Problem(f"no plugin of {file.name} has the option {unknown[0]!r}", hint=hint))
    yield run_check(file.name, "registers a plugin", partial(_check_registered, entries, hooks))
    with tempfile.TemporaryDirectory(prefix="maskmill-check-", ignore_cleanup_errors=True) as folder:
        photos = Path(folder, "photos")
        images = [Image.load(ref) for ref in write_pictures(photos)]
        for number, entry in enumerate(entries):
            options = {name: value for name, value in settings.items() if name in _names(entry)}
            bench = Bench(entry, options, images, Path(folder, f"plugin-{number}"))
            yield from _check_plugin(bench, engines)
        if "register_commands" in hooks:
            check = partial(plugin_checks.check_commands, _find_hook(registry, file, "register_commands"))
            yield run_check(file.name, "its commands describe themselves", check)
        if observed := [hook for hook in hooks if hook in OBSERVERS]:
            rule = f"{', '.join(observed)} work in a run"
            check = partial(check_observers, file, photos, Path(folder, "observed"), OBSERVERS)
            yield run_check(file.name, rule, check)


def problems(file: Path, options: Mapping[str, Any] | None = None, engines: Sequence[str] = ("inline",)) -> list[str]:
    """What `maskmill plugins check` finds wrong with a drop-in file, a text each.

    Args:
        file: the drop-in file.
        options: of its plugins, as in YAML.
        engines: those that run it for real; none for the quick checks alone.

    Raises:
        PluginError: the file cannot be loaded.
    """
    return [str(verdict) for verdict in check_file(file, options or {}, engines) if verdict.problem]


def run_check(subject: str, rule: str, check: Callable[[], object]) -> Verdict:
    """Run one check; whatever it raises is the problem."""
    try:
        check()
    except Broken as broken:
        return Verdict(subject, rule, str(broken), broken.hint)
    except (Exception, SystemExit) as error:
        return Verdict(subject, rule, f"{type(error).__name__}: {error}")
    return Verdict(subject, rule)


def _check_plugin(bench: Bench, engines: Sequence[str]) -> Iterator[Verdict]:
    """All checks of one plugin; an essential one that fails ends them."""
    entry = bench.entry
    checks = [check for check in CHECKS if check.role in ("", entry.role)]
    with watch_network() as bench.connections:
        for check in [*checks, *run_checks(bench, engines)]:
            with redirect_stdout(bench.printed):
                verdict = run_check(f"{entry.role} {entry.name!r}", check.rule, partial(check.function, bench))
            yield verdict
            if verdict.problem and check.is_essential:
                return


def _hooks(registry: Registry, file: Path) -> list[str]:
    """The hooks that this file implements."""
    plugins = {plugin for name, plugin in registry.manager.list_name_plugin() if name.startswith(f"{file}:")}
    known = vars(registry.manager.hook)
    callers = [known[name] for name in vars(hookspecs) if name in known]
    return [caller.name for caller in callers if plugins & {impl.plugin for impl in caller.get_hookimpls()}]


def _names(entry: RegisteredPlugin) -> list[str]:
    """Its options, as they stand in YAML."""
    return [field.alias or name for name, field in entry.cls.model_fields.items()]


def _find_hook(registry: Registry, file: Path, hook: str) -> Callable[..., None]:
    """The function by which this file implements a hook."""
    found = getattr(registry.manager.hook, hook).get_hookimpls()
    return cast(Callable[..., None], next(each.function for each in found if each.plugin_name.startswith(f"{file}:")))


def _check_registered(entries: Sequence[RegisteredPlugin], hooks: Sequence[str]) -> None:
    if not entries and not hooks:
        known = ", ".join(hook for _, hook in ROLES.values())
        raise Broken("it registers nothing", f"write `@hookimpl` above a function with one of these names: {known}")
