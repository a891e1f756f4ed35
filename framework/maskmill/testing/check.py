"""Trying a plugin out: does it keep its role's contract, on images made for the purpose?

`try_out` asks each plugin of a drop-in file directly (`roles`), then runs it in a
pipeline whose other roles are fakes (`runs`). `maskmill plugins check` shows the answers.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..config.option_errors import explain_validation_error
from ..errors import PluginError, Problem, nearest_name
from ..images import Image
from ..plugins import hooks as hookspecs
from ..plugins.optional import network_reach, optional_methods
from ..plugins.options import OptionSchema, list_options
from ..plugins.registry import ROLES, RegisteredPlugin, Registry
from ..plugins.stage import Stage
from . import fakes as testing
from .bench import Bench, Broken, watched_network
from .roles import CHECKS
from .runs import check_observers, check_runs

OBSERVERS = ("run_started", "image_finished", "run_finished")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one check.

    Attributes:
        subject: what was checked, such as "filter 'big'".
        what: the rule, as a statement.
        problem: how it is broken; "" if it is kept.
        hint: what to do, or "".
    """

    subject: str
    what: str
    problem: str = ""
    hint: str = ""

    def __str__(self) -> str:
        if not self.problem:
            return f"ok       {self.subject}: {self.what}"
        hint = f"\n         {self.hint}" if self.hint else ""
        return f"problem  {self.subject}: {self.what}\n         {self.problem}{hint}"


def try_out(
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
    yield attempt(file.name, "registers something", partial(_registers, entries, hooks))
    with tempfile.TemporaryDirectory(prefix="maskmill-check-", ignore_cleanup_errors=True) as folder:
        photos = Path(folder, "photos")
        images = [Image.load(ref) for ref in testing.write_pictures(photos)]
        for number, entry in enumerate(entries):
            options = {name: value for name, value in settings.items() if name in _names(entry)}
            yield from _try(entry, options, images, Path(folder, f"plugin-{number}"), engines)
        if observed := [hook for hook in hooks if hook in OBSERVERS]:
            text = f"{', '.join(observed)} follow a run"
            yield attempt(file.name, text, partial(check_observers, file, photos, Path(folder, "observed"), OBSERVERS))


def problems(file: Path, options: Mapping[str, Any] | None = None, engines: Sequence[str] = ("inline",)) -> list[str]:
    """What `maskmill plugins check` finds wrong with a drop-in file, a text each.

    Args:
        file: the drop-in file.
        options: of its plugins, as in YAML.
        engines: those that run it for real; none for the quick checks alone.

    Raises:
        PluginError: the file cannot be loaded.
    """
    return [str(verdict) for verdict in try_out(file, options or {}, engines) if verdict.problem]


def attempt(subject: str, what: str, check: Callable[[], object]) -> Verdict:
    """Do a check; whatever it raises is the problem."""
    try:
        check()
    except Broken as broken:
        return Verdict(subject, what, str(broken), broken.hint)
    except (Exception, SystemExit) as error:
        return Verdict(subject, what, f"{type(error).__name__}: {error}")
    return Verdict(subject, what)


def _try(
    entry: RegisteredPlugin, options: Mapping[str, Any], images: Sequence[Image], folder: Path, engines: Sequence[str]
) -> Iterator[Verdict]:
    """All about one plugin; what cannot go on ends it."""
    bench = Bench(entry, options, images, folder)
    subject = f"{entry.role} {entry.name!r}"
    yield attempt(subject, "says what it does", partial(_is_described, entry.cls))
    yield attempt(subject, "describes its options", partial(_options_are_described, entry.cls))
    yield attempt(subject, "has the methods of its role", partial(_has_methods, entry))
    for what, check in (
        ("takes its options", partial(_takes_options, bench)),
        ("has what it needs", partial(_has_what_it_needs, bench)),
        ("opens and closes", partial(_opens, bench)),
    ):
        yield (verdict := attempt(subject, what, check))
        if verdict.problem:
            return
    with watched_network() as reached:
        for what, ask in CHECKS.get(entry.role, ()):
            yield attempt(subject, what, partial(ask, bench))
    yield attempt(subject, "says how far it reaches", partial(_reaches_no_further, bench, reached))
    yield from (attempt(subject, what, check) for what, check in check_runs(bench, engines))


def _hooks(registry: Registry, file: Path) -> list[str]:
    """The hooks that this file implements."""
    plugins = {plugin for name, plugin in registry.manager.list_name_plugin() if name.startswith(f"{file}:")}
    callers = [
        registry.manager.hook.__dict__[name] for name in vars(hookspecs) if name in registry.manager.hook.__dict__
    ]
    return [caller.name for caller in callers if plugins & {impl.plugin for impl in caller.get_hookimpls()}]


def _names(entry: RegisteredPlugin) -> list[str]:
    """Its options, as they stand in YAML."""
    return [field.alias or name for name, field in entry.cls.model_fields.items()]


def _registers(entries: Sequence[RegisteredPlugin], hooks: Sequence[str]) -> None:
    if not entries and not hooks:
        known = ", ".join(hook for _, hook in ROLES.values())
        raise Broken("it registers nothing", f"write `@hookimpl` above a function with one of these names: {known}")


def _is_described(cls: type[Stage]) -> None:
    if not (cls.__doc__ or "").strip() or cls.__doc__ == next(c.__doc__ for c in cls.__mro__[1:] if c.__doc__):
        raise Broken(f"the class {cls.__name__} has no docstring", "its first line is shown by: maskmill plugins list")


def _options_are_described(cls: type[Stage]) -> None:
    if silent := [row.name for row in list_options(cls) if not row.meaning]:
        hint = f'for example: {silent[0]}: ... = Field(..., description="...")'
        raise Broken(f"no description: {', '.join(silent)}", hint)
    if cls.model_fields and not OptionSchema(cls).keys(()):
        raise Broken("an option is of a type without JSON Schema", "use types that pydantic can describe")


def _has_methods(entry: RegisteredPlugin) -> None:
    base = ROLES[entry.role][0]
    cls = entry.cls
    roles_own = [vars(part) for part in base.__mro__ if issubclass(part, Stage)]
    known = {name: getattr(base, name) for names in roles_own for name in names if inspect.isroutine(names[name])}
    known = {name: method for name, method in known.items() if name[0] != "_"} | optional_methods(entry.role)
    own = {name for part in cls.__mro__ if part not in base.__mro__ for name in vars(part)}
    if not own & _needed(entry.role):
        raise Broken(f"the method {' or '.join(sorted(_needed(entry.role)))} is missing")
    for name in sorted(name for name in own - known.keys() if not name.startswith("_")):
        close = nearest_name(name, known.keys() - own, 0.8)
        if close and inspect.isfunction(getattr(cls, name, None)):
            raise Broken(f"{cls.__name__}.{name} is none of the role's methods", f"did you mean {close!r}?")
    for name in sorted(own & known.keys()):
        _fits(cls, known[name], name)


def _needed(role: str) -> set[str]:
    methods = {"prompt source": {"prompts"}, "backend": {"masks"}, "filter": {"apply"}, "writer": {"write", "finish"}}
    return methods.get(role, {"submit"})


def _fits(cls: type[Stage], method: Callable[..., Any], name: str) -> None:
    """Raise if an overridden method cannot be called as the role's own."""
    wanted = inspect.signature(method)
    written = inspect.signature(getattr(cls, name))
    try:
        written.bind(*wanted.parameters)
    except TypeError as error:
        hint = f"write it as {name}{wanted}".replace("'", "")
        raise Broken(f"{name}{written} does not fit: {error}", hint) from None


def _takes_options(bench: Bench) -> None:
    cls = bench.entry.cls
    try:
        stage = bench.make()
    except ValidationError as error:
        owner = f"the {bench.entry.role} {bench.entry.name!r}"
        found = explain_validation_error(error, cls, dict(bench.options), owner)
        missing = {
            str(item["loc"][0]) for item in error.errors() if item["type"] == "missing" and len(item["loc"]) == 1
        }
        hint = (
            "give it one: " + " ".join(f"--set {name}=VALUE" for name in sorted(missing)) if missing else found[0].hint
        )
        raise Broken(str(found[0]), hint) from None
    if stage.digest() != bench.make().digest():
        raise Broken("digest() differs between two of the same options", "an option has no stable JSON form")


def _has_what_it_needs(bench: Bench) -> None:
    stage = bench.make()
    found = stage.missing() or stage.check()
    if not isinstance(found, list) or not all(isinstance(problem, Problem) for problem in found):
        raise Broken(f"check() returns {found!r}", "it returns a list of maskmill.Problem, [] if all is well")
    if errors := [problem for problem in found if not problem.warning]:
        text = f"{errors[0].where}: {errors[0].message}" if errors[0].where else errors[0].message
        raise Broken(text, errors[0].hint or "options are given with --set OPTION=VALUE")


def _opens(bench: Bench) -> None:
    with bench.opened():
        pass


def _reaches_no_further(bench: Bench, reached: Sequence[str]) -> None:
    said = network_reach(bench.make())
    if said not in {"none", "lan", "internet"}:
        raise Broken(f"reaches() says {said!r}", 'it is "none", "lan" or "internet"')
    if reached and said == "none":
        hint = 'write network = "internet" (or "lan") into the class; --offline goes by it'
        raise Broken(f"it connected to {reached[0]}, and says that it needs no network", hint)
