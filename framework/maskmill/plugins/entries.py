"""What a writer with `finish_entries` gets: what each image adds to its files, in key order, as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from ..results import Artifact

T = TypeVar("T")
#: Goes through items, and shows meanwhile what is written and how many of how many; None if that is not known.
Track = Callable[[Iterable[Any], str, "int | None"], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What one image adds to the files of a writer.

    Attributes:
        key: the image.
        data: what the writer's `make_entry` returned for it.
        changed: False if the same data were part of the last complete writing.
    """

    key: str
    data: bytes
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Earlier:
    """The last complete writing of a writer with the same options.

    Attributes:
        memory: what the writer remembered at its end, JSON.
        find_file: the file that it made at a path below the writer's folder, None if there is none or it is gone.
    """

    memory: Any
    find_file: Callable[[str], Artifact | None]


class Entries:
    """The entries of one writer.

    Args:
        count: how many there are.
        read: goes through them in key order.
        earlier: the last complete writing; None if there is none, or its files may have changed since.
        track: see `track`.

    Attributes:
        earlier: as above.
        memory: JSON that `earlier.memory` is at the next writing; set by the writer.
    """

    def __init__(
        self,
        count: int,
        read: Callable[[], Iterator[Entry]],
        earlier: Earlier | None = None,
        track: Track | None = None,
    ) -> None:
        self._count = count
        self._read = read
        self._track = track
        self.earlier = earlier
        self.memory: Any = None

    def read(self, what: str) -> Iterator[Entry]:
        """All entries in key order, one at a time; do not collect them.

        Args:
            what: is written meanwhile, for the progress; such as the name of the file.
        """
        return self.track(self._read(), what, self._count)

    def track(self, items: Iterable[T], what: str, count: int | None = None) -> Iterator[T]:
        """The items; meanwhile the progress shows what is written, and Ctrl-C is answered.

        Args:
            items: anything that takes its time.
            what: is written meanwhile.
            count: how many there are, None if not known.
        """
        return iter(items) if self._track is None else self._track(items, what, count)
