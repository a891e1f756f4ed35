"""The writer `report`: thumbnails while images are processed, the page at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, ClassVar

from pydantic import Field

from maskmill import Artifact, Image, ImageResult, OutputError, Problem, Run, Writer, hookimpl, save
from maskmill.files import atomic_path
from maskmill.plugins.stage import run_folder
from maskmill.results import STATUSES, Status
from maskmill_plugins._shared.drawing.pixels import check_cv2
from maskmill_plugins._shared.export.file_names import name_image_file
from maskmill_plugins._shared.export.output_files import describe_file

from .changes import Changes
from .document import collect_provenance, write_page
from .gallery import Gallery, draw_thumbnail, thumbnail_name
from .picture import NOTE, describe_picture, encode_copy
from .summary import Summary
from .team import TeamSummary

PICTURES = "pictures"
NAME = "report.html"


class Report(Writer):
    """`report.html`: the results of a run in one self-contained file that loads nothing from elsewhere.

    It shows counts by status, scores, areas, labels, dropped masks, failures with their reasons, times,
    the loss of each output format, and a gallery sorted by doubt, with masks and prompts drawn. Language
    (English or Chinese) and theme (light or dark) follow the browser.

    The thumbnails are also in `thumbnails/`; the page contains copies. An image that is opened large is read from
    the photo's own file, with the masks as sharp outlines over it. Two reports of the same results differ only in
    times and in what changed since the report before.
    """

    version: ClassVar[int] = 2
    takes: ClassVar[tuple[Status, ...]] = STATUSES

    thumbnail: int = Field(192, ge=32, le=1024, description="longer side of the thumbnails, in pixels")
    quality: int = Field(70, ge=1, le=100, description="of the thumbnails (WebP)")
    gallery: int = Field(
        20_000, ge=0, description="maximum number of images shown, the most doubtful ones; all are counted"
    )
    pictures: int = Field(
        0,
        ge=0,
        le=16_000,
        description="longer side, in pixels, of copies of the photos in `pictures/`, which are opened large where the"
        " photos themselves are missing or in a format that browsers do not show; 0: no copies",
    )

    def shows_corrections(self) -> bool:
        """It shows what people decided, if the pipeline names their corrections."""
        return True

    def check(self) -> list[Problem]:
        """OpenCV must load."""
        return check_cv2()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the thumbnail and, if asked for, a copy of the photo; note what the page opens large."""
        data = draw_thumbnail(image, result, self.thumbnail, self.quality)
        saved = [save(folder, thumbnail_name(result.key), data, ".webp")]
        if self.pictures:
            name = f"{PICTURES}/{name_image_file(result.key)}"
            saved.append(save(folder, name, encode_copy(image, self.pictures), ".jpg"))
        copy = saved[1].path if self.pictures else None
        self.note(NOTE, describe_picture(image, result, folder, copy))
        return saved

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the page incrementally; memory holds the counts and a number for each image in the gallery."""
        with atomic_path(folder / NAME) as unfinished, unfinished.open("wb") as out:
            record = self._write(results, folder, out)
        return [describe_file(folder, NAME), *record]

    def _write(self, results: Iterator[ImageResult], folder: Path, out: IO[bytes]) -> list[Artifact]:
        summary = Summary()
        with ExitStack() as stack:
            run = _open_run(stack)
            changes, team = stack.enter_context(Changes(folder, run is not None)), TeamSummary(run)
            gallery = stack.enter_context(Gallery(folder, self.gallery, changes))
            for result in results:
                row = run.row(result.key) if run is not None else None
                summary.add(result, row.seconds if row is not None else None)
                gallery.add(result, row, summary)
                team.add(result)
            changes.end()
            about = {**collect_provenance(run, summary), "team": team.to_json()}
            write_page(out, folder, summary, gallery, changes, about)
            return changes.save()


def _open_run(stack: ExitStack) -> Run | None:
    """The run of this report, None if there is none, as in a test of the writer."""
    output = run_folder()
    try:
        return None if output is None else stack.enter_context(Run(output))
    except OutputError:
        return None


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `report`."""
    register("report", Report)
