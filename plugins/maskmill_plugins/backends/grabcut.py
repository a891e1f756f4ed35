"""grabcut: masks from boxes and points by colour and edges, with OpenCV and without weights.

Rother, Kolmogorov, Blake: "GrabCut": interactive foreground extraction using iterated graph
cuts, SIGGRAPH 2004. Each prompt is segmented in a crop around it, reduced to a few hundred
pixels. That is faster than the whole image, and better, because the background model is fitted
to the actual surroundings of the object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from maskmill import Backend, Box, Image, Mask, Problem, Prompt, hookimpl
from maskmill_plugins._shared.drawing.pixels import check_cv2, label_parts, load_cv2

BoolArray = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.uint8]

#: Labels of cv2.grabCut: certain and probable background and foreground.
BACKGROUND, FOREGROUND, MAYBE_BACKGROUND, MAYBE_FOREGROUND = 0, 1, 2, 3
#: Radius of the certain spot around a point, as a fraction of the crop's longer side.
SPOT = 0.015
#: Parts smaller than this fraction of the largest one are removed.
SPECK = 0.05
#: Holes smaller than this fraction of the mask are filled.
PINHOLE = 0.005
#: Colour bins per channel in the score.
BINS = 8


class GrabCut(Backend):
    """Segments by colour and edges, which works well where the object differs from its surroundings.

    The score is not a predicted IoU but the Hellinger distance between the colours inside the mask
    and those around it in the crop: 1 if they share no colour, 0 if they are distributed alike.
    """

    iterations: int = Field(3, ge=1, le=20, description="how often the colour models are fitted again")
    max_side: int = Field(512, ge=32, description="longer side of the crop to segment, in pixels")
    margin: float = Field(
        0.5, ge=0.05, description="how far the crop extends beyond the box, as a fraction of its sides"
    )
    reach: float = Field(
        0.3,
        gt=0,
        le=1,
        description="how far an object given by points alone may extend, as a fraction of the image's sides",
    )

    def check(self) -> list[Problem]:
        """OpenCV must load."""
        return check_cv2()

    def accepts(self) -> frozenset[str]:
        """Points, boxes, and both together."""
        return frozenset({"points", "box"})

    def model_id(self) -> str:
        """OpenCV's version."""
        return f"opencv {load_cv2().__version__}"

    def speed_advice(self) -> str:
        """Smaller crops and fewer rounds; it uses no GPU."""
        return f"fewer prompts per image, `max_side` below {self.max_side}, or fewer `iterations`"

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """One mask per prompt, in order; each depends on its own prompt only."""
        return [self._segment(image, prompt) for prompt in prompts]

    def _segment(self, image: Image, prompt: Prompt) -> Mask:
        cv2 = load_cv2()
        region = _find_region(prompt, image.height, image.width, self.reach)
        left, top, right, bottom = _compute_window(region, image.height, image.width, self.margin)
        crop = image.pixels[top:bottom, left:right]
        height, width = crop.shape[:2]
        scale = min(1.0, self.max_side / max(height, width))
        small = crop
        if scale < 1:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        seeds = _make_seeds(small, prompt, region, (left, top, small.shape[1] / width, small.shape[0] / height))
        found = _clean(_run_grabcut(small, seeds, self.iterations), seeds)
        score = _measure_separation(small, found)
        if scale < 1:
            soft = cv2.resize(found.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
            found = soft > 0.5
        full = np.zeros(image.size, dtype=np.bool_)
        full[top:bottom, left:right] = found & _mark_inside(region, left, top, height, width)
        return Mask.from_array(full, score=score, prompt=prompt)


def _find_region(prompt: Prompt, height: int, width: int, reach: float) -> Box:
    """Where the object can be: the box, or the surroundings of the foreground points."""
    if prompt.box is not None:
        return prompt.box
    points = [point for point in prompt.points if point.label] or list(prompt.points)
    across, down = reach * width, reach * height
    wide = Box(
        min(point.x for point in points) - across,
        min(point.y for point in points) - down,
        max(point.x for point in points) + across,
        max(point.y for point in points) + down,
    )
    return wide.clip(height, width) or Box(0, 0, width, height)


def _compute_window(region: Box, height: int, width: int, margin: float) -> tuple[int, int, int, int]:
    """The crop (left, top, right, bottom) in whole pixels: the region and a margin."""
    across = margin * (region.x2 - region.x1) + 2
    down = margin * (region.y2 - region.y1) + 2
    left, top = max(0, int(region.x1 - across)), max(0, int(region.y1 - down))
    return left, top, min(width, int(region.x2 + across) + 1), min(height, int(region.y2 + down) + 1)


def _mark_inside(
    region: Box, left: float, top: float, height: int, width: int, fx: float = 1.0, fy: float = 1.0
) -> BoolArray:
    """Which pixels of a crop have their centre in the region, bool (height, width)."""
    x = (np.arange(width) + 0.5) / fx + left
    y = (np.arange(height) + 0.5) / fy + top
    across = (x > region.x1) & (x < region.x2)
    down = (y > region.y1) & (y < region.y2)
    if not across.any():  # the region is narrower than a pixel: take the pixel it lies in
        across[np.argmin(abs(x - (region.x1 + region.x2) / 2))] = True
    if not down.any():
        down[np.argmin(abs(y - (region.y1 + region.y2) / 2))] = True
    return np.asarray(down[:, None] & across[None, :], dtype=np.bool_)


def _make_seeds(small: Pixels, prompt: Prompt, region: Box, frame: tuple[float, float, float, float]) -> Pixels:
    """The labels to start cv2.grabCut with, uint8 (h, w).

    Args:
        small: the reduced crop (h, w, 3).
        prompt: points and/or a box.
        region: where the object can be.
        frame: left and top of the crop in the image, and its scale in x and y.
    """
    left, top, fx, fy = frame
    height, width = small.shape[:2]
    inside = _mark_inside(region, left, top, height, width, fx, fy)
    seeds = np.where(inside, MAYBE_FOREGROUND, BACKGROUND).astype(np.uint8)
    if inside.all():  # the region fills the crop: take the outermost pixels as background
        seeds[[0, -1], :] = MAYBE_BACKGROUND
        seeds[:, [0, -1]] = MAYBE_BACKGROUND
    spots = [((p.x - left) * fx, (p.y - top) * fy, p.label) for p in prompt.points]
    if prompt.box is None:
        _guess_by_colour(small, seeds, spots)
    y, x = np.mgrid[:height, :width] + 0.5
    radius = max(1.5, SPOT * max(height, width))
    for px, py, label in sorted(spots, key=lambda spot: spot[2]):
        seeds[(x - px) ** 2 + (y - py) ** 2 <= radius**2] = FOREGROUND if label else BACKGROUND
    return seeds


def _guess_by_colour(small: Pixels, seeds: Pixels, spots: list[tuple[float, float, int]]) -> None:
    """Mark pixels as probable background that are closer in colour to background points or the crop's border."""
    cv2 = load_cv2()
    lab = cv2.cvtColor(small, cv2.COLOR_RGB2LAB).astype(np.float32)
    height, width = seeds.shape

    def mean_colour(x: float, y: float) -> npt.NDArray[np.float32]:
        row, column = min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)
        patch = lab[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
        return np.asarray(patch.reshape(-1, 3).mean(axis=0))

    inside = [mean_colour(x, y) for x, y, label in spots if label]
    outside = [mean_colour(x, y) for x, y, label in spots if not label]
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    outside += list(border[:: max(1, len(border) // 16)])
    if not inside:
        return
    distance = [np.min([((lab - colour) ** 2).sum(axis=2) for colour in group], axis=0) for group in (inside, outside)]
    seeds[(seeds == MAYBE_FOREGROUND) & (distance[0] > distance[1])] = MAYBE_BACKGROUND


def _run_grabcut(small: Pixels, seeds: Pixels, iterations: int) -> BoolArray:
    """Run GrabCut; if it cannot separate anything, return the probable foreground."""
    cv2 = load_cv2()
    foreground: BoolArray = (seeds == FOREGROUND) | (seeds == MAYBE_FOREGROUND)
    if foreground.all() or not foreground.any() or min(seeds.shape) < 3:
        return foreground
    labels = seeds.copy()
    cv2.setRNGSeed(1)  # OpenCV seeds its k-means from a global generator
    bgr = np.ascontiguousarray(small[:, :, ::-1])
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(bgr, labels, None, *models, iterations, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # no pixels were left in one of the classes
        return foreground
    return np.asarray((labels == FOREGROUND) | (labels == MAYBE_FOREGROUND), dtype=np.bool_)


def _clean(found: BoolArray, seeds: Pixels) -> BoolArray:
    """Remove specks and fill pinholes.

    The parts that contain a foreground point are kept or, without such points, those not much
    smaller than the largest. Holes of less than `PINHOLE` of the mask are filled.
    """
    parts, areas, _ = label_parts(found)
    if len(areas) == 1:
        return found
    areas[0] = 0
    marked = np.setdiff1d(parts[seeds == FOREGROUND], 0)
    kept = marked if marked.size else np.flatnonzero(areas >= SPECK * areas.max())
    found = np.asarray(np.isin(parts, kept), dtype=np.bool_)
    holes, areas, edge = label_parts(~found)
    pinhole = areas < PINHOLE * found.sum()
    pinhole[0] = pinhole[edge] = False
    return np.asarray(found | pinhole[holes] & (seeds != BACKGROUND), dtype=np.bool_)


def _measure_separation(small: Pixels, found: BoolArray) -> float:
    """The Hellinger distance between the colour histograms inside and outside the mask, 0..1."""
    if found.all() or not found.any():
        return 0.0
    bins = (small // (256 // BINS)).astype(np.int64)
    index = (bins[..., 0] * BINS + bins[..., 1]) * BINS + bins[..., 2]
    inside, outside = (np.bincount(index[part], minlength=BINS**3) for part in (found, ~found))
    overlap = np.sqrt(inside / inside.sum() * (outside / outside.sum())).sum()
    return float(np.sqrt(max(0.0, 1.0 - overlap)))


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `grabcut`."""
    register("grabcut", GrabCut)
