"""The writer: thumbnails while the images are worked on, the page at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, ClassVar

from pydantic import Field

from maskmill import Artifact, Image, ImageResult, OutputError, Run, Writer, hookimpl, save
from maskmill.files import atomic_path
from maskmill.plugins.stage import run_folder
from maskmill.results import STATUSES, Status
from maskmill_plugins._shared.drawing.pixels import load_cv2
from maskmill_plugins._shared.export.output_files import describe_file

from .document import collect_provenance, write_page
from .gallery import Gallery, draw_thumbnail, thumbnail_name
from .summary import Summary

NAME = "report.html"


class Report(Writer):
    """`report.html`: what came of a run, in one file that opens from disk and loads nothing from anywhere.

    Counts by status, scores, areas, labels, what filters dropped, failures with their reasons, seconds,
    what each output format loses, and a gallery in the order of doubt, with masks and prompts drawn.
    English or Chinese, light or dark, as the browser is set.

    The thumbnails also lie in `thumbnails/`; the page holds copies of them. Only times differ between
    two reports of the same results.
    """

    takes: ClassVar[tuple[Status, ...]] = STATUSES

    thumbnail: int = Field(192, ge=32, le=1024, description="longer side of the gallery's pictures, in pixels")
    quality: int = Field(70, ge=1, le=100, description="of the gallery's pictures (WebP)")
    gallery: int = Field(
        20_000, ge=0, description="at most so many images are shown, the most doubtful ones; everything is counted"
    )

    def open(self) -> None:
        """Fail early if OpenCV, which draws the thumbnails, is missing."""
        load_cv2()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the thumbnail."""
        data = draw_thumbnail(image, result, self.thumbnail, self.quality)
        return [save(folder, thumbnail_name(result.key), data, ".webp")]

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the page.

        It grows on disk: memory holds counts and, of the images in the gallery, a number each.
        """
        with atomic_path(folder / NAME) as unfinished, unfinished.open("wb") as out:
            self._write(results, folder, out)
        return [describe_file(folder, NAME)]

    def _write(self, results: Iterator[ImageResult], folder: Path, out: IO[bytes]) -> None:
        summary = Summary()
        with ExitStack() as stack:
            run = _run(stack)
            gallery = stack.enter_context(Gallery(folder, self.gallery))
            for result in results:
                row = run.row(result.key) if run is not None else None
                summary.add(result, row.seconds if row is not None else None)
                gallery.add(result, row, summary)
            write_page(out, folder, summary, gallery, collect_provenance(run, summary))


def _run(stack: ExitStack) -> Run | None:
    """The run that this report is about, None where there is none to be read (in a test of the writer, say)."""
    output = run_folder()
    try:
        return None if output is None else stack.enter_context(Run(output))
    except OutputError:
        return None


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `report`."""
    register("report", Report)
