"""OpenCV, imported where it is used, with an error that helps where it cannot be."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt

from maskmill import PluginError, Problem


def load_cv2() -> ModuleType:
    """The module `cv2`.

    Raises:
        PluginError: OpenCV is not installed, or a system library it links is missing; says what to install.
    """
    try:
        import cv2
    except ImportError as error:
        raise PluginError(Problem(f"OpenCV cannot be imported: {error}", hint=_advice(error))) from error
    return cv2


def _advice(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "pip install opencv-python-headless"
    # opencv-python links window-system libraries that slim images and servers lack
    return "apt install libgl1, or pip install opencv-python-headless"


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
