"""From low-resolution logits to masks: bilinear upscaling, only where the mask can be.

SAM upscales its logits twice, to the model's input size and, cut to the part that is image,
to the photo's size. Bilinear resizing is linear and works on rows and columns apart, so both
steps together are one matrix for the rows and one for the columns. Few entries of them are
not zero, and a mask is seldom larger than its object: only the box that bounds the logits
above the lowest threshold is computed, in blocks of columns that few source columns reach.

Reference for stability: Kirillov et al., Segment Anything, arXiv:2304.02643, appendix B.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional

#: Columns of the photo that are computed as one product.
COLUMNS = 256
#: Share of the photo above which a mask is encoded as a whole: pycocotools passes over all pixels, but in C.
LARGE = 0.125


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of a mask's logits that can be above a threshold; all the rest is below it.

    Attributes:
        logits: float32 (w, h): column by column, as run-length encoding goes.
        left, top: where it lies in the photo, in pixels.
        size: (height, width) of the photo.
    """

    logits: npt.NDArray[np.float32]
    left: int
    top: int
    size: tuple[int, int]

    def rle(self, threshold: float) -> str:
        """COCO's compressed run-length counts of the photo's pixels above `threshold`."""
        return encode(self.logits > threshold, self.left, self.top, self.size)

    def stability(self, threshold: float, offset: float = 1.0) -> float:
        """SAM's stability score: IoU of the masks at `threshold` plus and minus `offset`."""
        high = int(np.count_nonzero(self.logits > threshold + offset))
        low = int(np.count_nonzero(self.logits > threshold - offset))
        return high / low if low else 0.0


class Upsampler:
    """Upscales the logits of one image as `Sam.postprocess_masks` does, cropped.

    Args:
        side: of the low-resolution logits, 256 for the published models.
        input_side: of the model's square input, 1024 for the published models.
        input_size: (height, width) of the part of the input that is image, not padding.
        size: (height, width) of the photo.
    """

    def __init__(self, side: int, input_side: int, input_size: tuple[int, int], size: tuple[int, int]) -> None:
        self.size = size
        self.rows, self.columns = (
            _axis(side, input_side, inside, outside) for inside, outside in zip(input_size, size, strict=True)
        )

    @torch.inference_mode()
    def crop(self, logits: Tensor, lowest: float) -> Crop:
        """Upscale one mask's logits, where they can exceed `lowest`.

        Args:
            logits: float32 (side, side), on the CPU.
            lowest: the lowest threshold that the result will be cut at.
        """
        above = logits > lowest
        rows = self.rows.reach(above.any(1))
        columns = self.columns.reach(above.any(0))
        result = torch.empty(columns.stop - columns.start, rows.stop - rows.start)
        if result.numel():
            low, high = self.rows.sources(rows)
            tall = logits[low:high].t() @ self.rows.matrix[rows, low:high].t()  # (side, h)
            for start in range(columns.start, columns.stop, COLUMNS):
                block = slice(start, min(start + COLUMNS, columns.stop))
                low, high = self.columns.sources(block)
                part = result[block.start - columns.start : block.stop - columns.start]
                torch.mm(self.columns.matrix[block, low:high], tall[low:high], out=part)
        return Crop(result.numpy(), columns.start, rows.start, self.size)


class _Axis:
    """Both resizes along one axis.

    Attributes:
        matrix: float32 (outside, side); row `i` says what pixel `i` of the photo takes of each source.
        first, last: int64 (outside,): the first and last source that a pixel takes something of.
    """

    def __init__(self, side: int, input_side: int, inside: int, outside: int) -> None:
        up = _bilinear(side, input_side)[:inside]
        both = _bilinear(inside, outside) @ up
        used = both != 0
        self.matrix = both.to(torch.float32)
        self.first = used.to(torch.uint8).argmax(1)
        self.last = side - 1 - used.flip(1).to(torch.uint8).argmax(1)

    def reach(self, above: Tensor) -> slice:
        """The photo's pixels that take something of the sources marked in bool (side,); empty if none is."""
        marked = above.nonzero()[:, 0]
        if not len(marked):
            return slice(0, 0)
        touched = ((self.last >= marked[0]) & (self.first <= marked[-1])).nonzero()[:, 0]
        return slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)

    def sources(self, pixels: slice) -> tuple[int, int]:
        """The range of sources that these pixels take something of."""
        return int(self.first[pixels].min()), int(self.last[pixels].max()) + 1


@functools.lru_cache(maxsize=16)  # the photos of a folder have few sizes
def _axis(side: int, input_side: int, inside: int, outside: int) -> _Axis:
    return _Axis(side, input_side, inside, outside)


def _bilinear(source: int, target: int) -> Tensor:
    """What `interpolate` with mode="bilinear" does along one axis, float64 (target, source).

    The weights are those that float32 input gets; float64 only keeps their product exact.
    """
    identity = torch.eye(source).view(1, 1, source, source)
    resized = functional.interpolate(identity, (target, source), mode="bilinear", align_corners=False)
    return resized[0, 0].to(torch.float64)


def encode(part: npt.NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> str:
    """COCO's compressed run-length counts of a mask that is False outside a part of the photo.

    Args:
        part: bool (w, h), column by column.
        left: where the part begins in the photo, in pixels.
        top: the same, downwards.
        size: (height, width) of the photo.
    """
    height, width = size
    if part.size > LARGE * height * width:
        whole = np.zeros((width, height), dtype=np.uint8)
        whole[left : left + part.shape[0], top : top + part.shape[1]] = part
        return bytes(coco_mask.encode(whole.T)["counts"]).decode("ascii")
    rows = part.shape[1] + 1
    padded = np.zeros((part.shape[0], rows), dtype=np.bool_)  # every run ends in the column it begins in
    padded[:, :-1] = part
    column, row = np.divmod(np.flatnonzero(np.diff(padded.ravel(), prepend=False)), rows)
    borders, times = np.unique((left + column) * height + top + row, return_counts=True)
    # Where a run that fills its column to the bottom meets one that begins at the top, there is no border.
    borders = borders[(times == 1) & (borders < height * width)]
    counts = np.diff(borders, prepend=0, append=height * width).tolist()
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return bytes(rle["counts"]).decode("ascii")
