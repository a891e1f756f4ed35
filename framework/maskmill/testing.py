"""Fakes and tiny images for those who test plugins. They do real, checkable work, without a model."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from .images import Image, ImageRef
from .masks import Mask
from .prompts import Prompt
from .stages import Backend

#: Radius in pixels of the disc that `FillPrompt` draws around a point.
RADIUS = 3.0


def pixels(height: int = 48, width: int = 64, seed: int = 0) -> npt.NDArray[np.uint8]:
    """A small picture: a bright rectangle on dark noise, uint8 (H, W, 3) RGB, the same for the same seed."""
    random = np.random.default_rng(seed)
    picture = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
    picture[height // 4 : height - height // 4, width // 4 : width - width // 4] += np.uint8(150)
    return picture


def image(height: int = 48, width: int = 64, seed: int = 0, key: str = "test.png") -> Image:
    """`pixels` as an `Image`."""
    return Image.from_array(pixels(height, width, seed), key)


def write_picture(path: Path, height: int = 48, width: int = 64, seed: int = 0) -> ImageRef:
    """`pixels` as a file (the suffix decides the format); returns where it is, its name as key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    kind = PIL.Image.registered_extensions()[path.suffix.lower()]
    PIL.Image.fromarray(pixels(height, width, seed)).save(buffer, kind)
    path.write_bytes(buffer.getvalue())
    return ImageRef(str(path), path.name)


class FillPrompt(Backend):
    """Fills the box of a prompt, or a disc of 3 px around its foreground points; score 1."""

    def accepts(self) -> frozenset[str]:
        """Points and boxes."""
        return frozenset({"points", "box"})

    def model_id(self) -> str:
        """Constant."""
        return "fill-1"

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """One mask a prompt; a pixel belongs to it if its centre lies inside."""
        return [Mask.from_array(_filled(prompt, image), score=1.0, stability=1.0, prompt=prompt) for prompt in prompts]


def _filled(prompt: Prompt, image: Image) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[: image.height, : image.width] + 0.5
    if prompt.box is not None:
        box = prompt.box
        return np.asarray((x > box.x1) & (x < box.x2) & (y > box.y1) & (y < box.y2), dtype=np.bool_)
    inside = np.zeros(image.size, dtype=np.bool_)
    for point in prompt.points:
        if point.label:
            inside |= (x - point.x) ** 2 + (y - point.y) ** 2 <= RADIUS**2
    return inside
