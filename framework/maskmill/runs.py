"""Reading what a run left: its results, its ledger, what it says about itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .results import STATUSES, ImageResult, Status
from .run.ledger import Ledger, Row
from .run.report import RUN


class Run:
    """The output folder of a run, finished or not, open for reading; a context manager.

    Attributes:
        folder: the output folder.
        about: the content of `run.json` ({} if it is gone): pipeline, versions, machine, outcome.

    Raises:
        OutputError: the folder holds no run.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._ledger = Ledger.open_existing(self.folder)
        self.about: Mapping[str, Any] = _about(self.folder / RUN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ledger.close()

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.about.get("name", self.folder.name))

    def counts(self) -> dict[str, int]:
        """Images by status, every status named."""
        return self._ledger.counts()

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, over all runs into this folder."""
        return dict(self._ledger.meta("stage_seconds", {}))

    def rows(self, statuses: Sequence[Status] = STATUSES) -> Iterator[Row]:
        """What the ledger knows of each image (key, status, attempts, seconds), in key order."""
        return self._ledger.rows(statuses)

    def row(self, key: str) -> Row | None:
        """What the ledger knows of one image, None if nothing."""
        return self._ledger.known([key], listed=False).get(key)

    def result(self, row: Row) -> ImageResult:
        """The stored result of an image.

        Raises:
            OutputError: it is gone or damaged.
        """
        return self._ledger.result(row)

    def results(self, statuses: Sequence[Status] = ("done", "empty")) -> Iterator[ImageResult]:
        """The stored results in key order, one at a time; OutputError if one is gone or damaged."""
        for row in self.rows(statuses):
            yield self.result(row)


def _about(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
