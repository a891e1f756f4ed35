"""Draw small scenes whose masks are known exactly: pictures, COCO ground truth, prompts.

    python datasets/make_scenes.py datasets/scenes --count 40 --seed 7

makes what is committed; another seed makes fresh scenes, and scene k of a seed is the same
whatever the count. A pixel belongs to an object if its centre lies inside the shape and no later
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
from scene_surfaces import HEIGHT, WIDTH, Floats, Random, X, Y, apart, blurred, ground, photographed, surface

#: Rays a pixel side for soft edges.
FINE = 3
#: What must remain visible of every object: so many pixels, and this much of it.
LEAST_PIXELS = 600
LEAST_VISIBLE = 0.75
#: Every so many scenes one shows nothing.
EMPTY_EVERY = 20
NAMES = {3: "two words.jpg", 5: "场景 5.jpg"}


class Found(NamedTuple):
    """An object in the truth: its label, its visible pixels, and those of them in its own colour, bool (H, W)."""

    label: str
    mask: Bools
    plain: Bools


def shapes_of(random: Random, count: int) -> tuple[list[Shape], list[Bools]]:
    """Shapes from the farthest to the nearest, and their visible masks, bool (H, W); they overlap a little at most."""
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


def soft(inside: Inside) -> Floats:
    """How much of each pixel lies inside, 0..1, float64 (H, W)."""
    left, top, right, bottom = bounds(around(inside(X, Y), 1))
    y, x = (np.mgrid[top * FINE : bottom * FINE, left * FINE : right * FINE] + 0.5) / FINE
    cover = np.zeros((HEIGHT, WIDTH))
    cover[top:bottom, left:right] = inside(x, y).reshape(bottom - top, FINE, right - left, FINE).mean(axis=(1, 3))
    return cover


def painted(
    random: Random, picture: Floats, shape: Shape, colour: Floats, light: tuple[float, float], shadow: float
) -> Floats:
    """The picture with a shape on it that throws a shadow, lit from the direction `light` (x, y)."""
    cover = soft(shape.inside)
    dx, dy = (round(-0.14 * shape.size * way) for way in light)
    fallen = np.pad(cover, 20)[20 - dy : 20 - dy + HEIGHT, 20 - dx : 20 - dx + WIDTH]
    picture = picture * (1 - shadow * blurred(fallen, 4)[..., None])
    radius = max(3, int(shape.round * shape.size))
    slopes = np.asarray(np.gradient(blurred(cover, radius)))
    shade = np.asarray(1 - 0.9 * radius * (slopes[1] * light[0] + slopes[0] * light[1]))[..., None]
    skin, _ = surface(random, colour, random.uniform(10, 40))
    paint = skin
    for inside, tint in shape.details:
        part = soft(inside)[..., None]
        paint = paint * (1 - part) + (tint + 0.2 * (skin - colour)) * part
    return np.asarray(picture * (1 - cover[..., None]) + np.clip(paint * shade, 0, 255) * cover[..., None])


def middle(mask: Bools) -> list[float]:
    """[x, y] of a pixel's centre deep inside a mask: what is left last when its rim is peeled off."""
    rest = mask
    while rest.any():
        last = rest
        padded = np.pad(rest, 1)
        rest = rest & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    y, x = np.argwhere(last)[0]
    return [x + 0.5, y + 0.5]


def scene(seed: int, number: int) -> tuple[npt.NDArray[np.uint8], list[Found]]:
    """One picture and its objects, from the farthest to the nearest."""
    random = np.random.Generator(np.random.PCG64([seed, number]))
    empty = number % EMPTY_EVERY == EMPTY_EVERY - 1
    shapes, masks = shapes_of(random, 0 if empty else int(random.integers(1, 6)))
    picture, colours = ground(random)
    turn, shadow = random.uniform(0, 2 * np.pi), random.uniform(0, 0.25)
    for shape in shapes:
        colour = apart(random, colours)
        colours = np.concatenate([colours, colour[None]])
        picture = painted(random, picture, shape, colour, (float(np.cos(turn)), float(np.sin(turn))), shadow)
    objects = []
    for shape, mask in zip(shapes, masks, strict=True):
        plain = mask & ~np.logical_or.reduce([mask & False, *(inside(X, Y) for inside, _ in shape.details)])
        objects.append(Found(shape.label, mask, plain))
    return photographed(random, picture), objects


def bounds(mask: Bools) -> tuple[int, int, int, int]:
    """Left, top, right and bottom edge of a mask (xyxy)."""
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def around(mask: Bools, distance: int) -> Bools:
    """A mask and what is at most `distance` pixels to the side, above or below, diagonals included."""
    for _ in range(2):
        padded = np.pad(mask, [(distance, distance), (0, 0)])
        wide = np.lib.stride_tricks.sliding_window_view(padded, 2 * distance + 1, axis=0)
        mask = np.asarray(wide.any(axis=-1)).T
    return mask


def prompts_of(random: Random, objects: list[Found]) -> tuple[list[Any], list[Any]]:
    """Prompts by box (2 px around the object), and by one point inside and one or two outside.

    The inner point lies on the object's own colour. The first outer one lies on the ground near the
    object; where another object touches it, or there is ground in its hole, a second one lies there.
    """
    boxes, points = [], []
    free = ~np.logical_or.reduce([np.zeros((HEIGHT, WIDTH), np.bool_), *(found.mask for found in objects)])
    for label, mask, plain in objects:
        left, top, right, bottom = bounds(mask)
        box = [max(0, left - 2), max(0, top - 2), min(WIDTH, right + 2), min(HEIGHT, bottom + 2)]
        boxes.append({"box": box, "label": label})
        near = free & around(mask, 22) & ~around(mask, 5)
        spots = np.argwhere(near if near.any() else free)
        y, x = spots[random.integers(len(spots))]
        outside = [[x + 0.5, y + 0.5, 0]]
        if label == "ring":
            y, x = np.argwhere(mask).mean(axis=0)
            hole = free & (np.hypot(X - x, Y - y) < 0.15 * (right - left))
            others = [hole] if hole.any() else []
        else:
            others = [o.plain for o in objects if o.mask is not mask and (o.mask & around(mask, 1)).any()]
        outside += [[*middle(other), 0] for other in others[:1]]
        points.append({"points": [[*middle(plain), 1], *outside], "label": label})
    return boxes, points


def make(folder: Path, count: int, seed: int) -> None:
    """Write images/, truth.json (COCO), boxes.jsonl and points.jsonl below `folder`.

    Images have their ids in the order of their names and categories in that of their labels, as in
    the coco writer's files, so that the two can be compared as they are.
    """
    lines: dict[str, list[str]] = {"boxes.jsonl": [], "points.jsonl": []}
    images: list[dict[str, Any]] = []
    everything: list[tuple[int, Found]] = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for key, number in sorted((NAMES.get(number, f"{number:03}.jpg"), number) for number in range(count)):
        picture, objects = scene(seed, number)
        buffer = io.BytesIO()
        PIL.Image.fromarray(picture).save(buffer, "JPEG", quality=92, subsampling=0)
        (folder / "images" / key).write_bytes(buffer.getvalue())
        about = {"size": [HEIGHT, WIDTH], "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
        prompts = prompts_of(np.random.Generator(np.random.PCG64([seed, number, 1])), objects)
        for name, found in zip(lines, prompts, strict=True):
            line = {"schema": 1, "image": key, "prompts": found, **about}
            lines[name].append(json.dumps(line, ensure_ascii=False))
        images.append({"id": len(images) + 1, "file_name": key, "height": HEIGHT, "width": WIDTH})
        everything += [(len(images), found) for found in objects]
    labels = sorted({found.label for _, found in everything})
    truth = {
        "images": images,
        "annotations": [
            _annotation(index, image, labels.index(found.label) + 1, found.mask)
            for index, (image, found) in enumerate(everything, start=1)
        ],
        "categories": [{"id": index, "name": name} for index, name in enumerate(labels, start=1)],
    }
    (folder / "truth.json").write_bytes(json.dumps(truth).encode())
    for name, content in lines.items():
        (folder / name).write_bytes("".join(f"{line}\n" for line in content).encode())


def _annotation(number: int, image: int, category: int, mask: Bools) -> dict[str, Any]:
    left, top, right, bottom = bounds(mask)
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": run_lengths(mask)},
        "area": int(mask.sum()),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }


def run_lengths(mask: Bools) -> str:
    """COCO's compressed run-length encoding: runs down the columns, background first, five bits a character.

    From the fourth run on what is written is the difference to the run two before.
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
    make(given.folder, given.count, given.seed)
