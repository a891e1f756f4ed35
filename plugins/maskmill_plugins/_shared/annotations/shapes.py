"""The pixels of annotations: COCO's polygons and run lengths, LabelMe's shapes, YOLO's polygons, VOC's PNG files.

A shape is kept as its file writes it until the size of its image is known. Then it is filled as the main reader of its
format does it: by pycocotools, by Pillow as in LabelMe, by OpenCV as in Ultralytics.

Reference: LabelMe's labelme/utils/shape.py; Ultralytics' polygon2mask.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageDraw

from maskmill import GivenMask, Mask, Prompt, PromptError
from maskmill_plugins._shared.drawing.polygons import fill_through_centres

from .model import Annotation, AnnotationError, Shape, finite_number, shorten
from .rle import check_rle

#: Corners further outside than this many times the longer side of the image are refused: filling takes time for them.
_FAR = 10
#: Pixels of an object in a picture of its own, as in LabelMe's masks.
_MOST_PIXELS = 1 << 28
#: Pixels of this value are borders and ambiguous areas (VOC2012 devkit, section 3).
_VOID = 255


def coco_shape(item: Mapping[str, Any]) -> tuple[Shape, ...]:
    """The shape of a COCO annotation, () without `segmentation`; in an export of ours with the stability score."""
    if not (region := item.get("segmentation")):
        return ()
    own = item.get("maskmill")
    stability = own.get("stability") if isinstance(own, Mapping) else None
    known = isinstance(stability, float) and 0 <= stability <= 1
    return ({"kind": "coco", "region": region, **({"stability": stability} if known else {})},)


def labelme_shape(kind: str, points: Sequence[tuple[float, float]], picture: Any) -> tuple[Shape, ...]:
    """The shape of one of LabelMe, whose number of points has been checked; of a mask with its picture."""
    shape: dict[str, Any] = {"kind": kind, "points": [list(point) for point in points]}
    return ({**shape, "png": picture} if kind == "mask" else shape,)


def yolo_shape(line: Sequence[float]) -> tuple[Shape, ...]:
    """The shape of a polygon x1, y1, x2, y2, ... in fractions of width and height."""
    return ({"kind": "yolo", "line": list(line)},)


def voc_shape(file: Path | None, number: int) -> tuple[Shape, ...]:
    """The shape of an object of VOC: its number in a PNG file, if there is one."""
    return () if file is None else ({"kind": "voc", "file": str(file), "number": number},)


def check_shape(annotation: Annotation) -> Annotation:
    """The annotation as it is stored: with an error if its shape is damaged, and with the frame of its run lengths."""
    if annotation.error:
        return annotation
    try:
        for part in annotation.shape:
            if part["kind"] == "mask":
                _read_picture(part)
            elif part["kind"] == "coco" and isinstance(region := part["region"], Mapping):
                annotation = replace(annotation, frame=check_rle(region)[0])
            elif part["kind"] == "coco":
                read_polygons(region)
            elif part["kind"] == "voc":
                rle = _cut_out(Path(part["file"]), part["number"])
                annotation = replace(annotation, frame=tuple(rle["size"]), shape=({"kind": "coco", "region": rle},))
    except AnnotationError as error:
        return replace(annotation, box=None, shape=(), error=str(error))
    return annotation


def fill_shape(shape: Sequence[Shape], size: tuple[int, int]) -> str:
    """COCO's compressed run lengths of the pixels that the parts of a shape cover together.

    Args:
        shape: at least one part.
        size: (height, width) of the image in pixels.

    Raises:
        AnnotationError: it does not fit the image.
    """
    from pycocotools import mask as coco_mask

    found = [_fill_part(part, size) for part in shape]
    if len(found) == 1:
        return found[0]
    rle = coco_mask.merge([{"size": list(size), "counts": counts.encode()} for counts in found])
    return bytes(rle["counts"]).decode("ascii")


def give_mask(prompt: Prompt, shape: Sequence[Shape], size: tuple[int, int]) -> Prompt:
    """The prompt of an annotation with the pixels of its shape, for an image of this size (height, width).

    Raises:
        PromptError: the shape does not fit the image.
    """
    try:
        counts = fill_shape(shape, size)
    except AnnotationError as error:
        raise PromptError(str(error)) from None
    return replace(prompt, mask=GivenMask(size, counts, prompt.score, shape[0].get("stability")))


def fill_region(region: Any, size: tuple[int, int]) -> str:
    """COCO's compressed run lengths of a `segmentation` in any of COCO's three forms.

    Raises:
        AnnotationError: it is damaged, or an RLE of another size than (height, width) of the image.
    """
    from pycocotools import mask as coco_mask

    if isinstance(region, Mapping):
        frame, text = check_rle(region)
        if frame != size:
            theirs, mine = (f"{w}×{h} = {w * h}" for h, w in (frame, size))
            raise AnnotationError(f"its RLE has {theirs} pixels, but its image {mine}")
        return text
    polygons = read_polygons(region)
    _refuse_far([value for line in polygons for value in line], size)
    return bytes(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))["counts"]).decode("ascii")


def read_polygons(region: Any) -> list[list[float]]:
    """COCO's polygons [[x1, y1, x2, y2, ...], ...].

    Raises:
        AnnotationError: they are damaged.
    """
    if not isinstance(region, list) or not all(isinstance(part, list) for part in region):
        raise AnnotationError(f"segmentation must be polygons or an RLE, not {shorten(region)}")
    for part in region:
        if len(part) < 6 or len(part) % 2:
            raise AnnotationError(f"a polygon must have x, y of at least 3 points, not {len(part)} numbers")
    return [[finite_number(value, "segmentation") for value in part] for part in region]


def _fill_part(part: Shape, size: tuple[int, int]) -> str:
    if part["kind"] == "coco":
        return fill_region(part["region"], size)
    if part["kind"] == "yolo":
        line = np.reshape(np.asarray(part["line"], np.float64), (-1, 2)) * size[::-1]
        return _encode(fill_through_centres(np.zeros(size, np.uint8), line))
    _refuse_far([value for point in part["points"] for value in point], size)
    if part["kind"] == "mask":
        return _encode(_place_picture(part, size))
    return _encode(_draw(part["kind"], [(x, y) for x, y in part["points"]], size))


def _encode(picture: npt.NDArray[np.uint8]) -> str:
    return Mask.from_array(picture.astype(np.bool_)).counts


def _draw(kind: str, points: list[tuple[float, float]], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A shape of LabelMe as LabelMe fills it."""
    picture = PIL.Image.new("L", size[::-1])
    draw = PIL.ImageDraw.Draw(picture)
    if kind == "circle":
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind == "rectangle":
        xs, ys = [x for x, _ in points], [y for _, y in points]
        draw.rectangle((min(xs), min(ys), max(xs), max(ys)), outline=1, fill=1)
    else:
        draw.polygon(points, outline=1, fill=1)
    return np.array(picture)


def _place_picture(part: Shape, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """LabelMe's mask, whose picture covers the pixels from its first point to its second."""
    pixels = _read_picture(part)
    (x, y), (right, bottom) = (map(int, point) for point in part["points"][:2])
    rows, columns = pixels.shape
    if (rows, columns) != (bottom - y + 1, right - x + 1):
        asked = f"{right - x + 1}×{bottom - y + 1}"
        raise AnnotationError(f"its mask has {columns}×{rows} pixels, but its points span {asked}")
    if x < 0 or y < 0 or right >= size[1] or bottom >= size[0]:
        raise AnnotationError(f"its mask lies partly outside the image of {size[1]}×{size[0]} pixels")
    picture = np.zeros(size, np.uint8)
    picture[y : y + rows, x : x + columns] = pixels
    return picture


def _read_picture(part: Shape) -> npt.NDArray[np.bool_]:
    """The pixels of LabelMe's mask: a PNG file as text."""
    written = part["png"]
    if not isinstance(written, str) or not written:
        raise AnnotationError("a shape of type mask must have its pixels in `mask`, a PNG file in base64")
    try:
        with PIL.Image.open(io.BytesIO(base64.b64decode(written, validate=True)), formats=["PNG"]) as picture:
            if math.prod(picture.size) > _MOST_PIXELS:
                raise AnnotationError(f"its mask is too large: {picture.width}×{picture.height} pixels")
            pixels = np.asarray(picture)
    except AnnotationError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise AnnotationError(f"its mask is no PNG file in base64: {error}") from None
    if pixels.ndim != 2:
        raise AnnotationError("its mask is a PNG file with colours; expected one number per pixel")
    found: npt.NDArray[np.bool_] = np.not_equal(pixels, 0)
    return found


def read_numbers(path: Path) -> npt.NDArray[Any]:
    """The numbers (H, W) of an indexed or gray PNG file.

    Raises:
        AnnotationError: it cannot be read, or has colours.
    """
    try:
        with PIL.Image.open(path, formats=["PNG"]) as picture:
            mode = picture.mode
            pixels = np.array(picture)
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise AnnotationError(f"cannot be read: {error}") from None
    if mode not in ("P", "L", "I;16", "I"):
        raise AnnotationError(f"expected an indexed PNG (one number per pixel), found colours ({mode})")
    return pixels


@lru_cache(1)
def _read_map(path: Path, changed: int) -> npt.NDArray[Any]:
    """As `read_numbers`, once for the objects of a file, which follow each other."""
    return read_numbers(path)


def _cut_out(path: Path, number: int) -> dict[str, Any]:
    """COCO's run lengths of the pixels that have a number."""
    where = f"{path.parent.name}/{path.name}"
    try:
        mask = Mask.from_array(np.equal(_read_map(path, path.stat().st_mtime_ns), number))
    except (AnnotationError, OSError) as error:
        raise AnnotationError(f"{where}: {error}") from None
    if number == _VOID or not mask.area:
        raise AnnotationError(f"no pixel of {where} has its number, {number}")
    return {"size": list(mask.size), "counts": mask.counts}


def _refuse_far(values: Sequence[float], size: tuple[int, int]) -> None:
    furthest = max(map(abs, values))
    if furthest > _FAR * max(size):
        raise AnnotationError(f"a corner at {furthest:g} lies far outside the image of {size[1]}×{size[0]} pixels")
