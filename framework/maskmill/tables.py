"""Tables (CSV) that people open in a spreadsheet: Excel reads them as UTF-8, and no cell becomes a formula.

A file begins with a byte order mark, without which Excel takes UTF-8 for the system's code page. A text that
a spreadsheet would take for a formula gets a `'` in front; so does a text that would look as if it had got one,
so that `unescape_cell` gives back every text. A number stays a number.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: The columns of a run's `prompts.csv`; a table with these is one.
PROMPTS_CSV = (
    "source", "file", "place", "ref", "image", "label", "x1", "y1", "x2", "y2", "outcome", "mask", "reason"
)  # fmt: skip
#: The name of that file, and its outcome for prompts of images that another shard has.
ACCOUNTS, OTHER_SHARD = "prompts.csv", "another shard"
ENCODING = "utf-8-sig"

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")  # also the full-width signs
_SPECIAL = re.compile('[,"\r\n]')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escape_cell(text: str) -> str:
    """The text as a cell that is no formula; `unescape_cell` gives it back."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def unescape_cell(cell: str) -> str:
    """The text that `escape_cell` made this cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


@contextmanager
def write_table(
    path: Path, columns: Sequence[str], errors: str = "strict"
) -> Iterator[Callable[[Iterable[object]], object]]:
    """Open a new table; gives the function that writes a row, whose texts it escapes.

    Args:
        path: the file.
        columns: the first row.
        errors: for characters that UTF-8 cannot encode, as in `open`.
    """
    with path.open("w", encoding=ENCODING, errors=errors, newline="") as file:
        file.write(_format_row(columns))
        yield lambda row: file.write(_format_row(row))


def _format_row(row: Iterable[object]) -> str:
    return ",".join(_quote(escape_cell(cell) if isinstance(cell, str) else str(cell)) for cell in row) + "\n"


def _quote(cell: str) -> str:
    """As the module csv, which does not quote a carriage return alone before Python 3.13."""
    return '"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell


def read_table(path: Path, errors: str = "strict") -> Iterator[dict[str, str]]:
    """The rows of a table of `write_table` by column, as they were given to it; also of one without the mark.

    Args:
        path: the file.
        errors: as in `open`.
    """
    with path.open(encoding=ENCODING, errors=errors, newline="") as file:
        for row in csv.DictReader(file, restval=""):
            yield {name: unescape_cell(cell) for name, cell in row.items() if name is not None}
