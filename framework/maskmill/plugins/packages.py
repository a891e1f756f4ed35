"""Which package to install when an import fails."""

from __future__ import annotations

import importlib.util

#: Module -> the package that contains it, where the names differ.
_PACKAGES = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


def is_installed(module: str) -> bool:
    """Whether a module can be imported; does not import it."""
    return importlib.util.find_spec(module) is not None


def package_of(module: str) -> str:
    """The package to install for a module."""
    top = module.partition(".")[0]
    return _PACKAGES.get(top, top)


def explain_import(error: ImportError) -> str:
    """What to do about a failed import, "" if that is not known."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"pip install {package_of(error.name)}"
    if "libGL" in str(error):  # opencv-python needs libraries of the window system, which slim images and servers lack
        return "OpenCV needs a library of the system: apt install libgl1, or pip install opencv-python-headless"
    return ""
