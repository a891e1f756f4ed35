"""Draw small scenes with exactly known masks: pictures, COCO ground truth, prompts.

    python datasets/make_scenes.py datasets/scenes --count 40 --seed 7

creates the committed scenes. Another seed creates different scenes; scene k of a seed does not
depend on the count. A pixel belongs to an object if its centre lies inside the shape and no later
object covers it. The picture is drawn from the same shapes, with soft edges, light and shadow,
textures, a slight blur and noise.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import PIL.Image
from scene_shapes import SHAPES, Bools, Inside, Shape
from scene_surfaces import (
    HEIGHT,
    WIDTH,
    Floats,
    Random,
    X,
    Y,
    blur,
    choose_distinct_colour,
    make_background,
    make_surface,
    photograph,
)

#: Samples per pixel side, for soft edges.
FINE = 3
#: Minimum visible part of every object: number of pixels, and fraction of its area.
LEAST_PIXELS = 600
LEAST_VISIBLE = 0.75
#: Every n-th scene has no objects.
EMPTY_EVERY = 20
NAMES = {3: "two words.jpg", 5: "场景 5.jpg"}


class VisibleObject(NamedTuple):
    """An object: its label, its visible pixels, and those of them in its own colour, bool (H, W)."""

    label: str
    mask: Bools
    plain: Bools


def place_shapes(random: Random, count: int) -> tuple[list[Shape], list[Bools]]:
    """Place shapes with little overlap: shapes from farthest to nearest, and their visible masks, bool (H, W)."""
    shapes: list[Shape] = []
    whole: list[int] = []
    masks: list[Bools] = []
    for _ in range(count * 20):
        size = random.uniform(24, 56)
        cx, cy = random.uniform(0.8 * size, WIDTH - 0.8 * size), random.uniform(0.8 * size, HEIGHT - 0.8 * size)
        shape = SHAPES[int(random.integers(len(SHAPES)))](random, cx, cy, size)
        mask = shape.inside(X, Y)
        left = [earlier & ~mask for earlier in masks]
        seen = all(
            part.sum() >= max(LEAST_PIXELS, LEAST_VISIBLE * full) for part, full in zip(left, whole, strict=True)
        )
        if seen and mask.sum() >= LEAST_PIXELS:
            shapes, whole, masks = [*shapes, shape], [*whole, int(mask.sum())], [*left, mask]
        if len(shapes) == count:
            break
    return shapes, masks


def compute_coverage(inside: Inside) -> Floats:
    """Return the fraction of each pixel that lies inside, 0..1, float64 (H, W)."""
    left, top, right, bottom = find_bounds(dilate(inside(X, Y), 1))
    y, x = (np.mgrid[top * FINE : bottom * FINE, left * FINE : right * FINE] + 0.5) / FINE
    cover = np.zeros((HEIGHT, WIDTH))
    cover[top:bottom, left:right] = inside(x, y).reshape(bottom - top, FINE, right - left, FINE).mean(axis=(1, 3))
    return cover


def paint_shape(
    random: Random, picture: Floats, shape: Shape, colour: Floats, light: tuple[float, float], shadow: float
) -> Floats:
    """Return the picture with a shape and its shadow, lit from the direction `light` (x, y)."""
    cover = compute_coverage(shape.inside)
    dx, dy = (round(-0.14 * shape.size * way) for way in light)
    fallen = np.pad(cover, 20)[20 - dy : 20 - dy + HEIGHT, 20 - dx : 20 - dx + WIDTH]
    picture = picture * (1 - shadow * blur(fallen, 4)[..., None])
    radius = max(3, int(shape.round * shape.size))
    slopes = np.asarray(np.gradient(blur(cover, radius)))
    shade = np.asarray(1 - 0.9 * radius * (slopes[1] * light[0] + slopes[0] * light[1]))[..., None]
    skin, _ = make_surface(random, colour, random.uniform(10, 40))
    paint = skin
    for inside, tint in shape.details:
        part = compute_coverage(inside)[..., None]
        paint = paint * (1 - part) + (tint + 0.2 * (skin - colour)) * part
    return np.asarray(picture * (1 - cover[..., None]) + np.clip(paint * shade, 0, 255) * cover[..., None])


def find_inner_point(mask: Bools) -> list[float]:
    """Return [x, y] of a pixel centre deep inside a mask: the last pixel left by repeated erosion."""
    rest = mask
    while rest.any():
        last = rest
        padded = np.pad(rest, 1)
        rest = rest & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    y, x = np.argwhere(last)[0]
    return [x + 0.5, y + 0.5]


def draw_scene(seed: int, number: int) -> tuple[npt.NDArray[np.uint8], list[VisibleObject]]:
    """Draw one picture; returns it with its objects, from the farthest to the nearest."""
    random = np.random.Generator(np.random.PCG64([seed, number]))
    empty = number % EMPTY_EVERY == EMPTY_EVERY - 1
    shapes, masks = place_shapes(random, 0 if empty else int(random.integers(1, 6)))
    picture, colours = make_background(random)
    turn, shadow = random.uniform(0, 2 * np.pi), random.uniform(0, 0.25)
    for shape in shapes:
        colour = choose_distinct_colour(random, colours)
        colours = np.concatenate([colours, colour[None]])
        picture = paint_shape(random, picture, shape, colour, (float(np.cos(turn)), float(np.sin(turn))), shadow)
    objects = []
    for shape, mask in zip(shapes, masks, strict=True):
        plain = mask & ~np.logical_or.reduce([mask & False, *(inside(X, Y) for inside, _ in shape.details)])
        objects.append(VisibleObject(shape.label, mask, plain))
    return photograph(random, picture), objects


def find_bounds(mask: Bools) -> tuple[int, int, int, int]:
    """Return the left, top, right and bottom edge of a mask (xyxy)."""
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def dilate(mask: Bools, distance: int) -> Bools:
    """Return the mask, extended by `distance` pixels in all directions, including diagonals."""
    for _ in range(2):
        padded = np.pad(mask, [(distance, distance), (0, 0)])
        wide = np.lib.stride_tricks.sliding_window_view(padded, 2 * distance + 1, axis=0)
        mask = np.asarray(wide.any(axis=-1)).T
    return mask


def make_prompts(random: Random, objects: list[VisibleObject]) -> tuple[list[Any], list[Any]]:
    """Create prompts with a box (2 px around the object), and with one point inside and one or two outside.

    The inner point lies on the object's own colour. The first outer point lies on the background near
    the object. If another object touches it, or its hole shows the background, a second point lies there.
    """
    boxes, points = [], []
    free = ~np.logical_or.reduce([np.zeros((HEIGHT, WIDTH), np.bool_), *(found.mask for found in objects)])
    for label, mask, plain in objects:
        left, top, right, bottom = find_bounds(mask)
        box = [max(0, left - 2), max(0, top - 2), min(WIDTH, right + 2), min(HEIGHT, bottom + 2)]
        boxes.append({"box": box, "label": label})
        near = free & dilate(mask, 22) & ~dilate(mask, 5)
        spots = np.argwhere(near if near.any() else free)
        y, x = spots[random.integers(len(spots))]
        outside = [[x + 0.5, y + 0.5, 0]]
        if label == "ring":
            y, x = np.argwhere(mask).mean(axis=0)
            hole = free & (np.hypot(X - x, Y - y) < 0.15 * (right - left))
            others = [hole] if hole.any() else []
        else:
            others = [o.plain for o in objects if o.mask is not mask and (o.mask & dilate(mask, 1)).any()]
        outside += [[*find_inner_point(other), 0] for other in others[:1]]
        points.append({"points": [[*find_inner_point(plain), 1], *outside], "label": label})
    return boxes, points


def write_scenes(folder: Path, count: int, seed: int) -> None:
    """Write images/, truth.json (COCO), boxes.jsonl and points.jsonl to `folder`.

    Ids of images and categories are in the order of names and labels, as in the files of the coco
    writer, so that the two can be compared directly.
    """
    lines: dict[str, list[str]] = {"boxes.jsonl": [], "points.jsonl": []}
    images: list[dict[str, Any]] = []
    everything: list[tuple[int, VisibleObject]] = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for key, number in sorted((NAMES.get(number, f"{number:03}.jpg"), number) for number in range(count)):
        picture, objects = draw_scene(seed, number)
        buffer = io.BytesIO()
        PIL.Image.fromarray(picture).save(buffer, "JPEG", quality=92, subsampling=0)
        (folder / "images" / key).write_bytes(buffer.getvalue())
        about = {"size": [HEIGHT, WIDTH], "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
        prompts = make_prompts(np.random.Generator(np.random.PCG64([seed, number, 1])), objects)
        for name, found in zip(lines, prompts, strict=True):
            line = {"schema": 1, "image": key, "prompts": found, **about}
            lines[name].append(json.dumps(line, ensure_ascii=False))
        images.append({"id": len(images) + 1, "file_name": key, "height": HEIGHT, "width": WIDTH})
        everything += [(len(images), found) for found in objects]
    labels = sorted({found.label for _, found in everything})
    truth = {
        "images": images,
        "annotations": [
            _make_annotation(index, image, labels.index(found.label) + 1, found.mask)
            for index, (image, found) in enumerate(everything, start=1)
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(labels, start=1)],
    }
    (folder / "truth.json").write_bytes(json.dumps(truth).encode())
    for name, content in lines.items():
        (folder / name).write_bytes("".join(f"{line}\n" for line in content).encode())


def _make_annotation(number: int, image: int, category: int, mask: Bools) -> dict[str, Any]:
    left, top, right, bottom = find_bounds(mask)
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": encode_run_lengths(mask)},
        "area": int(mask.sum()),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }


def encode_run_lengths(mask: Bools) -> str:
    """Encode in COCO's compressed run lengths: runs down the columns, background first, five bits per character.

    From the fourth run on, the difference to the run two before is written.
    """
    flat = mask.flatten(order="F")
    edges: Sequence[int] = np.flatnonzero(np.diff(flat, prepend=False)).tolist()
    runs: list[int] = np.diff([0, *edges, flat.size]).tolist()
    text = ""
    for index, run in enumerate(runs):
        value, more = run - (runs[index - 2] if index > 2 else 0), True
        while more:
            low, value = value & 0x1F, value >> 5
            more = value != (-1 if low & 0x10 else 0)
            text += chr(48 + low + (0x20 if more else 0))
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    write_scenes(given.folder, given.count, given.seed)
