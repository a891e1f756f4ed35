"""`Registry`: the plugins of installed packages (such as the built-ins) and of drop-in files, by role and name.

All of them are pluggy plugins: modules with functions marked `@hookimpl`. A package is found by an entry
point in the group `maskmill`, a drop-in by its path. Loading guards against mistakes (a duplicate name,
a misspelt hook), not against attackers: a drop-in is code that runs with the user's rights.

Built-ins are imported on first use, so that a run that uses four of thirty does not load the others.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pluggy

from ..errors import PluginError, Problem, suggest_name
from . import hooks as hookspecs
from .engine import Engine
from .find import GROUP, find_module_file, list_entry_points, load_entry_point, load_file
from .hook_errors import check_hooks, explain_hook_error
from .optional import optional_methods
from .roles import Backend, Filter, PromptSource, Writer
from .stage import Stage

BUILT_IN = "built-in"

#: role -> (base class, hook that registers it)
ROLES: Mapping[str, tuple[type[Stage], str]] = {
    "prompt source": (PromptSource, "register_prompt_sources"),
    "backend": (Backend, "register_backends"),
    "filter": (Filter, "register_filters"),
    "writer": (Writer, "register_writers"),
    "engine": (Engine, "register_engines"),
}


@dataclass(frozen=True, slots=True)
class RegisteredPlugin:
    """One registered class.

    Attributes:
        role: a key of `ROLES`.
        name: what users write after `use:`.
        cls: the class.
        origin: "built-in", "package NAME VERSION", or the path of the drop-in file.
        code: sha256 of the drop-in file, "" for installed plugins (their `version` counts).
    """

    role: str
    name: str
    cls: type[Stage]
    origin: str
    code: str


class Registry:
    """The plugins that were found, by role and name.

    Built-ins have one entry point per registered name or command, so that only the one that is needed
    is imported; the others stay in `_waiting`.

    Attributes:
        manager: calls the hooks.
        drop_ins: the loaded drop-in files, with their sha256.
        failures: why plugins were left out that could not be imported or registered, as warnings.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.drop_ins: dict[Path, str] = {}
        self.failures: list[Problem] = []
        self._entries: dict[tuple[str, str], RegisteredPlugin] = {}
        self._waiting: dict[str, importlib.metadata.EntryPoint] = {}
        self._disputed: dict[tuple[str, str], Problem] = {}

    @classmethod
    def load(cls, drop_ins: Iterable[Path] = (), optional: Collection[Path] = ()) -> Registry:
        """Load the plugins of other packages, then these drop-in files.

        Packages and optional drop-ins that cannot be imported or registered are left out; `failures` has the
        reasons. A drop-in that is the module of an installed package takes the package's place.

        Args:
            drop_ins: the files.
            optional: those of them that may be left out.

        Raises:
            PluginError: one of the others cannot be imported or registered.
        """
        registry = cls()
        paths = dict.fromkeys(drop_ins)
        files = {path.resolve() for path in paths}
        for distribution, point in list_entry_points():
            if distribution == GROUP:
                registry._waiting[point.name] = point
            elif not files or find_module_file(point) not in files:
                registry._load(point, f"package {distribution}", is_optional=True)
        for path in paths:
            try:
                module, sha256 = load_file(path)
                registry.add(module, str(path), sha256)
            except PluginError as error:
                if path not in optional:
                    raise
                registry._leave_out(error)
            else:
                registry.drop_ins[path] = sha256
        return registry

    def load_all(self) -> None:
        """Load the built-ins that are not loaded yet."""
        for name in list(self._waiting):
            self.load_waiting(name)

    def load_waiting(self, name: str) -> None:
        """Load the built-in that registers this name or command, if it is not loaded yet."""
        if (point := self._waiting.pop(name, None)) is not None:
            self._load(point, BUILT_IN)

    def _leave_out(self, error: PluginError) -> None:
        self.failures += [replace(problem, warning=True) for problem in error.problems]

    def _load(self, point: importlib.metadata.EntryPoint, origin: str, is_optional: bool = False) -> None:
        try:
            plugin = load_entry_point(point, origin)
            if not self.manager.is_registered(plugin):  # several names may have one module
                self.add(plugin, origin)
        except PluginError as error:
            if not is_optional:
                raise
            self._leave_out(error)

    @property
    def entries(self) -> Mapping[tuple[str, str], RegisteredPlugin]:
        """All plugins by role and name; loads the built-ins."""
        self.load_all()
        return self._entries

    def add(self, plugin: ModuleType | object, origin: str, code: str = "") -> None:
        """Register one plugin and all its classes; none of them if one cannot be registered.

        Raises:
            PluginError: an unknown hook, a wrong base class, or a name that is already registered.
        """
        check_hooks(plugin, origin)
        before = dict(self._entries)
        try:
            self.manager.register(plugin, name=f"{origin}:{getattr(plugin, '__name__', id(plugin))}")
            self.manager.check_pending()
            for role, (base, hook) in ROLES.items():
                implementation = next(
                    (i for i in getattr(self.manager.hook, hook).get_hookimpls() if i.plugin is plugin), None
                )
                if implementation is not None:
                    _call_hook(implementation.function, self._make_register(role, base, origin, code), origin, hook)
        except (PluginError, pluggy.PluginValidationError) as error:
            self._entries = {key: entry for key, entry in self._entries.items() if entry.origin != origin} | before
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            if isinstance(error, pluggy.PluginValidationError):
                raise explain_hook_error(error, plugin, origin) from None
            raise

    def _make_register(
        self, role: str, base: type[Stage], origin: str, code: str
    ) -> Callable[[str, type[Stage]], None]:
        reserved = optional_methods(role)

        def register(name: str, cls: type[Stage]) -> None:
            if problem := _check_class(role, name, cls):
                raise PluginError(replace(problem, message=f"plugin {origin}: {problem.message}"))
            if shadowing := [option for option in cls.model_fields if hasattr(base, option) or option in reserved]:
                raise PluginError(
                    f"plugin {origin}: {role} {name!r} has an option {shadowing[0]!r}, which hides"
                    f" {base.__name__}.{shadowing[0]}; rename the option, or, to set the attribute,"
                    f" remove its type: {shadowing[0]} = ..."
                )
            self.load_waiting(name)
            if (other := self._entries.get((role, name))) is not None:
                problem = Problem(f"two plugins register the {role} {name!r}: {other.origin} and {origin}")
                self._disputed[role, name] = problem
                raise PluginError(problem)
            self._entries[role, name] = RegisteredPlugin(role, name, cls, origin, code)

        return register

    def get(self, role: str, name: str, advice: str = "") -> RegisteredPlugin:
        """The plugin of this role and name.

        Args:
            role: a key of `ROLES`.
            name: as after `use:`.
            advice: what else to do if there is none, for the hint.

        Raises:
            PluginError: there is none, with the nearest name as a hint and what could not be loaded; or there are two.
        """
        self.load_waiting(name)
        if (problem := self._disputed.get((role, name))) is not None:
            raise PluginError(problem)
        if (entry := self._entries.get((role, name))) is not None:
            return entry
        names = self.names(role)
        hint = suggest_name(name, names)
        elsewhere = [other for other, taken in self.entries if taken == name]
        if elsewhere:
            hint = f"{name!r} is a {elsewhere[0]}; the {role}s are: {', '.join(names)}"
        hint = "\n  ".join(filter(None, [hint, advice]))
        failures = [replace(problem, warning=False) for problem in self.failures]
        raise PluginError(Problem(f"there is no {role} {name!r}", hint=hint), *failures)

    def names(self, role: str) -> list[str]:
        """The names registered for a role, sorted."""
        return sorted(name for kind, name in self.entries if kind == role)

    def backend(self, spec: str | Mapping[str, Any]) -> Backend:
        """Build a backend from its name or from the content of `backend:`; not yet open.

        Raises:
            PluginError: there is no such backend.
            pydantic.ValidationError: an option is invalid.
        """
        return cast(Backend, self.build("backend", spec))

    def build(self, role: str, spec: str | Mapping[str, Any], base: Path | None = None) -> Stage:
        """Build a stage from its name or from `{"use": name, **options}`; not yet open.

        Args:
            role: a key of `ROLES`.
            spec: plain data, as in YAML.
            base: the folder that relative paths start from; None leaves them unchanged.
        """
        options = {"use": spec} if isinstance(spec, str) else dict(spec)
        entry = self.get(role, options.pop("use"))
        return entry.cls.from_options(options, base)


def _call_hook(function: Callable[..., object], register: Callable[..., None], origin: str, hook: str) -> None:
    try:
        function(register=register)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"plugin {origin}: {hook} raised {type(error).__name__}: {error}") from error


def _check_class(role: str, name: object, cls: object) -> Problem | None:
    """What is wrong with a class that is registered for a role, with the hook that fits it; None if nothing is."""
    base, hook = ROLES[role]
    if not isinstance(name, str):
        hint = f'write: register("NAME", {getattr(name, "__name__", "Class")})'
        return Problem(f"{hook}: expected a name and a class, got {name!r}", hint=hint)
    if isinstance(cls, type) and issubclass(cls, base):
        return None
    if isinstance(cls, Stage):
        of = type(cls).__name__
        return Problem(f"{hook}: {name!r} is an instance of {of}", hint=f'give the class: register("{name}", {of})')
    if not isinstance(cls, type):
        return Problem(f"{hook}: expected a class for {name!r}, not {cls!r:.100}")
    if own := next((kind for kind, (of, _) in ROLES.items() if issubclass(cls, of)), ""):
        text = f"{cls.__name__} is {'an' if own[0] in 'aeiou' else 'a'} {own}, so it cannot be the {role} {name!r}"
        return Problem(text, hint=f"register it in `{ROLES[own][1]}` instead of `{hook}`")
    return Problem(f"{role} {name!r} must be a subclass of {base.__name__}: class {cls.__name__}({base.__name__})")
