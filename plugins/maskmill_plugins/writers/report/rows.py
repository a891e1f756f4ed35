"""The images of the gallery: a line each, the most doubtful ones where there are too many."""

from __future__ import annotations

import heapq
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote

from maskmill import ImageResult, Mask
from maskmill.files import TEMPORARY_PREFIX
from maskmill.results import STATUSES, LedgerRow

from .doubt import Doubt, doubt, number
from .escaping import data_json
from .summary import Summary

_MASKS_SHOWN = 12
_TEXT = 600


class Gallery:
    """The rows of the gallery; a context manager. They wait in a temporary file.

    Args:
        folder: for the temporary file.
        limit: at most so many images are kept, the most doubtful ones.

    Attributes:
        total: images seen.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._folder = folder
        self._chosen: list[tuple[float, int]] = []

    def __enter__(self) -> Self:
        self._rows: IO[str] = tempfile.TemporaryFile(
            "w+", encoding="ascii", newline="\n", prefix=TEMPORARY_PREFIX, dir=self._folder
        )
        return self

    def __exit__(self, *exception: object) -> None:
        self._rows.close()

    def add(self, result: ImageResult, row: LedgerRow | None, summary: Summary) -> None:
        """Take an image in.

        Args:
            result: what came of it.
            row: what the ledger knows of it, if there is one.
            summary: knows the numbers of the labels; the image has been counted in it.
        """
        found = doubt(result)
        key = (
            result.key if result.status in ("done", "empty") else ""
        )  # a failed image's thumbnail would be a stale one
        self._rows.write(f"{data_json(key)}\t{data_json(_row(result, found, row, summary))}\n")
        push = heapq.heappush if len(self._chosen) < self._limit else heapq.heappushpop
        if self._limit:
            push(self._chosen, (found.value, -self.total))
        self.total += 1

    def __len__(self) -> int:
        return len(self._chosen)

    def lines(self) -> Iterator[tuple[str, str]]:
        """(key, row as JSON) of the images chosen, in the order of their keys; the key is "" without a thumbnail."""
        chosen = {-negative for _, negative in self._chosen}
        self._rows.seek(0)
        for position, line in enumerate(self._rows):
            if position in chosen:
                key, _, row = line.rstrip("\n").partition("\t")
                yield json.loads(key), row


def _row(result: ImageResult, found: Doubt, row: LedgerRow | None, summary: Summary) -> list[Any]:
    """An image, in the order that `gallery.js` reads.

    Key, status, doubt, why, its figure, [width, height], kept and dropped masks, lowest score, seconds,
    attempts, numbers of the labels, text, masks, path of its overlay.
    """
    kept = result.kept
    scores = [known for mask in kept if (known := number(mask.score)) is not None]
    failure = result.failure
    text = f"{failure.type}: {failure.message}" if failure else result.reason or ""
    return [
        result.key,
        STATUSES.index(result.status),
        round(found.value, 4),
        found.why,
        _short(found.figure),
        None if result.size is None else [result.size[1], result.size[0]],
        len(kept),
        len(result.masks) - len(kept),
        _short(min(scores, default=None)),
        None if row is None else round(row.seconds, 3),
        None if row is None else row.attempts,
        sorted({summary.labels[mask.label] for mask in result.masks}),
        text[:_TEXT],
        [_mask(mask, summary) for mask in sorted(result.masks, key=_worst_first)[:_MASKS_SHOWN]],
        next(
            (f"../{quote(item.path, errors='surrogatepass')}" for item in result.artifacts if _is_overlay(item.path)), 0
        ),
    ]


def _mask(mask: Mask, summary: Summary) -> list[Any]:
    """A mask: number of its label, score, stability, part of the image, the filter that dropped it, its reason."""
    part = mask.area / max(1, mask.size[0] * mask.size[1])
    values: list[Any] = [summary.labels[mask.label], _short(mask.score), _short(mask.stability), float(f"{part:.3g}")]
    return values if mask.dropped_by is None else [*values, mask.dropped_by, (mask.reason or "")[:_TEXT]]


def _worst_first(mask: Mask) -> tuple[bool, float, int]:
    score = number(mask.score)
    return not mask.kept, 1.0 if score is None else score, mask.index


def _is_overlay(path: str) -> bool:
    return path.startswith("overlay/")


def _short(value: float | None) -> float | None:
    known = number(value)
    return None if known is None else round(known, 4)
