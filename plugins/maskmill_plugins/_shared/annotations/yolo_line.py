"""One line of a YOLO label file: its class, box, score and keypoints.

Numbers are checked as Ultralytics does: up to 1 % beyond the image is rounding, and cut off.

Reference: verify_image_label of Ultralytics; https://docs.ultralytics.com/datasets/pose for keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping

from .model import AnnotationError, Corners, enclosing_box, parse_number, require_area, visible_keypoints

ROUNDING = 0.01


def label(text: str, names: Mapping[int, str] | None) -> str:
    """The name of a class, its number where no names are known.

    Raises:
        FaultError: it is no number, or one without a name.
    """
    value = parse_number(text, "the class")
    if value < 0 or value != int(value):
        raise AnnotationError(f"the class must be a whole number from 0 on, not {text}")
    if names is None:
        return str(int(value))
    if int(value) not in names:
        raise AnnotationError(f"class {int(value)} has no name: there are {len(names)}")
    return names[int(value)]


def keypoints(columns: list[str], shape: tuple[int, int]) -> tuple[tuple[tuple[float, float, int], ...], list[str]]:
    """The visible keypoints (0..1) of a pose line, and the columns without them.

    Args:
        columns: of the line.
        shape: (how many keypoints, 2 or 3 numbers each), (0, 0) if the file is not of poses.

    Raises:
        FaultError: they are wrong.
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
        _check_part(x)
        _check_part(y)
    inside = tuple((min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0), label) for x, y, label in points)
    return inside, columns[:5] + columns[5 + count * dimensions :]


def _check_part(value: float) -> None:
    if not -ROUNDING <= value <= 1 + ROUNDING:
        raise AnnotationError(f"coordinates are parts of the image, 0 to 1, not {value:g} (are they pixels?)")


def box_and_score(columns: list[str]) -> tuple[Corners, float | None]:
    """The box (0..1) and the score of a line: 5 columns, or 6 with a score; more are a polygon.

    Raises:
        FaultError: they are wrong.
    """
    if len(columns) < 5:
        raise AnnotationError(f"expected `class x y width height`, found {len(columns)} columns")
    values = [parse_number(text, "a coordinate") for text in columns[1:]]
    score = values.pop() if len(values) % 2 else None  # what was predicted ends with how sure the model was
    for value in values:
        _check_part(value)
    if len(values) == 4:
        x, y, width, height = values
        box = require_area((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    else:
        box = enclosing_box(list(zip(values[::2], values[1::2], strict=True)))
    x1, y1, x2, y2 = (min(max(value, 0.0), 1.0) for value in box)
    return require_area((x1, y1, x2, y2)), score
