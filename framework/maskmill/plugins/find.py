"""Where plugins are found: entry points of installed packages, and drop-in files; and how one is imported."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

from ..errors import PluginError, Problem

GROUP = "maskmill"


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


def entry_points() -> list[tuple[str, importlib.metadata.EntryPoint]]:
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


def load_entry_point(point: importlib.metadata.EntryPoint, origin: str) -> ModuleType:
    """Import what an installed package offers.

    Raises:
        PluginError: it fails while it is imported; names file and line.
    """
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
