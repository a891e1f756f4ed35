"""Entries of a dataset that are addresses of object storage: a prefix, a pattern below one, or a single object."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..decoding.formats import SUFFIXES, left_out_suffixes, readable_suffixes
from ..errors import DatasetError, Problem, UsageError
from ..images import ImageRef
from ..storage import check_packages, hide_query, is_bucket, list_objects, split_address, stat
from .lists import READERS
from .walk import ALL, Pattern

_WILDCARD = re.compile(r"[*?[]")


@dataclass(frozen=True, slots=True)
class BucketEntry:
    """One entry of a dataset.

    Attributes:
        number: its position in the dataset, from 1.
        text: as the user wrote it.
        address: of the folder, or of the single image.
        pattern: which objects below it; None for a single image.
    """

    is_list: ClassVar[bool] = False

    number: int
    text: str
    address: str
    pattern: tuple[str, ...] | None

    def describe_place(self, line: int) -> str:
        """Where one of its images is listed, for messages."""
        return f"entry {self.number} of the dataset ({self.text})"

    @classmethod
    def parse(cls, number: int, text: str) -> BucketEntry:
        """The entry that an address means.

        Raises:
            DatasetError: it is on the web, where nothing can be listed, or the package for it is missing.
        """
        if not is_bucket(text):
            what = f"'{hide_query(text)}' is on the web, where a folder cannot be listed"
            hint = "name its images in a list (.txt, .csv, .jsonl), one address a line"
            raise DatasetError(Problem(what, hint=hint))
        if problems := check_packages():
            raise DatasetError(*problems)
        root, path = split_address(text)
        if root.endswith("://"):
            raise DatasetError(Problem(f"'{text}' names no bucket", hint=f"write {root}BUCKET/FOLDER"))
        suffix = posixpath.splitext(path)[1].lower()
        if suffix in READERS:
            what = f"'{text}': a list of images is read from this machine"
            raise DatasetError(Problem(what, hint="copy the list here; its rows may be addresses"))
        parts = path.split("/")
        first = next((place for place, part in enumerate(parts) if _WILDCARD.search(part)), None)
        if first is not None:
            return cls(number, text, "/".join([root, *parts[:first]]), tuple(parts[first:]))
        address = f"{root}/{path}" if path else root
        return cls(number, text, address, None if suffix in SUFFIXES else ALL)

    def list_images(self, left_out: Counter[str]) -> Iterator[ImageRef]:
        """The images in the order of their names; hidden ones are skipped, as in a folder.

        Args:
            left_out: receives the objects that look like images and cannot be read, counted by their endings.

        Raises:
            DatasetError: the bucket does not exist, cannot be reached, or may not be listed.
        """
        if self.pattern is None:
            yield ImageRef(self.address, posixpath.basename(self.address), self._find_single())
            return
        pattern, readable, unreadable = Pattern(self.pattern), readable_suffixes(), left_out_suffixes()
        try:
            for path, state in list_objects(self.address):
                ending = posixpath.splitext(path)[1].lower()
                if ending not in readable and ending not in unreadable:
                    continue
                if not _fits(pattern, path):
                    continue
                if ending in unreadable:
                    left_out[ending] += 1
                if ending in readable:
                    yield ImageRef(f"{self.address}/{path}", path, state)
        except DatasetError:
            raise
        except UsageError as error:
            raise DatasetError(*error.problems) from None

    def locate(self, key: str) -> ImageRef:
        """The image of a key, which was listed once."""
        return ImageRef(self.address if self.pattern is None else f"{self.address}/{key}", key)

    def _find_single(self) -> tuple[int, int] | None:
        try:
            return stat(self.address)
        except Exception:  # reported when it is read, as a file that is missing
            return None


def _fits(pattern: Pattern, path: str) -> bool:
    places = pattern.start
    for part in path.split("/"):
        if pattern.end in places and len(places) == 1:
            return False
        places = pattern.step(places, part)
        if not places:
            return False
    return pattern.end in places
