"""The truth that masks are measured against: objects by image, whatever file they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from maskmill import Mask, PipelineError, Problem, Prompt

#: COCO's limits of small and medium objects, in pixels (https://cocodataset.org/#detection-eval).
SMALL, MEDIUM = 32**2, 96**2
Kind = Literal["mask", "box"]


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One object of the truth.

    Attributes:
        ref: its id in the file, as text; None where objects have no ids of their own.
        label: its class.
        counts: COCO's compressed run-length counts of its pixels; of its box if only boxes are known.
        box: x, y, width, height in pixels.
        area: what the file says, in pixels; it decides whether the object is small, medium or large.
        crowd: a region of many objects, which counts neither as found nor as missed.
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
    """The truth of one image.

    Attributes:
        name: how the file names it.
        size: (height, width) in pixels.
        objects: in the order of the file.
        void: counts of the pixels that nothing is known of, None if there are none.
    """

    name: str
    size: tuple[int, int]
    objects: tuple[TrueObject, ...]
    void: str | None = None

    def mask(self, true: TrueObject) -> Mask:
        """The pixels of one of its objects, with its label."""
        return Mask(self.size, true.counts, prompt=Prompt(text=true.label or "object", label=true.label or None))


@dataclass(frozen=True)
class Truth:
    """All of it.

    Attributes:
        source: the file or folder it was read from.
        kind: "mask", or "box" if only boxes are known.
        images: by name.
        labels: the classes in the file's order; those that no object has as well.
        warnings: what was passed over.
    """

    source: Path
    kind: Kind
    images: Mapping[str, TrueImage]
    labels: Sequence[str]
    warnings: Sequence[str] = ()

    @property
    def count(self) -> int:
        """Objects that count: no crowds."""
        return sum(not true.crowd for image in self.images.values() for true in image.objects)


def truth_error(path: Path, place: str, message: str, hint: str = "") -> PipelineError:
    """What is wrong with an element of a file."""
    return PipelineError(Problem(f"{place}: {message}" if place else message, str(path), hint=hint))


def is_number(value: Any) -> bool:
    """Whether a JSON value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")
