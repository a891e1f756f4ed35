"""How far two sets of masks of one image agree: a run's and a person's, or those of two people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from maskmill import Mask
from maskmill.masks import iou

from ..pairing import pair_by_overlap

#: Two people agree if each object of the one has this IoU, and the same label, with one of the other.
AGREE = 0.9
#: A pair of masks with a lower IoU is not one object that was reshaped, but two objects.
SAME_OBJECT = 0.1


class Agreement(NamedTuple):
    """How the masks of a second set differ from those of a first one.

    Attributes:
        iou: the mean over the objects of both, where one without a counterpart counts 0; 1 if there are none.
        added: number of objects without a counterpart in the first set.
        removed: number of objects of the first set without a counterpart.
        relabelled: number of objects with another label than their counterpart.
        lowest: the lowest IoU of a pair, 1 if there is none.
    """

    iou: float
    added: int
    removed: int
    relabelled: int
    lowest: float = 1.0

    @property
    def agrees(self) -> bool:
        """Whether the two are the same but for a few pixels."""
        return not (self.added or self.removed or self.relabelled) and self.lowest >= AGREE

    def to_json(self) -> dict[str, Any]:
        """For the line of a decision."""
        return {"iou": round(self.iou, 4), "added": self.added, "removed": self.removed, "relabelled": self.relabelled}

    @classmethod
    def from_json(cls, data: object) -> Agreement | None:
        """What `to_json` gave; None if it is anything else, as in lines of earlier versions."""
        if not isinstance(data, Mapping) or not isinstance(data.get("iou"), (int, float)):
            return None
        counts = [data.get(name) for name in ("added", "removed", "relabelled")]
        return cls(float(data["iou"]), *(count if isinstance(count, int) else 0 for count in counts))


def compare_objects(first: Sequence[Mask], second: Sequence[Mask]) -> Agreement:
    """Compare two sets of masks of one image, paired by overlap; labels only count afterwards."""
    rest = list(range(len(second)))
    pairs: list[tuple[int, int, float]] = []
    for row, mask in enumerate(first):  # most are equal, so that their overlap need not be computed
        equal = [column for column in rest if second[column].counts == mask.counts]
        if equal:
            column = next((one for one in equal if second[one].label == mask.label), equal[0])
            rest.remove(column)
            pairs.append((row, column, 1.0))
    paired = {row for row, _, _ in pairs}
    free = [row for row in range(len(first)) if row not in paired]
    overlap = iou([first[row] for row in free], [second[column] for column in rest])
    found = pair_by_overlap(np.where(overlap >= SAME_OBJECT, overlap, 0))
    pairs += [(free[row], rest[column], value) for row, column, value in found]
    objects = len(first) + len(second) - len(pairs)
    return Agreement(
        iou=sum(value for _, _, value in pairs) / objects if objects else 1.0,
        added=len(second) - len(pairs),
        removed=len(first) - len(pairs),
        relabelled=sum(first[row].label != second[column].label for row, column, _ in pairs),
        lowest=min((value for _, _, value in pairs), default=1.0),
    )
