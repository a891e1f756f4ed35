"""nms: keeps the best of masks that cover the same object."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Filter, Image, Mask, hookimpl
from maskmill.masks import iou
from maskmill_plugins._shared.mask_order import order_best_first


class Nms(Filter):
    """Greedy non-maximum suppression on mask IoU (not on boxes), best score first.

    Masks without a score rank last, equal ones in the backend's order.
    """

    iou: float = Field(0.9, gt=0, le=1, description="drop masks whose IoU with a better one is above this")
    containment: float | None = Field(
        None,
        gt=0,
        le=1,
        description="also drop a mask that shares more than this fraction of the smaller of the two with a better one",
    )
    across_labels: bool = Field(False, description="also compare masks of different labels")

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks in their order, the suppressed ones dropped with a reason that names the better mask."""
        if len(masks) < 2:
            return list(masks)
        overlap = iou(masks, masks)
        best: list[int] = []
        reasons: dict[int, str] = {}
        contained = _compute_containment(overlap, masks)
        for i in order_best_first(masks):
            for j in best:
                if not self.across_labels and masks[i].label != masks[j].label:
                    continue
                if reason := self._explain(overlap[i, j], contained[i, j]):
                    reasons[i] = f"{reason} with mask {masks[j].index}, which scores better"
                    break
            else:
                best.append(i)
        return [mask.drop(reasons[i]) if i in reasons else mask for i, mask in enumerate(masks)]

    def _explain(self, overlap: float, contained: float) -> str:
        if overlap > self.iou:
            return f"IoU {overlap:.3f} > {self.iou:g}"
        if self.containment is not None and contained > self.containment:
            return f"containment {contained:.3f} > {self.containment:g}"
        return ""


def _compute_containment(overlap: npt.NDArray[np.float64], masks: Sequence[Mask]) -> npt.NDArray[np.float64]:
    """Intersection over the smaller area, (n, n), from IoU and areas: |A∩B| = IoU/(1+IoU) · (|A|+|B|)."""
    area = np.array([mask.area for mask in masks], dtype=np.float64)
    intersection = overlap / (1 + overlap) * (area[:, None] + area[None, :])
    smaller = np.minimum(area[:, None], area[None, :])
    return np.divide(intersection, smaller, out=np.zeros_like(intersection), where=smaller > 0)


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `nms`."""
    register("nms", Nms)
