"""`extends: base.yaml`: reads a pipeline file together with the file whose settings it takes over.

The mappings `run` and `images` are merged key by key. Any other value of the extending file takes the place of
the base's: a text, a list, a plugin with its options. Each value keeps its file, for messages and for relative paths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ..errors import PipelineError, Problem
from ..files import absolute_path, expand_home
from ..plugins.find import find_drop_ins
from .document import Document, Loc
from .option_errors import format_value
from .yaml_reader import parse_yaml, read_file

KEY = "extends"
#: Keys of the pipeline file whose values are merged.
MERGED = ("run", "images")


def read_document(file: Path) -> Document:
    """Read a pipeline file and those that it extends, merged; what is wrong with values is in `problems`.

    Args:
        file: as the user wrote its name.

    Raises:
        PipelineError: a file cannot be read or parsed, or extends itself.
    """
    return _read(file, ())


def find_plugin_files(file: Path | None, named: Sequence[Path] = ()) -> list[Path]:
    """The drop-in files that a pipeline file finds, also beside the files that it extends; after those in `named`.

    Args:
        file: need not exist, nor be right; None for no file.
        named: files or folders given by the user.

    Raises:
        PluginError: a named path does not exist.
    """
    found = dict.fromkeys(find_drop_ins(file, named))
    if file is not None:
        with contextlib.suppress(PipelineError):
            for source in read_document(file).sources():
                found.update(dict.fromkeys(find_drop_ins(source.folder / "_")))
    return list(found)


def _read(file: Path, extending: tuple[Path, ...]) -> Document:
    """Read a file, knowing those that lead to it through `extends`."""
    document = parse_yaml(read_file(file), str(file))
    document.folder = absolute_path(file).parent
    tree = document.tree
    if not isinstance(tree, dict):
        if extending:
            text = f"expected `key: value` lines, found {format_value(tree)}"
            raise PipelineError(*document.problems, document.problem((), text))
        return document
    if tree.get(KEY) is not None and not document.has_problem((KEY,)):
        _extend(document, (*extending, file))
    tree.pop(KEY, None)
    return document


def _extend(document: Document, extending: tuple[Path, ...]) -> None:
    """Merge the file that `extends` names into the document."""
    written = document.tree[KEY]
    if not isinstance(written, str) or not written:
        raise _error(document, f"{KEY}: expected the path of a pipeline file, not {format_value(written)}")
    try:
        file = expand_home(written, Path(document.name).parent)
    except ValueError as error:
        raise _error(document, f"{KEY}: {error}") from None
    if any(file.resolve() == other.resolve() for other in extending):
        chain = " -> ".join(map(str, (*extending, file)))
        raise _error(document, f"{KEY}: these files extend each other: {chain}", "remove one `extends`")
    if not file.is_file():  # what `read_file` says, at the place where the name stands
        try:
            read_file(file)
        except PipelineError as error:
            raise _error(document, f"{KEY}: {error.problems[0].message}", error.problems[0].hint) from None
    try:
        base = _read(file, extending)
    except PipelineError as error:
        raise PipelineError(*document.problems, *error.problems) from None
    _merge(document, base)


def _error(document: Document, message: str, hint: str = "") -> PipelineError:
    found: list[Problem] = [*document.problems, document.problem((KEY,), message, hint)]
    return PipelineError(*sorted(found, key=lambda problem: (problem.line, problem.column)))


def _merge(document: Document, base: Document) -> None:
    """Let the document inherit every value of `base` that it does not have itself."""
    document.base = base
    document.problems += base.unplaced_problems()
    tree = document.tree
    for key, value in base.tree.items():
        if tree.get(key) is None:
            document.inherit((key,), value)
        elif key in MERGED and isinstance(value, dict) and isinstance(tree[key], dict):
            for name, inner in value.items():
                loc: Loc = (key, name)
                if name not in tree[key]:
                    document.inherit(loc, inner)
