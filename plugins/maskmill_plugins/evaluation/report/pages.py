"""The report folder of the two commands (JSON, a page, pictures), and tables for the terminal."""

from __future__ import annotations

import html
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from maskmill import OutputError
from maskmill.files import write_atomic
from maskmill.output.folder import check_folder, writing_to
from maskmill_plugins._shared.prompt_files.matching import Examples

PAGE, PICTURES = "index.html", "worst"
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 92rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
div { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; overflow-wrap: normal; }
th { white-space: nowrap; }
th, td { padding: .15rem .8rem .15rem 0; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
tr { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }
figure { margin: 2rem 0; } img { max-width: 100%; height: auto; }
"""


@dataclass(frozen=True)
class Table:
    """A table for the terminal and the page.

    Attributes:
        head: names of the columns; the first column is text, the others are numbers.
        rows: the cells of each row.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def lines(self) -> list[str]:
        """The table as lines for the terminal, where Chinese characters take two columns."""
        cells = [self.head, *self.rows]
        widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
        return ["  ".join(_pad(cell, widths[i], i > 0) for i, cell in enumerate(row)).rstrip() for row in cells]

    def html(self) -> str:
        """The table as HTML for the page."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.head)
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self.rows)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<div tabindex=0><table><tr>{head}</tr>{body}</table></div>"


@dataclass(frozen=True)
class ReportPicture:
    """A picture of one of the worst images.

    Attributes:
        name: its file name.
        caption: for the page.
        data: JPEG.
    """

    name: str
    caption: str
    data: bytes


@dataclass
class ListedNames(Examples):
    """A count, and the first thousand names."""

    limit: ClassVar[int] = 1000

    def to_json(self) -> dict[str, Any]:
        """The count, and the first of them."""
        return {"count": self.count, "names": self.first}


class ReportFolder:
    """A folder for a report: new, empty, or with an earlier report of the same kind, which is replaced.

    Args:
        path: the folder.
        marker: name of the JSON file that identifies a report of this kind.

    Raises:
        OutputError: the folder contains other files.
    """

    def __init__(self, path: Path, marker: str) -> None:
        self.path = path
        self._marker = path / marker
        if problems := check_folder(path, lambda _: self._marker.is_file(), "an earlier report"):
            raise OutputError(*problems)

    def fill(
        self,
        about: Mapping[str, Any],
        title: str,
        facts: Sequence[str],
        tables: Sequence[Table],
        pictures: Sequence[ReportPicture],
    ) -> None:
        """Write the report and remove the pictures of an earlier one.

        Raises:
            OutputError: the folder cannot be written.
        """
        with writing_to(self.path):
            for name in self._earlier():
                (self.path / name).unlink(missing_ok=True)
            for picture in pictures:
                write_atomic(self.path / PICTURES / picture.name, picture.data)
            page = render_page(title, facts, tables, pictures)
            write_atomic(self.path / PAGE, page.encode("utf-8", "replace"))
            files = [f"{PICTURES}/{picture.name}" for picture in pictures]
            text = json.dumps({**about, "files": [PAGE, *files]}, ensure_ascii=False, indent=2)
            write_atomic(self._marker, f"{text}\n".encode())

    def _earlier(self) -> list[str]:
        """The pictures that the existing report lists."""
        try:
            files = json.loads(self._marker.read_bytes())["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [name for name in files if isinstance(name, str) and Path(name).parent == Path(PICTURES)]


def render_page(title: str, facts: Sequence[str], tables: Sequence[Table], pictures: Sequence[ReportPicture]) -> str:
    """The page: facts, tables, and lazily loaded pictures; nothing comes from another host."""
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
    view = "<meta name=viewport content='width=device-width'>"
    parts = [f"{head}{view}<style>{_STYLE}</style>", f"<h1>{html.escape(title)}</h1>"]
    parts += [f"<p>{html.escape(fact)}</p>" for fact in facts]
    parts += [table.html() for table in tables]
    parts += [
        f'<figure><a href="{PICTURES}/{html.escape(picture.name)}">'  # opens the full size, for small screens
        f'<img loading=lazy src="{PICTURES}/{html.escape(picture.name)}" alt=""></a>'
        f"<figcaption>{html.escape(picture.caption)}</figcaption></figure>"
        for picture in pictures
    ]
    return "\n".join([*parts, "</html>\n"])


def rank_pictures(
    worst: Sequence[tuple[str, float]], measure: str, draw: Callable[[str], bytes]
) -> list[ReportPicture]:
    """The pictures of the worst images, given as (key, value); captions name the value by `measure`."""
    return [
        ReportPicture(f"{rank:02}.jpg", f"{rank}. {key}: {measure} {value:.3f}", draw(key))
        for rank, (key, value) in enumerate(worst, start=1)
    ]


def format_number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int, right: bool) -> str:
    room = " " * (width - _width(text))
    return room + text if right else text + room
