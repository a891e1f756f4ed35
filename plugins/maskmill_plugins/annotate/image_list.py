"""The images of the dataset in order, with their status in the prompts file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from maskmill import DatasetError, ImageRef
from maskmill.images import choose_key, fold_key

from .prompts_file import LineSummary
from .wire import ImageListEntry, ImageListPage

#: By which the list can be filtered.
STATUSES = ("todo", "done", "empty", "rejected", "failed")


@dataclass
class ImageList:
    """Every image, by number and by key.

    Attributes:
        refs: in the dataset's order.
        failed: why an image could not be read, by key.
    """

    refs: list[ImageRef]
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._number = {ref.key: number for number, ref in enumerate(self.refs)}
        self._spelled: dict[str, list[str]] = {}
        for ref in self.refs:
            self._spelled.setdefault(fold_key(ref.key), []).append(ref.key)
        self._folded = [ref.key.casefold() for ref in self.refs]

    def __len__(self) -> int:
        return len(self.refs)

    def number(self, key: str) -> int | None:
        """The image's number from 0; None if the dataset has no such image."""
        return self._number.get(key)

    def find_key(self, name: str) -> str:
        """The image that a name in a prompts file means, in whatever letters; the name itself if there is none."""
        with contextlib.suppress(DatasetError):
            return choose_key(name, self._spelled.get(fold_key(name), ())) or name
        return name

    def missing(self, lines: Mapping[str, LineSummary]) -> list[str]:
        """The names in the prompts file that are no image of the dataset."""
        return [key for key in lines if key not in self._number]

    def status(self, key: str, lines: Mapping[str, LineSummary]) -> str:
        """One of `STATUSES`."""
        if key in self.failed:
            return "failed"
        line = lines.get(key)
        return "todo" if line is None else line.status

    def page(
        self, lines: Mapping[str, LineSummary], offset: int, limit: int, search: str, status: str
    ) -> ImageListPage:
        """Part of the images whose key contains `search`, ignoring case, and that have this status.

        Args:
            lines: of the prompts file.
            offset: number of matching images to skip.
            limit: images at most.
            search: "" for all.
            status: "" for all.
        """
        counts = dict.fromkeys(STATUSES, 0)
        matching: list[tuple[int, str]] = []
        for number, ref in enumerate(self.refs):
            image_status = self.status(ref.key, lines)
            counts[image_status] += 1
            if self._matches(number, image_status, search, status):
                matching.append((number, image_status))
        items = [self._entry(number, found, lines) for number, found in matching[offset : offset + limit]]
        return ImageListPage(total=len(matching), counts=counts, items=items)

    def find_neighbours(
        self, lines: Mapping[str, LineSummary], number: int, search: str = "", status: str = ""
    ) -> tuple[str | None, str | None]:
        """The keys of the nearest images before and after one that match as in `page`; None if there is none."""

        def nearest(numbers: Iterable[int]) -> str | None:
            keys = ((at, self.refs[at].key) for at in numbers)
            return next((key for at, key in keys if self._matches(at, self.status(key, lines), search, status)), None)

        return nearest(range(number - 1, -1, -1)), nearest(range(number + 1, len(self.refs)))

    def _matches(self, number: int, image_status: str, search: str, status: str) -> bool:
        return (not status or image_status == status) and search.casefold() in self._folded[number]

    def _entry(self, number: int, status: str, lines: Mapping[str, LineSummary]) -> ImageListEntry:
        key = self.refs[number].key
        line = lines.get(key)
        return ImageListEntry(key=key, index=number, status=status, objects=line.objects if line else 0)
