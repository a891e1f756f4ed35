"""The corrections file of a review: what people decided, a line for each decision; earlier lines stay as a history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maskmill import PipelineError, Problem
from maskmill.corrections import VERDICTS, Corrections, Verdict, digest_entry

from ..annotate.locked_lines import LockedLines


@dataclass(frozen=True, slots=True)
class Decision:
    """The facts about an image's last line that are kept in memory.

    Attributes:
        offset: where the line starts, in bytes.
        verdict: what was decided.
        reviewer: who decided, "" if unknown.
        reviewed: `digest_masks` of the result that was looked at.
        makes: `digest_masks` of the result that the line makes.
    """

    offset: int
    verdict: Verdict
    reviewer: str
    reviewed: str
    makes: str

    def is_older(self, digest: str) -> bool:
        """Whether a result with this digest is neither the one that was looked at nor the one that the line makes."""
        return digest not in (self.reviewed, self.makes)


class CorrectionsFile(LockedLines[Decision]):
    """The corrections of a run; no line is ever removed."""

    kind = "corrections file"
    command = "review"
    option = "--corrections"

    def summarize(self, offset: int, data: Mapping[str, Any]) -> Decision:
        """The verdict, the reviewer and what the line is about."""
        verdict = data.get("verdict")
        known: Verdict = verdict if verdict in VERDICTS else "question"  # wrong only if edited while the server runs
        return Decision(
            offset, known, str(data.get("reviewer") or ""), str(data.get("result") or ""), _digest_or_none(data)
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
