"""COCO's average precision, by pycocotools' own evaluation (https://cocodataset.org/#detection-eval)."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from maskmill import Mask

from ..truth.image_table import Truth
from ..truth.objects import TrueImage
from .match_table import MatchTable

#: The names of COCO's twelve numbers, in the order of `COCOeval.stats`.
STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
#: Maximum number of masks per image that count, those with the highest scores; COCO's own limit.
MOST = 100
#: Images, and objects and masks, that are held in memory.
AT_ONCE, MASKS_AT_ONCE = 256, 4096


class Precision:
    """Collects masks and evaluates them with pycocotools, some images at a time.

    What is kept of a mask are 29 bytes: its score and, for each of COCO's areas and thresholds, whether it is right.

    Args:
        truth: the ground truth.
        by_class: False to treat all classes as one.

    Attributes:
        unknown: labels of masks that are not a class of the ground truth, with their number; such masks are
            ignored.
    """

    def __init__(self, truth: Truth, by_class: bool) -> None:
        self._truth = truth
        self._by_class = by_class
        self._categories = {label: number for number, label in enumerate(truth.labels, start=1)}
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []
        self._has_objects = False
        self._matches = MatchTable()
        self.unknown: dict[str, int] = {}

    def add(self, image: TrueImage, masks: Sequence[Mask]) -> None:
        """Add an image with its masks; no masks if it failed."""
        number = self._truth.images.rank_of(image.name)
        height, width = image.size
        self._images.append({"id": number, "height": height, "width": width})
        for true in image.objects:
            entry: dict[str, Any] = {
                "id": len(self._annotations) + 1,
                "image_id": number,
                "category_id": self._categories[true.label],
            }
            entry |= {"bbox": list(true.box), "area": true.area, "iscrowd": int(true.crowd)}
            self._annotations.append({**entry, "segmentation": {"size": [height, width], "counts": true.counts}})
        for mask in masks:
            category = self._categories.get(mask.label or "") if self._by_class else 1
            if category is None:
                self.unknown[mask.label or ""] = self.unknown.get(mask.label or "", 0) + 1
                continue
            score = 1.0 if mask.score is None or not math.isfinite(mask.score) else mask.score
            found = {"image_id": number, "category_id": category, "score": float(score)}
            self._found.append({**found, **self._region_of(mask)})
        if len(self._images) >= AT_ONCE or len(self._annotations) + len(self._found) >= MASKS_AT_ONCE:
            self._match()

    def _region_of(self, mask: Mask) -> dict[str, Any]:
        if self._truth.kind == "mask":
            return {"segmentation": mask.rle}
        box = mask.box
        return {"bbox": [0.0, 0.0, 0.0, 0.0] if box is None else [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1]}

    def _match(self) -> None:
        """Let pycocotools match the masks of the collected images, and keep only what comes of it."""
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        self._has_objects |= bool(self._annotations)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            true = COCO()
            categories = [{"id": number, "name": label} for label, number in self._categories.items()]
            true.dataset = {"images": self._images, "annotations": self._annotations, "categories": categories}
            true.createIndex()
            found = true.loadRes(self._found) if self._found else _empty_results(true.dataset)
            evaluation = COCOeval(true, found, self._kind)
            evaluation.params.useCats = int(self._by_class)
            evaluation.evaluate()
        self._matches.add(evaluation)
        self._images, self._annotations, self._found = [], [], []

    @property
    def _kind(self) -> str:
        return "segm" if self._truth.kind == "mask" else "bbox"

    def numbers(self) -> Mapping[str, float | None]:
        """COCO's twelve numbers by name, and AP by class; None if the ground truth has no such objects."""
        from pycocotools.cocoeval import COCOeval

        if self._images:
            self._match()
        if not self._has_objects:
            return dict.fromkeys(STATS)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(iouType=self._kind)
            evaluation.params.useCats = int(self._by_class)
            evaluation.params.catIds = sorted(self._categories.values()) if self._by_class else [-1]
            self._matches.accumulate(evaluation)
            evaluation.summarize()
        numbers = {name: _none_if_negative(value) for name, value in zip(STATS, evaluation.stats, strict=True)}
        return numbers | (self._average_by_label(evaluation) if self._by_class else {})

    def _average_by_label(self, evaluation: Any) -> dict[str, float | None]:
        """AP of each class: the mean over thresholds and recalls for all areas, 100 masks per image."""
        precision = evaluation.eval["precision"][:, :, :, 0, -1]  # thresholds, recalls, classes
        found = {}
        for index, category in enumerate(evaluation.params.catIds):
            label = self._truth.labels[category - 1]
            values = precision[:, :, index]
            values = values[values > -1]
            found[f"AP {label}"] = float(values.mean()) if values.size else None
        return found


def _empty_results(dataset: Mapping[str, Any]) -> Any:
    from pycocotools.coco import COCO

    empty = COCO()
    empty.dataset = {**dataset, "annotations": []}
    empty.createIndex()
    return empty


def _none_if_negative(value: float) -> float | None:
    """The value, None for -1, which pycocotools returns if there is nothing to measure."""
    return None if value < 0 else float(value)
