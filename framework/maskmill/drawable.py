"""`Drawable`: what `Mask` and `ImageResult` have in common for people who look at them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .colors import Rgb
from .display import draw_masks, show, to_png
from .errors import ImageError
from .inputs import to_image

if TYPE_CHECKING:
    import PIL.Image


class Drawable:
    """Something with masks that can be looked at; in a notebook, the last value of a cell is drawn by itself."""

    __slots__ = ()

    def draw(self, photo: Any = None) -> PIL.Image.Image:
        """A picture of the masks, at most 800 pixels in width and height.

        Args:
            photo: the image to draw them on, in any form that `Predictor.image` takes; None for a dark ground.

        Raises:
            ImageError: the photo has another size than the image of the masks, or there is no size because the
                image could not be read.
        """
        size = self._drawn_size()
        if size is None:
            raise ImageError(f"there is nothing to draw: {self!r}")
        image = None if photo is None else to_image(photo)
        if image is not None and image.size != size:
            raise ImageError(
                f"the photo has {image.width}×{image.height} pixels, the image of the masks {size[1]}×{size[0]}"
            )
        return draw_masks(self._drawn_masks(), size, None if image is None else image.pixels)

    def show(self, photo: Any = None) -> None:
        """Show `draw(photo)`: below the cell of a notebook, elsewhere in the system's picture viewer.

        Raises:
            ImageError: as `draw`.
            MaskmillError: this machine has no picture viewer.
        """
        show(self.draw(photo))

    def _repr_png_(self) -> bytes | None:
        return None if self._drawn_size() is None else to_png(self.draw())

    def _drawn_size(self) -> tuple[int, int] | None:
        """(height, width) of the image, None if it is not known."""
        raise NotImplementedError

    def _drawn_masks(self) -> Iterable[tuple[npt.NDArray[np.bool_], Rgb]]:
        """The pixels and the colour of each mask, the topmost last."""
        raise NotImplementedError
