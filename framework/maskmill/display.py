"""What people look at: small pictures of masks, texts of one line, and the packages that make tables.

Nothing here is needed by a run. Pillow draws, so that no plugin and no OpenCV is needed to look at a result.
"""

from __future__ import annotations

import importlib
import io
import reprlib
import sys
from collections.abc import Iterable
from types import ModuleType

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageShow

from .colors import Rgb
from .errors import MaskmillError, Problem, UsageError

#: Longer side of the pictures, in pixels.
SIDE = 800
_GROUND: Rgb = (40, 40, 40)
_ALPHA = 0.45
_brief = reprlib.Repr()
_brief.maxstring = _brief.maxother = 44


def brief(value: object) -> str:
    """`repr` in at most 44 characters, shortened in the middle."""
    return _brief.repr(value)


def draw_masks(
    masks: Iterable[tuple[npt.NDArray[np.bool_], Rgb]],
    size: tuple[int, int],
    pixels: npt.NDArray[np.uint8] | None = None,
) -> PIL.Image.Image:
    """Masks on a picture, translucent with an opaque outline; reduced to `SIDE` pixels.

    Args:
        masks: bool (H, W) of the picture's size, each with its colour; later ones lie on top.
        size: (height, width) of the picture.
        pixels: the picture, uint8 (H, W, 3) RGB; None for a dark ground, on which masks are opaque.
    """
    factor = min(1.0, SIDE / max(size))
    small = max(1, round(size[1] * factor)), max(1, round(size[0] * factor))
    if pixels is None:
        ground = PIL.Image.new("RGB", small, _GROUND)
    else:
        ground = PIL.Image.fromarray(pixels).resize(small, PIL.Image.Resampling.BOX)
    canvas = np.array(ground, dtype=np.float32)
    for array, color in masks:
        cover = PIL.Image.fromarray(array.astype(np.uint8) * 255).resize(small, PIL.Image.Resampling.BOX)
        inside = np.asarray(cover) > 127
        canvas[inside] += (_ALPHA if pixels is not None else 1.0) * (np.array(color, np.float32) - canvas[inside])
        canvas[_find_outline(inside)] = color
    return PIL.Image.fromarray(np.rint(canvas).astype(np.uint8))


def _find_outline(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of a mask that touch the outside, also across the edge of the picture."""
    framed = np.pad(inside, 1)
    core = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return np.asarray(inside & ~core)


def to_png(picture: PIL.Image.Image) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def show(picture: PIL.Image.Image) -> None:
    """Show a picture: below the cell of a notebook, elsewhere in the system's viewer.

    Raises:
        MaskmillError: this machine has no viewer.
    """
    if in_notebook():
        importlib.import_module("IPython.display").display(picture)
    elif not PIL.ImageShow.show(picture):
        raise MaskmillError("no program was found that shows pictures; write draw().save('picture.png') instead")


def import_package(name: str, needed_by: str) -> ModuleType:
    """A package that only people who look at results need.

    Raises:
        UsageError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        text = f"{needed_by} needs the package {name!r}, which is not installed"
        raise UsageError(Problem(text, hint=f"pip install {name}")) from None
