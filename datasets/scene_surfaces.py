"""Surfaces of the drawn scenes: textures, backgrounds, blur and noise.

Pictures are float64 (H, W, 3) RGB, about 0..255; values per pixel are float64 (H, W).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Random = np.random.Generator

HEIGHT, WIDTH = 240, 320
#: The pixels' centres, each float64 (H, W).
X: Floats
Y: Floats
Y, X = np.mgrid[:HEIGHT, :WIDTH] + 0.5


def make_noise(random: Random, down: float, across: float, octaves: int) -> Floats:
    """Return value noise, scaled to 0..1: random numbers at distances `down` and `across`, interpolated smoothly."""
    total = np.zeros((HEIGHT, WIDTH))
    for octave in range(octaves):
        y, x = (Y - 0.5) * 2**octave / down, (X - 0.5) * 2**octave / across
        i, j = y.astype(int), x.astype(int)
        grid = random.random((int(i.max()) + 2, int(j.max()) + 2))
        t, s = ((part % 1) ** 2 * (3 - 2 * (part % 1)) for part in (y, x))
        upper = grid[i, j] * (1 - s) + grid[i, j + 1] * s
        total += (upper * (1 - t) + (grid[i + 1, j] * (1 - s) + grid[i + 1, j + 1] * s) * t) / 2**octave
    return np.asarray((total - total.min()) / (total.max() - total.min()))


def make_pattern(random: Random) -> Floats:
    """Return a gradient, clouds, stripes, wood or speckles, about 0..1, float64 (H, W)."""
    turn, kind = random.uniform(0, 2 * np.pi), int(random.integers(5))
    along = X * np.cos(turn) + Y * np.sin(turn)
    if kind == 0:
        return np.asarray((along - along.min()) / (along.max() - along.min()))
    if kind == 1:
        return make_noise(random, 80, 80, 5)
    if kind == 2:
        wave = np.sin(along * (2 * np.pi / random.uniform(8, 40)) + 3 * make_noise(random, 90, 90, 2))
        return np.asarray(0.5 + 0.5 * np.clip(wave * random.uniform(1, 3), -1, 1))
    if kind == 3:
        rings = np.sin(Y * (2 * np.pi / random.uniform(24, 60)) + 9 * make_noise(random, 70, 260, 2))
        return np.asarray(0.3 + 0.3 * rings + 0.4 * make_noise(random, 4, 60, 2))
    return make_noise(random, 5, 5, 2)


def make_surface(random: Random, colour: Floats, contrast: float) -> tuple[Floats, Floats]:
    """Return a textured surface around a colour, float64 (H, W, 3), and its two extreme colours, (2, 3)."""
    away = contrast * (random.uniform(-0.4, 0.4, 3) + random.choice([-1.0, 1.0]))
    return colour + away * (make_pattern(random)[..., None] - 0.5), np.stack([colour - away / 2, colour + away / 2])


def make_background(random: Random) -> tuple[Floats, Floats]:
    """Return a background, float64 (H, W, 3): a surface, or a wall and a floor; and its colours, (n, 3)."""
    picture, colours = make_surface(random, random.uniform(60, 215, 3), random.uniform(20, 50))
    if random.random() < 0.35:
        floor, more = make_surface(random, random.uniform(60, 215, 3), random.uniform(20, 50))
        edge = random.uniform(0.25, 0.6) * HEIGHT + random.uniform(-0.08, 0.08) * (X - WIDTH / 2)
        below = np.clip(Y - edge + 0.5, 0, 1)[..., None]
        picture, colours = picture * (1 - below) + floor * below, np.concatenate([colours, more])
    return picture, colours


def choose_distinct_colour(random: Random, colours: Floats) -> Floats:
    """Return the one of four random colours that is farthest from the given ones, (n, 3)."""
    found = random.uniform(25, 235, (4, 3))
    distance = ((found[:, None] - colours) ** 2).sum(axis=2).min(axis=1)
    return np.asarray(found[distance.argmax()])


def blur(values: Floats, radius: int) -> Floats:
    """Apply three moving averages of 2 * radius + 1 pixels in both directions; edges are repeated."""
    width = 2 * radius + 1
    for _ in range(6):
        sums = np.cumsum(np.pad(values, [(radius + 1, radius), (0, 0)], mode="edge"), axis=0)
        values = ((sums[width:] - sums[:-width]) / width).T
    return values


def photograph(random: Random, picture: Floats) -> npt.NDArray[np.uint8]:
    """Return the picture as from a camera, uint8 (H, W, 3): slightly blurred, with noise."""
    blur = random.uniform(0, 0.2)
    for _ in range(2):
        wide = np.pad(picture, [(1, 1), (0, 0), (0, 0)], mode="edge")
        picture = (blur * (wide[:-2] + wide[2:]) + (1 - 2 * blur) * picture).swapaxes(0, 1)
    picture = picture + random.normal(0, random.uniform(2, 6), picture.shape)
    return picture.round().clip(0, 255).astype(np.uint8)
