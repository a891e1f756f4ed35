"""Pixels in and out: OpenCV, the crop around a mask, and images encoded as PNG or JPEG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
from pycocotools import mask as coco_mask

from maskmill import Mask, PluginError, Problem
from maskmill.plugins.packages import explain_import

_RUNS = 3  # zlib's Z_RLE: matches repetitions of the last byte only


def crop_mask(mask: Mask) -> tuple[npt.NDArray[np.bool_], int, int] | None:
    """The pixels inside the mask's bounding box, without a copy of the whole frame.

    Returns:
        (bool array of the box's height and width, x, y of its top-left pixel), None for an empty mask.
    """
    box = mask.box
    if box is None:
        return None
    x1, y1, x2, y2 = (int(value) for value in box.xyxy)
    frame = coco_mask.decode(mask.rle)  # column-major: only the crop is turned into rows
    return np.ascontiguousarray(frame[y1:y2, x1:x2], dtype=np.bool_), x1, y1


def encode_png(
    picture: npt.NDArray[Any] | PIL.Image.Image, flat: bool = False, palette: Sequence[int] | None = None
) -> bytes:
    """The bytes of a PNG file.

    Args:
        picture: a picture, or an array of (H, W), (H, W, 3) or (H, W, 4).
        flat: whether large areas have one value, as in a mask; encodes faster and smaller then.
        palette: red, green, blue of each value of an 8-bit picture.
    """
    buffer, image = io.BytesIO(), _to_pillow(picture)
    if palette is not None:
        image.putpalette(palette)
    # level 4 of 9: several times faster than 9, and a sixth larger
    image.save(buffer, "PNG", **({"compress_type": _RUNS} if flat else {"compress_level": 4}))
    return buffer.getvalue()


def encode_jpeg(picture: npt.NDArray[Any] | PIL.Image.Image, quality: int) -> bytes:
    """The bytes of a JPEG file, without chroma subsampling, so that thin coloured lines stay sharp.

    Args:
        picture: a picture, or an array of (H, W) or (H, W, 3).
        quality: 1 to 100.
    """
    buffer = io.BytesIO()
    # Neither `optimize` nor `progressive`: with them libjpeg needs the whole file in one buffer, whose size Pillow
    # only guesses, so that noisy pictures fail.
    _to_pillow(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _to_pillow(picture: npt.NDArray[Any] | PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture


def load_cv2() -> ModuleType:
    """The module `cv2`.

    Raises:
        PluginError: OpenCV is not installed, or a system library it needs is missing; the hint says what to install.
    """
    try:
        import cv2
    except ImportError as error:
        raise PluginError(Problem(f"OpenCV cannot be imported: {error}", hint=explain_import(error))) from error
    return cv2


def check_cv2() -> list[Problem]:
    """The problem that `load_cv2` raises, for `check` of stages that need OpenCV; [] if there is none."""
    try:
        load_cv2()
    except PluginError as error:
        return list(error.problems)
    return []


def label_parts(
    mask: npt.NDArray[np.bool_],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Label the connected parts of a mask (h, w); pixels are connected if they touch, even at a corner.

    Returns:
        The label of each pixel (h, w), 0 outside the mask; the area of each label in pixels; the
        labels that occur at the edge of the image.
    """
    _, labels, stats, _ = load_cv2().connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return labels, stats[:, -1].copy(), edge
