"""Points, boxes and scores: numbers that are checked where they enter.

Coordinates are floats in pixels of the upright original image: the origin at its top-left corner, x to the right,
y down; boxes are xyxy.
"""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from .errors import PromptError

#: Scores mean 0 to 1, and a model that estimates one may overshoot by this much; beyond it is another unit.
OVERSHOOT = 0.2


@dataclass(frozen=True, slots=True)
class Point:
    """A point on the object (label 1, foreground) or off it (label 0, background).

    Raises:
        PromptError: a coordinate is not a finite number, or the label is not 0 or 1.
    """

    x: float
    y: float
    label: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", to_finite(self.x, "a point's x"))
        object.__setattr__(self, "y", to_finite(self.y, "a point's y"))
        object.__setattr__(self, "label", _to_mark(self.label, "a point"))

    def __repr__(self) -> str:
        return f"Point({self.x:.6g}, {self.y:.6g}, label={self.label})"


@dataclass(frozen=True, slots=True)
class Box:
    """A box xyxy: left, top, right, bottom edge in pixels, with x1 < x2 and y1 < y2.

    Raises:
        PromptError: a coordinate is not a finite number, or the box has no area.
    """

    x1: float
    y1: float
    x2: float
    y2: float

    def __post_init__(self) -> None:
        for name in ("x1", "y1", "x2", "y2"):
            object.__setattr__(self, name, to_finite(getattr(self, name), f"a box's {name}"))
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise PromptError(
                f"a box is [x1, y1, x2, y2] with x1 < x2 and y1 < y2, not {list(self.xyxy)}"
                " (is it [x, y, width, height]?)"
            )

    def __repr__(self) -> str:
        return f"Box({', '.join(f'{number:.6g}' for number in self.xyxy)})"

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """The four numbers (x1, y1, x2, y2)."""
        return (self.x1, self.y1, self.x2, self.y2)

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def clip(self, height: int, width: int) -> Box | None:
        """The part of the box inside an image of this size, None if there is none."""
        x1, x2 = max(self.x1, 0.0), min(self.x2, float(width))
        y1, y2 = max(self.y1, 0.0), min(self.y2, float(height))
        return Box(x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


@dataclass(frozen=True, slots=True)
class Exemplar:
    """An example beside or instead of a text: a box around an object of the kind (label 1), or of another (label 0).

    Unlike a `Prompt.box` it does not ask for the object in the box, but for all objects like it.

    Raises:
        PromptError: the box is not valid, or the label is not 0 or 1.
    """

    box: Box
    label: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", to_box(self.box))
        object.__setattr__(self, "label", _to_mark(self.label, "an exemplar"))


def to_point(item: Any) -> Point:
    """The point of a `Point`, or of a list, tuple or array [x, y] (foreground) or [x, y, label].

    Raises:
        PromptError: it is something else.
    """
    if isinstance(item, Point):
        return item
    values = to_list(item, "a point")
    if len(values) not in (2, 3):
        raise PromptError(f"a point is [x, y] or [x, y, label], not {reprlib.repr(item)}")
    return Point(*values)


def to_box(item: Any) -> Box:
    """The box of a `Box`, or of a list, tuple or array [x1, y1, x2, y2].

    Raises:
        PromptError: it is something else.
    """
    if isinstance(item, Box):
        return item
    corners = to_list(item, "a box")
    if len(corners) != 4:
        raise PromptError(f"a box is [x1, y1, x2, y2], not {reprlib.repr(item)}")
    return Box(*corners)


def to_exemplar(item: Any) -> Exemplar:
    """The exemplar of an `Exemplar`, or of a list, tuple or array [x1, y1, x2, y2] or [x1, y1, x2, y2, label].

    Raises:
        PromptError: it is something else.
    """
    if isinstance(item, Exemplar):
        return item
    values = to_list(item, "an exemplar")
    if len(values) not in (4, 5):
        raise PromptError(f"an exemplar is [x1, y1, x2, y2] or [x1, y1, x2, y2, label], not {reprlib.repr(item)}")
    return Exemplar(Box(*values[:4]), *values[4:])


def scale_box(box: Box, height: int, width: int) -> Box:
    """A box in fractions of the width and the height, in pixels."""
    return Box(box.x1 * width, box.y1 * height, box.x2 * width, box.y2 * height)


def to_list(value: Any, what: str) -> list[Any]:
    """What a list, tuple, array or table contains.

    Raises:
        PromptError: it is something else.
    """
    value = value.to_numpy() if hasattr(value, "to_numpy") else value
    is_array = bool(getattr(value, "shape", ())) and hasattr(value, "tolist")
    if not is_array and (not isinstance(value, Iterable) or isinstance(value, (str, bytes, Mapping, Set))):
        raise PromptError(f"{what} must be a list, not {reprlib.repr(value)}")
    return list(value.tolist() if is_array else value)


def to_plain(value: object) -> object:
    """The Python object of a numpy scalar, or of an array without dimensions; anything else as it is."""
    is_scalar = getattr(value, "shape", None) == () and hasattr(value, "item")
    return value.item() if is_scalar else value  # type: ignore[attr-defined]


def to_finite(value: object, what: str) -> float:
    """A number as a Python float.

    Raises:
        PromptError: it is no number, or not finite.
    """
    value = to_plain(value)
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    except OverflowError:  # an integer of several hundred digits
        number = math.inf
    if not math.isfinite(number):
        raise PromptError(f"{what} must be a finite number, not {reprlib.repr(value)}")
    return number


def _to_mark(value: object, what: str) -> int:
    """1 for what is meant, 0 for what is not."""
    mark = to_plain(value)
    if isinstance(mark, bool) or not isinstance(mark, numbers.Real) or mark not in (0, 1):
        raise PromptError(f"{what}'s label is 1 (foreground) or 0 (background), not {reprlib.repr(mark)}")
    return int(float(mark))


def to_score(value: object, what: str) -> float | None:
    """A score as a Python number, None for None.

    Raises:
        ValueError: it is not finite, or in another unit than 0 to 1.
    """
    plain = to_plain(value)
    if plain is None:
        return None
    is_number = isinstance(plain, numbers.Real) and not isinstance(plain, bool)
    if not is_number or not -OVERSHOOT <= plain <= 1 + OVERSHOOT:  # type: ignore[operator]
        hint = ""
        if is_number and -math.inf < plain < math.inf:  # type: ignore[operator]
            hint = "; percentages are divided by 100, logits go through a sigmoid"
        raise ValueError(f"{what} must be a number from 0 to 1, not {reprlib.repr(plain)}{hint}")
    return float(plain)  # type: ignore[arg-type]
