"""Drawn scenes to train a small SAM with: pictures with the exact masks of their objects.

Most scenes are drawn here, to be as different from each other as possible; some are those of `datasets/make_scenes.py`.
Pictures under work are float32 (H, W, 3) RGB, about 0..255. `unit` is the shorter side of the whole picture in pixels:
the sizes of objects and textures are relative to it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

Random = np.random.Generator

#: Sides of the pictures, relative to the longest one.
ASPECTS = [(1, 1), (1, 1), (1, 0.75), (0.75, 1), (1, 0.67), (0.6, 1), (1, 0.56)]
#: Points on a round outline.
ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)
DATASETS = Path(__file__).parents[3] / "datasets"


class Scene(NamedTuple):
    """A picture and what it shows.

    Attributes:
        picture: uint8 (H, W, 3) RGB.
        labels: uint8 (H, W): 0 is background, 2 i + 1 the surface of object i, 2 i + 2 a part of it in another colour.
    """

    picture: np.ndarray
    labels: np.ndarray


class Target(NamedTuple):
    """Something that a prompt can mean.

    Attributes:
        mask: bool (H, W).
        part: bool (H, W), a part inside the mask that a prompt can exclude; None if there is none.
    """

    mask: np.ndarray
    part: np.ndarray | None = None


def list_targets(labels: np.ndarray, least: int) -> list[Target]:
    """Return the objects that show at least `least` pixels, and their parts of half as many."""
    targets = []
    for surface_label in range(1, int(labels.max()) + 1, 2):
        surface, part = labels == surface_label, labels == surface_label + 1
        has_part = part.sum() >= least // 2
        if surface.sum() + part.sum() >= least:
            targets.append(Target(surface | part, part if has_part and surface.any() else None))
        if has_part and surface.sum() >= least:
            targets.append(Target(part))
    return targets


def find_box(mask: np.ndarray) -> np.ndarray:
    """Return the corners of the box around a mask, float64 (2, 2): left and top, right and bottom."""
    rows, columns = np.nonzero(mask)
    return np.array([[columns.min(), rows.min()], [columns.max() + 1.0, rows.max() + 1.0]])


def choose_pixel(random: Random, mask: np.ndarray) -> np.ndarray:
    """Return x and y of a pixel of a mask, int64 (2,)."""
    places = np.flatnonzero(mask)
    y, x = divmod(places[random.integers(len(places))], mask.shape[1])
    return np.array([x, y])


def choose_outside(random: Random, mask: np.ndarray) -> np.ndarray:
    """Return x and y of a pixel near a mask or anywhere, int64 (2,), outside of the mask if one is found soon."""
    for _ in range(8):
        near = random.random() < 0.6
        point = choose_pixel(random, mask) + random.normal(0, 25, 2) if near else random.uniform(0, mask.shape[::-1])
        point = point.clip(0, np.array(mask.shape[::-1]) - 1).astype(int)
        if not contains(mask, point):
            break
    return point


def contains(mask: np.ndarray, point: np.ndarray) -> bool:
    """Return whether a pixel, x and y, belongs to a mask; those beside the picture do not."""
    x, y = (int(value) for value in point)
    return bool(y < mask.shape[0] and x < mask.shape[1] and mask[y, x])


def find_middle(mask: np.ndarray) -> np.ndarray:
    """Return x and y of the pixel that is farthest from the edge of a mask, int64 (2,)."""
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    return np.array(np.unravel_index(depth.argmax(), mask.shape))[::-1]


def augment(random: Random, scene: Scene) -> Scene:
    """Return the scene mirrored or turned, and with other colours."""
    picture, labels = scene
    if random.random() < 0.5:
        picture, labels = picture[:, ::-1], labels[:, ::-1]
    if random.random() < 0.5:
        picture, labels = picture[::-1], labels[::-1]
    if random.random() < 0.5:
        picture, labels = picture.transpose(1, 0, 2), labels.T
    if random.random() < 0.7:
        picture = picture[..., random.permutation(3)]
    if random.random() < 0.3:
        picture = 255 - picture
    if random.random() < 0.1:
        picture = picture.mean(axis=2, keepdims=True).astype(np.uint8).repeat(3, axis=2)
    return Scene(picture, labels)


def draw_scenes(seed: int, first: int, count: int, side: int, workers: int = 1) -> list[Scene]:
    """Draw scenes `first` to `first + count - 1` of a seed, the longer side `side` pixels, in `workers` processes."""
    return _map(partial(draw_scene, seed, side=side), range(first, first + count), workers)


def draw_dataset_scenes(seed: int, first: int, count: int, side: int, workers: int = 1) -> list[Scene]:
    """Draw scenes of `datasets/make_scenes.py`, made `side` pixels long; those without objects are left out."""
    scenes = _map(partial(draw_dataset_scene, seed, side=side), range(first, first + count), workers)
    return [scene for scene in scenes if scene.labels.any()]


def _map(draw: Callable[[int], Scene], numbers: range, workers: int) -> list[Scene]:
    if workers == 1:
        return [draw(number) for number in numbers]
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        return list(pool.map(draw, numbers, chunksize=8))


def draw_dataset_scene(seed: int, number: int, side: int) -> Scene:
    """Draw one scene of `datasets/make_scenes.py`, made `side` pixels long. Its objects have no parts."""
    if str(DATASETS) not in sys.path:
        sys.path.insert(0, str(DATASETS))
    from make_scenes import draw_scene as draw

    picture, objects = draw(seed, number)
    scale = side / max(picture.shape[:2])
    height, width = (round(length * scale) for length in picture.shape[:2])
    labels = np.zeros((height, width), np.uint8)
    for index, found in enumerate(objects):
        cover = cv2.resize(found.mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        labels[cover > 0.5] = 2 * index + 1
    return Scene(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), labels)


def draw_scene(seed: int, number: int, side: int) -> Scene:
    """Draw one scene: one to seven objects, from the farthest to the nearest, its longer side `side` pixels."""
    random = np.random.default_rng([seed, number])
    height, width = (round(part * side) for part in ASPECTS[random.integers(len(ASPECTS))])
    picture = paint_background(random, height, width)
    labels = np.zeros((height, width), np.uint8)
    turn = random.uniform(0, 2 * np.pi)
    light, shadows = np.array([np.cos(turn), np.sin(turn)]), random.random() < 0.45
    count = int(random.integers(1, 8))
    for index in range(count):
        paint_object(random, picture, labels, index, 0.36 if count <= 4 else 0.24, light, shadows)
    return Scene(photograph(random, picture), labels)


def paint_background(random: Random, height: int, width: int) -> np.ndarray:
    """Return a surface, or two with a horizon between them, float32 (H, W, 3)."""
    unit, colour = min(height, width), random.uniform(20, 235, 3)
    picture = make_surface(random, height, width, colour, unit)
    if random.random() < 0.3:
        horizon = int(random.uniform(0.3, 0.8) * height)
        below = np.clip(colour + random.uniform(-50, 50, 3), 10, 245)
        picture[horizon:] = make_surface(random, height - horizon, width, below, unit)
    return picture


def paint_object(
    random: Random,
    picture: np.ndarray,
    labels: np.ndarray,
    index: int,
    largest: float,
    light: np.ndarray,
    shadows: bool,
) -> None:
    """Paint object `index` onto the picture and into the labels, unless it would show too little.

    Args:
        random: chooses place, shape, size, colours.
        picture: float32 (H, W, 3), changed in place.
        labels: uint8 (H, W), changed in place.
        index: number of the object in its scene.
        largest: greatest radius, relative to the shorter side.
        light: the direction away from the light, x and y, length 1.
        shadows: whether objects have shadows.
    """
    height, width = labels.shape
    unit = min(height, width)
    radius = unit * np.exp(random.uniform(np.log(0.095), np.log(largest)))
    centre = random.uniform(0.05, 0.95, 2) * [width, height]
    left, top = np.maximum(0, centre - 1.9 * radius).astype(int)
    right, bottom = np.minimum([width, height], centre + 1.9 * radius).astype(int)
    around, centre = (slice(top, bottom), slice(left, right)), centre - [left, top]
    patch, seen = picture[around], labels[around]  # views: what is painted there is in the picture
    cover = rasterise(make_outline(random), *seen.shape, centre, radius)
    if (cover > 0.5).sum() < max(8, 0.0015 * height * width):
        return
    distance = random.choice([45, 60, 90]) if random.random() < 0.93 else 25
    colour = choose_colour(random, patch[cover > 0.5].mean(axis=0), distance)
    if shadows:
        patch *= 1 - random.uniform(0.25, 0.55) * cast_shadow(random, cover, light, radius)[..., None]
    surface = make_surface(random, *seen.shape, colour, unit)
    if random.random() < 0.5:
        y, x = np.mgrid[: seen.shape[0], : seen.shape[1]]
        away = ((x - centre[0]) * light[0] + (y - centre[1]) * light[1]) / radius
        surface *= 1 - random.uniform(0.1, 0.35) * away[..., None]
    blend(patch, surface, cover)
    seen[cover > 0.5] = 2 * index + 1
    if random.random() < 0.35 and radius > 0.14 * unit:
        middle = centre + random.uniform(-0.2, 0.2, 2) * radius
        inner = rasterise(make_outline(random), *seen.shape, middle, radius * random.uniform(0.35, 0.55))
        inner = np.minimum(inner, cover)
        blend(patch, make_surface(random, *seen.shape, choose_colour(random, colour, 70), unit), inner)
        seen[inner > 0.5] = 2 * index + 2


def blend(patch: np.ndarray, surface: np.ndarray, cover: np.ndarray) -> None:
    """Lay a surface, (H, W, 3), over a patch in place, where `cover`, 0..1 (H, W), says."""
    patch += (surface - patch) * cover[..., None]


def cast_shadow(random: Random, cover: np.ndarray, light: np.ndarray, radius: float) -> np.ndarray:
    """Return the blurred shadow of a shape beside it, float32 (H, W), 0..1."""
    x, y = random.uniform(0.06, 0.2) * radius * light
    moved = cv2.warpAffine(cover, np.array([[1, 0, x], [0, 1, y]]), cover.shape[::-1])
    width = int(0.15 * radius) | 1
    return cv2.blur(moved, (width, width))


def choose_colour(random: Random, other: np.ndarray, distance: float) -> np.ndarray:
    """Return a colour, float64 (3,), some of them nearly grey, that differs by `distance` if one is found soon."""
    for _ in range(20):
        colour = random.uniform(15, 240, 3)
        if random.random() < 0.3:
            colour = colour.mean() + random.normal(0, 10, 3)
        if np.linalg.norm(colour - other) > distance:
            break
    return colour


def make_surface(random: Random, height: int, width: int, colour: np.ndarray, unit: float) -> np.ndarray:
    """Return a surface around a colour, plain or with a gradient or a pattern, float32 (H, W, 3)."""
    turn = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    surface = np.broadcast_to(np.asarray(colour, np.float32), (height, width, 3)).copy()
    if random.random() < 0.5:
        slope = (along - along.min()) / (np.ptp(along) + 1e-6)
        surface += slope[..., None] * random.uniform(-60, 60, 3).astype(np.float32)
    pattern = make_pattern(random, along, across, unit)
    if pattern is not None:
        tint = random.uniform(-0.4, 0.4, 3) + random.choice([-1, 1])
        surface += pattern[..., None].astype(np.float32) * (random.uniform(5, 35) * tint).astype(np.float32)
    return surface


def make_pattern(random: Random, along: np.ndarray, across: np.ndarray, unit: float) -> np.ndarray | None:
    """Return clouds, stripes, a chequerboard or dots, about -1..1, (H, W); None for a plain surface.

    `along` and `across` are the coordinates of the pixels in the pattern's own direction, (H, W).
    """
    kind = random.choice(["clouds", "stripes", "chequers", "dots", "plain"], p=[0.3, 0.15, 0.08, 0.07, 0.4])
    if kind == "clouds":
        return 0.7 * make_noise(random, *along.shape, int(random.choice([8, 32, 64])), random.uniform(0.3, 1.2))
    if kind == "plain":
        return None
    period = random.uniform(0.03, 0.12) * unit
    wave, other = np.sin(2 * np.pi * along / period), np.sin(2 * np.pi * across / period)
    if kind == "stripes":
        return np.sign(wave) if random.random() < 0.5 else wave
    return np.sign(wave * other) if kind == "chequers" else np.where(wave * other > 0.6, 1.0, -1.0)


def make_noise(random: Random, height: int, width: int, finest: int, decay: float) -> np.ndarray:
    """Return sums of random grids, interpolated, float32 (H, W) with standard deviation 1.

    The grids have 2 to `finest` cells a side; finer ones count less by the exponent `decay`.
    """
    total, cells = np.zeros((height, width), np.float32), 2
    while cells <= finest:
        grid = random.standard_normal((cells, cells)).astype(np.float32)
        total += cv2.resize(grid, (width, height)) * (2 / cells) ** decay
        cells *= 2 if random.random() < 0.7 else 3
    return total / (total.std() + 1e-6)


def photograph(random: Random, picture: np.ndarray) -> np.ndarray:
    """Return the picture as from a camera, uint8 (H, W, 3): uneven light, blur, exposure and noise."""
    height, width = picture.shape[:2]
    if random.random() < 0.5:
        picture = picture * (1 + 0.12 * make_noise(random, height, width, 4, 1))[..., None]
    if random.random() < 0.4:
        picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.4, 1.6) * min(height, width) / 512)
    picture = picture * random.uniform(0.75, 1.15) + random.uniform(-15, 15)
    if random.random() < 0.6:
        picture = picture + random.normal(0, random.uniform(1, 10), picture.shape)
    return picture.clip(0, 255).astype(np.uint8)


def make_outline(random: Random) -> list[np.ndarray]:
    """Return polygons that form one shape of a radius of about 1, each float64 (n, 2), x and y."""
    makers = [make_superellipse, make_polygon, make_star, make_blob, make_compound]
    polygons = makers[random.choice(len(makers), p=[0.32, 0.2, 0.12, 0.2, 0.16])](random)
    turn = _rotation(random.uniform(0, 2 * np.pi))
    return [polygon @ turn for polygon in polygons]


def make_superellipse(random: Random) -> list[np.ndarray]:
    """Return something between an ellipse and a rectangle."""
    power, flat = 2 / random.choice([2, 2, 2.5, 4, 8]), random.uniform(0.35, 1)
    circle = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    return [np.sign(circle) * np.abs(circle) ** power * [1, flat]]


def make_polygon(random: Random) -> list[np.ndarray]:
    """Return an irregular polygon of three to eight corners."""
    corners = int(random.integers(3, 9))
    angles = (np.arange(corners) + random.uniform(-0.3, 0.3, corners)) * 2 * np.pi / corners
    return [_from_polar(angles, random.uniform(0.6, 1, corners))]


def make_star(random: Random) -> list[np.ndarray]:
    """Return a star of four to eight points."""
    points = int(random.integers(4, 9))
    return [_from_polar(np.arange(2 * points) * np.pi / points, np.tile([1, random.uniform(0.4, 0.7)], points))]


def make_blob(random: Random) -> list[np.ndarray]:
    """Return a circle that was bent by waves."""
    radius = np.ones_like(ANGLES)
    for waves in range(2, 7):
        radius += random.normal(0, 0.22 / waves**0.7) * np.cos(waves * ANGLES + random.uniform(0, 2 * np.pi))
    return [_from_polar(ANGLES, radius.clip(0.35, 1.6) / 1.2)]


def make_compound(random: Random) -> list[np.ndarray]:
    """Return two to four ellipses, each on the edge of the one before."""
    ellipses, centre, radius = [], np.zeros(2), random.uniform(0.45, 0.65)
    for _ in range(random.integers(2, 5)):
        ellipse = _from_polar(ANGLES, np.full_like(ANGLES, radius)) * [1, random.uniform(0.5, 1)]
        ellipses.append(ellipse @ _rotation(random.uniform(0, 2 * np.pi)) + centre)
        way = random.uniform(0, 2 * np.pi)
        centre = centre + 0.8 * radius * np.array([np.cos(way), np.sin(way)])
        radius *= random.uniform(0.6, 0.95)
    return ellipses


def _from_polar(angles: np.ndarray, radii: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def rasterise(polygons: list[np.ndarray], height: int, width: int, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return the fraction of each pixel that lies inside the shape, float32 (H, W), 0..1."""
    cover = np.zeros((height, width), np.uint8)
    for polygon in polygons:  # in sixteenths of a pixel
        corners = np.round((polygon * radius + centre) * 16).astype(np.int32)
        cv2.fillPoly(cover, [corners], 255, cv2.LINE_AA, shift=4)
    return cover.astype(np.float32) / 255
