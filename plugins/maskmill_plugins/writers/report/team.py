"""What people decided about the images of a run, for the report: only if its pipeline names their corrections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskmill import ImageResult, Run
from maskmill.results import FINISHED
from maskmill_plugins._shared.doubt_rating import rate_doubt
from maskmill_plugins._shared.team.figures import describe_team
from maskmill_plugins._shared.team.records import DecisionRecord, read_records
from maskmill_plugins._shared.team.stopping import percent_of


class TeamSummary:
    """The figures of the people who reviewed a run.

    Args:
        run: of the report; None if there is none.
    """

    def __init__(self, run: Run | None) -> None:
        named = [one.get("corrections") for one in run.pipelines()] if run is not None else []
        self._files = [Path(path) for path in dict.fromkeys(named) if isinstance(path, str)]
        self._records: dict[str, list[DecisionRecord]] = {}
        self._images = 0
        self._undecided = [0] * 100
        found = (record for path in self._files for record in read_records(path))
        self._ordered = list(found)
        for record in self._ordered:
            self._records.setdefault(record.key, []).append(record)
        self._known: set[str] = set()

    def add(self, result: ImageResult) -> None:
        """Count an image."""
        lines = self._records.get(result.key, ())
        if not self._files or not (result.status in FINISHED or (result.status == "rejected" and lines)):
            return
        self._images += 1
        self._known.add(result.key)
        last = next((line for line in reversed(lines) if line.second is None), None)
        if last is None or last.verdict == "question":
            self._undecided[percent_of(rate_doubt(result).value)] += 1

    def to_json(self) -> dict[str, Any] | None:
        """The figures, see `describe_team`; None if nobody has decided about an image."""
        records = [record for record in self._ordered if record.key in self._known]
        return describe_team(records, self._images, self._undecided) if records else None
