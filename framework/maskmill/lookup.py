"""Reading the pipeline file the user named, or saying which one was probably meant."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from .errors import PipelineError, Problem

SUFFIXES = (".yaml", ".yml")


def read_file(file: Path) -> bytes:
    """The bytes of a pipeline file.

    Raises:
        PipelineError: there is no such file, or it cannot be read; suggests the nearest name.
    """
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise PipelineError(_why(file, error)) from None


def _why(file: Path, error: OSError | ValueError) -> Problem:
    if os.path.isdir(file):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return Problem(f"'{file}' is a folder; expected a pipeline file", hint=_listing(file))
    if isinstance(error, FileNotFoundError):
        return _no_such_file(file)
    reason = error.strerror if isinstance(error, OSError) else error
    return Problem(f"cannot read the pipeline file '{file}': {reason}")


def _no_such_file(file: Path) -> Problem:
    message = f"there is no pipeline file '{file}'"
    if not file.parent.is_dir():
        return Problem(message, hint=f"the folder '{file.parent}' does not exist")
    stems = {path.stem.lower(): path for path in _pipeline_files(file.parent)}
    wanted = (file.stem if file.suffix.lower() in SUFFIXES else file.name).lower()
    close = difflib.get_close_matches(wanted, stems, 1)
    return Problem(message, hint=f"did you mean '{stems[close[0]]}'?" if close else _listing(file.parent))


def _listing(folder: Path) -> str:
    names = [path.name for path in _pipeline_files(folder)]
    if not names:
        return f"there is no .yaml file in '{folder}'"
    return f"in '{folder}' there are: {', '.join(names[:10])}" + (", ..." if len(names) > 10 else "")


def _pipeline_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError:
        return []
