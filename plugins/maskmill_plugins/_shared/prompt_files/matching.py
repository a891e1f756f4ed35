"""Which annotations belong to which image: by path, then by a name that only one of them has.

Nothing is guessed: where several fit equally well, none is taken, and that is told.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from maskmill.images import SUFFIXES

#: How many names a report tells.
MAX_EXAMPLES = 5


def normalize_path(name: str) -> str:
    """A path as it is compared: `/` between folders, no `./` before it, composed characters (NFC)."""
    text = name if name.isascii() else unicodedata.normalize("NFC", name)
    text = text.replace("\\", "/")
    while text.startswith("./"):
        text = text[2:]
    return text.strip("/")


def file_name(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def strip_image_suffix(path: str) -> str:
    """A path without the ending of an image file, where it has one; other dots are part of the name."""
    stem, dot, ending = path.rpartition(".")
    return stem if dot and f".{ending.lower()}" in SUFFIXES and not stem.endswith("/") else path


def _file_stem(path: str) -> str:
    return file_name(strip_image_suffix(path))


class _HashTable:
    """Numbers of names by one property of theirs, 16 bytes a name: a hash and a number."""

    def __init__(self, hashes: array[int]) -> None:
        values = np.frombuffer(hashes, dtype=np.int64) if len(hashes) else np.zeros(0, np.int64)
        self._order = np.argsort(values, kind="stable")
        self._sorted = values[self._order]

    def of(self, text: str) -> list[int]:
        first, last = (np.searchsorted(self._sorted, hash(text), side) for side in ("left", "right"))
        return [int(number) for number in self._order[first:last]]


class Matcher:
    """Finds the name that means an image; the names are held in about 70 bytes each.

    In this order: the same path; the same file name; the same file name but for the ending of an
    image file. Where several names have it, those count whose path is the end of the other's
    (`val/a.jpg` and `images/val/a.jpg`).

    Args:
        names: paths as a file of annotations has them, with or without ending; a backslash is taken for `/`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._blob = bytearray()
        self._ends = array("q", [0])
        hashes = array("q"), array("q"), array("q")
        for name in names:
            self._blob += name.encode("utf-8", "surrogatepass")
            self._ends.append(len(self._blob))
            path = normalize_path(name)
            for values, text in zip(hashes, (path, file_name(path), _file_stem(path)), strict=True):
                values.append(hash(text))
        self._paths, self._names, self._stems = (_HashTable(values) for values in hashes)

    def __len__(self) -> int:
        """How many names there are, those given twice counted twice."""
        return len(self._ends) - 1

    def name(self, number: int) -> str:
        """The name with this number, counted from 0."""
        return self._blob[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")

    def find(self, key: str) -> str | None:
        """The one name that means this image; None if there is none, or `candidates` are several."""
        found = self.candidates(key)
        return found[0] if len(found) == 1 else None

    def candidates(self, key: str) -> tuple[str, ...]:
        """The names that fit this image equally well: none, the one that `find` gives, or several."""
        return tuple(self.name(number) for number in self.numbers(key)[0])

    def numbers(self, key: str) -> tuple[list[int], bool]:
        """The numbers of the candidates, and whether they have the very path of the image."""
        path = normalize_path(key)
        same = self._fitting(self._paths, path, normalize_path)
        if same:
            written = [number for number in same if self.name(number) == key]
            return written or same, True
        named = self._fitting(self._names, file_name(path), lambda name: file_name(normalize_path(name)))
        if named:
            return self._nearest(named, path, normalize_path), False
        stems = self._fitting(self._stems, _file_stem(path), lambda name: _file_stem(normalize_path(name)))
        return self._nearest(
            stems, strip_image_suffix(path), lambda name: strip_image_suffix(normalize_path(name))
        ), False

    def _fitting(self, table: _HashTable, text: str, of: Callable[[str], str]) -> list[int]:
        """Numbers of the names that have this property, a name that stands there twice once."""
        found: dict[str, int] = {}
        for number in table.of(text):
            name = self.name(number)
            if of(name) == text:
                found.setdefault(name, number)
        return list(found.values())

    def _nearest(self, numbers: list[int], path: str, of: Callable[[str], str]) -> list[int]:
        if len(numbers) < 2:
            return numbers
        ends = [number for number in numbers if _is_path_end(path, of(self.name(number)))]
        return ends or numbers


def _is_path_end(one: str, other: str) -> bool:
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return longer == shorter or longer.endswith(f"/{shorter}")


@dataclass
class Examples:
    """How many there are, and the first of them."""

    #: So many are kept.
    most: ClassVar[int] = MAX_EXAMPLES

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < self.most:
            self.first.append(text)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.first) else ""
        return f"{', '.join(self.first)}{more}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"count": self.count, "first": list(self.first)}


class Matching:
    """Both sides together: which image a name means, and which images and names are left alone.

    A name that several images fit without having its very path means none of them.

    Args:
        matcher: of the names.
        keys: of all images, read once.

    Attributes:
        images: how many there are.
        blocked: names that must not be taken for an image that has not their very path -> the
            images that fit equally well, () where an image has the very path.
        unknown: images that no name means.
        torn: images that several names fit, with these.
        spare: names that mean no image.
    """

    def __init__(self, matcher: Matcher, keys: Iterable[str]) -> None:
        self._matcher = matcher
        self.images = 0
        self.unknown, self.torn, self.spare = Examples(), Examples(), Examples()
        self._taken: npt.NDArray[np.bool_] = np.zeros(len(matcher), dtype=np.bool_)
        self._keys: dict[int, str] = {}
        self._several: dict[int, list[str]] = {}
        self._torn_names: dict[int, str] = {}
        for key in keys:
            self._add(key)
        self.blocked = self._blocked()
        self._count_spare()

    def _add(self, key: str) -> None:
        self.images += 1
        numbers, exact = self._matcher.numbers(key)
        if not numbers:
            self.unknown.add(key)
        elif len(numbers) > 1:
            self.torn.add(f"{key} (fits {', '.join(map(self._matcher.name, numbers[:MAX_EXAMPLES]))})")
            self._torn_names.update(dict.fromkeys(numbers, key))
        elif exact:
            self._taken[numbers[0]] = True
            if key != self._matcher.name(numbers[0]):
                self._keys[numbers[0]] = key
        elif numbers[0] in self._several:
            self._several[numbers[0]].append(key)
        else:
            self._several[numbers[0]] = [key]

    def _blocked(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for number, keys in self._several.items():
            if self._taken[number]:
                found[self._matcher.name(number)] = ()
                for key in keys:
                    self.unknown.add(key)
            elif len(keys) > 1:
                found[self._matcher.name(number)] = tuple(keys[:MAX_EXAMPLES])
                for key in keys:
                    self.torn.add(f"{key} (as {', '.join([k for k in keys if k != key][:MAX_EXAMPLES])})")
            else:
                self._keys[number] = keys[0]
        return found

    def _count_spare(self) -> None:
        seen: set[int] = set()
        for number in range(len(self._matcher)):
            name = self._matcher.name(number)
            if not self._taken[number] and number not in self._keys and hash(name) not in seen:
                seen.add(hash(name))
                if self.key_of(name) is None:
                    self.spare.add(name)

    def key_of(self, name: str) -> str | None:
        """The image that a name means, None if none."""
        for number in self._numbers_of(name):
            if number in self._keys:
                return self._keys[number]
            if self._taken[number]:
                return name
        return None

    def why(self, name: str) -> str:
        """Why a name means no image."""
        if several := self.blocked.get(name):
            return f"several images of the dataset fit it: {', '.join(several)}"
        for number in self._numbers_of(name):
            if number in self._torn_names:
                return f"the image {self._torn_names[number]} fits it, and others of this file too"
        return "no image of the dataset has this name"

    def _numbers_of(self, name: str) -> Iterator[int]:
        """All numbers of a name, which may stand there twice."""
        for number in self._matcher._paths.of(normalize_path(name)):
            if self._matcher.name(number) == name:
                yield number

    def warnings(self, what: str) -> list[str]:
        """What was left alone, a line each.

        Args:
            what: the name of the file of annotations.
        """
        lines = []
        if self.spare.count:
            lines.append(f"{self.spare.count:,} of the images in {what} are not in the dataset: {self.spare}")
        if self.unknown.count:
            lines.append(f"{self.unknown.count:,} of {self.images:,} images are not in {what}: {self.unknown}")
        if self.torn.count:
            lines.append(f"{self.torn.count:,} images fit {what} in several ways, none is taken: {self.torn}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data for `run.json`."""
        return {
            "images": self.images,
            "images not in the file": self.unknown.to_json(),
            "images that fit several": self.torn.to_json(),
            "in the file, not in the dataset": self.spare.to_json(),
        }


def find_name(matcher: Matcher, key: str, blocked: Mapping[str, Sequence[str]]) -> tuple[str | None, str]:
    """The name that means an image, and why there is none although some fit ("" where none does).

    Args:
        matcher: of the names.
        key: of the image.
        blocked: of a `Matching` with all images; {} where they are not known.
    """
    numbers, exact = matcher.numbers(key)
    if not numbers:
        return None, ""
    names = [matcher.name(number) for number in numbers]
    if len(names) > 1:
        return None, f"several of its images fit equally well: {', '.join(names[:MAX_EXAMPLES])}"
    if exact or names[0] not in blocked:
        return names[0], ""
    others = [other for other in blocked[names[0]] if other != key]
    return None, f"{names[0]} fits {', '.join([key, *others])} equally well" if others else ""
