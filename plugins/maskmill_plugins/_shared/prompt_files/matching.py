"""Matching of image names in a file with the images of a dataset: by path, then by a unique file name.

Nothing is guessed: if several names match equally well, none is used, and this is reported.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from maskmill.decoding.formats import SUFFIXES
from maskmill.images import KeySample, fold_key, normalize_key
from maskmill.wording import count_noun

#: How many names a message lists.
MAX_EXAMPLES = 5


def normalize_path(name: str) -> str:
    """A path in the form used for comparison: `/` between folders, no leading `./`, letters as in `fold_key`."""
    text = fold_key(name).replace("\\", "/")
    while text.startswith("./"):
        text = text[2:]
    return text.strip("/")


def file_name(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def strip_image_suffix(path: str) -> str:
    """A path without the suffix of an image file, if it has one; other dots are part of the name."""
    stem, dot, ending = path.rpartition(".")
    return stem if dot and f".{ending.lower()}" in SUFFIXES and not stem.endswith("/") else path


def _file_stem(path: str) -> str:
    return file_name(strip_image_suffix(path))


class _HashTable:
    """Finds the numbers of names by the hash of a property, in 16 bytes per name."""

    def __init__(self, hashes: array[int]) -> None:
        values = np.frombuffer(hashes, dtype=np.int64) if len(hashes) else np.zeros(0, np.int64)
        self._order = np.argsort(values, kind="stable")
        self._sorted = values[self._order]

    def find(self, text: str) -> list[int]:
        first, last = (np.searchsorted(self._sorted, hash(text), side) for side in ("left", "right"))
        return [int(number) for number in self._order[first:last]]


class Matcher:
    """Finds the name that refers to an image; the names take about 70 bytes each.

    It compares, in this order: the path; the file name; the file name without the suffix of an image
    file. If several names match, those are preferred whose path ends with the image's path or the
    other way round (`val/a.jpg` and `images/val/a.jpg`).

    Args:
        names: paths as written in an annotation file, with or without suffix; a backslash counts as `/`.
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
        """The number of names, duplicates included."""
        return len(self._ends) - 1

    def name(self, number: int) -> str:
        """The name with this number, counted from 0."""
        return self._blob[self._ends[number] : self._ends[number + 1]].decode("utf-8", "surrogatepass")

    def find(self, key: str) -> str | None:
        """The name that refers to this image; None if there is none, or several `candidates`."""
        found = self.candidates(key)
        return found[0] if len(found) == 1 else None

    def candidates(self, key: str) -> tuple[str, ...]:
        """The names that match this image equally well: none, the one that `find` returns, or several."""
        return tuple(self.name(number) for number in self.numbers(key)[0])

    def numbers(self, key: str) -> tuple[list[int], bool]:
        """The numbers of the candidates, and whether their path is exactly that of the image."""
        path = normalize_path(key)
        same = self._find_exact(self._paths, path, normalize_path)
        if same:
            return self._closest(same, key), True
        named = self._find_exact(self._names, file_name(path), lambda name: file_name(normalize_path(name)))
        if named:
            return self._nearest(named, path, normalize_path), False
        stems = self._find_exact(self._stems, _file_stem(path), lambda name: _file_stem(normalize_path(name)))
        return self._nearest(
            stems, strip_image_suffix(path), lambda name: strip_image_suffix(normalize_path(name))
        ), False

    def _closest(self, numbers: list[int], key: str) -> list[int]:
        """Of names of one path: that of the same text, or those of the same letters, or all, which differ by case."""
        written = [number for number in numbers if self.name(number) == key]
        return written or [n for n in numbers if normalize_key(self.name(n)) == normalize_key(key)] or numbers

    def _find_exact(self, table: _HashTable, text: str, of: Callable[[str], str]) -> list[int]:
        """The numbers of the names with this property, each name once."""
        found: dict[str, int] = {}
        for number in table.find(text):
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
    """A count, and the first few texts as examples."""

    #: Number of texts that are kept.
    limit: ClassVar[int] = MAX_EXAMPLES

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count a text."""
        self.count += 1
        if len(self.first) < self.limit:
            self.first.append(text)

    def __str__(self) -> str:
        return self.describe(str)

    def describe(self, name: Callable[[str], str]) -> str:
        """The examples, each as `name` puts it."""
        more = ", ..." if self.count > len(self.first) else ""
        return f"{', '.join(map(name, self.first))}{more}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"count": self.count, "first": list(self.first)}


class Matching:
    """The names of a file matched with the images of a dataset.

    A name that several images match, none of them with exactly its path, refers to none of them.

    Args:
        matcher: the names.
        keys: of all images; read once.

    Attributes:
        images: number of images.
        blocked: name that must not be used for an image without exactly its path -> the images that
            match it equally well, () if an image has exactly its path.
        unmatched_images: images that no name refers to.
        ambiguous: images that several names match, with these names.
        unmatched_names: names that refer to no image.
    """

    def __init__(self, matcher: Matcher, keys: Iterable[str]) -> None:
        self._matcher = matcher
        self.images = 0
        self.unmatched_images, self.ambiguous, self.unmatched_names = Examples(), Examples(), Examples()
        self._taken: npt.NDArray[np.bool_] = np.zeros(len(matcher), dtype=np.bool_)
        self._keys: dict[int, str] = {}
        self._several: dict[int, list[str]] = {}
        self._ambiguous_names: dict[int, str] = {}
        self._sample = KeySample()
        for key in keys:
            self._add(key)
        self.blocked = self._find_blocked()
        self._find_unmatched_names()

    def _add(self, key: str) -> None:
        self.images += 1
        self._sample.add(key)
        numbers, exact = self._matcher.numbers(key)
        if not numbers:
            self.unmatched_images.add(key)
        elif len(numbers) > 1:
            self.ambiguous.add(f"{key} (matches {', '.join(map(self._matcher.name, numbers[:MAX_EXAMPLES]))})")
            self._ambiguous_names.update(dict.fromkeys(numbers, key))
        elif exact:
            self._taken[numbers[0]] = True
            if key != self._matcher.name(numbers[0]):
                self._keys[numbers[0]] = key
        elif numbers[0] in self._several:
            self._several[numbers[0]].append(key)
        else:
            self._several[numbers[0]] = [key]

    def _find_blocked(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for number, keys in self._several.items():
            if self._taken[number]:
                found[self._matcher.name(number)] = ()
                for key in keys:
                    self.unmatched_images.add(key)
            elif len(keys) > 1:
                found[self._matcher.name(number)] = tuple(keys[:MAX_EXAMPLES])
                for key in keys:
                    self.ambiguous.add(f"{key} (like {', '.join([k for k in keys if k != key][:MAX_EXAMPLES])})")
            else:
                self._keys[number] = keys[0]
        return found

    def _find_unmatched_names(self) -> None:
        seen: set[int] = set()
        for number in range(len(self._matcher)):
            name = self._matcher.name(number)
            if not self._taken[number] and number not in self._keys and hash(name) not in seen:
                seen.add(hash(name))
                if self.key_of(name) is None:
                    self.unmatched_names.add(name)

    def key_of(self, name: str) -> str | None:
        """The image that a name refers to, or None."""
        for number in self._numbers_of(name):
            if number in self._keys:
                return self._keys[number]
            if self._taken[number]:
                return name
        return None

    def explain(self, name: str) -> str:
        """Why a name refers to no image."""
        if several := self.blocked.get(name):
            return f"several images of the dataset match it: {', '.join(several)}"
        for number in self._numbers_of(name):
            if number in self._ambiguous_names:
                return f"the image {self._ambiguous_names[number]} matches it and other names in this file"
        return "no image of the dataset has this name"

    def _numbers_of(self, name: str) -> Iterator[int]:
        """All numbers of a name, which may occur twice."""
        for number in self._matcher._paths.find(normalize_path(name)):
            if self._matcher.name(number) == name:
                yield number

    def warnings(self, what: str) -> list[str]:
        """A line for each kind of image or name without a match.

        Args:
            what: the name of the file.
        """
        lines = []
        if self.unmatched_names.count:
            named = self.unmatched_names.describe(self._sample.suggest)
            many = f"{self.unmatched_names.count:,} of the images in {what} {_are(self.unmatched_names)}"
            lines.append(f"{many} not in the dataset: {named}")
        if self.unmatched_images.count:
            many = f"{self.unmatched_images.count:,} of {count_noun(self.images, 'image')}"
            lines.append(f"{many} {_are(self.unmatched_images)} not in {what}: {self.unmatched_images}")
        if self.ambiguous.count:
            many = count_noun(self.ambiguous.count, "image matches", "images match")
            lines.append(f"{many} {what} ambiguously, and is not used: {self.ambiguous}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data for `run.json`."""
        return {
            "images": self.images,
            "images not in the file": self.unmatched_images.to_json(),
            "images that fit several": self.ambiguous.to_json(),
            "in the file, not in the dataset": self.unmatched_names.to_json(),
        }


def find_name(matcher: Matcher, key: str, blocked: Mapping[str, Sequence[str]]) -> tuple[str | None, str]:
    """The name that refers to an image, or the reason why matching names cannot be used ("" if none match).

    Args:
        matcher: the names.
        key: of the image.
        blocked: of a `Matching` with all images; {} if they are not known.
    """
    numbers, exact = matcher.numbers(key)
    if not numbers:
        return None, ""
    names = [matcher.name(number) for number in numbers]
    if len(names) > 1:
        return None, f"several of its image names match equally well: {', '.join(names[:MAX_EXAMPLES])}"
    if exact or names[0] not in blocked:
        return names[0], ""
    others = [other for other in blocked[names[0]] if other != key]
    return None, f"{names[0]} matches {', '.join([key, *others])} equally well" if others else ""


def _are(names: Examples) -> str:
    return "is" if names.count == 1 else "are"
