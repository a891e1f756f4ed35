"""Prompts: what to segment, in pixels of the upright original image.

Coordinates are floats with the origin at the top-left corner of the image, x to
the right, y down; boxes are xyxy. Relative coordinates exist only where prompts
enter (YAML, files, a language model) and are converted there, once.
"""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import PromptError

#: Masks that Segment Anything proposes for one prompt (arXiv:2304.02643, section 3).
CANDIDATES = 3


def _to_finite(value: object, what: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, numbers.Real) else float(value)
    except OverflowError:  # an integer of several hundred digits
        number = math.inf
    if not math.isfinite(number):
        raise PromptError(f"{what} must be a finite number, not {reprlib.repr(value)}")
    return number


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
        object.__setattr__(self, "x", _to_finite(self.x, "a point's x"))
        object.__setattr__(self, "y", _to_finite(self.y, "a point's y"))
        if isinstance(self.label, bool) or self.label not in (0, 1):
            raise PromptError(f"a point's label is 1 (foreground) or 0 (background), not {self.label!r}")
        object.__setattr__(self, "label", int(self.label))


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
            object.__setattr__(self, name, _to_finite(getattr(self, name), f"a box's {name}"))
        if self.x1 >= self.x2 or self.y1 >= self.y2:
            raise PromptError(
                f"a box is [x1, y1, x2, y2] with x1 < x2 and y1 < y2, not {list(self.xyxy)}"
                " (is it [x, y, width, height]?)"
            )

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
class Grid:
    """Everything mode: a grid of points, with `SamAutomaticMaskGenerator`'s own parameters.

    Names, meanings and defaults are those of `segment_anything`
    (Kirillov et al., Segment Anything, arXiv:2304.02643, appendix B).
    """

    points_per_side: int = 32
    pred_iou_thresh: float = 0.88
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = 512 / 1500
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0

    def __post_init__(self) -> None:
        if self.points_per_side < 1:
            raise PromptError(f"points_per_side must be at least 1, not {self.points_per_side}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to segment: points and/or a box, or a text, or a grid (everything mode).

    Attributes:
        points: foreground and background points, in pixels.
        box: a box xyxy, in pixels.
        text: a description, for backends that accept text.
        grid: everything mode.
        label: the class name that the masks carry, or None.
        source: the prompt source it came from; set by the framework.
        score: the source's confidence in 0..1, or None.
        ref: the annotation it came from (an id in the source's file), or None; passed on to outputs.
        pick: which of the backend's candidate masks to take, from 0; None leaves that to the backend.
            Ignored by backends with one candidate per prompt.

    Raises:
        PromptError: not exactly one of (points and/or box), text, grid is given.
    """

    points: tuple[Point, ...] = ()
    box: Box | None = None
    text: str | None = None
    grid: Grid | None = None
    label: str | None = None
    source: str | None = None
    score: float | None = None
    ref: str | None = None
    pick: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))
        given = [bool(self.points) or self.box is not None, bool(self.text), self.grid is not None]
        if sum(given) != 1:
            raise PromptError("a prompt is exactly one of: points and/or a box; a text; a grid")
        if self.score is not None:
            object.__setattr__(self, "score", _to_finite(self.score, "a prompt's score"))
        if self.pick is not None and (isinstance(self.pick, bool) or self.pick not in range(CANDIDATES)):
            raise PromptError(f"a prompt's pick is 0 to {CANDIDATES - 1}, not {self.pick!r}")

    @property
    def needs(self) -> frozenset[str]:
        """The kinds that a backend must accept: of "points", "box", "text", "everything"."""
        kinds = {
            "points": bool(self.points),
            "box": self.box is not None,
            "text": bool(self.text),
            "everything": self.grid is not None,
        }
        return frozenset(kind for kind, given in kinds.items() if given)

    def fit(self, height: int, width: int) -> Prompt:
        """This prompt for an image of that size: its box clipped to the image.

        Raises:
            PromptError: the whole box or a point lies outside the image.
        """
        for point in self.points:
            if not (0 <= point.x <= width and 0 <= point.y <= height):
                raise PromptError(
                    f"the point ({point.x:g}, {point.y:g}) lies outside the image of {width}×{height} pixels"
                )
        if self.box is None:
            return self
        clipped = self.box.clip(height, width)
        if clipped is None:
            raise PromptError(f"the box {list(self.box.xyxy)} lies outside the image of {width}×{height} pixels")
        return self if clipped == self.box else replace(self, box=clipped)

    def to_pixels(self, height: int, width: int) -> Prompt:
        """This prompt in pixels, from relative coordinates: fractions (0..1) of the width and the height.

        Raises:
            PromptError: a coordinate is not in 0..1.
        """
        corners = () if self.box is None else self.box.xyxy
        for number in (*corners, *(n for point in self.points for n in (point.x, point.y))):
            if not 0 <= number <= 1:
                raise PromptError(f"relative coordinates are between 0 and 1, not {number:g} (are they pixels?)")
        points = tuple(Point(point.x * width, point.y * height, point.label) for point in self.points)
        box = self.box and Box(self.box.x1 * width, self.box.y1 * height, self.box.x2 * width, self.box.y2 * height)
        return replace(self, points=points, box=box)

    def to_json(self) -> dict[str, Any]:
        """Plain data with the fields that are set; points as [x, y, label], the box as [x1, y1, x2, y2]."""
        out: dict[str, Any] = {}
        if self.points:
            out["points"] = [[p.x, p.y, p.label] for p in self.points]
        if self.box is not None:
            out["box"] = list(self.box.xyxy)
        if self.grid is not None:
            out["grid"] = asdict(self.grid)
        for name in ("text", "label", "source", "score", "ref", "pick"):
            if (value := getattr(self, name)) is not None:
                out[name] = value
        return out

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompt:
        """The inverse of `to_json`; a point may also be [x, y] (foreground).

        Raises:
            PromptError: a field is unknown, or a value is not valid.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise PromptError(f"unknown field {unknown[0]!r} in a prompt; expected {', '.join(sorted(known))}")
        values = {name: value for name, value in data.items() if value is not None}
        if "points" in values:
            values["points"] = tuple(_parse_point(item) for item in _to_list(values["points"], "points"))
        if "box" in values:
            corners = _to_list(values["box"], "box")
            if len(corners) != 4:
                raise PromptError(f"a box is [x1, y1, x2, y2], not {values['box']!r}")
            values["box"] = Box(*corners)
        if "grid" in values:
            values["grid"] = _parse_grid(values["grid"])
        for name in ("text", "label", "source", "ref"):
            if name in values and not isinstance(values[name], str):
                raise PromptError(f"a prompt's {name} must be a text, not {values[name]!r}")
        return cls(**values)


def _to_list(value: object, what: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise PromptError(f"{what} must be a list, not {value!r}")
    return list(value)


def _parse_point(item: object) -> Point:
    numbers = _to_list(item, "a point")
    if len(numbers) not in (2, 3):
        raise PromptError(f"a point is [x, y] or [x, y, label], not {item!r}")
    return Point(*numbers)


def _parse_grid(data: object) -> Grid:
    if not isinstance(data, Mapping):
        raise PromptError(f"grid must be a mapping, not {data!r}")
    known = {field.name for field in fields(Grid)}
    if unknown := sorted(set(data) - known):
        raise PromptError(f"unknown field {unknown[0]!r} in a grid; expected {', '.join(sorted(known))}")
    return Grid(**data)
