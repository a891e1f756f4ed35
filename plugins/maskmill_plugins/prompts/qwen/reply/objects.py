"""From JSON-like values to the objects they describe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .bare_lists import classify_list
from .json_keys import (
    BOX_KEYS,
    CONTAINER_KEYS,
    LABEL_KEYS,
    OTHER_KEYS,
    PLACE_KEYS,
    POINT_KEYS,
    SIDES,
    find_corners,
    find_names,
    is_bare,
    normalize_key,
    read_points,
)
from .parsed_reply import FoundObject, LabeledPoint, ParsedReply, Wanted, is_number
from .scan import ScannedText, TruncatedList, Value, scan_text
from .tags import read_numbers

#: Maximum nesting of JSON in strings of JSON.
_MAX_DEPTH = 3
_TAGS = re.compile(r"</?\w{1,9}>|<\|\w{1,20}\|>")


class ObjectCollector:
    """Collects the objects from the values of one reply.

    Args:
        wanted: what was asked for; decides what two pairs of numbers without a key are.
        blind: no image was sent: all points belong to one object.
        parsed: receives the objects.
    """

    def __init__(self, wanted: Wanted, blind: bool, parsed: ParsedReply) -> None:
        self._wanted = wanted
        self._blind = blind
        self._parsed = parsed
        self._by_name: list[tuple[list[Any], str]] = []
        self._empty = False

    def collect(self, text: str, scanned: ScannedText) -> bool:
        """Collect all objects of a scanned text; return whether there is an answer."""
        since = 0
        for value in scanned.values:
            if isinstance(value.data, list) and is_bare(value.data):
                self._collect_bare(value, since, text, scanned.prose)
            elif not value.data:
                self._empty |= not scanned.prose
            elif not (scanned.prose and _is_flat(value.data)):
                self._collect_nested(value.data, [])
            since = value.end
        if not self._parsed.found:  # no known key: use the lists of numbers under other keys, which are labels
            for one, name in self._by_name:
                self._collect_list(one, [name])
        if self._blind and self._wanted == "points":
            self._join_points()
        return bool(self._parsed.found) or self._empty

    def _collect_bare(self, value: Value, since: int, text: str, prose: bool) -> None:
        context = classify_list(value, since, text, prose, self._blind and self._wanted == "boxes")
        if not context.is_answer:
            return
        self._empty |= not value.data
        self._collect_list(value.data, [context.name], off=context.off_object)

    def _collect_nested(self, data: Any, names: Sequence[str], texts: int = 0) -> None:
        """Collect objects at any depth; an empty list in the place of objects is an answer, too."""
        if isinstance(data, list):
            self._empty |= not data
            if not self._collect_row(data):
                for one in data:
                    self._collect_nested(one, names, texts)
        elif isinstance(data, dict):
            self._collect_object(data, names, texts)
        elif isinstance(data, str) and texts < _MAX_DEPTH and data.lstrip()[:1] in ("[", "{", "`"):
            for value in scan_text(data).values:
                if isinstance(value.data, list) and value.data and is_bare(value.data):
                    self._by_name.append((value.data, ""))
                else:
                    self._collect_nested(value.data, names, texts + 1)

    def _collect_row(self, data: list[Any]) -> bool:
        """Collect a list of one name and of numbers, or of one name and a list of them; return whether it is one."""
        names = [one for one in data if isinstance(one, str)]
        rest = [one for one in data if not isinstance(one, str)]
        if len(names) != 1 or isinstance(data, TruncatedList):
            return False
        numbers = rest[0] if len(rest) == 1 and isinstance(rest[0], list) else rest
        if len(numbers) not in (2, 4) or not all(map(is_number, numbers)):
            return False
        self._collect_list(numbers, names)
        return True

    def _collect_object(self, data: dict[str, Any], names: Sequence[str], texts: int) -> None:
        """Collect an object with coordinates of its own, or the objects in it."""
        keyed = {normalize_key(key): value for key, value in data.items()}
        own = find_names(keyed) or names
        before = len(self._parsed.found), self._parsed.counts["no box"]
        self._collect_coordinates(keyed, own)
        if before != (len(self._parsed.found), self._parsed.counts["no box"]):
            return
        for key, value in data.items():
            name = normalize_key(key)
            if name in OTHER_KEYS:
                self._parsed.counts["not two-dimensional"] += name == "bbox3d"
            elif name in BOX_KEYS | POINT_KEYS | PLACE_KEYS | set(SIDES) and (value is None or value == []):
                self._empty = True
            elif isinstance(value, list) and value and is_bare(value):
                self._by_name.append((value, key))
            elif name not in LABEL_KEYS or isinstance(value, dict | list):
                self._collect_nested(value, own or ([] if name in CONTAINER_KEYS else [key]), texts)

    def _collect_coordinates(self, keyed: dict[str, Any], names: Sequence[str]) -> None:
        """Collect the coordinates of one object."""
        boxes = [key for key in keyed if key in BOX_KEYS]
        points = [key for key in keyed if key in POINT_KEYS]
        sides = [key for key in keyed if key in SIDES]
        if boxes and (self._wanted == "boxes" or not points):
            for key in boxes:
                self._collect_boxes(keyed[key], names)
            return
        if sides:
            self._parsed.add_points([(x, y, SIDES[key]) for key in sides for x, y, _ in read_points(keyed[key])], names)
        for key in points:
            if not self._collect_points(read_points(keyed[key]), keyed.get("labels"), names):
                self._collect_boxes(keyed[key], names)
        for key in (key for key in keyed if key in PLACE_KEYS):
            if len(pairs := read_points(keyed[key])) == 1:
                self._collect_points(pairs, None, names)
            else:
                self._collect_list(keyed[key], names)
        corners = find_corners(keyed)
        if corners is not None:
            self._parsed.add_box(corners, names)
        elif "x" in keyed:
            self._collect_points(read_points(keyed), None, names)

    def _collect_points(self, pairs: list[LabeledPoint], labels: Any, names: Sequence[str]) -> bool:
        """Collect points of one object each, or of one object if no image was sent; return whether there are any."""
        if isinstance(labels, list) and len(labels) == len(pairs):
            pairs = [(x, y, int(label != 0)) for (x, y, _), label in zip(pairs, labels, strict=True)]
        for group in [pairs] if self._blind else [[one] for one in pairs]:
            self._parsed.add_points(group, names)
        return bool(pairs)

    def _collect_list(self, value: Any, names: Sequence[str], off: bool = False) -> None:
        """Collect points or boxes without a known key, as they were asked for, if the numbers allow it."""
        pairs = read_points(value)
        if pairs and self._wanted == "points":
            self._collect_points([(x, y, 0 if off else label) for x, y, label in pairs], None, names)
        else:
            self._collect_boxes(value, names)

    def _collect_boxes(self, value: Any, names: Sequence[str]) -> None:
        """Collect boxes of four numbers (one or more), of two corners, or of four corners."""
        if isinstance(value, str):
            value = read_numbers(_TAGS.sub(" ", value))
        if isinstance(value, dict):
            value = find_corners({normalize_key(key): one for key, one in value.items()})
        if not isinstance(value, list) or not value:
            return
        if all(isinstance(one, str) for one in value):
            value = [number for one in value for number in read_numbers(one)]
        if all(map(is_number, value)):
            self._collect_flat(value, names)
        elif len(value) in (2, 4) and len(read_points(value)) == len(value):
            if not isinstance(value, TruncatedList):  # the rest of the corners may be missing
                xs, ys = zip(*((x, y) for x, y, _ in read_points(value)), strict=True)
                self._parsed.add_box([min(xs), min(ys), max(xs), max(ys)], names)
        else:
            for one in value:
                if isinstance(one, dict):
                    self._collect_object(one, names, _MAX_DEPTH)
                elif isinstance(one, list) and len(one) in (4, 5):
                    self._collect_boxes(one, names)

    def _collect_flat(self, numbers: list[float], names: Sequence[str]) -> None:
        if len(numbers) == 5 and 0 < numbers[4] < 1:
            numbers = numbers[:4]  # the fifth is a score
        if len(numbers) % 4:
            self._parsed.counts["no box"] += 1
        else:
            for start in range(0, len(numbers), 4):
                self._parsed.add_box(numbers[start : start + 4], names)

    def _join_points(self) -> None:
        found = self._parsed.found
        points = tuple(point for one in found for point in one.points)
        if points:
            names = next((one.names for one in found if one.names), ())
            found[:] = [*(one for one in found if one.box is not None), FoundObject(names, points=points)]


def _is_flat(data: Any) -> bool:
    """Return whether it is a list of words and numbers: brackets in prose."""
    if not isinstance(data, list) or any(isinstance(one, dict) for one in data):
        return False
    return not all(isinstance(one, list) for one in data)
