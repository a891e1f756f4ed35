"""From JSON-like values to the objects they tell of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .found import Found, Reading, Spot, Wanted, is_number
from .keys import (
    BOX_KEYS,
    CONTAINER_KEYS,
    LABEL_KEYS,
    OTHER_KEYS,
    PLACE_KEYS,
    POINT_KEYS,
    SIDES,
    corners_of,
    folded,
    is_bare,
    names_of,
    pairs,
)
from .lists import place_of
from .scan import Cut, Scan, Value, scan
from .tags import numbers_in

#: JSON in a text in JSON nests no deeper.
_DEEPEST = 3
_TAGS = re.compile(r"</?\w{1,9}>|<\|\w{1,20}\|>")


class Objects:
    """Takes the objects out of the values of one reply.

    Args:
        wanted: what was asked for; decides what two pairs of numbers without a name are.
        blind: no picture was sent: all points are of one object.
        reading: receives them.
    """

    def __init__(self, wanted: Wanted, blind: bool, reading: Reading) -> None:
        self._wanted = wanted
        self._blind = blind
        self._reading = reading
        self._by_name: list[tuple[list[Any], str]] = []
        self._empty = False

    def take(self, text: str, found: Scan) -> bool:
        """Take all objects of a text that was scanned; whether there is an answer."""
        since = 0
        for value in found.values:
            if isinstance(value.data, list) and is_bare(value.data):
                self._bare(value, since, text, found.prose)
            elif not value.data:
                self._empty |= not found.prose
            elif not (found.prose and _is_flat(value.data)):
                self._inside(value.data, [])
            since = value.end
        if not self._reading.found:  # lists of numbers under keys of the model's own, where no known key is
            for one, name in self._by_name:
                self._listed(one, [name])
        if self._blind and self._wanted == "points":
            self._join()
        return bool(self._reading.found) or self._empty

    def _bare(self, value: Value, since: int, text: str, prose: bool) -> None:
        place = place_of(value, since, text, prose, self._blind and self._wanted == "boxes")
        if not place.answer:
            return
        self._empty |= not value.data
        self._listed(value.data, [place.name], off=place.off)

    def _inside(self, data: Any, names: Sequence[str], texts: int = 0) -> None:
        """Objects at any depth; empty lists, where objects would be, are answers too."""
        if isinstance(data, list):
            self._empty |= not data
            if not self._row(data):
                for one in data:
                    self._inside(one, names, texts)
        elif isinstance(data, dict):
            self._object(data, names, texts)
        elif isinstance(data, str) and texts < _DEEPEST and data.lstrip()[:1] in ("[", "{", "`"):
            for value in scan(data).values:
                if isinstance(value.data, list) and value.data and is_bare(value.data):
                    self._by_name.append((value.data, ""))
                else:
                    self._inside(value.data, names, texts + 1)

    def _row(self, data: list[Any]) -> bool:
        """A list of one name and of numbers, or of one name and a list of them; whether it is one."""
        names = [one for one in data if isinstance(one, str)]
        rest = [one for one in data if not isinstance(one, str)]
        if len(names) != 1 or isinstance(data, Cut):
            return False
        numbers = rest[0] if len(rest) == 1 and isinstance(rest[0], list) else rest
        if len(numbers) not in (2, 4) or not all(map(is_number, numbers)):
            return False
        self._listed(numbers, names)
        return True

    def _object(self, data: dict[str, Any], names: Sequence[str], texts: int) -> None:
        """An object with coordinates of its own, or with others inside."""
        keyed = {folded(key): value for key, value in data.items()}
        own = names_of(keyed) or names
        before = len(self._reading.found), self._reading.counts["no box"]
        self._place(keyed, own)
        if before != (len(self._reading.found), self._reading.counts["no box"]):
            return
        for key, value in data.items():
            name = folded(key)
            if name in OTHER_KEYS:
                self._reading.counts["not two-dimensional"] += name == "bbox3d"
            elif name in BOX_KEYS | POINT_KEYS | PLACE_KEYS | set(SIDES) and (value is None or value == []):
                self._empty = True
            elif isinstance(value, list) and value and is_bare(value):
                self._by_name.append((value, key))
            elif name not in LABEL_KEYS or isinstance(value, dict | list):
                self._inside(value, own or ([] if name in CONTAINER_KEYS else [key]), texts)

    def _place(self, keyed: dict[str, Any], names: Sequence[str]) -> None:
        """Take the coordinates of one object."""
        boxes = [key for key in keyed if key in BOX_KEYS]
        points = [key for key in keyed if key in POINT_KEYS]
        sides = [key for key in keyed if key in SIDES]
        if boxes and (self._wanted == "boxes" or not points):
            for key in boxes:
                self._boxes(keyed[key], names)
            return
        if sides:
            self._reading.add_points([(x, y, SIDES[key]) for key in sides for x, y, _ in pairs(keyed[key])], names)
        for key in points:
            if not self._points(pairs(keyed[key]), keyed.get("labels"), names):
                self._boxes(keyed[key], names)
        for key in (key for key in keyed if key in PLACE_KEYS):
            if len(spots := pairs(keyed[key])) == 1:
                self._points(spots, None, names)
            else:
                self._listed(keyed[key], names)
        corners = corners_of(keyed)
        if corners is not None:
            self._reading.add_box(corners, names)
        elif "x" in keyed:
            self._points(pairs(keyed), None, names)

    def _points(self, spots: list[Spot], labels: Any, names: Sequence[str]) -> bool:
        """Points of one object each, or all of one where no picture was sent; whether there are any."""
        if isinstance(labels, list) and len(labels) == len(spots):
            spots = [(x, y, int(label != 0)) for (x, y, _), label in zip(spots, labels, strict=True)]
        for group in [spots] if self._blind else [[one] for one in spots]:
            self._reading.add_points(group, names)
        return bool(spots)

    def _listed(self, value: Any, names: Sequence[str], off: bool = False) -> None:
        """What no key says: points or boxes, as they were wanted, if the numbers allow it."""
        spots = pairs(value)
        if spots and self._wanted == "points":
            self._points([(x, y, 0 if off else label) for x, y, label in spots], None, names)
        else:
            self._boxes(value, names)

    def _boxes(self, value: Any, names: Sequence[str]) -> None:
        """Boxes: of four numbers, of more than one such, of two corners, of four corners."""
        if isinstance(value, str):
            value = numbers_in(_TAGS.sub(" ", value))
        if isinstance(value, dict):
            value = corners_of({folded(key): one for key, one in value.items()})
        if not isinstance(value, list) or not value:
            return
        if all(isinstance(one, str) for one in value):
            value = [number for one in value for number in numbers_in(one)]
        if all(map(is_number, value)):
            self._quadruples(value, names)
        elif len(value) in (2, 4) and len(pairs(value)) == len(value):
            if not isinstance(value, Cut):  # there may have been more corners
                xs, ys = zip(*((x, y) for x, y, _ in pairs(value)), strict=True)
                self._reading.add_box([min(xs), min(ys), max(xs), max(ys)], names)
        else:
            for one in value:
                if isinstance(one, dict):
                    self._object(one, names, _DEEPEST)
                elif isinstance(one, list) and len(one) in (4, 5):
                    self._boxes(one, names)

    def _quadruples(self, numbers: list[float], names: Sequence[str]) -> None:
        if len(numbers) == 5 and 0 < numbers[4] < 1:
            numbers = numbers[:4]  # the fifth is a score
        if len(numbers) % 4:
            self._reading.counts["no box"] += 1
        else:
            for start in range(0, len(numbers), 4):
                self._reading.add_box(numbers[start : start + 4], names)

    def _join(self) -> None:
        found = self._reading.found
        points = tuple(point for one in found for point in one.points)
        if points:
            names = next((one.names for one in found if one.names), ())
            found[:] = [*(one for one in found if one.box is not None), Found(names, points=points)]


def _is_flat(data: Any) -> bool:
    """Whether it is a list of words and numbers: brackets in prose."""
    return isinstance(data, list) and not all(isinstance(one, list) for one in data) and not _holds_objects(data)


def _holds_objects(data: list[Any]) -> bool:
    return any(isinstance(one, dict) for one in data)
