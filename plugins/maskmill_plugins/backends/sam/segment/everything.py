"""Everything mode: a grid of points, and of their masks the good and distinct ones.

The same masks as `segment_anything`'s `SamAutomaticMaskGenerator`, with its parameters and
its order, for less work: a mask is made only if its predicted IoU is good enough, upscaled
only where it can be, and kept as run lengths from then on.

Reference: Kirillov et al., Segment Anything, arXiv:2304.02643, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.utils import amg
from torchvision.ops import batched_nms

from maskmill import Grid, Mask, Prompt

from ..model.decoder import FastDecoder, ImageSide
from .upsample import Crop, Upsampler, encode

if TYPE_CHECKING:
    from .segmenter import FloatArray, PixelArray

IntBox = tuple[int, int, int, int]


class GridDecoder(Protocol):
    """What is needed of a segmenter."""

    decoder: FastDecoder
    threshold: float
    prompts_at_a_time: int

    def embed(self, pixels: PixelArray) -> FloatArray:
        """The encoder's output for a picture."""

    def prepare(self, embedding: FloatArray, size: tuple[int, int]) -> tuple[ImageSide, Upsampler]:
        """What all prompts of a picture share."""

    def embed_points(self, points: npt.NDArray[np.float64], size: tuple[int, int]) -> torch.Tensor:
        """Sparse embeddings (n, tokens, C) of one foreground point each, (n, 2) as x and y in pixels."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mask on its way through the tests.

    Attributes:
        counts: COCO's run-length counts, of the whole photo.
        box: x and y of the first and of the last pixel, in the photo; zeros for an empty mask.
        score: predicted IoU.
        stability: stability score.
        window: x1, y1, x2, y2 of the part of the photo it was found in.
    """

    counts: str
    box: IntBox
    score: float
    stability: float
    window: IntBox


def everything(segmenter: GridDecoder, pixels: PixelArray, embedding: FloatArray, prompt: Prompt) -> list[Mask]:
    """All masks of a photo.

    Args:
        segmenter: computes.
        pixels: the photo, uint8 (H, W, 3) RGB.
        embedding: of the whole photo.
        prompt: with a `grid`; the masks carry it.
    """
    grid = prompt.grid
    assert grid is not None, "only prompts with a grid come here"
    size = (pixels.shape[0], pixels.shape[1])
    windows, layers = amg.generate_crop_boxes(size, grid.crop_n_layers, grid.crop_overlap_ratio)
    points = amg.build_all_layer_point_grids(
        grid.points_per_side, grid.crop_n_layers, grid.crop_n_points_downscale_factor
    )
    found: list[Candidate] = []
    for number, (window, layer) in enumerate(zip(windows, layers, strict=True)):
        x1, y1, x2, y2 = window
        part = pixels[y1:y2, x1:x2]
        features = segmenter.embed(np.ascontiguousarray(part)) if number else embedding
        inside = points[layer] * np.array(part.shape[1::-1])
        candidates = list(_candidates(segmenter, features, inside, (x1, y1, x2, y2), size, grid))
        found += _distinct(candidates, [one.score for one in candidates], grid.box_nms_thresh)
    if len(windows) > 1:  # of two alike, the one from the smaller part of the photo shows more detail
        found = _distinct(found, [1 / _area(one.window) for one in found], grid.crop_nms_thresh)
    if grid.min_mask_region_area > 0:
        most = max(grid.box_nms_thresh, grid.crop_nms_thresh)
        found = _without_specks(found, size, grid.min_mask_region_area, most)
    return [Mask(size, one.counts, score=one.score, stability=one.stability, prompt=prompt) for one in found]


def _candidates(
    segmenter: GridDecoder,
    embedding: FloatArray,
    points: npt.NDArray[np.float64],
    window: IntBox,
    size: tuple[int, int],
    grid: Grid,
) -> Iterator[Candidate]:
    """The masks of one part of the photo that pass the tests, in the points' order.

    Args:
        segmenter: computes.
        embedding: of the part.
        points: float64 (n, 2), x and y in pixels of the part.
        window: the part.
        size: (height, width) of the photo.
        grid: the thresholds.
    """
    x1, y1, x2, y2 = window
    image, upsampler = segmenter.prepare(embedding, (y2 - y1, x2 - x1))
    prompts = segmenter.embed_points(points, (y2 - y1, x2 - x1))
    least = grid.pred_iou_thresh if grid.pred_iou_thresh > 0 else -math.inf
    for start in range(0, len(prompts), segmenter.prompts_at_a_time):
        some = prompts[start : start + segmenter.prompts_at_a_time]
        logits, scores = segmenter.decoder(image, some, "three", least)
        logits, scores = logits.cpu(), scores.cpu()
        for row, column in (scores > least).nonzero().tolist():
            crop = upsampler.crop(logits[row, column], segmenter.threshold - abs(grid.stability_score_offset))
            score = float(scores[row, column])
            candidate = _candidate(crop, segmenter.threshold, score, grid, window, size)
            if candidate is not None:
                yield candidate


def _candidate(
    crop: Crop, threshold: float, score: float, grid: Grid, window: IntBox, size: tuple[int, int]
) -> Candidate | None:
    """A mask, unless it is unstable, or cut off by the edge of its part of the photo."""
    stability = crop.stability(threshold, grid.stability_score_offset)
    if grid.stability_score_thresh > 0 and stability < grid.stability_score_thresh:
        return None
    mask = crop.logits > threshold
    box = _bounds(mask, crop.left, crop.top)
    x1, y1, x2, y2 = window
    height, width = size
    if amg.is_box_near_crop_edge(torch.tensor([box]), [x1, y1, x2, y2], [0, 0, width, height]).any():
        return None
    placed = (box[0] + x1, box[1] + y1, box[2] + x1, box[3] + y1)
    return Candidate(encode(mask, crop.left + x1, crop.top + y1, size), placed, score, stability, window)


def _bounds(mask: npt.NDArray[np.bool_], left: int, top: int) -> IntBox:
    """First and last pixel, as x1, y1, x2, y2, of a mask (w, h) placed at left, top; zeros if it is empty."""
    columns, rows = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not columns.size:
        return (0, 0, 0, 0)
    return (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]), top + int(rows[-1]))


def _area(window: IntBox) -> int:
    x1, y1, x2, y2 = window
    return (x2 - x1) * (y2 - y1)


def _distinct(candidates: Sequence[Candidate], scores: Sequence[float], overlap: float) -> list[Candidate]:
    """Box non-maximum suppression: the candidates by falling score, without those too like a better one."""
    return [candidates[number] for number in _distinct_boxes([one.box for one in candidates], scores, overlap)]


def _distinct_boxes(boxes: Sequence[IntBox], scores: Sequence[float], overlap: float) -> list[int]:
    if not boxes:
        return []
    one_category = torch.zeros(len(boxes))
    kept = batched_nms(torch.tensor(boxes, dtype=torch.float), torch.tensor(scores), one_category, overlap)
    numbers: list[int] = kept.tolist()
    return numbers


def _without_specks(
    candidates: Sequence[Candidate], size: tuple[int, int], smallest: int, overlap: float
) -> list[Candidate]:
    """Fill holes and remove islands smaller than so many pixels, then drop what has become alike.

    Masks that had none come first.
    """
    cleaned, scores = [], []
    for candidate in candidates:
        before = Mask(size, candidate.counts).array
        mask, filled = amg.remove_small_regions(before, smallest, mode="holes")
        mask, removed = amg.remove_small_regions(mask, smallest, mode="islands")
        changed = filled or removed
        scores.append(0.0 if changed else 1.0)
        if changed:
            counts = Mask.from_array(mask).counts
            candidate = replace(candidate, counts=counts, box=_bounds(mask.T, 0, 0))  # noqa: PLW2901
        cleaned.append(candidate)
    return _distinct(cleaned, scores, overlap)
