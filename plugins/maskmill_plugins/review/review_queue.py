"""The queue: the images of a run, the most doubtful first, with what people decided about them."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from maskmill import Run
from maskmill.output.store import load_result, stat_result
from maskmill.results import FINISHED, STATUSES, LedgerRow, Status
from maskmill_plugins._shared.team.stopping import percent_of

from .corrections_file import Decision
from .ratings import Rating, RatingCache, Stat

#: What became of an image: a verdict, "unseen", "older": decided on a result that has changed since, or "disputed":
#: two people decided differently.
STATES = ("unseen", "older", "disputed", "question", "accepted", "fixed", "rejected")
#: States of images that somebody has to look at.
OPEN = frozenset({"unseen", "older", "disputed"})
#: Ratings that are made between two writings to the cache.
BATCH = 500
_log = logging.getLogger("maskmill.server")


@dataclass(slots=True)
class QueueRow:
    """An image of the queue.

    Attributes:
        key: the image.
        status: of its result.
        stat: size and time of the result's file when it was rated.
        rating: None until its result has been read.
    """

    key: str
    status: Status
    stat: Stat | None = None
    rating: Rating | None = None

    @property
    def order(self) -> tuple[float, str]:
        """The most doubtful first; those that are not rated yet last."""
        return (1.0 if self.rating is None else -self.rating.doubt), self.key

    def state(self, decision: Decision | None) -> str:
        """One of `STATES`."""
        if decision is None:
            return "unseen"
        if decision.is_disputed:
            return "disputed"
        if decision.verdict == "question" or self.rating is None:
            return decision.verdict
        if decision.verdict == "rejected" and self.status not in FINISHED:
            return "rejected"
        return "older" if decision.is_older(self.rating.digest) else decision.verdict


@dataclass(frozen=True)
class QueueFilter:
    """Which images of the queue.

    Attributes:
        search: part of the key, in any case.
        label: of one of its objects; None for all.
        status: of its result; "" for all.
        state: one of `STATES`, "open" for those that somebody has to look at, or "" for all.
        dropped: only images with masks that filters dropped.
        sample: only this many images, chosen by chance but always the same ones; 0 for all.
        reviewer: who asks: a disagreement is open for everybody but the two who disagree.
        score: only images with a mask whose score is below this, 0 to 1; None for all.
    """

    search: str = ""
    label: str | None = None
    status: str = ""
    state: str = ""
    dropped: bool = False
    sample: int = 0
    reviewer: str = ""
    score: float | None = None

    def fits(self, row: QueueRow, state: str, decision: Decision | None = None) -> bool:
        """Whether an image passes, the sample apart."""
        if self.state and not (state in OPEN if self.state == "open" else state == self.state):
            return False
        if self.state == "open" and state == "disputed" and decision is not None and decision.is_by(self.reviewer):
            return False
        if (self.status and row.status != self.status) or self.search.casefold() not in row.key.casefold():
            return False
        rating = row.rating
        if self.dropped and not (rating and rating.dropped):
            return False
        scores = [one.score for one in rating.objects if one.score is not None] if rating else []
        if self.score is not None and min(scores, default=1.0) >= self.score:
            return False
        return self.label is None or bool(rating and any(one.label == self.label for one in rating.objects))


def list_reviewable(run: Run, decisions: Container[str]) -> Iterator[LedgerRow]:
    """The images that can be looked at: finished ones, those with a decision, and failed ones that could be read."""
    for row in run.rows(STATUSES):
        if row.status in FINISHED or row.key in decisions:
            yield row
        elif row.status == "failed":
            result = load_result(run.folder, row.key)
            if result is not None and result.size is not None and result.sha256:
                yield row


class ReviewQueue:
    """The images of a run that can be reviewed.

    Args:
        output: the output folder.
        rows: of the ledger, as `list_reviewable` gives them.
        cache: of ratings.
    """

    def __init__(self, output: Path, rows: Iterator[LedgerRow], cache: RatingCache) -> None:
        self._output = output
        self._cache = cache
        self._rows = {row.key: QueueRow(row.key, row.status) for row in rows}
        self._sorted: list[QueueRow] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        for key, stat, rating in cache.read():
            if (row := self._rows.get(key)) is not None:
                row.stat, row.rating = stat, rating
        self._pending = [row for row in self._rows.values() if row.rating is None or self._has_changed(row)]
        for row in self._pending:
            row.rating = None

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def keys(self) -> list[str]:
        """All images."""
        return list(self._rows)

    def count_undecided(self, decisions: Mapping[str, Decision]) -> list[int]:
        """The number of images that nobody has decided about, by hundredth of doubt."""
        counts = [0] * 100
        for row in list(self._rows.values()):
            if row.rating is not None and row.state(decisions.get(row.key)) in ("unseen", "older", "question"):
                counts[percent_of(row.rating.doubt)] += 1
        return counts

    @property
    def pending(self) -> int:
        """Images whose results have not been read yet."""
        return len(self._pending)

    def start(self) -> None:
        """Begin to read the results that have not been rated, in a thread."""
        self._thread = threading.Thread(target=self._rate_pending, name="maskmill-ratings", daemon=True)
        self._thread.start()

    def rate_all(self) -> None:
        """Read them now."""
        self._rate_pending()

    def stop(self) -> None:
        """End that thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(10)

    def row(self, key: str) -> QueueRow | None:
        """An image, None if there is none of this key."""
        return self._rows.get(key)

    def refresh(self, key: str) -> QueueRow | None:
        """An image, rated anew if its result was replaced since."""
        row = self._rows.get(key)
        if row is not None and (row.rating is None or self._has_changed(row)):
            self._rate(row)
        return row

    def select(
        self, decisions: Mapping[str, Decision], wanted: QueueFilter = QueueFilter()
    ) -> Iterator[tuple[QueueRow, str]]:
        """(image, its state) of the images that pass a filter, the most doubtful first, a sample in its own order."""
        rows = self._sample(wanted.sample) if wanted.sample else self._in_order()
        for row in rows:
            decision = decisions.get(row.key)
            state = row.state(decision)
            if wanted.fits(row, state, decision):
                yield row, state

    def count_states(self, decisions: Mapping[str, Decision]) -> dict[str, int]:
        """How many images are in each state."""
        counts = dict.fromkeys(STATES, 0)
        for row in self._rows.values():
            counts[row.state(decisions.get(row.key))] += 1
        return counts

    def labels(self) -> list[str]:
        """The labels of all objects, the most frequent first."""
        counts: dict[str, int] = {}
        for row in list(self._rows.values()):
            for one in row.rating.objects if row.rating else ():
                if one.label is not None:
                    counts[one.label] = counts.get(one.label, 0) + 1
        return sorted(counts, key=lambda label: (-counts[label], label))

    def _in_order(self) -> list[QueueRow]:
        if self._sorted is None:
            self._sorted = sorted(self._rows.values(), key=lambda row: row.order)
        return self._sorted

    def _sample(self, count: int) -> list[QueueRow]:
        return sorted(self._rows.values(), key=lambda row: _shuffle(row.key))[:count]

    def _has_changed(self, row: QueueRow) -> bool:
        return row.stat != stat_result(self._output, row.key)

    def _rate(self, row: QueueRow) -> None:
        row.stat = stat_result(self._output, row.key)
        result = load_result(self._output, row.key)
        if result is not None:
            row.rating, row.status = Rating.of(result), result.status
        self._sorted = None

    def _rate_pending(self) -> None:
        made: list[tuple[str, Stat, Rating]] = []
        while self._pending and not self._stopping.is_set():
            row = self._pending[-1]
            try:
                self._rate(row)
            except Exception:  # a damaged result: the image is opened with a message
                _log.exception("the result of %s could not be read", row.key)
            self._pending.pop()
            if row.stat is not None and row.rating is not None:
                made.append((row.key, row.stat, row.rating))
            if len(made) >= BATCH or not self._pending:
                self._cache.write(made)
                made.clear()
        self._cache.write(made)


def _shuffle(key: str) -> bytes:
    return hashlib.sha256(b"review" + key.encode("utf-8", "surrogatepass")).digest()
