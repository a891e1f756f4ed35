"""What changed since the last report in the same folder: a small record of each image, compared in key order."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from maskmill import Artifact, ImageResult
from maskmill.files import TEMPORARY_PREFIX, atomic_path
from maskmill.results import STATUSES, LedgerRow
from maskmill_plugins._shared.doubt_rating import DoubtRating
from maskmill_plugins._shared.export.output_files import describe_file

#: The record, in the writer's folder.
NAME = "images.jsonl.gz"
_SCHEMA = 1
#: A difference in doubt that counts as better or worse.
DOUBT_STEP = 0.05
_REMOVED_SHOWN = 100
_DIGITS = 8
#: In an image's fingerprint: a person decided about its masks.
_DECIDED = "decided"
_GOOD_TO_BAD = ("done", "empty", "failed", "quarantined")


class Seen(NamedTuple):
    """An image in the record.

    Attributes:
        key: its key.
        status: its status.
        doubt: 0 to 1.
        kept: number of kept masks.
        made_of: short digests of its file, prompts, model and filters.
        change: how it changed in the report that wrote the record, in the form of `Change`; None if it did not.
    """

    key: str
    status: str
    doubt: float
    kept: int
    made_of: list[str]
    change: list[Any] | None = None

    @classmethod
    def of(cls, result: ImageResult, row: LedgerRow, found: DoubtRating) -> Self:
        """What is recorded of a result."""
        parts = (row.fingerprint.split("/") + [""] * 3)[:3]
        made_of = [result.sha256, *(part if part == _DECIDED else part[:_DIGITS] for part in parts)]
        made_of[0] = made_of[0][:_DIGITS]
        return cls(result.key, result.status, round(found.value, 4), len(result.kept), made_of)


class Changes:
    """Compares results, which come in key order, with the record of the last report; a context manager.

    If nothing changed since then, as when the last run was killed before its end or only another option of the
    report is new, the changes of that report are shown again.

    Args:
        folder: of the writer.
        keep: whether there is a run, whose images are compared and recorded.

    Attributes:
        is_first: there is nothing to compare with.
    """

    def __init__(self, folder: Path, keep: bool) -> None:
        self._folder, self._keep = folder, keep
        self._earlier: Iterator[Seen] = iter(())
        self._header: dict[str, Any] = {}
        self._waiting: Seen | None = None
        self._counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._statuses: Counter[tuple[str, str]] = Counter()
        self._removed: list[str] = []
        self._stack = ExitStack()
        self.is_first = True

    def __enter__(self) -> Self:
        if self._keep:
            self._new: IO[str] = self._stack.enter_context(
                tempfile.TemporaryFile("w+", encoding="ascii", prefix=TEMPORARY_PREFIX, dir=self._folder)
            )
            self._open_record()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _open_record(self) -> None:
        """Open the record of the last report; one that cannot be read counts as none."""
        try:
            lines = self._stack.enter_context(gzip.open(self._folder / NAME, "rt", encoding="ascii"))  # noqa: SIM115
            header = json.loads(lines.readline())
            if header["schema"] == _SCHEMA:
                self._header, self.is_first = header, False
                self._earlier = _read_lines(lines)
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            return
        self._waiting = next(self._earlier, None)

    def add(self, result: ImageResult, row: LedgerRow | None, found: DoubtRating) -> tuple[Any, Any]:
        """Compare an image.

        Returns:
            How it changed: [kind, reasons, verdict, earlier status, doubt and number of masks], None if it did not;
            and how it had changed in the last report. `choose` says which of the two the page shows.
        """
        if not self._keep or row is None:
            return None, None
        after, before = Seen.of(result, row, found), self._find(result.key)
        change = None if self.is_first else self._count(before, after)
        earlier = None if before is None else before.change
        # what is recorded is settled at the end: both are kept until then
        self._new.write(f"{json.dumps([*after[:-1], change, earlier])}\n")
        return change, earlier

    def _find(self, key: str) -> Seen | None:
        """The image in the last report; those before it are not in this one."""
        while self._waiting is not None and _sort_key(self._waiting.key) < _sort_key(key):
            self._remove(self._waiting)
        if self._waiting is None or self._waiting.key != key:
            return None
        found, self._waiting = self._waiting, next(self._earlier, None)
        return found

    def _remove(self, seen: Seen) -> None:
        self._counts["removed"] += 1
        if len(self._removed) < _REMOVED_SHOWN:
            self._removed.append(seen.key)
        self._waiting = next(self._earlier, None)

    def _count(self, before: Seen | None, after: Seen) -> list[Any] | None:
        """How an image changed; it is counted."""
        if before is None:
            self._counts["new"] += 1
            return ["new", [], "", None, None, None]
        reasons = find_reasons(before, after)
        if not reasons:
            self._counts["same"] += 1
            return None
        verdict = judge(before, after)
        self._counts.update(["redone", *([verdict] if verdict else [])])
        self._reasons.update(reasons)
        if before.status != after.status:
            self._statuses[before.status, after.status] += 1
        if after.kept != before.kept:
            self._counts["more" if after.kept > before.kept else "fewer"] += 1
        if abs(after.doubt - before.doubt) >= DOUBT_STEP:
            self._counts["doubt_up" if after.doubt > before.doubt else "doubt_down"] += 1
        return ["redone", reasons, verdict, STATUSES.index(before.status), before.doubt, before.kept]

    def end(self) -> None:
        """All images were added."""
        while self._waiting is not None:
            self._remove(self._waiting)

    def choose(self, now: Any, earlier: Any) -> Any:
        """Which of the two that `add` returned the page shows."""
        return earlier if self._is_unchanged() else now

    def _is_unchanged(self) -> bool:
        return not self.is_first and not any(self._counts[name] for name in ("new", "redone", "removed"))

    def to_json(self) -> dict[str, Any] | None:
        """Plain data for the page; None if there is no earlier report."""
        if self.is_first:
            return None
        if self._is_unchanged():
            earlier = self._header.get("changes")
            return earlier if isinstance(earlier, dict) else None
        statuses = sorted(self._statuses.items(), key=lambda item: (-item[1], item[0]))
        return {
            "since": self._header.get("written"),
            "counts": dict(self._counts),
            "reasons": dict(sorted(self._reasons.items(), key=lambda item: (-item[1], item[0]))),
            "statuses": [[*pair, count] for pair, count in statuses],
            "removed": self._removed,
        }

    def save(self) -> list[Artifact]:
        """Write the record of this report; nothing if there is no run."""
        if not self._keep:
            return []
        same = self._is_unchanged()
        written = self._header.get("written") if same else datetime.now().astimezone().isoformat(timespec="seconds")
        header = {"schema": _SCHEMA, "written": written, "changes": self.to_json()}
        self._new.seek(0)
        with (
            atomic_path(self._folder / NAME) as path,
            path.open("wb") as out,
            gzip.GzipFile("", "wb", 3, out, mtime=0) as packed,
        ):
            packed.write(f"{json.dumps(header)}\n".encode("ascii"))
            for line in self._new:
                *values, now, earlier = json.loads(line)
                packed.write(f"{json.dumps([*values, earlier if same else now])}\n".encode("ascii"))
        return [describe_file(self._folder, NAME)]


def _read_lines(lines: IO[str]) -> Iterator[Seen]:
    """The images of a record; it ends at a damaged line."""
    try:
        for line in lines:
            yield Seen(*json.loads(line))
    except (OSError, EOFError, ValueError, TypeError):
        return


def _sort_key(key: str) -> bytes:
    """Keys are sorted by their bytes, as in the ledger."""
    return key.encode("utf-8", "surrogatepass")


def find_reasons(before: Seen, after: Seen) -> list[str]:
    """Why an image was made again; [] if it is as it was."""
    image, prompts, model, filters = (one != other for one, other in zip(before.made_of, after.made_of, strict=True))
    if image:
        return ["image"]
    if _DECIDED in (before.made_of[2], after.made_of[2]):
        return ["corrections"] if prompts or model else _find_retry(before, after)
    reasons = [name for name, differs in (("prompts", prompts), ("model", model), ("filters", filters)) if differs]
    return reasons or _find_retry(before, after)


def _find_retry(before: Seen, after: Seen) -> list[str]:
    """Whether the same steps had another outcome, as when a failed image is tried again."""
    return ["retry"] if before[1:4] != after[1:4] else []


def judge(before: Seen, after: Seen) -> str:
    """Whether an image got better or worse: by its status, else by its doubt; "" if neither."""
    if before.status in _GOOD_TO_BAD and after.status in _GOOD_TO_BAD and before.status != after.status:
        return "worse" if _GOOD_TO_BAD.index(after.status) > _GOOD_TO_BAD.index(before.status) else "better"
    difference = after.doubt - before.doubt if before.status == after.status else 0
    return "worse" if difference >= DOUBT_STEP else "better" if difference <= -DOUBT_STEP else ""
