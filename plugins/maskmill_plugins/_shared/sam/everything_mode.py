"""Everything mode: prompt with a grid of points, and keep the masks that are good and distinct.

Gives the same masks in the same order as `SamAutomaticMaskGenerator` of `segment_anything`, with
the same parameters but less work: a mask is computed only if its predicted IoU is high enough,
upscaled only where it can be above the threshold, and stored as run lengths from then on.

Reference: Kirillov et al., Segment Anything, arXiv:2304.02643, appendix B.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.utils import amg
from torchvision.ops import batched_nms

from maskmill import Grid, Mask, Prompt

from .decoding_threads import DecodingThreads
from .prompts import WantedMasks, bound_score
from .upsample import Crop, Upsampler, encode_part

if TYPE_CHECKING:
    from .prompts import PixelArray

IntBox = tuple[int, int, int, int]
Decoded = tuple[torch.Tensor, torch.Tensor]


class MaskDecoder(Protocol):
    """Decodes a batch of prompts: low-resolution logits (n, k, S, S) and predicted IoUs (n, k)."""

    def __call__(self, image: Any, prompts: torch.Tensor, wanted: WantedMasks, min_score: float) -> Decoded:
        """See `FastDecoder`; masks whose predicted IoU is at most `min_score` for all prompts may be left out."""


class GridDecoder(Protocol):
    """What everything mode needs from a segmenter."""

    @property
    def decoder(self) -> MaskDecoder:
        """The model's decoder."""

    threshold: float
    grid_batch: int
    threads: DecodingThreads

    def embed(self, pixels: PixelArray) -> Any:
        """Encode an image."""

    def prepare(self, embedding: Any, size: tuple[int, int]) -> tuple[Any, Upsampler]:
        """Compute what all prompts of an image share."""

    def embed_points(self, points: npt.NDArray[np.float64], size: tuple[int, int]) -> torch.Tensor:
        """Encode prompts of one foreground point each, (n, 2) as x and y in pixels: (n, tokens, C)."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A mask that may be kept.

    Attributes:
        counts: COCO's run-length counts, of the whole image.
        box: x and y of the first and of the last pixel, in the image; zeros for an empty mask.
        score: predicted IoU.
        stability: stability score.
        window: x1, y1, x2, y2 of the crop of the image it was found in.
    """

    counts: str
    box: IntBox
    score: float
    stability: float
    window: IntBox


def find_all_masks(segmenter: GridDecoder, pixels: PixelArray, embedding: Any, prompt: Prompt) -> list[Mask]:
    """Find all masks of an image.

    Args:
        segmenter: encodes and decodes.
        pixels: the image, uint8 (H, W, 3) RGB.
        embedding: of the whole image.
        prompt: with a `grid`; the masks refer to it.
    """
    grid = prompt.grid
    assert grid is not None, "the prompt must have a grid"
    size = (pixels.shape[0], pixels.shape[1])
    windows, layers = amg.generate_crop_boxes(size, grid.crop_n_layers, grid.crop_overlap_ratio)
    points = amg.build_all_layer_point_grids(
        grid.points_per_side, grid.crop_n_layers, grid.crop_n_points_downscale_factor
    )
    found: list[Candidate] = []
    for number, (window, layer) in enumerate(zip(windows, layers, strict=True)):
        x1, y1, x2, y2 = window
        crop = pixels[y1:y2, x1:x2]
        features = segmenter.embed(np.ascontiguousarray(crop)) if number else embedding
        inside = points[layer] * np.array(crop.shape[1::-1])
        candidates = _find_candidates(segmenter, features, inside, (x1, y1, x2, y2), size, grid)
        found += _suppress(candidates, [one.score for one in candidates], grid.box_nms_thresh)
    if len(windows) > 1:  # of two similar masks, the one from the smaller crop shows more detail
        found = _suppress(found, [1 / _compute_area(one.window) for one in found], grid.crop_nms_thresh)
    if grid.min_mask_region_area > 0:
        most = max(grid.box_nms_thresh, grid.crop_nms_thresh)
        found = _remove_small_regions(found, size, grid.min_mask_region_area, most)
    return [
        Mask(size, one.counts, score=bound_score(one.score), stability=one.stability, prompt=prompt) for one in found
    ]


def _find_candidates(
    segmenter: GridDecoder,
    embedding: Any,
    points: npt.NDArray[np.float64],
    window: IntBox,
    size: tuple[int, int],
    grid: Grid,
) -> list[Candidate]:
    """Find the masks of one crop that pass the thresholds, in the points' order.

    Args:
        segmenter: encodes and decodes.
        embedding: of the crop.
        points: float64 (n, 2), x and y in pixels of the crop.
        window: the crop.
        size: (height, width) of the image.
        grid: the thresholds.
    """
    x1, y1, x2, y2 = window
    image, upsampler = segmenter.threads.run(lambda: segmenter.prepare(embedding, (y2 - y1, x2 - x1)))
    prompts = segmenter.threads.run(lambda: segmenter.embed_points(points, (y2 - y1, x2 - x1)))
    min_score = grid.pred_iou_thresh if grid.pred_iou_thresh > 0 else -math.inf

    def decode(batch: torch.Tensor) -> list[Candidate]:
        logits, scores = (part.cpu() for part in segmenter.decoder(image, batch, "three", min_score))
        found = []
        for row, column in (scores > min_score).nonzero().tolist():
            crop = upsampler.crop(logits[row, column], segmenter.threshold - abs(grid.stability_score_offset))
            found.append(_make_candidate(crop, segmenter.threshold, float(scores[row, column]), grid, window, size))
        return [candidate for candidate in found if candidate is not None]

    batches = torch.split(prompts, segmenter.grid_batch)
    return [candidate for found in segmenter.threads.map(decode, batches) for candidate in found]


def _make_candidate(
    crop: Crop, threshold: float, score: float, grid: Grid, window: IntBox, size: tuple[int, int]
) -> Candidate | None:
    """Make a candidate; None if it is unstable or cut off by the edge of its crop."""
    stability = crop.compute_stability(threshold, grid.stability_score_offset)
    if grid.stability_score_thresh > 0 and stability < grid.stability_score_thresh:
        return None
    mask = crop.logits > threshold
    box = _find_bounds(mask, crop.left, crop.top)
    x1, y1, x2, y2 = window
    height, width = size
    if amg.is_box_near_crop_edge(torch.tensor([box]), [x1, y1, x2, y2], [0, 0, width, height]).any():
        return None
    placed = (box[0] + x1, box[1] + y1, box[2] + x1, box[3] + y1)
    return Candidate(encode_part(mask, crop.left + x1, crop.top + y1, size), placed, score, stability, window)


def _find_bounds(mask: npt.NDArray[np.bool_], left: int, top: int) -> IntBox:
    """First and last pixel (x1, y1, x2, y2) of a mask (w, h) placed at left, top; zeros if it is empty."""
    columns, rows = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not columns.size:
        return (0, 0, 0, 0)
    return (left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]), top + int(rows[-1]))


def _compute_area(window: IntBox) -> int:
    x1, y1, x2, y2 = window
    return (x2 - x1) * (y2 - y1)


def _suppress(candidates: Sequence[Candidate], scores: Sequence[float], overlap: float) -> list[Candidate]:
    """Non-maximum suppression of boxes: the candidates by descending score, without those too like a better one."""
    return [candidates[number] for number in _suppress_boxes([one.box for one in candidates], scores, overlap)]


def _suppress_boxes(boxes: Sequence[IntBox], scores: Sequence[float], overlap: float) -> list[int]:
    if not boxes:
        return []
    one_category = torch.zeros(len(boxes))
    kept = batched_nms(torch.tensor(boxes, dtype=torch.float), torch.tensor(scores), one_category, overlap)
    numbers: list[int] = kept.tolist()
    return numbers


def _remove_small_regions(
    candidates: Sequence[Candidate], size: tuple[int, int], smallest: int, overlap: float
) -> list[Candidate]:
    """Fill holes and remove islands of fewer than `smallest` pixels, then suppress masks that have become similar.

    Unchanged masks come first, as in the original, which prefers them to changed ones.
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
            candidate = replace(candidate, counts=counts, box=_find_bounds(mask.T, 0, 0))  # noqa: PLW2901
        cleaned.append(candidate)
    return _suppress(cleaned, scores, overlap)
