"""From low-resolution logits to masks: bilinear upscaling, only where the mask can be.

SAM upscales its logits twice: to the model's input size and, without the padding, to the image's
size. Bilinear resizing is linear and separable, so both steps together are one matrix for the
rows and one for the columns, the products of the matrices of the two steps. Each upscaled value
is a weighted mean of logits with weights that are not negative, so it can exceed a threshold
only if one of these logits does: computing the box that such logits reach is enough. As most
entries of the matrices are zero, the box is computed in blocks of columns, each from the few
source columns that it depends on.

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

#: Columns of the image that are computed as one matrix product.
COLUMNS = 256
#: Share of the image above which a mask is encoded as a whole: pycocotools scans all pixels, but in C.
LARGE_SHARE = 0.125


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of a mask's logits that can be above a threshold; the rest is below it.

    Attributes:
        logits: float32 (w, h), column by column, the order of run-length encoding.
        left, top: its position in the image, in pixels.
        size: (height, width) of the image.
    """

    logits: npt.NDArray[np.float32]
    left: int
    top: int
    size: tuple[int, int]

    def encode_rle(self, threshold: float) -> str:
        """Encode the pixels above `threshold` as COCO's compressed run-length counts."""
        return encode_part(self.logits > threshold, self.left, self.top, self.size)

    def compute_stability(self, threshold: float, offset: float = 1.0) -> float:
        """SAM's stability score: IoU of the masks at `threshold` plus and minus `offset`."""
        high = int(np.count_nonzero(self.logits > threshold + offset))
        low = int(np.count_nonzero(self.logits > threshold - offset))
        return high / low if low else 0.0


class Upsampler:
    """Upscales the logits of one image as `Sam.postprocess_masks` does, but only a part of it.

    Args:
        side: width and height of the low-resolution logits, 256 for the published models.
        input_side: width and height of the model's input, 1024 for the published models.
        input_size: (height, width) of the image in that input; the rest is padding.
        size: (height, width) of the image.
    """

    def __init__(self, side: int, input_side: int, input_size: tuple[int, int], size: tuple[int, int]) -> None:
        self.size = size
        self.rows, self.columns = (
            _make_axis(side, input_side, inside, outside) for inside, outside in zip(input_size, size, strict=True)
        )

    @torch.inference_mode()
    def crop(self, logits: Tensor, lowest: float) -> Crop:
        """Upscale the logits of one mask, where they can exceed `lowest`.

        Args:
            logits: float32 (side, side), on the CPU.
            lowest: the lowest threshold that will be applied to the result.
        """
        above = logits > lowest
        rows = self.rows.find_reach(above.any(1))
        columns = self.columns.find_reach(above.any(0))
        result = torch.empty(columns.stop - columns.start, rows.stop - rows.start)
        if result.numel():
            low, high = self.rows.find_sources(rows)
            tall = logits[low:high].t() @ self.rows.matrix[rows, low:high].t()  # (side, h)
            for start in range(columns.start, columns.stop, COLUMNS):
                block = slice(start, min(start + COLUMNS, columns.stop))
                low, high = self.columns.find_sources(block)
                part = result[block.start - columns.start : block.stop - columns.start]
                torch.mm(self.columns.matrix[block, low:high], tall[low:high], out=part)
        return Crop(result.numpy(), columns.start, rows.start, self.size)


class _Axis:
    """Both resizing steps along one axis.

    Attributes:
        matrix: float32 (outside, side); row `i` has the weight of each source in pixel `i` of the image.
        first, last: int64 (outside,), the first and last source with a weight in each pixel.
    """

    def __init__(self, side: int, input_side: int, inside: int, outside: int) -> None:
        up = _make_bilinear(side, input_side)[:inside]
        both = _make_bilinear(inside, outside) @ up
        used = both != 0
        self.matrix = both.to(torch.float32)
        self.first = used.to(torch.uint8).argmax(1)
        self.last = side - 1 - used.flip(1).to(torch.uint8).argmax(1)

    def find_reach(self, above: Tensor) -> slice:
        """The range of pixels that depend on the sources marked in bool (side,); empty if none is marked."""
        marked = above.nonzero()[:, 0]
        if not len(marked):
            return slice(0, 0)
        touched = ((self.last >= marked[0]) & (self.first <= marked[-1])).nonzero()[:, 0]
        return slice(int(touched[0]), int(touched[-1]) + 1) if len(touched) else slice(0, 0)

    def find_sources(self, pixels: slice) -> tuple[int, int]:
        """The range of sources that these pixels depend on."""
        return int(self.first[pixels].min()), int(self.last[pixels].max()) + 1


@functools.lru_cache(maxsize=16)  # most folders have images of a few sizes only
def _make_axis(side: int, input_side: int, inside: int, outside: int) -> _Axis:
    return _Axis(side, input_side, inside, outside)


def _make_bilinear(source: int, target: int) -> Tensor:
    """The matrix of `interpolate` with mode="bilinear" along one axis, float64 (target, source).

    Resizing the identity gives exactly the weights that `interpolate` uses for float32 input; float64 only
    avoids further rounding when two such matrices are multiplied.
    """
    identity = torch.eye(source).view(1, 1, source, source)
    resized = functional.interpolate(identity, (target, source), mode="bilinear", align_corners=False)
    return resized[0, 0].to(torch.float64)


def encode_part(part: npt.NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> str:
    """Encode a mask that is False outside a part of the image as COCO's compressed run-length counts.

    Args:
        part: bool (w, h), column by column.
        left: first column of the part in the image.
        top: its first row.
        size: (height, width) of the image.
    """
    height, width = size
    if part.size > LARGE_SHARE * height * width:
        whole = np.zeros((width, height), dtype=np.uint8)
        whole[left : left + part.shape[0], top : top + part.shape[1]] = part
        return bytes(coco_mask.encode(whole.T)["counts"]).decode("ascii")
    rows = part.shape[1] + 1
    padded = np.zeros((part.shape[0], rows), dtype=np.bool_)  # a False row below ends every run within its column
    padded[:, :-1] = part
    column, row = np.divmod(np.flatnonzero(np.diff(padded.ravel(), prepend=False)), rows)
    borders, times = np.unique((left + column) * height + top + row, return_counts=True)
    # A run that ends at the bottom of a column and one that starts at the top of the next are one run: their common
    # border occurs twice. A border after the last pixel is no border either.
    borders = borders[(times == 1) & (borders < height * width)]
    counts = np.diff(borders, prepend=0, append=height * width).tolist()
    rle = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return bytes(rle["counts"]).decode("ascii")
