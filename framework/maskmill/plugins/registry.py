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
from .find import GROUP, list_entry_points, load_entry_point, load_file
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
        failures: why plugins were left out that could not be imported, as warnings.
    """

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.drop_ins: dict[Path, str] = {}
        self.failures: list[Problem] = []
        self._entries: dict[tuple[str, str], RegisteredPlugin] = {}
        self._waiting: dict[str, importlib.metadata.EntryPoint] = {}

    @classmethod
    def load(cls, drop_ins: Iterable[Path] = (), optional: Collection[Path] = ()) -> Registry:
        """Load the plugins of other packages, then these drop-in files.

        Packages and optional drop-ins that cannot be imported are left out; `failures` has the reasons.

        Args:
            drop_ins: the files.
            optional: those of them that may be left out.

        Raises:
            PluginError: one of the others cannot be imported, or one cannot be registered.
        """
        registry = cls()
        for distribution, point in list_entry_points():
            if distribution == GROUP:
                registry._waiting[point.name] = point
            else:
                registry._load(point, f"package {distribution}", is_optional=True)
        for path in drop_ins:
            if path not in registry.drop_ins:
                try:
                    module, sha256 = load_file(path)
                except PluginError as error:
                    if path not in optional:
                        raise
                    registry._leave_out(error)
                    continue
                registry.drop_ins[path] = sha256
                registry.add(module, str(path), sha256)
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
        except PluginError as error:
            if not is_optional:
                raise
            self._leave_out(error)
            return
        if not self.manager.is_registered(plugin):  # several names may have one module
            self.add(plugin, origin)

    @property
    def entries(self) -> Mapping[tuple[str, str], RegisteredPlugin]:
        """All plugins by role and name; loads the built-ins."""
        self.load_all()
        return self._entries

    def add(self, plugin: ModuleType | object, origin: str, code: str = "") -> None:
        """Register one plugin and all its classes.

        Raises:
            PluginError: an unknown hook, a wrong base class, or a name that is already registered.
        """
        try:
            self.manager.register(plugin, name=f"{origin}:{getattr(plugin, '__name__', id(plugin))}")
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            known = ", ".join(hook for hook in vars(hookspecs) if hook.startswith(("register_", "run_", "image_")))
            raise PluginError(Problem(f"plugin {origin}: {_shorten(error)}", hint=f"known hooks: {known}")) from None
        for role, (base, hook) in ROLES.items():
            implementation = next(
                (i for i in getattr(self.manager.hook, hook).get_hookimpls() if i.plugin is plugin), None
            )
            if implementation is not None:
                _call_hook(implementation.function, self._make_register(role, base, origin, code), origin, hook)

    def _make_register(
        self, role: str, base: type[Stage], origin: str, code: str
    ) -> Callable[[str, type[Stage]], None]:
        reserved = optional_methods(role)

        def register(name: str, cls: type[Stage]) -> None:
            if not (isinstance(cls, type) and issubclass(cls, base)):
                raise PluginError(
                    f"plugin {origin}: {role} {name!r} must be a subclass of {base.__name__}, not {cls!r}"
                )
            if shadowing := [option for option in cls.model_fields if hasattr(base, option) or option in reserved]:
                raise PluginError(
                    f"plugin {origin}: {role} {name!r} has an option {shadowing[0]!r}, which hides"
                    f" {base.__name__}.{shadowing[0]}; rename the option, or, to set the attribute,"
                    f" remove its type: {shadowing[0]} = ..."
                )
            self.load_waiting(name)
            if (other := self._entries.get((role, name))) is not None:
                raise PluginError(f"two plugins register the {role} {name!r}: {other.origin} and {origin}")
            self._entries[role, name] = RegisteredPlugin(role, name, cls, origin, code)

        return register

    def get(self, role: str, name: str) -> RegisteredPlugin:
        """The plugin of this role and name.

        Raises:
            PluginError: there is none; the hint has the nearest name, and what could not be loaded follows.
        """
        self.load_waiting(name)
        if (entry := self._entries.get((role, name))) is not None:
            return entry
        names = self.names(role)
        hint = suggest_name(name, names)
        elsewhere = [other for other, taken in self.entries if taken == name]
        if elsewhere:
            hint = f"{name!r} is a {elsewhere[0]}; the {role}s are: {', '.join(names)}"
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


def _shorten(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])
