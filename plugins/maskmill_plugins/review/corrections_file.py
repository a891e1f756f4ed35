"""The corrections file of a review: what people decided, a line for each decision; earlier lines stay as a history."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskmill import PipelineError, Problem
from maskmill.corrections import VERDICTS, Corrections, Verdict, digest_entry
from maskmill_plugins._shared.team.records import DecisionRecord, is_same_person

from ..annotate.locked_lines import LockedLines


@dataclass(frozen=True, slots=True)
class Decision:
    """The facts about an image's line that are kept in memory.

    Attributes:
        offset: where the line starts, in bytes.
        verdict: what was decided.
        reviewer: who decided, "" if unknown.
        reviewed: `digest_masks` of the result that was looked at.
        makes: `digest_masks` of the result that the line makes.
        keeps_reviewed: whether the masks that were looked at can be read from the line.
        agrees: of a second opinion: whether it agrees with the line before it.
        second: the second opinion that was given since.
        had_second: whether one was given before.
    """

    offset: int
    verdict: Verdict
    reviewer: str
    reviewed: str
    makes: str
    keeps_reviewed: bool = False
    agrees: bool = True
    second: Decision | None = None
    had_second: bool = False

    @property
    def is_disputed(self) -> bool:
        """Whether two people decided differently, and nobody has settled it."""
        return self.second is not None and not self.second.agrees

    def is_older(self, digest: str) -> bool:
        """Whether a result with this digest is neither the one that was looked at nor the one that the line makes."""
        return digest not in (self.reviewed, self.makes)

    def is_by(self, reviewer: str) -> bool:
        """Whether a person has decided about the image, first or second."""
        return any(is_same_person(one.reviewer, reviewer) for one in (self, self.second) if one is not None)


class CorrectionsFile(LockedLines[Decision]):
    """The corrections of a run; no line is ever removed."""

    kind = "corrections file"
    command = "review"
    option = "--corrections"

    _records: list[DecisionRecord]

    def records(self) -> list[DecisionRecord]:
        """All lines in their order, for figures."""
        with self._mutex:
            self._refresh()
            return list(self._records)

    def forget_lines(self) -> None:
        """The file is read anew."""
        super().forget_lines()
        self._records = []

    def add_line(self, key: str, offset: int, data: Mapping[str, Any]) -> None:
        """A line was read or written: a second opinion is put to the decision before it."""
        before = self._lines.get(key)
        super().add_line(key, offset, data)
        makes = self._lines[key].makes
        if data.get("second"):
            if before is None:
                del self._lines[key]
            else:
                self._lines[key] = replace(before, second=self._lines[key])
        elif before is not None and (before.second or before.had_second):
            self._lines[key] = replace(self._lines[key], had_second=True)
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # edited while the server runs
            self._records.append(DecisionRecord.of(data, makes))

    def summarize(self, offset: int, data: Mapping[str, Any]) -> Decision:
        """The verdict, the reviewer and what the line is about."""
        verdict = data.get("verdict")
        known: Verdict = verdict if verdict in VERDICTS else "question"  # wrong only if edited while the server runs
        second = data.get("second")
        reviewed, makes = str(data.get("result") or ""), _digest_or_none(data)
        return Decision(
            offset,
            known,
            str(data.get("reviewer") or ""),
            reviewed,
            makes,
            keeps_reviewed=bool(reviewed) and (reviewed == makes or isinstance(data.get("before"), list)),
            agrees=not isinstance(second, Mapping) or second.get("agrees") is not False,
        )

    def find_problems(self) -> Sequence[Problem]:
        """As a run finds them."""
        try:
            Corrections(self.path)
        except PipelineError as error:
            return error.problems
        return ()

    def compact(self) -> str:
        """Nothing is removed: who decided what is worth its space."""
        return ""

    def merge(self, before: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The new decision alone."""
        return dict(entry)


def _digest_or_none(data: Mapping[str, Any]) -> str:
    try:
        return digest_entry(data)
    except (KeyError, TypeError, AttributeError):  # edited while the server runs; the next run names the line
        return ""
