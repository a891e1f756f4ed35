"""Counts over all images, in memory that does not grow with their number."""

from __future__ import annotations

import heapq
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from maskmill import ImageResult, Mask
from maskmill.results import DOUBTS, STATUSES, Failure
from maskmill_plugins._shared.doubt_rating import finite_number, format_iou

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")
_BINS = 50
_PER_DECADE = 4
_DECADES = 6
_SLOWEST = 20
_KEYS_A_FAILURE = 500
_MOST_GROUPS = 500
_OTHER = "…"


def without_numbers(text: str) -> str:
    """A reason with its numbers replaced, to group equal reasons: "score 0.41 < 0.5" becomes "score # < #"."""
    return _NUMBER.sub("#", text)


class Histogram:
    """Counts of kept and dropped masks in bins of equal width.

    Attributes:
        kept: number of kept masks by bin.
        dropped: number of dropped masks by bin.
    """

    def __init__(self, bins: int) -> None:
        self.kept, self.dropped = [0] * bins, [0] * bins

    def add(self, part: float, kept: bool) -> None:
        """Count a value, given relative to the range of the histogram: 0 is its start, 1 its end."""
        counts = self.kept if kept else self.dropped
        counts[min(max(int(part * len(counts)), 0), len(counts) - 1)] += 1

    def to_json(self) -> dict[str, Any] | None:
        """The counts, None if all are zero."""
        return {"kept": self.kept, "dropped": self.dropped} if any(self.kept) or any(self.dropped) else None


@dataclass
class FailureGroup:
    """Failures with the same reason.

    Attributes:
        failure: the first of them.
        count: number of images.
        keys: of the first images.
    """

    failure: Failure
    count: int = 0
    keys: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        of = self.failure
        values = {"stage": of.stage, "plugin": of.plugin, "type": of.type, "message": of.message[:2000]}
        return {**values, "count": self.count, "keys": self.keys}


@dataclass
class FormatLoss:
    """The loss of an output format.

    Attributes:
        masks: number of masks measured.
        total: sum of their IoU.
        lowest: the lowest IoU.
        key: the image with the lowest IoU.
    """

    masks: int = 0
    total: float = 0.0
    lowest: float = math.inf
    key: str = ""


class Summary:
    """The counts of a run.

    Attributes:
        statuses: number of images by status.
        labels: index of each label, in the order of first occurrence; None stands for no label.
        provenance: of the first image with a result.
    """

    def __init__(self) -> None:
        self.statuses = dict.fromkeys(STATUSES, 0)
        self.labels: dict[str | None, int] = {}
        self.provenance: dict[str, Any] = {}
        self._by_label: Counter[tuple[str | None, bool]] = Counter()
        self._drops: Counter[tuple[str, str]] = Counter()
        self._scores, self._stabilities = Histogram(_BINS), Histogram(_BINS)
        self._areas = Histogram(_PER_DECADE * _DECADES)
        self._formats: dict[str, FormatLoss] = {}
        self._failures: dict[tuple[str, str, str, str], FailureGroup] = {}
        self._slowest: list[tuple[float, str]] = []
        self._empty: Counter[str] = Counter()
        self._doubts: Counter[str] = Counter()

    def add(self, result: ImageResult, seconds: float | None) -> None:
        """Count an image.

        Args:
            result: its result.
            seconds: its processing time, if known.
        """
        self.statuses[result.status] += 1
        if not self.provenance:
            self.provenance = dict(result.provenance)
        if seconds is not None:
            push = heapq.heappush if len(self._slowest) < _SLOWEST else heapq.heappushpop
            push(self._slowest, (seconds, result.key))
        if result.failure is not None:
            self._count_failure(result.key, result.failure)
        if result.status in ("done", "empty"):
            self._doubts.update({doubt.code for doubt in result.doubts})
        if result.status == "empty":
            self._count(self._empty, without_numbers(result.reason or ""))
        for mask in result.masks:
            self._count_mask(mask)
        for name, iou in format_iou(result).items():
            self._count_format(name, result.key, iou["mean"], iou["min"], int(iou["masks"]))

    def _count_mask(self, mask: Mask) -> None:
        self.labels.setdefault(mask.label, len(self.labels))
        self._by_label[mask.label, mask.kept] += 1
        if mask.dropped_by is not None:
            self._count(self._drops, (mask.dropped_by, without_numbers(mask.reason or "")), (mask.dropped_by, _OTHER))
        for histogram, value in ((self._scores, mask.score), (self._stabilities, mask.stability)):
            if (known := finite_number(value)) is not None:
                histogram.add(known, mask.kept)
        part = mask.area / max(1, mask.size[0] * mask.size[1])
        self._areas.add(1 + math.log10(max(part, 10.0**-_DECADES)) / _DECADES, mask.kept)

    @staticmethod
    def _count(counts: Counter[Any], what: Any, otherwise: Any = _OTHER) -> None:
        """Count a value, under `otherwise` if there are too many different values already."""
        counts[what if what in counts or len(counts) < _MOST_GROUPS else otherwise] += 1

    def _count_failure(self, key: str, failure: Failure) -> None:
        message = failure.message.replace(key, _OTHER).replace(key.rpartition("/")[2], _OTHER)
        group = (failure.stage, failure.plugin, failure.type, without_numbers(message))
        if group not in self._failures and len(self._failures) >= _MOST_GROUPS:
            group = (failure.stage, failure.plugin, failure.type, _OTHER)
        found = self._failures.setdefault(group, FailureGroup(failure))
        found.count += 1
        if len(found.keys) < _KEYS_A_FAILURE:
            found.keys.append(key)

    def _count_format(self, name: str, key: str, mean: float, lowest: float, masks: int) -> None:
        loss = self._formats.setdefault(name, FormatLoss())
        loss.masks += masks
        loss.total += mean * masks
        if lowest < loss.lowest:
            loss.lowest, loss.key = lowest, key

    def to_json(self) -> dict[str, Any]:
        """Plain data for the page; lists have a fixed order, largest counts first."""
        by_label = [(self._by_label[name, True], self._by_label[name, False], name) for name in self.labels]
        by_label.sort(key=lambda item: (-item[0], -item[1], item[2] or ""))
        failures = sorted(self._failures.values(), key=lambda group: (-group.count, group.keys))
        return {
            "statuses": self.statuses,
            "masks": {"kept": sum(item[0] for item in by_label), "dropped": sum(item[1] for item in by_label)},
            "label_names": list(self.labels),
            "labels": [[self.labels[name], kept, dropped] for kept, dropped, name in by_label],
            "drops": [[*what, count] for what, count in _largest_first(self._drops)],
            "empty": [[what, count] for what, count in _largest_first(self._empty)],
            "doubts": [[code, DOUBTS[code], count] for code, count in _largest_first(self._doubts)],
            "score": self._scores.to_json(),
            "stability": self._stabilities.to_json(),
            "area": self._areas.to_json(),
            "formats": [
                [name, loss.total / max(1, loss.masks), loss.lowest, loss.masks, loss.key]
                for name, loss in sorted(self._formats.items())
            ],
            "failures": [group.to_json() for group in failures],
            "slowest": [[key, round(seconds, 3)] for seconds, key in sorted(self._slowest, reverse=True)],
        }


def _largest_first(counts: Counter[Any]) -> list[tuple[Any, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
