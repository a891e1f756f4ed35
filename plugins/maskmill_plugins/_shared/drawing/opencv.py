"""OpenCV, imported where it is used, with an error that helps where it cannot be."""

from __future__ import annotations

from types import ModuleType

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
