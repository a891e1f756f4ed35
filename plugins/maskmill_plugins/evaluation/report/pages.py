"""The report folder of the two commands (JSON, a page, pictures), and tables for the terminal."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from maskmill import OutputError
from maskmill.files import atomic_path, path_from, write_atomic
from maskmill.output.folder import check_folder, writing_to
from maskmill_plugins._shared.prompt_files.matching import Examples
from maskmill_plugins._shared.result_pages.document import PageFile

from .pictures import ReportPicture

PAGE, PICTURES = "index.html", "worst"
_SCRIPTS = ("pictures.js", "overview.js", "page.js")


@dataclass(frozen=True)
class Table:
    """A table for the terminal.

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


@dataclass(frozen=True)
class PageContent:
    """What a page shows beside the content of the JSON file.

    Attributes:
        kind: "evaluate" or "compare".
        title: of the page.
        rows: of its table, the worst first.
        total: number of rows of which these are the worst.
        links: (name, file) of other pages, all of which exist or will.
    """

    kind: Literal["evaluate", "compare"]
    title: str
    rows: Sequence[Sequence[Any]]
    total: int
    links: Sequence[tuple[str, Path]] = ()


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

    def fill(self, about: Mapping[str, Any], page: PageContent, pictures: Iterable[ReportPicture]) -> None:
        """Write the report and remove the pictures of an earlier one.

        Args:
            about: the content of the JSON file; the page shows it, too.
            page: what the page shows beside it.
            pictures: of the worst images, the worst first; each is written before the next one is drawn.

        Raises:
            OutputError: the folder cannot be written.
        """
        with writing_to(self.path):
            for name in self._earlier():
                (self.path / name).unlink(missing_ok=True)
            shown: list[dict[str, Any]] = []
            names: list[str] = []
            for rank, picture in enumerate(pictures, start=1):
                photo, errors = f"{PICTURES}/{rank:02}.jpg", f"{PICTURES}/{rank:02}-errors.png"
                parts = {errors: picture.errors} | ({} if picture.photo is None else {photo: picture.photo})
                for name, data in parts.items():
                    write_atomic(self.path / name, data)
                names += parts
                shown.append({**picture.about, "photo": photo if picture.photo else "", "errors": errors})
            self._write_page(about, page, shown)
            text = json.dumps({**about, "files": [PAGE, *names]}, ensure_ascii=False, indent=2)
            write_atomic(self._marker, f"{text}\n".encode())

    def _write_page(self, about: Mapping[str, Any], page: PageContent, pictures: Sequence[Mapping[str, Any]]) -> None:
        with atomic_path(self.path / PAGE) as path, path.open("wb") as out:
            web = files(__package__) / "page"
            file = PageFile(out, web, [web / name for name in _SCRIPTS])
            file.begin(page.title)
            links = [[name, _link(self.path, target)] for name, target in page.links]
            facts = {"kind": page.kind, "title": page.title, "about": about, "links": links, "total": page.total}
            file.write_json("summary", facts)
            file.write_json("rows", page.rows)
            file.write_json("pictures_data", pictures)
            file.write_script()
            file.end()

    def _earlier(self) -> list[str]:
        """The pictures that the existing report lists."""
        try:
            files = json.loads(self._marker.read_bytes())["files"]
        except (OSError, ValueError, KeyError, TypeError):
            return []
        return [name for name in files if isinstance(name, str) and Path(name).parent == Path(PICTURES)]


def _link(folder: Path, target: Path) -> str:
    """The address of a file from a page in a folder."""
    try:
        return quote(path_from(folder, target), errors="surrogatepass")
    except ValueError:  # on another drive
        return target.absolute().as_uri()


def format_number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash for None."""
    return "–" if value is None else f"{value:.{digits}f}"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _pad(text: str, width: int, right: bool) -> str:
    room = " " * (width - _width(text))
    return room + text if right else text + room
