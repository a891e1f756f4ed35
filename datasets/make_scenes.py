"""Draw small scenes whose masks are known exactly: pictures, COCO ground truth, prompts.

    python datasets/make_scenes.py datasets/scenes --count 40 --seed 7

makes what is committed; another seed makes fresh scenes. A pixel belongs to an object if
its centre lies inside the shape and no later object covers it; edges are drawn soft.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageFilter

from maskmill import Mask
from maskmill.files import write_atomic

HEIGHT, WIDTH = 240, 320
#: Rays a pixel side for soft edges.
FINE = 3
#: Smaller visible parts are not asked for.
LEAST_PIXELS = 300
LEAST_VISIBLE = 0.6
#: Every so many scenes one shows nothing.
EMPTY_EVERY = 20
NAMES = {3: "two words.jpg", 5: "场景 5.jpg"}

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Inside = Callable[[Floats, Floats], Bools]


@dataclass(frozen=True)
class Shape:
    """A shape: its label, and which points (x, y) in pixels lie inside."""

    label: str
    inside: Inside


def ellipse(cx: float, cy: float, a: float, b: float, turn: float) -> Inside:
    """A turned ellipse with half-axes a and b."""

    def inside(x: Floats, y: Floats) -> Bools:
        u, v = _turned(x - cx, y - cy, turn)
        return np.asarray((u / a) ** 2 + (v / b) ** 2 <= 1)

    return inside


def polar(cx: float, cy: float, radius: Callable[[Floats], Floats]) -> Inside:
    """Everything nearer to the centre than `radius(angle)`."""
    return lambda x, y: np.asarray(np.hypot(x - cx, y - cy) <= radius(np.arctan2(y - cy, x - cx)))


def slab(cx: float, cy: float, a: float, b: float, turn: float) -> Inside:
    """A turned rectangle with rounded corners (a superellipse of order 6)."""

    def inside(x: Floats, y: Floats) -> Bools:
        u, v = _turned(x - cx, y - cy, turn)
        return np.asarray(abs(u / a) ** 6 + abs(v / b) ** 6 <= 1)

    return inside


def _turned(x: Floats, y: Floats, turn: float) -> tuple[Floats, Floats]:
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def ball(random: np.random.Generator, cx: float, cy: float, size: float) -> Shape:
    """An ellipse, nearly round or not."""
    return Shape("ball", ellipse(cx, cy, size, size * random.uniform(0.6, 1), random.uniform(0, np.pi)))


def star(random: np.random.Generator, cx: float, cy: float, size: float) -> Shape:
    """A star with soft tips."""
    tips, phase = int(random.integers(5, 8)), random.uniform(0, 6)
    return Shape("star", polar(cx, cy, lambda angle: size * (0.75 + 0.25 * np.cos(tips * angle + phase))))


def blob(random: np.random.Generator, cx: float, cy: float, size: float) -> Shape:
    """A pebble: a few harmonics around a circle."""
    waves = [(n, random.uniform(0.02, 0.12), random.uniform(0, 6)) for n in (2, 3, 4)]

    def radius(angle: Floats) -> Floats:
        return np.asarray(size * (0.85 + np.sum([w * np.cos(n * angle + p) for n, w, p in waves], axis=0)))

    return Shape("pebble", polar(cx, cy, radius))


def ring(random: np.random.Generator, cx: float, cy: float, size: float) -> Shape:
    """An ellipse with a hole."""
    turn, flat, hole = random.uniform(0, np.pi), random.uniform(0.75, 1), random.uniform(0.4, 0.55)
    outer, inner = (ellipse(cx, cy, size * k, size * k * flat, turn) for k in (1.0, hole))
    return Shape("ring", lambda x, y: outer(x, y) & ~inner(x, y))


def vehicle(random: np.random.Generator, cx: float, cy: float, size: float) -> Shape:
    """A toy car seen from the side."""
    low, parts = size * 0.3, [slab(cx, cy, size, size * 0.3, 0.0)]
    parts.append(slab(cx + random.uniform(-0.2, 0.1) * size, cy - low, size * 0.55, size * 0.35, 0.0))
    parts += [ellipse(cx + side * size * 0.55, cy + low, size * 0.22, size * 0.22, 0.0) for side in (-1, 1)]
    return Shape("车辆", lambda x, y: np.logical_or.reduce([part(x, y) for part in parts]))


SHAPES = (ball, star, blob, ring, vehicle)


def shapes_of(random: np.random.Generator, count: int) -> list[Shape]:
    """Some shapes that do not lie on top of each other."""
    placed: list[tuple[float, float, float]] = []
    shapes = []
    for _ in range(count * 20):
        size = random.uniform(24, 52)
        cx, cy = random.uniform(size, WIDTH - size), random.uniform(size, HEIGHT - size)
        if all(np.hypot(cx - x, cy - y) > 0.85 * (size + s) for x, y, s in placed):
            placed.append((cx, cy, size))
            shapes.append(SHAPES[int(random.integers(len(SHAPES)))](random, cx, cy, size))
        if len(shapes) == count:
            break
    return shapes


def cloud(random: np.random.Generator, coarse: int, strength: float) -> Floats:
    """Smooth noise around 0, float64 (H, W)."""
    small = random.normal(0, 1, (HEIGHT // coarse + 2, WIDTH // coarse + 2))
    picture = PIL.Image.fromarray(small.astype(np.float32)).resize((WIDTH, HEIGHT), PIL.Image.Resampling.BICUBIC)
    return strength * np.asarray(picture, dtype=np.float64)


def surface(random: np.random.Generator, colour: Floats, rough: float) -> Floats:
    """A textured, shaded surface of one colour, float64 (H, W, 3)."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    turn, slope = random.uniform(0, 2 * np.pi), random.uniform(0, 30)
    light = slope * ((x / WIDTH - 0.5) * np.cos(turn) + (y / HEIGHT - 0.5) * np.sin(turn))
    texture = cloud(random, 40, rough) + cloud(random, 6, rough / 2) + cloud(random, 2, rough / 3)
    if random.random() < 0.3:
        texture += rough * np.sin((x * np.cos(turn) + y * np.sin(turn)) / random.uniform(2, 6))
    return np.asarray(colour + (light + texture)[..., None])


def colours(random: np.random.Generator, count: int) -> list[Floats]:
    """The ground's colour, then the objects', all of them well apart from the ground's."""
    ground = random.uniform(50, 205, 3)
    found = [ground]
    while len(found) <= count:
        colour = random.uniform(30, 225, 3)
        if np.linalg.norm(colour - ground) > 95:
            found.append(colour)
    return found


def draw(random: np.random.Generator, shapes: list[Shape]) -> tuple[npt.NDArray[np.uint8], list[Bools]]:
    """The picture, uint8 (H, W, 3), and each object's visible mask, bool (H, W)."""
    ground, *paints = colours(random, len(shapes))
    picture = surface(random, ground, random.uniform(3, 9))
    centre = np.arange(0.5, max(HEIGHT, WIDTH))
    fine = (np.arange(max(HEIGHT, WIDTH) * FINE) + 0.5) / FINE
    masks: list[Bools] = []
    for shape, paint in zip(shapes, paints, strict=True):
        hit = shape.inside(*np.meshgrid(fine[: WIDTH * FINE], fine[: HEIGHT * FINE])).astype(np.float64)
        soft = hit.reshape(HEIGHT, FINE, WIDTH, FINE).mean(axis=(1, 3))[..., None]
        picture = picture * (1 - soft) + surface(random, paint, random.uniform(2, 7)) * soft
        mask = shape.inside(*np.meshgrid(centre[:WIDTH], centre[:HEIGHT]))
        masks = [earlier & ~mask for earlier in masks] + [mask]
    picture += random.normal(0, random.uniform(1, 4), picture.shape)
    image = PIL.Image.fromarray(picture.clip(0, 255).astype(np.uint8)).filter(PIL.ImageFilter.GaussianBlur(0.5))
    return np.asarray(image), masks


def middle(mask: Bools) -> list[int]:
    """[x, y] of a pixel deep inside a mask: what is left last when its rim is peeled off."""
    rest = mask
    while rest.any():
        last = rest
        padded = np.pad(rest, 1)
        rest = rest & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    y, x = np.argwhere(last)[0]
    return [int(x), int(y)]


def scene(seed: int, number: int) -> tuple[npt.NDArray[np.uint8], list[tuple[str, Bools]]]:
    """One picture and its objects (label, visible mask) that are large enough to ask for."""
    random = np.random.default_rng([seed, number])
    empty = number % EMPTY_EVERY == EMPTY_EVERY - 1
    shapes = [] if empty else shapes_of(random, int(random.integers(1, 6)))
    picture, masks = draw(random, shapes)
    whole = [shape.inside(*np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)).sum() for shape in shapes]
    objects = [
        (shape.label, mask)
        for shape, mask, full in zip(shapes, masks, whole, strict=True)
        if mask.sum() >= max(LEAST_PIXELS, LEAST_VISIBLE * full)
    ]
    return picture, objects


def prompts_of(random: np.random.Generator, objects: list[tuple[str, Bools]]) -> tuple[list[Any], list[Any]]:
    """Prompts by box (2 px around the object), and by one point inside and two on the ground."""
    boxes, points = [], []
    free = np.argwhere(~np.logical_or.reduce([mask for _, mask in objects])) if objects else None
    for label, mask in objects:
        rows, columns = np.nonzero(mask)
        left, top = max(0, int(columns.min()) - 2), max(0, int(rows.min()) - 2)
        right, bottom = min(WIDTH, int(columns.max()) + 3), min(HEIGHT, int(rows.max()) + 3)
        boxes.append({"box": [left, top, right, bottom], "label": label})
        assert free is not None
        ground = [[int(x), int(y), 0] for y, x in free[random.choice(len(free), 2, replace=False)]]
        points.append({"points": [[*middle(mask), 1], *ground], "label": label})
    return boxes, points


def make(folder: Path, count: int, seed: int) -> None:
    """Write images/, truth.json (COCO), boxes.jsonl and points.jsonl below `folder`."""
    lines: dict[str, list[str]] = {"boxes.jsonl": [], "points.jsonl": []}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    labels = ["ball", "pebble", "ring", "star", "车辆"]
    for number in range(count):
        picture, objects = scene(seed, number)
        key = NAMES.get(number, f"{number:03}.jpg")
        buffer = io.BytesIO()
        PIL.Image.fromarray(picture).save(buffer, "JPEG", quality=92)
        write_atomic(folder / "images" / key, buffer.getvalue())
        about = {"size": [HEIGHT, WIDTH], "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
        prompts = prompts_of(np.random.default_rng([seed, number, 1]), objects)
        for name, found in zip(lines, prompts, strict=True):
            line = {"schema": 1, "image": key, "prompts": found, **about}
            lines[name].append(json.dumps(line, ensure_ascii=False))
        images.append({"id": number + 1, "file_name": key, "height": HEIGHT, "width": WIDTH})
        for label, mask in objects:
            annotations.append(_annotation(len(annotations) + 1, number + 1, labels.index(label) + 1, mask))
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(labels)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    write_atomic(folder / "truth.json", json.dumps(truth).encode())
    for name, content in lines.items():
        write_atomic(folder / name, "".join(f"{line}\n" for line in content).encode())


def _annotation(number: int, image: int, category: int, array: Bools) -> dict[str, Any]:
    mask = Mask.from_array(array)
    box = mask.box
    assert box is not None
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": mask.rle,
        "area": mask.area,
        "bbox": [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1],
        "iscrowd": 0,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    make(given.folder, given.count, given.seed)
