"""What pycocotools' matching gave for each mask, in few bytes, and COCO's averages over all of it."""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

#: More than any number of masks: the masks of each image are chosen here, before pycocotools sees all as one image.
_ALL = 2**62


class MatchTable:
    """The matches of all masks: by class the image, rank and score of each, and by area whether it is right.

    pycocotools keeps about 8 kB for each mask and image; its averages need only this.
    """

    def __init__(self) -> None:
        self._masks: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._verdicts: defaultdict[tuple[int, int], bytearray] = defaultdict(bytearray)
        self._objects: defaultdict[tuple[int, int], int] = defaultdict(int)

    def add(self, evaluation: Any) -> None:
        """Add the matches of some images; `COCOeval.evaluate` was called.

        Args:
            evaluation: the `COCOeval`, whose image ids are not those of images added before.
        """
        params = evaluation.params
        classes = len(params.catIds) if params.useCats else 1
        entries = iter(evaluation.evalImgs)
        for number in range(classes):
            for area in range(len(params.areaRng)):
                for _ in params.imgIds:
                    if (entry := next(entries)) is not None:
                        self._add_image(number, area, entry)

    def _add_image(self, number: int, area: int, entry: Any) -> None:
        self._objects[number, area] += int(np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0))
        scores = np.asarray(entry["dtScores"], np.float64)
        if not scores.size:
            return
        if area == 0:  # these are the same for all areas
            masks = np.empty(scores.size, _MASK)
            masks["image"], masks["rank"], masks["score"] = entry["image_id"], np.arange(scores.size), scores
            self._masks[number] += masks.tobytes()
        bits = 1 << np.arange(len(entry["dtMatches"]), dtype=np.uint16)[:, None]
        verdicts = np.empty(scores.size, _VERDICT)
        verdicts["matched"] = ((np.asarray(entry["dtMatches"]) > 0) * bits).sum(axis=0)
        verdicts["ignored"] = (np.asarray(entry["dtIgnore"]).astype(np.bool_) * bits).sum(axis=0)
        self._verdicts[number, area] += verdicts.tobytes()

    def accumulate(self, evaluation: Any) -> None:
        """Compute the averages, as `COCOeval.accumulate` does, but for one threshold at a time.

        Args:
            evaluation: a `COCOeval` with the classes of all images; gets `eval`.
        """
        params = evaluation.params
        shape = (len(params.iouThrs), len(params.recThrs), len(params.catIds), len(params.areaRng), len(params.maxDets))
        precision, recall = -np.ones(shape), -np.ones((shape[0], *shape[2:]))
        masks, order = self._sorted_masks()
        for threshold in range(shape[0]):
            for place, most in enumerate(params.maxDets):
                part = copy.copy(evaluation)
                part.params = copy.copy(params)
                part.params.iouThrs, part.params.maxDets = params.iouThrs[threshold : threshold + 1], [_ALL]
                part.params.imgIds = [1]
                part._paramsEval = copy.copy(part.params)
                part.evalImgs = [
                    self._entry(masks.get(number), order.get(number), number, area, threshold, most)
                    for number in range(shape[2])
                    for area in range(shape[3])
                ]
                part.accumulate()
                precision[threshold, ..., place] = part.eval["precision"][0, ..., 0]
                recall[threshold, ..., place] = part.eval["recall"][0, ..., 0]
        evaluation.eval = {"params": params, "precision": precision, "recall": recall}

    def _sorted_masks(self) -> tuple[dict[int, npt.NDArray[Any]], dict[int, npt.NDArray[Any]]]:
        """The masks of each class in the order of image ids, in which equal scores count; and that order."""
        joined = {number: np.frombuffer(masks, _MASK) for number, masks in self._masks.items()}
        order = {number: np.argsort(masks["image"], kind="stable") for number, masks in joined.items()}
        return {number: masks[order[number]] for number, masks in joined.items()}, order

    def _entry(
        self,
        masks: npt.NDArray[Any] | None,
        order: npt.NDArray[Any] | None,
        number: int,
        area: int,
        threshold: int,
        most: int,
    ) -> dict[str, Any] | None:
        """All masks of a class as if they were of one image, in pycocotools' form."""
        if (number, area) not in self._objects:
            return None
        objects = np.zeros(self._objects[number, area], np.uint8)
        if masks is None or order is None:
            nothing = np.zeros((1, 0))
            return {"dtScores": np.zeros(0), "dtMatches": nothing, "dtIgnore": nothing, "gtIgnore": objects}
        counted = masks["rank"] < most
        verdicts = np.frombuffer(self._verdicts[number, area], _VERDICT)[order][counted]
        return {
            "dtScores": masks["score"][counted],
            "dtMatches": (verdicts["matched"] >> threshold & 1)[None].astype(np.bool_),
            "dtIgnore": (verdicts["ignored"] >> threshold & 1)[None].astype(np.bool_),
            "gtIgnore": objects,
        }


_MASK = np.dtype([("image", np.uint32), ("rank", np.uint8), ("score", np.float64)])
_VERDICT = np.dtype([("matched", np.uint16), ("ignored", np.uint16)])
