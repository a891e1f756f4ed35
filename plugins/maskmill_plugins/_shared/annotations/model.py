"""What a file of annotations says, whatever its format: pictures, and elements that stand on them."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from maskmill import Box, PromptError

Corners: TypeAlias = tuple[float, float, float, float]
#: Why an element that is right is no prompt: it is a crowd region (COCO's `iscrowd: 1`).
CROWD = "crowd"
#: No image has a side of so many pixels.
LARGEST = 1 << 31


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 3, 80, 80, 80
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 20


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image as a file of annotations knows it.

    Attributes:
        id: what its elements refer to, unique in the file.
        name: its path as the file has it, perhaps without ending.
        size: (height, width), None if the file does not say.
        place: where it stands, such as `images[3]`.
        file: the file it stands in, where there are several.
        line: 1-based, 0 if unknown.
        relative: whether the coordinates on it are parts of the width and the height.
        more: what else the file says of it, for writers that give it back.
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
    """One annotation, right or wrong.

    Attributes:
        image: the `id` of its picture, "" if that is unknown.
        ref: what tells it from the others of its image.
        place: where it stands, such as `annotations[17] (id 93)`.
        file: the file it stands in, where there are several.
        line: 1-based, 0 if unknown.
        box: xyxy, None if it has none.
        points: (x, y, label) each; beside a box, its visible keypoints.
        label: class name.
        category: COCO's category id as JSON; the label is found when all categories are known.
        score: 0..1 or None.
        fault: what is wrong with it, "" if nothing.
        skipped: `CROWD`, or "".
        more: what else the file says of it.
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
    fault: str = ""
    skipped: str = ""
    more: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FileProperty:
    """Something about the whole file, such as its licences."""

    name: str
    value: Any


FileItem: TypeAlias = AnnotatedImage | Annotation | FileProperty


class Format(Protocol):
    """One format: the pieces of a file or folder, in any order; PipelineError if it cannot be read at all."""

    def __call__(self, path: Any) -> Iterator[FileItem]:
        """Read it."""


class AnnotationError(Exception):
    """An element is wrong; its text says how."""


@dataclass
class Extent:
    """The box around points."""

    xs: list[float] = field(default_factory=list)
    ys: list[float] = field(default_factory=list)

    @property
    def corners(self) -> Corners:
        """The box xyxy."""
        return min(self.xs), min(self.ys), max(self.xs), max(self.ys)


def require_object(item: object) -> Mapping[str, Any]:
    """An object out of JSON.

    Raises:
        FaultError: it is none.
    """
    if not isinstance(item, Mapping):
        raise AnnotationError(f"expected an object, not {shorten(item)}")
    return item


def finite_number(value: object, what: str) -> float:
    """A finite number out of JSON.

    Raises:
        FaultError: it is none.
    """
    try:
        found = math.nan if isinstance(value, bool) or not isinstance(value, (int, float)) else float(value)
    except OverflowError:  # a whole number of some hundred digits
        found = math.inf
    if not math.isfinite(found):
        raise AnnotationError(f"{what} must be a finite number, not {shorten(value)}")
    return found


def pixel_count(value: object, what: str) -> int:
    """A height or width in pixels.

    Raises:
        FaultError: it is none.
    """
    found = finite_number(value, what)
    if not 0 < found < LARGEST or found != int(found):
        raise AnnotationError(f"{what} must be a whole number above 0, not {shorten(value)}")
    return int(found)


def parse_number(text: str, what: str) -> float:
    """A finite number out of a text.

    Raises:
        FaultError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        raise AnnotationError(f"{what} must be a number, not {shorten(text)}") from None
    return finite_number(value, what)


def require_area(corners: Corners) -> Corners:
    """A box that has an area.

    Raises:
        FaultError: it has none.
    """
    try:
        return Box(*corners).xyxy
    except PromptError as error:
        raise AnnotationError(str(error)) from None


def check_box(element: Annotation) -> Annotation:
    """The element, with a fault if its box is none, such as one whose sides rounding or an overflow took away."""
    try:
        if element.box is not None and not element.fault:
            require_area(element.box)
    except AnnotationError as fault:
        return replace(element, box=None, fault=str(fault))
    return element


def visible_keypoints(keypoints: Sequence[float], dimensions: int = 3) -> tuple[tuple[float, float, int], ...]:
    """The keypoints that can be seen, as points on the object: x, y, v each, v 2, or x, y each, not both 0.

    COCO's v is 0 for a keypoint that is not labelled, 1 for one that is hidden: it may lie on what hides it.

    Raises:
        FaultError: the count does not fit, or v is none.
    """
    if len(keypoints) % dimensions:
        raise AnnotationError(f"{len(keypoints)} numbers for keypoints: expected {dimensions} each")
    found = [keypoints[at : at + dimensions] for at in range(0, len(keypoints), dimensions)]
    if dimensions == 2:
        return tuple((x, y, 1) for x, y in found if x or y)
    if wrong := [v for _, _, v in found if v not in (0, 1, 2)]:
        raise AnnotationError(f"the visibility of a keypoint is 0, 1 or 2, not {wrong[0]:g}")
    return tuple((x, y, 1) for x, y, v in found if v == 2)


def enclosing_box(points: list[tuple[float, float]]) -> Corners:
    """The box around points.

    Raises:
        FaultError: it has no area.
    """
    box = Extent([x for x, _ in points], [y for _, y in points]).corners
    if box[0] >= box[2] or box[1] >= box[3]:
        raise AnnotationError(f"its {len(points)} points enclose nothing")
    return box


def shorten(value: object) -> str:
    """A value in a message, short; of one that is long, or huge by YAML's references, only the beginning is made."""
    text = _SHORT.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
