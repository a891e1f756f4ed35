"""An object before another background: the window that is shown, a soft edge, and the image behind it out of focus."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .pixels import load_cv2

Pixels = npt.NDArray[np.uint8]
#: Whether something lies at the left, top, right and bottom edge.
Sides = tuple[bool, bool, bool, bool]
#: The blur's standard deviation: this part of the image's longer side.
BLUR = 1 / 40
#: The same in pixels where it is computed: in a reduced image, which takes a fraction of the time.
_SMALL_SIGMA = 6.0


class Window(NamedTuple):
    """A rectangle in pixels of an image; it may reach beyond the image."""

    left: int
    top: int
    width: int
    height: int

    def view(self, picture: npt.NDArray[Any], x: int, y: int, size: tuple[int, ...]) -> npt.NDArray[Any]:
        """The part of a picture of this window where a rectangle (height, width) with its corner at (x, y) lies."""
        rows, columns = size[:2]
        return picture[y - self.top : y - self.top + rows, x - self.left : x - self.left + columns]


def soften_edge(mask: npt.NDArray[np.bool_], width: int, touched: Sides) -> Pixels:
    """The opacity (h, w) of a mask, 0 outside; it rises from the edge inwards over `width` pixels.

    Args:
        mask: cropped to the object.
        width: of the soft edge; 0 makes a hard one.
        touched: the sides on which the mask ends because the image does; it stays opaque there.
    """
    if not width:
        return mask.astype(np.uint8) * np.uint8(255)
    cv2 = load_cv2()
    left, top, right, bottom = (width + 1 if side else 1 for side in touched)
    inside = np.pad(mask, ((top, bottom), (left, right)), mode="edge").astype(np.uint8)
    for edge, side in zip((inside[:, :1], inside[:1], inside[:, -1:], inside[-1:]), touched, strict=True):
        edge[:] = edge if side else 0
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    distance = distance[top : top + mask.shape[0], left : left + mask.shape[1]]
    opacity: Pixels = np.rint(255 * np.clip(distance / (width + 1), 0, 1)).astype(np.uint8)
    return opacity


def blur_around(image: Pixels, mask: npt.NDArray[np.bool_], x: int, y: int, window: Window) -> Pixels:
    """The window of an image, out of focus, as if the object were not there; beyond the image its edge goes on.

    Args:
        image: uint8 (H, W, 3).
        mask: of the object, cropped; its pixels do not colour their surroundings.
        x: of the crop's left side.
        y: of its top side.
        window: what to show.
    """
    cv2 = load_cv2()
    scale = min(1.0, _SMALL_SIGMA / (max(image.shape[:2]) * BLUR))
    around = np.ones(image.shape[:2], np.float32)
    around[y : y + mask.shape[0], x : x + mask.shape[1]][mask] = 0
    size = tuple(max(1, round(side * scale)) for side in (image.shape[1], image.shape[0]))
    weights = cv2.resize(around, size, interpolation=cv2.INTER_AREA)
    colors = cv2.resize(image * around[:, :, None].astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    sigma = max(image.shape[:2]) * BLUR * scale
    blurred = _blur(colors.astype(np.float32), sigma)
    share = _blur(weights, sigma)[:, :, None]
    whole = _blur(cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32), sigma)
    small = np.where(share > 1e-3, blurred / np.maximum(share, 1e-3), whole)  # deep inside a large object: itself
    across, down = size[0] / image.shape[1], size[1] / image.shape[0]
    to_small = np.array(
        [
            [across, 0, (window.left + 0.5) * across - 0.5],
            [0, down, (window.top + 0.5) * down - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    shown = cv2.warpAffine(small, to_small, (window.width, window.height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    picture: Pixels = np.rint(np.clip(shown, 0, 255)).astype(np.uint8)
    return picture


def _blur(values: npt.NDArray[np.float32], sigma: float) -> npt.NDArray[Any]:
    cv2 = load_cv2()
    blurred: npt.NDArray[Any] = cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return blurred
