"""One line of a YOLO label file: its class, box, score and keypoints.

Numbers are checked as Ultralytics does: up to 1 % outside the image counts as rounding and is clipped.

Reference: verify_image_label of Ultralytics; https://docs.ultralytics.com/datasets/pose for keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping

from maskmill.wording import count_noun

from .model import AnnotationError, Corners, enclosing_box, parse_number, require_area, visible_keypoints
from .yolo_form import FileForm

ROUNDING = 0.01


def parse_class(text: str, names: Mapping[int, str] | None) -> str:
    """The name of a class, or its number if no names are known.

    Raises:
        AnnotationError: it is not a whole number, or has no name.
    """
    value = parse_number(text, "the class")
    if value < 0 or value != int(value):
        raise AnnotationError(f"the class must be a whole number of at least 0, not {text}")
    if names is None:
        return str(int(value))
    if int(value) not in names:
        raise AnnotationError(f"class {int(value)} has no name: only {len(names)} names are given")
    return names[int(value)]


def parse_keypoints(
    columns: list[str], shape: tuple[int, int]
) -> tuple[tuple[tuple[float, float, int], ...], list[str]]:
    """The visible keypoints (0..1) of a pose line, and the columns without them.

    Args:
        columns: the columns of the line.
        shape: (number of keypoints, 2 or 3 numbers each), (0, 0) for a file without keypoints.

    Raises:
        AnnotationError: they are invalid.
    """
    count, dimensions = shape
    if not count or len(columns) == 5:
        return (), columns
    if len(columns) not in (5 + count * dimensions, 6 + count * dimensions):
        expected = 5 + count * dimensions
        raise AnnotationError(
            f"expected {expected} columns with {count} keypoints of {dimensions}, found {len(columns)}"
        )
    values = [parse_number(text, "a keypoint") for text in columns[5 : 5 + count * dimensions]]
    points = visible_keypoints(values, dimensions)
    for x, y, _ in points:
        _check_fraction(x)
        _check_fraction(y)
    inside = tuple((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0), label) for x, y, label in points)
    return inside, columns[:5] + columns[5 + count * dimensions :]


def _check_fraction(value: float) -> None:
    if not -ROUNDING <= value <= 1 + ROUNDING:
        raise AnnotationError(f"coordinates must be fractions of the image, 0 to 1, not {value:g}; they may be pixels")


def parse_box(columns: list[str], form: FileForm) -> tuple[Corners, float | None, list[float]]:
    """The box (0..1), the score and the polygon x1, y1, ... of a line; one with four coordinates has no polygon.

    Args:
        columns: the columns without keypoints.
        form: decides which of them are a confidence and a track id.

    Raises:
        AnnotationError: they are invalid.
    """
    if len(columns) < 5:
        raise AnnotationError(f"expected `class x y width height`, found {count_noun(len(columns), 'column')}")
    columns, confidence = form.split(columns)
    values = [parse_number(text, "a coordinate") for text in columns[1:]]
    score = None if confidence is None else parse_number(confidence, "the confidence")
    if score is not None and not 0 <= score <= 1:
        raise AnnotationError(f"the last column must be a confidence of 0 to 1, not {confidence}")
    for value in values:
        _check_fraction(value)
    if len(values) == 4:
        x, y, width, height = values
        box = require_area((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    else:
        box = enclosing_box(list(zip(values[::2], values[1::2], strict=True)))
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in box)
    line = [] if len(values) == 4 else [min(max(value, 0.0), 1.0) for value in values]
    return require_area((x1, y1, x2, y2)), score, line
