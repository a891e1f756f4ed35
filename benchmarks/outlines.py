"""How much of a mask its polygon keeps in each reader, by `outline` and `tolerance`: mean and lowest IoU.

    python benchmarks/outlines.py

The masks are 98 solid blobs of about 100 pixels with ragged borders in images of 640 × 480 pixels; the numbers are
rounded as in a YOLO file. Each reader uses its own code; those that are not installed are left out. "Ultralytics,
training" is the mask of a training batch at the size of the image, before it is made smaller.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, get_args

import click
import cv2
import numpy as np
from formats import HEIGHT, WIDTH, blob
from pycocotools import mask as coco_mask

from maskmill import Mask
from maskmill_plugins._shared.drawing.polygons import Outline, join_rings, to_rings

Array = np.ndarray[Any, np.dtype[Any]]
Reader = Callable[[Array], Array]
MASKS = 98


def solid(random: np.random.Generator) -> Array:
    """A mask bool (H, W) of one part without holes."""
    contours, _ = cv2.findContours(blob(random, 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.drawContours(picture, [max(contours, key=cv2.contourArea)], -1, 1, -1)
    return picture.astype(bool)


def find_readers() -> dict[str, Reader]:
    """A function from a polygon in fractions, float32 (n, 2), to a mask, for each installed reader."""
    frame = np.array((WIDTH, HEIGHT), np.float32)
    readers: dict[str, Reader] = {
        "pycocotools": lambda line: coco_mask.decode(
            coco_mask.merge(coco_mask.frPyObjects([(line * frame).ravel().astype(float).tolist()], HEIGHT, WIDTH))
        )
    }
    if importlib.util.find_spec("ultralytics"):
        from ultralytics.data.utils import polygon2mask
        from ultralytics.utils.ops import resample_segments

        readers["Ultralytics, polygon2mask"] = lambda line: polygon2mask((HEIGHT, WIDTH), [(line * frame).ravel()])
        readers["Ultralytics, training"] = lambda line: polygon2mask(
            (HEIGHT, WIDTH), [(resample_segments([line.copy()], n=1000)[0] * frame).ravel()]
        )
    if importlib.util.find_spec("supervision"):
        from supervision.dataset.formats.yolo import _polygons_to_masks

        readers["supervision"] = lambda line: _polygons_to_masks([line * frame], (WIDTH, HEIGHT))[0]
    if importlib.util.find_spec("labelme"):
        from labelme.utils import shape_to_mask

        readers["LabelMe"] = lambda line: shape_to_mask((HEIGHT, WIDTH), (line * frame).tolist(), "polygon")
    return readers


@click.command()
@click.option("--tolerance", "tolerances", type=float, multiple=True, default=(0.0, 0.5, 0.75), show_default=True)
def main(tolerances: tuple[float, ...]) -> None:
    """Measure."""
    random = np.random.default_rng(0)
    masks = [solid(random) for _ in range(MASKS)]
    readers = find_readers()
    for tolerance in tolerances:
        for outline in get_args(Outline):
            found: dict[str, list[float]] = {name: [] for name in readers}
            points = 0
            for array in masks:
                line = join_rings(to_rings(Mask.from_array(array), tolerance, outline)).astype(np.float64)
                points += len(line)
                fractions = np.round(line / (WIDTH, HEIGHT), 6).astype(np.float32)
                for name, reader in readers.items():
                    got = np.asarray(reader(fractions)).astype(bool)
                    found[name].append(float((got & array).sum() / (got | array).sum()))
            click.echo(f"tolerance {tolerance:g}, {outline}: {points / MASKS:.0f} points a mask")
            for name, ious in found.items():
                click.echo(f"  {name:28} {np.mean(ious):.3f}  lowest {min(ious):.3f}")


if __name__ == "__main__":
    main()
