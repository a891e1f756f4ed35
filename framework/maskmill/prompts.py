"""Prompts: what to segment, in pixels of the upright original image.

Coordinates are floats with the origin at the top-left corner of the image, x to
the right, y down; boxes are xyxy. Relative coordinates exist only where prompts
enter (YAML, files, a language model) and are converted there, once.
"""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .display import brief
from .errors import PromptError
from .geometry import (
    Box,
    Exemplar,
    Point,
    scale_box,
    to_box,
    to_exemplar,
    to_finite,
    to_list,
    to_plain,
    to_point,
    to_score,
)

__all__ = ["CANDIDATES", "Box", "Exemplar", "GivenMask", "Grid", "Point", "Prompt"]

#: Masks that Segment Anything proposes for one prompt (arXiv:2304.02643, section 3).
CANDIDATES = 3
#: Characters of a prompt's `repr`.
MOST_IN_REPR = 100


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
        for field in fields(self):
            value = to_plain(getattr(self, field.name))
            to_finite(value, field.name)
            if isinstance(field.default, int) and not isinstance(value, int):
                raise PromptError(f"{field.name} must be a whole number, not {value!r}")
            object.__setattr__(self, field.name, value)
        if self.points_per_side < 1:
            raise PromptError(f"points_per_side must be at least 1, not {self.points_per_side}")

    def __repr__(self) -> str:
        set_here = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        return f"Grid({', '.join(f'{name}={getattr(self, name)}' for name in set_here)})"


@dataclass(frozen=True, slots=True)
class GivenMask:
    """The pixels of an object that is known already: a prompt that has them is answered without the backend.

    Attributes:
        size: (height, width) of the image in pixels.
        counts: COCO compressed RLE counts, ASCII.
        score: what the mask carries as its score, 0..1, or None.
        stability: what it carries as its stability score, 0..1, or None.
    """

    size: tuple[int, int]
    counts: str = dataclasses.field(repr=False)
    score: float | None = None
    stability: float | None = None

    def __post_init__(self) -> None:
        size = to_list(self.size, "a mask's size")
        if len(size) != 2 or not all(type(side) is int and side > 0 for side in size):
            raise PromptError(f"a mask's size is [height, width] in pixels, not {reprlib.repr(self.size)}")
        object.__setattr__(self, "size", (size[0], size[1]))
        if not isinstance(self.counts, str):
            raise PromptError(f"a mask's counts are COCO's compressed run lengths, not {reprlib.repr(self.counts)}")
        try:
            for name in ("score", "stability"):
                object.__setattr__(self, name, to_score(getattr(self, name), f"a mask's {name}"))
        except ValueError as error:
            raise PromptError(str(error)) from None

    def to_json(self) -> dict[str, Any]:
        """Plain data; fields that are None are left out."""
        scores = {"score": self.score, "stability": self.stability}
        return {"size": list(self.size), "counts": self.counts, **{n: v for n, v in scores.items() if v is not None}}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to segment: points and/or a box, or a text and/or exemplars, or a grid (everything), or known pixels.

    Points and boxes may also be given as lists, tuples or arrays of numbers: points=[[x, y], [x, y, label]],
    box=[x1, y1, x2, y2].

    Attributes:
        points: foreground and background points, in pixels.
        box: a box xyxy, in pixels.
        text: a description, for backends that accept text.
        exemplars: boxes around objects of the kind that is meant, and of kinds that are not, for backends that accept
            them.
        grid: everything mode.
        label: the class name that the masks carry, or None.
        source: the prompt source it came from; set by the framework.
        score: the source's confidence in 0..1, or None.
        ref: the annotation it came from (an id in the source's file), or None; passed on to outputs.
        pick: which of the backend's candidate masks to take, from 0; None leaves that to the backend.
            Ignored by backends with one candidate per prompt.
        mask: the object's pixels, which answer the prompt without the backend. Points, a box or a text beside them
            only tell how they were made.

    Raises:
        PromptError: not exactly one of (points and/or box), (text and/or exemplars), grid is given; beside a mask,
            more than one, or a grid.
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
    mask: GivenMask | None = None
    exemplars: tuple[Exemplar, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(to_point(item) for item in to_list(self.points, "points")))
        if self.box is not None:
            object.__setattr__(self, "box", to_box(self.box))
        examples = tuple(to_exemplar(item) for item in to_list(self.exemplars, "exemplars"))
        object.__setattr__(self, "exemplars", examples)
        is_concept = bool(self.text) or bool(self.exemplars)
        given = [bool(self.points) or self.box is not None, is_concept, self.grid is not None]
        if self.mask is not None:
            object.__setattr__(self, "mask", _to_given_mask(self.mask))
        if sum(given) != 1 and (self.mask is None or sum(given) > 1):
            raise PromptError(
                "a prompt is exactly one of: points and/or a box; a text and/or exemplars; a grid; a mask"
            )
        if self.mask is not None and self.grid is not None:
            raise PromptError("a prompt with a mask cannot have a grid")
        if self.score is not None:
            object.__setattr__(self, "score", to_finite(self.score, "a prompt's score"))
        object.__setattr__(self, "pick", pick := to_plain(self.pick))
        if pick is not None and (isinstance(pick, bool) or pick not in range(CANDIDATES)):
            raise PromptError(f"a prompt's pick is 0 to {CANDIDATES - 1}, not {pick!r}")

    def __repr__(self) -> str:
        parts = [repr(part) for part in (self.box, self.grid) if part is not None]
        if len(self.points) > 2:
            parts.insert(0, f"{len(self.points)} points")
        elif self.points:
            parts.insert(0, f"points={list(self.points)}")
        if self.exemplars:
            parts.append(f"{len(self.exemplars)} exemplars")
        for name in ("text", "label", "source", "score", "ref", "pick"):
            if (value := getattr(self, name)) is not None:
                parts.append(f"{name}={brief(value)}")
        if self.mask is not None:
            parts.append(f"mask of {self.mask.size[1]}×{self.mask.size[0]} pixels")
        text = ", ".join(parts)
        return f"Prompt({text})" if len(text) <= MOST_IN_REPR else f"Prompt({text[:MOST_IN_REPR]}...)"

    @property
    def needs(self) -> frozenset[str]:
        """The kinds that a backend must accept: of "points", "box", "text", "exemplars", "everything".

        None beside a mask.
        """
        if self.mask is not None:
            return frozenset()
        kinds = {
            "points": bool(self.points),
            "box": self.box is not None,
            "text": bool(self.text),
            "exemplars": bool(self.exemplars),
            "everything": self.grid is not None,
        }
        return frozenset(kind for kind, given in kinds.items() if given)

    def fit(self, height: int, width: int) -> Prompt:
        """This prompt for an image of that size: its boxes clipped to the image.

        Raises:
            PromptError: a whole box or a point lies outside the image, all points are off the object, or the mask
                is of another size.
        """
        if self.mask is not None:
            if self.mask.size != (height, width):
                theirs = f"{self.mask.size[1]}×{self.mask.size[0]}"
                raise PromptError(f"the mask has {theirs} pixels, and the image {width}×{height}")
            return self
        if self.points and self.box is None and not any(point.label for point in self.points):
            raise PromptError("points off the object (label 0) mean nothing alone; give a point on it, or a box")
        for point in self.points:
            if not (0 <= point.x <= width and 0 <= point.y <= height):
                raise PromptError(
                    f"the point ({point.x:g}, {point.y:g}) lies outside the image of {width}×{height} pixels"
                )
        if self.exemplars and not self.text and not any(each.label for each in self.exemplars):
            raise PromptError(
                "exemplars of what is not meant (label 0) mean nothing alone; give one of what is, or a text"
            )
        box = None if self.box is None else _clip(self.box, height, width)
        examples = tuple(Exemplar(_clip(each.box, height, width), each.label) for each in self.exemplars)
        same = (box, examples) == (self.box, self.exemplars)
        return self if same else replace(self, box=box, exemplars=examples)

    def to_pixels(self, height: int, width: int) -> Prompt:
        """This prompt in pixels, from relative coordinates: fractions (0..1) of the width and the height.

        Raises:
            PromptError: a coordinate is not in 0..1.
        """
        boxes = [*([] if self.box is None else [self.box]), *(each.box for each in self.exemplars)]
        corners = [number for box in boxes for number in box.xyxy]
        for number in (*corners, *(n for point in self.points for n in (point.x, point.y))):
            if not 0 <= number <= 1:
                raise PromptError(f"relative coordinates are between 0 and 1, not {number:g} (are they pixels?)")
        points = tuple(Point(point.x * width, point.y * height, point.label) for point in self.points)
        box = self.box and scale_box(self.box, height, width)
        examples = tuple(Exemplar(scale_box(each.box, height, width), each.label) for each in self.exemplars)
        return replace(self, points=points, box=box, exemplars=examples)

    def to_json(self) -> dict[str, Any]:
        """Plain data with the fields that are set; points as [x, y, label], the box as [x1, y1, x2, y2]."""
        out: dict[str, Any] = {}
        if self.points:
            out["points"] = [[p.x, p.y, p.label] for p in self.points]
        if self.box is not None:
            out["box"] = list(self.box.xyxy)
        if self.grid is not None:
            out["grid"] = asdict(self.grid)
        if self.exemplars:
            out["exemplars"] = [[*each.box.xyxy, each.label] for each in self.exemplars]
        if self.mask is not None:
            out["mask"] = self.mask.to_json()
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
        if "grid" in values:
            values["grid"] = _parse_grid(values["grid"])
        for name in ("text", "label", "source", "ref"):
            if name in values and not isinstance(values[name], str):
                raise PromptError(f"a prompt's {name} must be a text, not {values[name]!r}")
        return cls(**values)


def _to_given_mask(item: Any) -> GivenMask:
    """The mask of a `GivenMask`, or of a mapping with its fields."""
    if isinstance(item, GivenMask):
        return item
    known = {each.name for each in fields(GivenMask)}
    if not isinstance(item, Mapping) or not {"size", "counts"} <= set(item) <= known:
        raise PromptError(f'a mask is {{"size": [height, width], "counts": ...}}, not {reprlib.repr(item)}')
    return GivenMask(**item)


def _clip(box: Box, height: int, width: int) -> Box:
    clipped = box.clip(height, width)
    if clipped is None:
        raise PromptError(f"the box {list(box.xyxy)} lies outside the image of {width}×{height} pixels")
    return clipped


def _parse_grid(data: object) -> Grid:
    if not isinstance(data, Mapping):
        raise PromptError(f"grid must be a mapping, not {data!r}")
    known = {field.name for field in fields(Grid)}
    if unknown := sorted(set(data) - known):
        raise PromptError(f"unknown field {unknown[0]!r} in a grid; expected {', '.join(sorted(known))}")
    return Grid(**data)
