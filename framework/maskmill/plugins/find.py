"""Finds and imports plugins: entry points of installed packages, and drop-in files."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import io
import re
import sys
import tokenize
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

from pydantic import PydanticUserError

from ..errors import PluginError, Problem
from .packages import explain_import

GROUP = "maskmill"
#: How the modules of drop-ins are named in `sys.modules`.
_DROP_IN = "maskmill_drop_in_"
_LOOKS_LIKE_IMPORT = re.compile(rb"\b(from|import)\s+maskmill\b")


def find_drop_ins(pipeline_file: Path | None, named: Sequence[Path] = (), search: bool = True) -> list[Path]:
    """The drop-in files to load, in order: those named by the user, then those found near the pipeline file.

    Args:
        pipeline_file: `plugins/` in its folder, and `plugins/` next to that folder, are searched.
        named: files or folders given by the user.
        search: False returns only those named.

    Raises:
        PluginError: a named path does not exist.
    """
    found: dict[Path, None] = {}
    for path in named:
        if path.is_file():
            found[path.resolve()] = None
        elif path.is_dir():
            found.update(dict.fromkeys(_list_python_files(path)))
        else:
            raise PluginError(Problem(f"the plugin path '{path}' does not exist"))
    if search and pipeline_file is not None:
        here = pipeline_file.resolve().parent
        for folder in (here / "plugins", here.parent / "plugins"):
            found.update(dict.fromkeys(path for path in _list_python_files(folder) if _imports_maskmill(path)))
    return list(found)


def load_file(path: Path) -> tuple[ModuleType, str]:
    """Load a drop-in file; returns the module and the file's sha256.

    Raises:
        PluginError: it cannot be read, or importing it fails; with file and line.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise PluginError(Problem(f"cannot read the plugin: {error.strerror}", str(path))) from None
    sha256 = hashlib.sha256(source).hexdigest()
    name = f"{_DROP_IN}{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(Problem("a plugin must be a Python file whose name ends in .py", str(path)))
    _check_encoding(source, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses look up their module there
    try:
        with warnings.catch_warnings():  # registration raises an error for these
            warnings.filterwarnings("ignore", message="Field name .* shadows", category=UserWarning)
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that calls sys.exit is not a plugin
        del sys.modules[name]
        raise _explain_failure(error, path) from error
    return module, sha256


def _list_python_files(folder: Path) -> list[Path]:
    return [path.resolve() for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")]


def _check_encoding(source: bytes, path: Path) -> None:
    """Refuse a file that is not in the encoding that it declares, UTF-8 if it declares none."""
    if b"\0" in source:
        raise PluginError(Problem("the plugin is no text in UTF-8 (UTF-16?)", str(path), 1, hint="save it as UTF-8"))
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        source.decode(encoding)
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        text = f"the plugin cannot be loaded: the byte 0x{source[error.start]:02x} is not {encoding}"
        raise PluginError(Problem(text, str(path), line, hint="save it as UTF-8")) from None
    except SyntaxError as error:  # an unknown encoding, or a first line that is not UTF-8
        text = f"the plugin cannot be loaded: {error.msg}"
        raise PluginError(Problem(text, str(path), 1, hint="save it as UTF-8")) from None


def _imports_maskmill(path: Path) -> bool:
    """Whether the file's source imports maskmill, as far as that can be seen in a file that cannot be parsed."""
    try:
        source = path.read_bytes()
    except OSError:  # loading it says why
        return True
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return _LOOKS_LIKE_IMPORT.search(source.replace(b"\0", b"")) is not None
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.split(".")[0] == "maskmill" for name in names):
            return True
    return False


def list_entry_points() -> list[tuple[str, importlib.metadata.EntryPoint]]:
    """(distribution name and version, entry point) of each plugin; maskmill's own come first, without a version."""
    points = []
    labels: dict[int, str] = {}  # each access to a distribution's name parses its metadata
    for point in importlib.metadata.entry_points(group=GROUP):
        distribution = point.dist
        if id(distribution) not in labels:
            name = distribution.name if distribution else "?"
            version = distribution.version if distribution else ""
            labels[id(distribution)] = GROUP if name == GROUP else f"{name} {version}".strip()
        points.append((labels[id(distribution)], point))
    return sorted(set(points), key=lambda item: (item[0] != GROUP, item[0], item[1].name))


def load_entry_point(point: importlib.metadata.EntryPoint, origin: str) -> ModuleType:
    """Import the plugin of an installed package.

    Raises:
        PluginError: importing it fails; with file and line.
    """
    try:
        return cast(ModuleType, point.load())
    except (Exception, SystemExit) as error:
        of = f"the entry point '{point.name} = {point.value}' of {origin}"
        raise _explain_failure(error, None, of) from error


def blame_plugin(error: BaseException) -> PluginError | None:
    """The error for an exception that a drop-in or an installed package caused, None if it is our own.

    It names file, line and method, and ends with the part of the traceback that is of use to the plugin's author.
    """
    packages = {point.module.partition(".")[0] for of, point in list_entry_points() if of != GROUP}
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if module.startswith(_DROP_IN) or module.partition(".")[0] in packages:
            code = trace.tb_frame.f_code
            text = f"the plugin failed in {code.co_qualname}: {type(error).__name__}: {error}"
            lines = traceback.format_exception(type(error), error, trace, chain=False)
            hint = "this is a mistake in the plugin; for its author:\n" + "".join(lines).rstrip()
            return PluginError(Problem(text, code.co_filename, trace.tb_lineno, hint=hint))
        trace = trace.tb_next
    return None


def find_module_file(point: importlib.metadata.EntryPoint) -> Path | None:
    """The file of an entry point's module, None if it has none or cannot be found; the module is not imported."""
    try:
        spec = importlib.util.find_spec(point.module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin else None


def _explain_failure(error: BaseException, path: Path | None, what: str = "the plugin") -> PluginError:
    """The error for a plugin that cannot be imported: its file and line, and the exception."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == str(path)]
    if path is None:  # of an installed package: all but the import system, and this file
        own = [f for f in frames if not f.filename.startswith("<") and "importlib" not in f.filename][1:]
    file, line = (own[-1].filename, own[-1].lineno) if own else (str(path or ""), 0)
    if isinstance(error, SyntaxError):
        file, line = error.filename or file, error.lineno
    hint = explain_import(error) if isinstance(error, ImportError) else ""
    reason = f"{type(error).__name__}: {error}"
    if isinstance(error, PydanticUserError):
        reason, hint = _explain_class(error)
    if isinstance(error, SystemExit):
        reason = f"it ends the program when it is imported (SystemExit: {error})"
    return PluginError(Problem(f"{what} cannot be loaded: {reason}", file, line or 0, hint=hint))


def _explain_class(error: PydanticUserError) -> tuple[str, str]:
    """Why pydantic cannot make a class of what the author wrote, and what to do."""
    text = str(error).partition("\n\nFor further information")[0]
    name = found[1] if (found := re.search(r"[`'](\w+)( = .*)?[`']", text)) else ""
    if error.code == "model-field-missing-annotation":
        hint = f"write its type behind its name, for example `{name}: float = ...`; what is no option begins with _"
        return f"the option '{name}' has no type", hint
    if error.code == "model-field-overridden":
        return f"'{name}' has a type in its base class, and none here", f"write its type again: `{name}: TYPE = ...`"
    if error.code == "schema-for-unknown-type":
        kind = found[1] if (found := re.search(r"schema for (.+?)\. Set", text, re.DOTALL)) else "this type"
        hint = "options are texts, numbers, lists and mappings, as in YAML; load anything else in `open`"
        return f"an option has the type {kind}, which cannot be written in YAML", hint
    return f"{type(error).__name__}: {text}", ""
