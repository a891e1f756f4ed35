"""The shapes in the drawn scenes, as functions that test which points lie inside.

Coordinates are pixels, x right and y down; (cx, cy) is the centre of a shape.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scene_surfaces import Floats, Random

Bools = npt.NDArray[np.bool_]
Inside = Callable[[Floats, Floats], Bools]


@dataclass(frozen=True)
class Shape:
    """One object of a scene.

    Attributes:
        label: class name.
        size: about half its length, in pixels.
        inside: tests which points (x, y) in pixels lie inside.
        round: width of the rounded edge, as a fraction of its size.
        details: parts with their own colour (RGB, 0..255), drawn in this order.
    """

    label: str
    size: float
    inside: Inside
    round: float = 0.1
    details: tuple[tuple[Inside, tuple[int, int, int]], ...] = ()


def ellipse(cx: float, cy: float, a: float, b: float, turn: float) -> Inside:
    """A rotated ellipse with half-axes a and b."""

    def inside(x: Floats, y: Floats) -> Bools:
        u, v = _rotate(x - cx, y - cy, turn)
        return np.asarray((u / a) ** 2 + (v / b) ** 2 <= 1)

    return inside


def polar(cx: float, cy: float, radius: Callable[[Floats], Floats]) -> Inside:
    """All points closer to the centre than `radius(angle)`."""
    return lambda x, y: np.asarray(np.hypot(x - cx, y - cy) <= radius(np.arctan2(y - cy, x - cx)))


def slab(cx: float, cy: float, a: float, b: float, turn: float, slant: float = 0.0) -> Inside:
    """A rotated rectangle with rounded corners (a superellipse of order 6), narrower at the top by `slant`."""

    def inside(x: Floats, y: Floats) -> Bools:
        u, v = _rotate(x - cx, y - cy, turn)
        return np.asarray(abs(u / (a * (1 + slant * np.clip(v / b, -1, 1)))) ** 6 + abs(v / b) ** 6 <= 1)

    return inside


def _rotate(x: Floats, y: Floats, turn: float) -> tuple[Floats, Floats]:
    return x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)


def ball(random: Random, cx: float, cy: float, size: float) -> Shape:
    """An ellipse, round or elongated."""
    return Shape("ball", size, ellipse(cx, cy, size, size * random.uniform(0.6, 1), random.uniform(0, np.pi)), 0.3)


def star(random: Random, cx: float, cy: float, size: float) -> Shape:
    """A star with soft tips."""
    tips, phase = int(random.integers(5, 8)), random.uniform(0, 6)
    return Shape("star", size, polar(cx, cy, lambda angle: size * (0.75 + 0.25 * np.cos(tips * angle + phase))))


def blob(random: Random, cx: float, cy: float, size: float) -> Shape:
    """A pebble: a circle with a few harmonics."""
    waves = [(n, random.uniform(0.02, 0.12), random.uniform(0, 6)) for n in (2, 3, 4)]

    def radius(angle: Floats) -> Floats:
        return np.asarray(size * (0.85 + np.sum([w * np.cos(n * angle + p) for n, w, p in waves], axis=0)))

    return Shape("blob", size, polar(cx, cy, radius))


def ring(random: Random, cx: float, cy: float, size: float) -> Shape:
    """An ellipse with a hole."""
    turn, flat, hole = random.uniform(0, np.pi), random.uniform(0.75, 1), random.uniform(0.4, 0.55)
    outer, inner = (ellipse(cx, cy, size * k, size * k * flat, turn) for k in (1.0, hole))
    return Shape("ring", size, lambda x, y: outer(x, y) & ~inner(x, y))


def block(random: Random, cx: float, cy: float, size: float) -> Shape:
    """A polygon of three to six sides with rounded corners."""
    sides, phase, order = int(random.integers(3, 7)), random.uniform(0, 6), random.uniform(6, 14)
    normals = phase + np.arange(sides) * (2 * np.pi / sides)

    def radius(angle: Floats) -> Floats:
        reach = np.clip(np.cos(angle[..., None] - normals), 0, None)
        return np.asarray(0.7 * size / (reach**order).sum(axis=-1) ** (1 / order))

    return Shape("block", size, polar(cx, cy, radius))


def vehicle(random: Random, cx: float, cy: float, size: float) -> Shape:
    """A toy car seen from the side: body, cabin with two windows, two wheels."""
    size, glass, tyre, metal = 1.25 * size, (128, 160, 176), (36, 36, 40), (170, 172, 176)
    middle, top = cx + random.uniform(-0.15, 0.1) * size, cy - 0.28 * size
    parts = [slab(cx, cy, size, size * 0.24, 0.0), slab(middle, top, size * 0.5, size * 0.27, 0.0, 0.3)]
    windows = [slab(middle + side * size * 0.2, top, size * 0.16, size * 0.17, 0.0, 0.15) for side in (-1, 1)]
    wheels = [(cx + side * size * 0.55, cy + size * 0.22) for side in (-1, 1)]
    parts += [ellipse(x, y, size * 0.22, size * 0.22, 0.0) for x, y in wheels]
    hubs = [ellipse(x, y, size * 0.1, size * 0.1, 0.0) for x, y in wheels]
    details = (
        [(part, glass) for part in windows] + [(part, tyre) for part in parts[2:]] + [(part, metal) for part in hubs]
    )
    return Shape("车辆", size, lambda x, y: np.logical_or.reduce([p(x, y) for p in parts]), details=tuple(details))


SHAPES = (ball, star, blob, block, ring, vehicle)
