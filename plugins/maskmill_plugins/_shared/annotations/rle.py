"""COCO's run-length encodings, checked before pycocotools reads them, which accepts invalid ones.

Reference: rleFrString and rleToString of the COCO API, common/maskApi.c.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from maskmill.masks import count_pixels

from .model import AnnotationError, shorten


def check_rle(region: Mapping[str, Any]) -> tuple[tuple[int, int], str]:
    """The size (height, width) and the compressed counts of an RLE, compressed or not.

    Raises:
        AnnotationError: the size is invalid, or the counts do not add up to it.
    """
    from pycocotools import mask as coco_mask

    size, counts = region.get("size"), region.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not all(type(value) is int and value > 0 for value in size):
        raise AnnotationError(f"the size of an RLE must be [height, width], not {shorten(size)}")
    height, width = size
    if isinstance(counts, str) and counts.isascii():
        with suppress(ValueError):  # below, one by one, they are explained
            if count_pixels(counts) == height * width:
                return (height, width), counts
    if isinstance(counts, list):
        if wrong := [run for run in counts if type(run) is not int or run < 0]:
            raise AnnotationError(f"the counts of its RLE must be whole numbers of at least 0, not {shorten(wrong[0])}")
        runs, text = counts, ""
    else:
        text, runs = _decode(counts)
    if sum(runs) != height * width:
        short = "; they may be cut off" if sum(runs) < height * width else ""
        raise AnnotationError(
            f"the counts of its RLE add up to {sum(runs)}, but its size of {width}×{height} has {height * width}"
            f" pixels{short}"
        )
    if isinstance(counts, list):
        text = coco_mask.frPyObjects({"size": size, "counts": counts}, height, width)["counts"].decode("ascii")
    return (height, width), text


def _decode(counts: Any) -> tuple[str, list[int]]:
    """Compressed counts and their runs."""
    if not isinstance(counts, str) or not counts.isascii():
        raise AnnotationError(f"the counts of its RLE must be text or a list, not {shorten(counts)}")
    runs: list[int] = []
    value = shift = 0
    for sign in counts:
        digit = ord(sign) - 48
        if not 0 <= digit < 64:
            raise AnnotationError(f"the counts of its RLE contain {sign!r}, which is not a valid character")
        value |= (digit & 0x1F) << shift
        shift += 5
        if not digit & 0x20:
            value -= (1 << shift) if digit & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
            if runs[-1] < 0:
                raise AnnotationError(f"the counts of its RLE have a run of {runs[-1]} pixels")
    if shift:
        raise AnnotationError("the counts of its RLE end within a number; they may be cut off")
    return counts, runs
