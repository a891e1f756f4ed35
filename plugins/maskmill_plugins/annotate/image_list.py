"""The images of the dataset in their order, with what the prompts file says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from maskmill import ImageRef

from .prompts_file import Line

#: What the list tells images apart by.
STATUSES = ("todo", "done", "empty", "rejected", "failed")


@dataclass(frozen=True)
class Listing:
    """Part of the images.

    Attributes:
        total: how many fit what was asked.
        counts: of all images, by status.
        items: those of the page that was asked for.
    """

    total: int
    counts: dict[str, int]
    items: list[dict[str, Any]]


@dataclass
class Index:
    """Every image, by number and by key.

    Attributes:
        refs: in the dataset's order.
        failed: why an image could not be read, by key.
    """

    refs: list[ImageRef]
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._number = {ref.key: number for number, ref in enumerate(self.refs)}
        self._folded = [ref.key.casefold() for ref in self.refs]

    @classmethod
    def of(cls, refs: Iterable[ImageRef]) -> Index:
        """The index of a dataset, listed now."""
        return cls(list(refs))

    def __len__(self) -> int:
        return len(self.refs)

    def number(self, key: str) -> int | None:
        """The image's number from 0; None if the dataset has no such image."""
        return self._number.get(key)

    def status(self, key: str, lines: Mapping[str, Line]) -> str:
        """One of `STATUSES`."""
        if key in self.failed:
            return "failed"
        line = lines.get(key)
        return "todo" if line is None else line.status

    def listing(self, lines: Mapping[str, Line], offset: int, limit: int, search: str, status: str) -> Listing:
        """The images whose key has `search` in it, in upper or lower case, and that have this status.

        Args:
            lines: what the prompts file says.
            offset: images that fit and are passed over.
            limit: images at most.
            search: "" for all.
            status: "" for all.
        """
        counts = dict.fromkeys(STATUSES, 0)
        fitting: list[tuple[int, str]] = []
        for number, ref in enumerate(self.refs):
            state = self.status(ref.key, lines)
            counts[state] += 1
            if self._fits(number, state, search, status):
                fitting.append((number, state))
        items = [self._item(number, state, lines) for number, state in fitting[offset : offset + limit]]
        return Listing(len(fitting), counts, items)

    def beside(
        self, lines: Mapping[str, Line], number: int, search: str = "", status: str = ""
    ) -> tuple[str | None, str | None]:
        """The keys of the nearest images before and after one that a `listing` of the same arguments would have."""

        def nearest(numbers: Iterable[int]) -> str | None:
            keys = ((at, self.refs[at].key) for at in numbers)
            return next((key for at, key in keys if self._fits(at, self.status(key, lines), search, status)), None)

        return nearest(range(number - 1, -1, -1)), nearest(range(number + 1, len(self.refs)))

    def _fits(self, number: int, state: str, search: str, status: str) -> bool:
        return (not status or state == status) and search.casefold() in self._folded[number]

    def _item(self, number: int, status: str, lines: Mapping[str, Line]) -> dict[str, Any]:
        key = self.refs[number].key
        line = lines.get(key)
        return {"key": key, "index": number, "status": status, "objects": line.objects if line else 0}
