"""Writing the files that a user asked for."""

from __future__ import annotations

from pathlib import Path


def write_text(file: Path, text: str) -> None:
    """Write a text file in UTF-8, making the folders above it.

    Raises:
        OutputError: the system does not let one.
    """
    from ..errors import OutputError, Problem
    from ..files import write_atomic

    try:
        write_atomic(file, text.encode("utf-8"))
    except OSError as error:
        raise OutputError(Problem(f"cannot write '{file}': {error.strerror or error}")) from None
