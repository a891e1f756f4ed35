"""Which columns the lines of a YOLO label file have, where their number alone does not say.

`class x y width height` may be followed by a confidence and a track id, and so may `class x1 y1 x2 y2 ...`.
Hence seven columns are a triangle or a tracked box, and the last of six may be a track id. The task, the
other lines of the file and those of the other files decide; what they leave open is refused.

Reference: Ultralytics' `Results.save_txt`, which writes the track id after the confidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from .model import AnnotationError

Rows = Iterable[Sequence[str]]
#: What the last two columns of a line with an odd number of columns are: a confidence and a track id, or a point.
Form = Literal["tracks", "polygons", "unknown"]
TASK_FORMS: dict[str, Form] = {"segment": "polygons", "obb": "polygons"}


@dataclass(frozen=True, slots=True)
class FileForm:
    """The columns of one label file.

    Attributes:
        of_file: what this file says.
        of_dataset: what all files say; called only if this file does not.
        ids_alone: whether a track id without a confidence before it ends lines with an even number of columns.
        boxes: whether all lines are boxes, by the task.
    """

    of_file: Form
    of_dataset: Callable[[], Form]
    ids_alone: bool = False
    boxes: bool = False

    def split(self, columns: Sequence[str]) -> tuple[list[str], str | None]:
        """The columns without confidence and track id, and the confidence, None if there is none.

        Raises:
            AnnotationError: what the columns mean cannot be decided.
        """
        if len(columns) % 2 == 0:
            if self.ids_alone and _is_whole(columns[-1]):
                raise AnnotationError(
                    f"the last column must be a confidence of 0 to 1, not {columns[-1]}; remove track ids, or write the"
                    " confidence before them"
                )
            return list(columns[:-1]), columns[-1]
        if len(columns) < 7 or not self._is_tracked(columns):
            return list(columns), None
        if not _is_whole(columns[-1]):
            raise AnnotationError(f"the last column must be a track id as in other lines, not {columns[-1]}")
        return list(columns[:-2]), columns[-2]

    def _is_tracked(self, columns: Sequence[str]) -> bool:
        if self.boxes and len(columns) == 7:
            return True
        form = self.of_file
        if form == "unknown" and _may_be_tracked(columns):
            form = self.of_dataset()
            if form == "unknown" and len(columns) == 7:
                raise AnnotationError(
                    "7 columns may be a triangle, or a box with confidence and track id; set `task: segment` or"
                    " `task: detect` in data.yaml"
                )
        return form == "tracks"


class DatasetForm:
    """The columns of all label files of a data set.

    Args:
        files: yields the rows of every label file, each time it is called.
        task: of `data.yaml`, "" if not given.
        keypoints: whether lines have keypoints, whose number is known; then nothing is left to decide.
    """

    def __init__(self, files: Callable[[], Iterable[Rows]], task: str, keypoints: bool) -> None:
        self._files = files
        self._task = task
        self._keypoints = keypoints
        self._form: Form | None = None

    def of_file(self, rows: Sequence[Sequence[str]]) -> FileForm:
        """The form of one file.

        Args:
            rows: its columns, line by line.
        """
        if self._keypoints:
            return FileForm("polygons", lambda: "polygons")
        if self._task in TASK_FORMS:
            return FileForm("polygons", lambda: "polygons", _has_lone_ids(rows))
        return FileForm(_find_form(rows), self._of_all, _has_lone_ids(rows), boxes=self._task == "detect")

    def _of_all(self) -> Form:
        if self._form is None:
            found = {form for rows in self._files() if (form := _find_form(rows)) != "unknown"}
            self._form = found.pop() if len(found) == 1 else "unknown"
        return self._form


def _find_form(rows: Rows) -> Form:
    """What the lines of a file say together; "unknown" if nothing, or if they contradict each other."""
    lengths = set()
    tracks = polygons = False
    for columns in rows:
        lengths.add(len(columns))
        if len(columns) >= 7 and len(columns) % 2:
            tracks = tracks or _is_id(columns[-1])
            polygons = polygons or not _is_whole(columns[-1])
    if tracks == polygons and not tracks and 7 in lengths:
        tracks, polygons = 6 in lengths, 5 in lengths  # with confidences for all, or for none
    if tracks == polygons:
        return "unknown"
    return "tracks" if tracks else "polygons"


def _has_lone_ids(rows: Rows) -> bool:
    return any(len(columns) >= 6 and len(columns) % 2 == 0 and _is_id(columns[-1]) for columns in rows)


def _may_be_tracked(columns: Sequence[str]) -> bool:
    """Whether the last two columns can be a confidence and a track id, and what is left a box or a polygon."""
    try:
        numbers = [float(text) for text in columns[1:]]
    except ValueError:
        return False
    *shape, confidence, _ = numbers
    if not _is_whole(columns[-1]) or not 0 <= confidence <= 1:
        return False
    x, y, width, height = shape[:4]
    inside = min(x - width / 2, y - height / 2) > -0.01 and max(x + width / 2, y + height / 2) < 1.01
    return len(shape) > 4 or (width > 0 and height > 0 and inside)


def _is_whole(text: str) -> bool:
    try:
        return float(text) >= 0 and float(text).is_integer()
    except ValueError:
        return False


def _is_id(text: str) -> bool:
    """Whether a number can be a track id, but no coordinate."""
    return _is_whole(text) and float(text) > 1
