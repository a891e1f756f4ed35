"""From JSON-like values to the objects they describe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .bare_lists import classify_list
from .json_keys import (
    CENTER_KEYS,
    LABEL_KEYS,
    SIDES,
    Kind,
    classify_key,
    find_corners,
    find_name_lists,
    find_names,
    has_size,
    is_bare,
    normalize_key,
    read_number,
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
        self._by_key: list[tuple[list[Any], str]] = []
        self._labeled: list[tuple[list[Any], list[str]]] = []
        self._empty = False
        self._answered = False
        self._beside = 0

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
        if not (self._parsed.found or self._parsed.refused or self._answered):
            self._collect_unknown_keys()
        if self._answered and not self._parsed.found:
            self._parsed.counts["under an unknown key"] += self._beside + len(self._by_key) + len(self._labeled)
        if self._blind and self._wanted == "points":
            self._join_points()
        return bool(self._parsed.found) or self._empty

    def _collect_unknown_keys(self) -> None:
        """Collect the lists of numbers under unknown keys, which are labels, unless the objects have labels."""
        if self._by_key and self._parsed.truncated and all(map(is_number, self._by_key[-1][0])):
            self._by_key[-1] = (self._by_key[-1][0], "")  # the label may have been cut off
        for one, names in self._labeled or [(one, [key]) for one, key in self._by_key]:
            self._collect_list(one, names)

    def _collect_bare(self, value: Value, since: int, text: str, prose: bool) -> None:
        context = classify_list(value, since, text, prose, self._blind and self._wanted == "boxes")
        if not context.is_answer:
            return
        self._note_empty(value.data)
        self._collect_list(value.data, [context.name], off=context.off_object)

    def _note_empty(self, data: Any) -> None:
        """Note an empty list that stands for the whole answer."""
        self._empty |= not data
        self._answered |= not data

    def _collect_nested(self, data: Any, names: Sequence[str], texts: int = 0) -> None:
        """Collect objects at any depth; an empty list in the place of objects is an answer, too."""
        if isinstance(data, list):
            if not data:
                self._empty = True
            if not self._collect_row(data):
                for one in data:
                    self._collect_nested(one, names, texts)
        elif isinstance(data, dict):
            self._collect_object(data, names, texts)
        elif isinstance(data, str) and texts < _MAX_DEPTH and data.lstrip()[:1] in ("[", "{", "`"):
            scanned = scan_text(data)
            self._parsed.truncated |= scanned.truncated
            for value in scanned.values:
                if isinstance(value.data, list) and value.data and is_bare(value.data):
                    self._by_key.append((value.data, ""))
                else:
                    self._collect_nested(value.data, names, texts + 1)

    def _collect_row(self, data: list[Any]) -> bool:
        """Collect a row of a name and numbers, or a name and a list of them; return whether it is one.

        The name stands first or last; only after the numbers may there be other texts, such as a color.
        """
        if isinstance(data, TruncatedList) or any(isinstance(one, dict) for one in data):
            return False
        texts = [index for index, one in enumerate(data) if isinstance(one, str)]
        numbers = [one for one in data if not isinstance(one, str)]
        if not texts or not numbers or (texts != [len(data) - 1] and texts[0] != 0):
            return False
        if any(index <= len(numbers) for index in texts[1:]):
            return False  # texts between the numbers
        if len(numbers) == 1 and isinstance(numbers[0], list):
            numbers = numbers[0]
        if len(numbers) not in (2, 4, 5) or not all(map(is_number, numbers)):
            return False
        if len(numbers) == 5 and not 0 < numbers[4] < 1:
            return False  # not a score
        self._collect_list(numbers, [data[texts[0]]])
        return True

    def _collect_object(self, data: dict[str, Any], names: Sequence[str], texts: int) -> None:
        """Collect an object with coordinates of its own, or the objects in it."""
        keyed = {normalize_key(key): value for key, value in data.items()}
        kinds = {key: classify_key(key) for key in data}
        own = find_names(keyed) or _find_list_of(1, find_name_lists(keyed)) or []
        before = len(self._parsed.found), self._parsed.refused
        self._collect_coordinates(data, keyed, own or names)
        if before != (len(self._parsed.found), self._parsed.refused):
            return
        beside = any(isinstance(data[key], list) and kinds[key] in ("box", "point", "container") for key in data)
        for key, value in data.items():
            kind = kinds[key]
            if kind == "other":
                self._parsed.counts["not two-dimensional"] += normalize_key(key) == "bbox3d"
            elif kind != "unknown" and (value == [] or (value is None and kind != "container")):
                self._note_empty(value)
            elif isinstance(value, list) and value and is_bare(value):
                if kind == "container":
                    self._collect_list(value, own or names)
                elif own:
                    self._labeled.append((value, own))
                elif not beside:
                    self._by_key.append((value, key))
                else:
                    self._beside += 1
            elif normalize_key(key) not in LABEL_KEYS or isinstance(value, dict | list):
                self._collect_nested(value, own or names or ([] if kind != "unknown" else [key]), texts)

    def _collect_coordinates(self, data: dict[str, Any], keyed: dict[str, Any], names: Sequence[str]) -> None:
        """Collect the coordinates of one object."""
        kinds = {normalize_key(key): classify_key(key) for key in data}
        boxes = [key for key in keyed if kinds[key] == "box" and keyed[key] not in (None, [])]
        points = [key for key in keyed if kinds[key] == "point" and keyed[key] not in (None, [])]
        sides = [key for key in keyed if kinds[key] == "side"]
        lists = find_name_lists(keyed)
        if boxes and (self._wanted == "boxes" or not points):
            for key in boxes:
                self._collect_named_boxes(keyed[key], names, lists, keyed)
            return
        if sides:
            self._parsed.add_points([(x, y, SIDES[key]) for key in sides for x, y, _ in read_points(keyed[key])], names)
        for key in points:
            self._collect_point_key(key, keyed, names, lists)
        if not points and self._refuse_sizes(keyed, kinds):
            return
        for key in (key for key in keyed if kinds[key] == "place"):
            if len(pairs := read_points(keyed[key])) == 1:
                self._collect_points(pairs, None, names)
            else:
                self._collect_list(keyed[key], names)
        corners = find_corners(keyed)
        if corners is not None:
            self._parsed.add_box(corners, names, certain=True)
        elif "x" in keyed and not points:
            self._collect_points(read_points(keyed), None, names)

    def _refuse_sizes(self, keyed: dict[str, Any], kinds: dict[str, Kind]) -> bool:
        """Count an object whose keys say width and height, or another order of the sides; return whether it is one."""
        if find_corners(keyed) is not None:
            return False
        for kind, count in (("sized box", "width and height"), ("reordered box", "another order")):
            values = [keyed[key] for key in keyed if kinds[key] == kind and isinstance(keyed[key], list | dict)]
            if values := [value for value in values if value]:
                self._parsed.counts[count] += max(1, sum(isinstance(one, list | dict) for one in values[0]))
                return True
        if has_size(keyed):
            self._parsed.counts["width and height"] += 1
            return True
        return False

    def _collect_point_key(
        self, key: str, keyed: dict[str, Any], names: Sequence[str], lists: Sequence[list[str]]
    ) -> None:
        """Collect the points under a known key; a lone x has its y under a key of its own."""
        value = keyed[key]
        lone = value[0] if isinstance(value, list) and len(value) == 1 else value
        x, y = read_number(lone), read_number(keyed.get("y"))
        if is_number(x) and is_number(y):
            self._collect_points([(x, y, 1)], None, names)
            return
        pairs = read_points(value)
        if len(pairs) > 1 and not self._blind and (own := _find_list_of(len(pairs), lists)):
            for pair, name in zip(pairs, own, strict=True):
                self._collect_points([pair], None, [name])
        elif not self._collect_points(pairs, keyed.get("labels"), names):
            if key in CENTER_KEYS:
                self._parsed.counts["no point"] += 1
            else:
                self._collect_boxes(value, names)

    def _collect_named_boxes(
        self, value: Any, names: Sequence[str], lists: Sequence[list[str]], keyed: dict[str, Any]
    ) -> None:
        """Collect the boxes under a known key, each with its own name if there are as many names."""
        size = [keyed.get("width", keyed.get("w")), keyed.get("height", keyed.get("h"))]
        if isinstance(value, list) and len(value) == 4 and all(map(is_number, value)) and value[2:] == size:
            self._parsed.counts["width and height"] += 1
        elif not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, list | dict) for one in value):
            self._collect_boxes(value, names)
        elif len(read_points(value)) == len(value):
            self._collect_boxes(value, names)  # the corners of one box
        elif own := _find_list_of(len(value), lists):
            for one, name in zip(value, own, strict=True):
                self._collect_boxes(one, [name])
        elif lists:
            self._collect_boxes(value, [])  # more or fewer names than boxes: whose are they?
        else:
            self._collect_boxes(value, names)

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
            self._collect_sides(value, names)
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
                elif isinstance(one, list):
                    self._parsed.counts["no box"] += 1

    def _collect_sides(self, value: dict[str, Any], names: Sequence[str]) -> None:
        """Collect a box with a key for each side or corner; only count one with a width and a height."""
        keyed = {normalize_key(key): one for key, one in value.items()}
        corners = find_corners(keyed)
        if corners is not None:
            self._parsed.add_box(corners, names, certain=True)
        elif has_size(keyed):
            self._parsed.counts["width and height"] += 1

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


def _find_list_of(count: int, lists: Sequence[list[str]]) -> list[str] | None:
    """Return the list of so many names, None if there is none; names that were cut off are ""."""
    for names in lists:
        if len(names) == count or (isinstance(names, TruncatedList) and len(names) < count):
            return [*names, *[""] * (count - len(names))]
    return None


def _is_flat(data: Any) -> bool:
    """Return whether it is a list of words and numbers: brackets in prose."""
    if not isinstance(data, list) or any(isinstance(one, dict) for one in data):
        return False
    return not all(isinstance(one, list) for one in data)
