"""Joining very many outlines into one line, in time that grows with the pixels and not with pairs of outlines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .pixels import load_cv2

Points = npt.NDArray[np.float32]
#: A corner: (outline, position in it).
Corner = tuple[int, int]
Hanging = Sequence[dict[int, list[Corner]]]


def join_many(parts: Sequence[Points]) -> Points:
    """One closed line through all outlines, float32 (n, 2), joined by short bridges that run back and forth.

    The bridges form a tree: the shortest ones between outlines that are neighbours in the picture.
    """
    hanging: list[dict[int, list[Corner]]] = [{} for _ in parts]
    for here, there in _choose_bridges(parts):
        hanging[here[0]].setdefault(here[1], []).append(there)
        hanging[there[0]].setdefault(there[1], []).append(here)
    first = max(range(len(parts)), key=lambda number: len(parts[number]))
    return np.array([parts[part][position] for part, position in _walk(parts, hanging, first)], np.float32)


@dataclass
class _Visit:
    """An outline on the way: where it was entered, the steps taken on it, and the bridges left at this corner."""

    part: int
    start: int
    bridges: Iterator[Corner]
    steps: int = 0


def _walk(parts: Sequence[Points], hanging: Hanging, first: int) -> Iterator[Corner]:
    """The corners of the line; without recursion, because a tree may be as deep as there are outlines."""
    seen = {first}
    stack = [_Visit(first, 0, iter(hanging[first].get(0, ())))]
    yield first, 0
    while stack:
        visit = stack[-1]
        other = next((corner for corner in visit.bridges if corner[0] not in seen), None)
        if other is not None:
            seen.add(other[0])
            yield other
            stack.append(_Visit(*other, iter(hanging[other[0]].get(other[1], ()))))
            continue
        visit.steps += 1
        position = (visit.start + visit.steps) % len(parts[visit.part])
        if visit.steps < len(parts[visit.part]):
            yield visit.part, position
            visit.bridges = iter(hanging[visit.part].get(position, ()))
            continue
        stack.pop()
        if stack:  # closed, and back over the bridge
            yield visit.part, position
            above = stack[-1]
            yield above.part, (above.start + above.steps) % len(parts[above.part])


def _choose_bridges(parts: Sequence[Points]) -> Iterator[tuple[Corner, Corner]]:
    """Bridges that connect all outlines, the shortest first (Kruskal's algorithm)."""
    points = np.concatenate(parts)
    lengths = [len(part) for part in parts]
    owner = np.repeat(np.arange(len(parts)), lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    group = list(range(len(parts)))

    def find(part: int) -> int:
        while group[part] != part:
            group[part] = group[group[part]]
            part = group[part]
        return part

    for a, b in _find_neighbours(points, owner).tolist():
        one, other = int(owner[a]), int(owner[b])
        if find(one) != find(other):
            group[find(one)] = find(other)
            yield (one, a - int(starts[one])), (other, b - int(starts[other]))


def _find_neighbours(points: Points, owner: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Pairs of corners (n, 2) of neighbouring outlines, the nearest first, one for each two outlines.

    Each pixel belongs to the corner nearest to it; outlines are neighbours where pixels of theirs touch.
    """
    cv2 = load_cv2()
    cells = np.floor(points - points.min(axis=0)).astype(np.int64)
    width, height = cells.max(axis=0) + 1
    places = cells[:, 1] * width + cells[:, 0]
    empty = np.full(height * width, 255, np.uint8)
    empty[places] = 0
    _, labels = cv2.distanceTransformWithLabels(
        empty.reshape(height, width), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    of_label = np.zeros(int(labels.max()) + 1, np.int64)
    of_label[labels.ravel()[places]] = np.arange(len(points))
    nearest = of_label[labels]
    order = np.argsort(places, kind="stable")
    sides = [(nearest[:, 1:], nearest[:, :-1]), (nearest[1:], nearest[:-1])]
    pairs = [np.stack([one.ravel(), other.ravel()], axis=1) for one, other in sides]
    same_cell = places[order][1:] == places[order][:-1]
    pairs.append(np.stack([order[1:], order[:-1]], axis=1)[same_cell])
    found = np.concatenate([each[owner[each[:, 0]] != owner[each[:, 1]]] for each in pairs])
    distances = np.square(points[found[:, 0]] - points[found[:, 1]]).sum(axis=1)
    found = found[np.lexsort((found[:, 1], found[:, 0], distances))]
    both = np.sort(owner[found], axis=1)
    _, first = np.unique(both[:, 0] * (int(owner.max()) + 1) + both[:, 1], return_index=True)
    return np.asarray(found[np.sort(first)])
