"""When a review may stop: how often images of a band of doubt were accepted unchanged, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

#: Upper ends of the bands of doubt, in hundredths.
BANDS = (5, 10, 20, 30, 50, 100)
#: A review may stop where at least this share of all images is right, with `CONFIDENCE`.
ENOUGH = 0.9
#: 95 %, as a quantile of the normal distribution (two-sided).
CONFIDENCE = 1.959964
#: The fewest images that can show it: with one fewer, not even if all were right.
LEAST = math.ceil(ENOUGH * CONFIDENCE**2 / (1 - ENOUGH))


class Judged(NamedTuple):
    """An image that people decided about: its doubt (0 to 1) at that time, and whether all accepted it unchanged."""

    doubt: float
    unchanged: bool


def wilson_interval(count: int, of: int) -> tuple[float, float]:
    """Wilson's score interval (95 %) of a share; (0, 1) of nothing.

    Unlike the share plus or minus its standard error, it holds for few images, and for shares near 1.
    """
    if not of:
        return 0.0, 1.0
    share, square = count / of, CONFIDENCE**2
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = CONFIDENCE / (1 + square / of) * math.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def percent_of(doubt: float) -> int:
    """The hundredth that a doubt belongs to, 0 to 99, as the pages show it; 1 belongs to the last one."""
    return min(99, max(0, int(100 * doubt)))


def describe_share(unchanged: int, images: int) -> dict[str, Any]:
    """A share with the lower end of its interval, as JSON data."""
    share = unchanged / images if images else None
    return {"images": images, "unchanged": unchanged, "share": share, "low": wilson_interval(unchanged, images)[0]}


def describe_bands(judged: Iterable[Judged], undecided: Sequence[int]) -> list[dict[str, Any]]:
    """For each band of doubt, the images that people decided about, and those that are left.

    Args:
        judged: the images that people decided about.
        undecided: the number of images that nobody has decided about, by hundredth of doubt (100 numbers).
    """
    counts = [[0, 0] for _ in range(100)]
    for one in judged:
        counts[percent_of(one.doubt)][one.unchanged] += 1
    bands = []
    for start, end in zip((0, *BANDS[:-1]), BANDS, strict=True):
        changed, unchanged = (sum(part) for part in zip(*counts[start:end], strict=True))
        share = describe_share(unchanged, changed + unchanged)
        bands.append({"from": start, "to": end, **share, "left": sum(undecided[start:end])})
    return bands


def advise(bands: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whether one may stop, from `describe_bands`, as JSON data.

    Its "advice" is:
        done: no image is left.
        stop: below the doubt "below". The band under it has enough images of its own that were accepted unchanged,
            and no lower one speaks against it. "images", "unchanged", "share" and "low" are about all images below;
            "left" are not looked at, of which at most "wrong" are likely to need a change; "above" are left with a
            higher doubt.
        go_on: where enough images were looked at, too few were accepted unchanged.
        sample: too few images were looked at to know; "needed" is the least number in one band.
    """
    left = sum(band["left"] for band in bands)
    if not left:
        return {"advice": "done"}
    known = [band for band in bands if band["images"] >= LEAST]
    good = None
    for band in known:
        if band["low"] < ENOUGH:
            break
        good = band
    if good is not None and (below := [band for band in bands if band["to"] <= good["to"]]):
        share = describe_share(sum(band["unchanged"] for band in below), sum(band["images"] for band in below))
        inside = sum(band["left"] for band in below)
        if inside:
            rest = {"left": inside, "wrong": math.ceil(inside * (1 - share["low"])), "above": left - inside}
            return {"advice": "stop", "below": good["to"], **share, **rest}
    return {"advice": "go_on" if known else "sample", "needed": LEAST, "left": left}
