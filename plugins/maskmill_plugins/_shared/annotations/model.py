"""Annotation files of every format in one model: images, annotations and properties of the file."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from maskmill import Box, PromptError
from maskmill.wording import count_noun
from maskmill_plugins._shared.text_files import to_number

Corners: TypeAlias = tuple[float, float, float, float]
#: A part of an object as its file writes it, JSON; `shapes` makes and fills it.
Shape: TypeAlias = Mapping[str, Any]
#: Value of `Annotation.skipped` for a valid annotation that is a crowd region (COCO's `iscrowd: 1`).
CROWD = "crowd"
#: `FileProperty` of a file whose labels are class numbers, because it has no names for them: why there are none.
CLASS_NUMBERS = "class numbers"
#: Exclusive limit of an image's height and width, in pixels.
MAX_SIDE = 1 << 31


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 3, 80, 80, 80
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image in an annotation file.

    Attributes:
        id: unique in the file; its annotations refer to it.
        name: its path as written in the file, possibly without suffix.
        size: (height, width) in pixels, None if not given.
        place: its position in the file, such as `images[3]`.
        file: the file that contains it, if there are several.
        line: 1-based, 0 if unknown.
        relative: whether coordinates are fractions of width and height.
        more: its other fields, for writers that copy them.
    """

    id: str
    name: str
    size: tuple[int, int] | None = None
    place: str = ""
    file: str = ""
    line: int = 0
    relative: bool = False
    more: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation, valid or not.

    Attributes:
        image: the `id` of its image, "" if unknown.
        ref: identifies it among the annotations of its image.
        place: its position in the file, such as `annotations[17] (id 93)`.
        file: the file that contains it, if there are several.
        line: 1-based, 0 if unknown.
        box: xyxy, or None.
        points: (x, y, label) each; next to a box these are its visible keypoints.
        label: class name.
        category: COCO category id as JSON; resolved to a label once all categories are known.
        score: 0..1 or None.
        error: what is wrong with it, "" if it is valid.
        skipped: `CROWD`, or "".
        more: its other fields.
        frame: (height, width) of the image that it was made on, None if it does not say.
        shape: the parts that its pixels consist of, () if it has a box or points only.
    """

    image: str
    ref: str
    place: str = ""
    file: str = ""
    line: int = 0
    box: Corners | None = None
    points: tuple[tuple[float, float, int], ...] = ()
    label: str | None = None
    category: str = ""
    score: float | None = None
    error: str = ""
    skipped: str = ""
    more: Mapping[str, Any] | None = None
    frame: tuple[int, int] | None = None
    shape: tuple[Shape, ...] = ()


@dataclass(frozen=True, slots=True)
class FileProperty:
    """A property of the whole file, such as its licences."""

    name: str
    value: Any


FileItem: TypeAlias = AnnotatedImage | Annotation | FileProperty


class AnnotationError(Exception):
    """An annotation is invalid; the text says why."""


def require_object(item: object) -> Mapping[str, Any]:
    """The value, if it is a JSON object.

    Raises:
        AnnotationError: it is not.
    """
    if not isinstance(item, Mapping):
        raise AnnotationError(f"expected an object, not {shorten(item)}")
    return item


def finite_number(value: object, what: str) -> float:
    """A JSON value as a finite number.

    Raises:
        AnnotationError: it is not one.
    """
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:  # an integer of hundreds of digits
        found = math.inf
    if not math.isfinite(found):
        raise AnnotationError(f"{what} must be a finite number, not {shorten(value)}")
    return found


def pixel_count(value: object, what: str) -> int:
    """A JSON value as a height or width in pixels.

    Raises:
        AnnotationError: it is not one.
    """
    found = finite_number(value, what)
    if not 0 < found < MAX_SIDE or found != int(found):
        raise AnnotationError(f"{what} must be a whole number above 0, not {shorten(value)}")
    return int(found)


def parse_number(text: str, what: str) -> float:
    """A text as a finite number.

    Raises:
        AnnotationError: it is not one.
    """
    try:
        value = to_number(text)
    except ValueError:
        raise AnnotationError(f"{what} must be a number, not {shorten(text)}") from None
    return finite_number(value, what)


def parse_flag(value: object, what: str) -> bool:
    """A JSON value that stands for 0 or 1, as a number, a truth value or the text of the number; None is 0.

    Raises:
        AnnotationError: it is none of these.
    """
    if value is None or (not isinstance(value, str) and value in (0, 1)):
        return bool(value)
    if value not in ("0", "1"):
        raise AnnotationError(f"{what} must be 0 or 1, not {shorten(value)}")
    return value == "1"


def finite_score(value: object) -> float | None:
    """A JSON value as a score of about 0 to 1, None if there is none.

    A model that predicts its own IoU may exceed 1 a little, and such scores are in exports of ours.

    Raises:
        AnnotationError: it is no number, or in another unit such as percent.
    """
    if value is None:
        return None
    found = finite_number(value, "score")
    if not -0.2 <= found <= 1.2:
        raise AnnotationError(f"score must be between 0 and 1, not {shorten(value)}")
    return found


def require_area(corners: Corners) -> Corners:
    """The box, if it has an area.

    Raises:
        AnnotationError: it has none.
    """
    try:
        return Box(*corners).xyxy
    except PromptError as error:
        raise AnnotationError(str(error)) from None


def check_box(annotation: Annotation) -> Annotation:
    """The annotation, with an error if its box has no area, for example after rounding or an overflow."""
    try:
        if annotation.box is not None and not annotation.error:
            require_area(annotation.box)
    except AnnotationError as error:
        return replace(annotation, box=None, error=str(error))
    return annotation


def visible_keypoints(keypoints: Sequence[float], dimensions: int = 3) -> tuple[tuple[float, float, int], ...]:
    """The visible keypoints as points on the object.

    With 3 dimensions these are x, y, v with v = 2; COCO's v is 0 for an unlabelled keypoint and 1 for a
    hidden one, which may lie on the object in front. With 2 dimensions these are x, y that are not both 0.

    Raises:
        AnnotationError: the count is not a multiple of `dimensions`, or v is not 0, 1 or 2.
    """
    if len(keypoints) % dimensions:
        raise AnnotationError(f"keypoints must have {dimensions} numbers each, found {len(keypoints)} numbers in total")
    found = [keypoints[at : at + dimensions] for at in range(0, len(keypoints), dimensions)]
    if dimensions == 2:
        return tuple((x, y, 1) for x, y in found if x or y)
    if wrong := [v for _, _, v in found if v not in (0, 1, 2)]:
        raise AnnotationError(f"the visibility of a keypoint must be 0, 1 or 2, not {wrong[0]:g}")
    return tuple((x, y, 1) for x, y, v in found if v == 2)


def enclosing_box(points: list[tuple[float, float]]) -> Corners:
    """The box around points.

    Raises:
        AnnotationError: it has no area.
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    box = min(xs), min(ys), max(xs), max(ys)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise AnnotationError(f"its {count_noun(len(points), 'point encloses', 'points enclose')} no area")
    return box


def shorten(value: object) -> str:
    """A value for a message, cut to 60 characters; only that much is built of a value that YAML aliases make huge."""
    text = _SHORT.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
