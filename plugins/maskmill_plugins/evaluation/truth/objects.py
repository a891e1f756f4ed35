"""Ground truth: the true objects of each image, independent of the file format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from maskmill import Mask, PipelineError, Problem, Prompt

#: COCO's limits of small and medium objects, in pixels (https://cocodataset.org/#detection-eval).
SMALL, MEDIUM = 32**2, 96**2
Kind = Literal["mask", "box"]


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object of the ground truth.

    Attributes:
        ref: its id in the file, as text; None if the format has no ids.
        label: its class.
        counts: COCO's compressed run-length counts of its pixels, or of its box if only boxes are known.
        box: x, y, width, height in pixels.
        area: as given in the file, in pixels; decides whether the object is small, medium or large.
        crowd: whether it is a region of many objects, which counts neither as found nor as missed.
    """

    ref: str | None
    label: str
    counts: str
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False

    @property
    def size(self) -> str:
        """small, medium or large."""
        return "small" if self.area < SMALL else "medium" if self.area < MEDIUM else "large"


@dataclass(frozen=True, slots=True)
class TrueImage:
    """The ground truth of one image.

    Attributes:
        name: its name in the file.
        size: (height, width) in pixels.
        objects: in the order of the file.
        void: run-length counts of the pixels without ground truth, None if there are none.
    """

    name: str
    size: tuple[int, int]
    objects: tuple[TrueObject, ...]
    void: str | None = None

    def mask(self, true: TrueObject) -> Mask:
        """The pixels of one of its objects, with its label."""
        return Mask(self.size, true.counts, prompt=Prompt(text=true.label or "object", label=true.label or None))


def make_object(label: str, pixels: npt.NDArray[np.bool_], crowd: bool = False) -> TrueObject:
    """An object from its pixels, bool (H, W), of which there must be some."""
    mask = Mask.from_array(pixels)
    box = mask.box
    assert box is not None, "the object has pixels"
    place = box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1
    return TrueObject(None, label, mask.counts, place, mask.area, crowd)


def truth_error(path: Path, place: str, message: str, hint: str = "") -> PipelineError:
    """The error for an invalid position of a file."""
    return PipelineError(Problem(f"{place}: {message}" if place else message, str(path), hint=hint))


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
