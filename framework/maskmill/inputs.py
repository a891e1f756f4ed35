"""What Python code hands over: images as paths, Pillow pictures, arrays or bytes; boxes, points and labels."""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import PIL.Image

from .decoding.bit_depth import DEFAULT, Conversion
from .decoding.decoder import MAX_PIXELS, convert_picture
from .display import brief
from .errors import ImageReadError, PromptError
from .geometry import Box, Point, to_box, to_list, to_point
from .images import PACKAGE, Image, ImageRef
from .prompts import Prompt

T = TypeVar("T")
TAKEN = "a path, a Pillow picture, an array or list of uint8 (height, width, 3) RGB, or the bytes of an image file"


def to_image(source: Any, max_pixels: int = MAX_PIXELS, conversion: Conversion = DEFAULT, key: str = "") -> Image:
    """The image of anything that is one.

    Args:
        source: an `Image` or `ImageRef`; the path of a file, or `package:PACKAGE/PATH`; the bytes of a file;
            a Pillow picture, turned upright and made RGB as a file is; pixels uint8 (H, W, 3) RGB, (H, W) gray
            or (H, W, 4) with transparency, as an array or as nested lists.
        max_pixels: larger files are refused.
        conversion: how files become pixels.
        key: names the image; "" takes the name of the file.

    Raises:
        ImageReadError: it cannot be read, or is something else; says what was expected.
    """
    if isinstance(source, Image):
        return source
    if isinstance(source, ImageRef):
        return Image.load(source, max_pixels, conversion)
    if isinstance(source, (str, os.PathLike)):
        uri = os.fspath(source)
        ref = ImageRef(uri, key or (uri.removeprefix(PACKAGE) if uri.startswith(PACKAGE) else Path(uri).name))
        return Image.load(ref, max_pixels, conversion)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return Image.from_bytes(bytes(source), ImageRef(key or "bytes", key or "bytes"), max_pixels, conversion)
    if isinstance(source, PIL.Image.Image):
        name = key or Path(str(getattr(source, "filename", "") or "picture")).name
        return Image.from_array(convert_picture(source), name)
    if isinstance(source, (list, tuple)) and not source:
        raise ImageReadError(f"expected {TAKEN}; got an empty list")
    if isinstance(source, (list, tuple)) and isinstance(source[0], (str, os.PathLike, Image, PIL.Image.Image)):
        raise ImageReadError("expected one image, not a list of images; call it for each of them")
    if isinstance(source, (list, tuple)) or hasattr(source, "__array__"):
        return Image.from_array(_to_pixels(source), key or "array")
    raise ImageReadError(f"expected {TAKEN}; got {type(source).__name__}: {brief(source)}")


def _to_pixels(source: Any) -> npt.NDArray[np.uint8]:
    """Pixels uint8 (H, W, 3) RGB of an array or of nested lists."""
    try:
        array = np.asarray(source)
    except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths; a tensor on a GPU
        raise ImageReadError(f"expected {TAKEN}; the array cannot be read: {error}") from None
    if isinstance(source, (list, tuple)) and array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    found = f"got {array.dtype} {array.shape}"
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = ""
        if array.ndim == 3 and array.shape[0] in (1, 3, 4):
            hint = "; channels come last: write array.transpose(1, 2, 0)"
        elif array.ndim == 4:
            hint = "; for several images call it for each of them"
        raise ImageReadError(f"expected pixels of shape (height, width, 3); {found}{hint}")
    if array.dtype != np.uint8:
        if array.dtype.kind == "f":
            hint = "write (array * 255).round().astype('uint8') for values from 0 to 1"
        elif array.dtype.kind == "b":
            hint = "write array.astype('uint8') * 255"
        else:
            hint = "write array.astype('uint8') for values from 0 to 255; give the path of a file of 16 bits"
        raise ImageReadError(f"expected pixels uint8, 0 to 255; {found}; {hint}")
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    return convert_picture(PIL.Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array))


def make_prompts(
    *, boxes: Any = (), points: Any = (), box: Any = None, labels: Any = None, prompts: Sequence[Prompt] = ()
) -> list[Prompt]:
    """The prompts that the arguments of `ImageView.masks` mean.

    Raises:
        PromptError: as `ImageView.masks`.
    """
    found_boxes = _to_rows(to_box, boxes, Box, "boxes")
    found_points = _to_rows(to_point, points, Point, "points")
    if box is not None and found_boxes:
        raise PromptError("give either boxes (a mask each) or box (one prompt, together with points), not both")
    names, found_points = _sort_labels(labels, found_points)
    asked = [Prompt(box=each) for each in found_boxes]
    if box is not None or found_points:
        asked.append(Prompt(points=tuple(found_points), box=None if box is None else to_box(box)))
    if isinstance(names, str):
        names = [names] * len(asked)
    if names is not None and len(names) != len(asked):
        wanted = "1 label" if len(asked) == 1 else f"{len(asked)} labels"
        raise PromptError(f"expected {wanted}, one for each mask, or a single text for all, not {len(names)} labels")
    if names is not None:
        asked = [Prompt(each.points, each.box, label=name) for each, name in zip(asked, names, strict=True)]
    further = [prompts] if isinstance(prompts, Prompt) else to_list(prompts, "prompts")
    for prompt in further:
        if not isinstance(prompt, Prompt):
            raise PromptError(f"prompts is a list of maskmill.Prompt, and has {brief(prompt)}")
    if not asked and not further:
        raise PromptError("give boxes or points, or prompts: there is nothing to segment")
    return [*asked, *further]


def _to_rows(convert: Callable[[Any], T], given: Any, kind: type[T], name: str) -> list[T]:
    """Boxes or points; one alone is taken without the outer list."""
    rows = [given] if isinstance(given, kind) else to_list(given, name)
    if rows and all(isinstance(number, numbers.Real) and not isinstance(number, bool) for number in rows):
        rows = [rows]
    return [convert(row) for row in rows]


def _sort_labels(labels: Any, points: list[Point]) -> tuple[str | list[str | None] | None, list[Point]]:
    """The class names that `labels` holds, and the points with the 0 and 1 that it holds."""
    if labels is None or isinstance(labels, str):
        return labels, points
    items = to_list(labels, "labels")
    if all(item is None or isinstance(item, str) for item in items):
        return items or None, points
    if not all(isinstance(item, numbers.Real) and not isinstance(item, bool) and item in (0, 1) for item in items):
        raise PromptError(
            "labels are texts (class names), or 0 and 1 (points off and on the object; a class is a text),"
            f" not {brief(labels)}"
        )
    if len(items) != len(points):
        text = (
            f"labels has {len(items)} of the numbers 0 and 1, expected one for each point, and points has {len(points)}"
        )
        raise PromptError(f"{text}; class names are texts")
    return None, [Point(point.x, point.y, int(item)) for point, item in zip(points, items, strict=True)]
