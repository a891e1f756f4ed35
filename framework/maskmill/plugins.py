"""Finding plugins: installed packages (the built-ins are one), and drop-in files.

Both are pluggy plugins: modules with functions marked `@hookimpl`. A package is found
by an entry point in the group `maskmill`; a drop-in by its path. Loading guards
against accidents (a duplicate name, a misspelt hook), not against attackers: a
drop-in is code that runs with the user's rights.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib.metadata
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pluggy

from . import hookspecs
from .errors import PluginError, Problem
from .run.engine import Engine
from .stages import Backend, Filter, PromptSource, Stage, Writer

GROUP = "maskmill"
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
class Entry:
    """One registered thing.

    Attributes:
        role: a key of `ROLES`.
        name: what users write under `use:`.
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
    """The plugins that were found, by role and name."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.entries: dict[tuple[str, str], Entry] = {}
        self.drop_ins: dict[Path, str] = {}

    @classmethod
    def load(cls, drop_ins: Iterable[Path] = ()) -> Registry:
        """Load installed plugins, then these drop-in files.

        Raises:
            PluginError: one of them fails to load or to register.
        """
        registry = cls()
        for distribution, point in _entry_points():
            origin = BUILT_IN if distribution == GROUP else f"package {distribution}"
            registry.add(_load_entry_point(point, origin), origin)
        for path in drop_ins:
            if path not in registry.drop_ins:
                module, sha256 = load_file(path)
                registry.drop_ins[path] = sha256
                registry.add(module, str(path), sha256)
        return registry

    def add(self, plugin: ModuleType | object, origin: str, code: str = "") -> None:
        """Register one plugin and everything it offers.

        Raises:
            PluginError: an unknown hook, a wrong base class, or a name that is taken.
        """
        try:
            self.manager.register(plugin, name=f"{origin}:{getattr(plugin, '__name__', id(plugin))}")
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            known = ", ".join(hook for hook in vars(hookspecs) if hook.startswith(("register_", "run_", "image_")))
            raise PluginError(Problem(f"plugin {origin}: {_first_line(error)}", hint=f"known hooks: {known}")) from None
        for role, (base, hook) in ROLES.items():
            implementation = next(
                (i for i in getattr(self.manager.hook, hook).get_hookimpls() if i.plugin is plugin), None
            )
            if implementation is not None:
                _call(implementation.function, self._register(role, base, origin, code), origin, hook)

    def _register(self, role: str, base: type[Stage], origin: str, code: str) -> Callable[[str, type[Stage]], None]:
        def register(name: str, cls: type[Stage]) -> None:
            if not (isinstance(cls, type) and issubclass(cls, base)):
                raise PluginError(
                    f"plugin {origin}: {role} {name!r} must be a subclass of {base.__name__}, not {cls!r}"
                )
            if shadowing := [option for option in cls.model_fields if hasattr(base, option)]:
                raise PluginError(
                    f"plugin {origin}: {role} {name!r} has an option {shadowing[0]!r}, which hides"
                    f" {base.__name__}.{shadowing[0]}; give it another name, or, if that is the one you mean,"
                    f" write it without a type: {shadowing[0]} = ..."
                )
            if (taken := self.entries.get((role, name))) is not None:
                raise PluginError(f"two plugins register the {role} {name!r}: {taken.origin} and {origin}")
            self.entries[role, name] = Entry(role, name, cls, origin, code)

        return register

    def get(self, role: str, name: str) -> Entry:
        """The plugin of this role and name.

        Raises:
            PluginError: there is none; says which there are and the nearest spelling.
        """
        if (entry := self.entries.get((role, name))) is not None:
            return entry
        names = self.names(role)
        hint = suggestion(name, names)
        elsewhere = [other for other, taken in self.entries if taken == name]
        if elsewhere:
            hint = f"{name!r} is a {elsewhere[0]}; the {role}s are: {', '.join(names)}"
        raise PluginError(Problem(f"there is no {role} {name!r}", hint=hint))

    def names(self, role: str) -> list[str]:
        """The names registered for a role, sorted."""
        return sorted(name for kind, name in self.entries if kind == role)

    def backend(self, spec: str | Mapping[str, Any]) -> Backend:
        """A backend from its name or from what stands under `backend:`; not yet open.

        Raises:
            PluginError: no such backend.
            pydantic.ValidationError: an option is wrong.
        """
        return cast(Backend, self.build("backend", spec))

    def build(self, role: str, spec: str | Mapping[str, Any], base: Path | None = None) -> Stage:
        """A stage from its name or from `{"use": name, **options}`; not yet open.

        Args:
            role: a key of `ROLES`.
            spec: plain data, as it comes from YAML.
            base: the folder that relative paths are relative to; None leaves them as they are.
        """
        options = {"use": spec} if isinstance(spec, str) else dict(spec)
        entry = self.get(role, options.pop("use"))
        return entry.cls.from_options(options, base)


def suggestion(name: str, names: Sequence[str]) -> str:
    """What to take for a name that is none: the nearest of the known ones, or all of them."""
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}"


def find_drop_ins(pipeline_file: Path | None, named: Sequence[Path] = (), search: bool = True) -> list[Path]:
    """The drop-in files to load, in order: those named, then those lying beside the pipeline file.

    Args:
        pipeline_file: its folder's `plugins/`, and `plugins/` beside that folder, are searched.
        named: files or folders given by the user.
        search: False finds only those named.

    Raises:
        PluginError: a named path does not exist or holds no plugin.
    """
    found: dict[Path, None] = {}
    for path in named:
        if path.is_file():
            found[path.resolve()] = None
        elif path.is_dir():
            found.update(dict.fromkeys(_candidates(path)))
        else:
            raise PluginError(Problem(f"the plugin path '{path}' does not exist"))
    if search and pipeline_file is not None:
        here = pipeline_file.resolve().parent
        for folder in (here / "plugins", here.parent / "plugins"):
            found.update(dict.fromkeys(path for path in _candidates(folder) if _imports_maskmill(path)))
    return list(found)


def load_file(path: Path) -> tuple[ModuleType, str]:
    """Load a drop-in file; returns the module and the file's sha256.

    Raises:
        PluginError: it cannot be read or fails while it is imported; names file and line.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(Problem(f"cannot read the plugin: {error.strerror}", str(path))) from None
    sha256 = hashlib.sha256(source).hexdigest()
    name = f"maskmill_drop_in_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(Problem("a plugin is a Python file, whose name ends in .py", str(path)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look their module up there
    try:
        with warnings.catch_warnings():  # what pydantic warns of here, registration refuses
            warnings.filterwarnings("ignore", message="Field name .* shadows", category=UserWarning)
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that calls sys.exit is no plugin
        del sys.modules[name]
        raise _load_failure(error, path) from error
    return module, sha256


def _candidates(folder: Path) -> list[Path]:
    return [path.resolve() for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]


def _imports_maskmill(path: Path) -> bool:
    """Whether the file's source imports maskmill; a file that does not parse is no plugin of ours."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.split(".")[0] == "maskmill" for name in names):
            return True
    return False


def _entry_points() -> list[tuple[str, importlib.metadata.EntryPoint]]:
    """(distribution name and version, entry point), maskmill's own first; "maskmill" stands for itself."""
    points = []
    labels: dict[int, str] = {}  # a distribution parses its metadata at each question
    for point in importlib.metadata.entry_points(group=GROUP):
        distribution = point.dist
        if id(distribution) not in labels:
            name = distribution.name if distribution else "?"
            version = distribution.version if distribution else ""
            labels[id(distribution)] = GROUP if name == GROUP else f"{name} {version}".strip()
        points.append((labels[id(distribution)], point))
    return sorted(set(points), key=lambda item: (item[0] != GROUP, item[0], item[1].name))


def _load_entry_point(point: importlib.metadata.EntryPoint, origin: str) -> ModuleType:
    try:
        return cast(ModuleType, point.load())
    except Exception as error:
        raise _load_failure(error, None, f"{origin} ({point.value})") from error


def _load_failure(error: BaseException, path: Path | None, origin: str = "") -> PluginError:
    """A clear error for a plugin that fails while it is imported: its file and line, and what it raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is None or frame.filename == str(path)]
    line = own[-1].lineno if own else 0
    if isinstance(error, SyntaxError):
        line = error.lineno
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = f"pip install {error.name}"
    text = f"the plugin {origin}".rstrip() + f" fails to load: {type(error).__name__}: {error}"
    return PluginError(Problem(text, str(path) if path else "", line or 0, hint=hint))


def _call(function: Callable[..., object], register: Callable[..., None], origin: str, hook: str) -> None:
    try:
        function(register=register)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"plugin {origin}: {hook} raised {type(error).__name__}: {error}") from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])
