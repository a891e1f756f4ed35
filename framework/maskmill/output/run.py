"""Reading the output of a run: its results, its ledger, its `run.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ..errors import OutputError, Problem, nearest_names
from ..images import find_key
from ..results import STATUSES, ImageResult, LedgerRow, Status
from .folder import is_claimed
from .ledger import Ledger
from .rebuild import open_for_reading
from .records import read_about


class Run:
    """The output folder of a run, finished or not, open for reading; a context manager.

    Attributes:
        folder: the output folder.
        about: the content of `run.json` ({} if it is gone): pipeline, versions, machine, outcome.
        notice: what is wrong with its ledger, a line for the user, or "".

    Args:
        folder: the output folder.
        rebuild: where the ledger is damaged or gone, show what the next run will make of the stored results.

    Raises:
        OutputError: the folder holds no run.
    """

    def __init__(self, folder: Path | str, rebuild: bool = False) -> None:
        self.folder = Path(folder)
        found, self.notice = open_for_reading(self.folder) if rebuild else (None, "")
        self._ledger = found or Ledger.open_existing(self.folder)
        self.about: Mapping[str, Any] = read_about(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ledger.close()

    @property
    def name(self) -> str:
        """The pipeline's name."""
        return str(self.about.get("name", self.folder.name))

    def pipelines(self) -> Sequence[Mapping[str, Any]]:
        """The pipelines that made it, as in `run.json`: one, or several if runs were merged."""
        return [part["pipeline"] for part in self.parts() if isinstance(part.get("pipeline"), dict)]

    def parts(self) -> list[dict[str, Any]]:
        """The content of `run.json` of each run that was merged into this one; of this one alone if none were.

        Each has `folder` and, as far as known, name, pipeline, fingerprint, versions, machine, ...
        """
        merged = self.about.get("merged")
        if isinstance(merged, list) and all(isinstance(part, dict) for part in merged):
            return merged
        return [{**self.about, "folder": str(self.folder.absolute())}]

    @property
    def masks_fingerprint(self) -> str | None:
        """Identifies the backend, its options and its model; None if the masks come from several."""
        found = self._ledger.meta("masks")
        return None if found is None else str(found)

    def is_running(self) -> bool:
        """Whether a run is working in this folder now."""
        return is_claimed(self.folder)

    def counts(self) -> dict[str, int]:
        """Images by status, every status named."""
        return self._ledger.counts()

    def doubt_counts(self) -> tuple[int, dict[str, int]]:
        """Finished images with a doubt, and images by the code of their doubts, the most frequent first."""
        return self._ledger.doubt_counts()

    def doubts_of(self, key: str) -> frozenset[str]:
        """Codes of the doubts that the ledger has of an image, of a failed one what made it fail."""
        return self._ledger.doubts_of([key]).get(key, frozenset())

    def keys_with_doubt(self, code: str, limit: int) -> list[str]:
        """The first keys, in key order, of the finished images that have this doubt."""
        return self._ledger.keys_with_doubt(code, limit)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, over all runs into this folder."""
        return dict(self._ledger.meta("stage_seconds", {}))

    def rows(self, statuses: Sequence[Status] = STATUSES) -> Iterator[LedgerRow]:
        """The ledger's row of each image (key, status, attempts, seconds), in key order."""
        return self._ledger.rows(statuses)

    def row(self, key: str) -> LedgerRow | None:
        """The ledger's row of one image, None if there is none."""
        return self._ledger.find_rows([key], listed=False).get(key)

    def find(self, key: str) -> LedgerRow:
        """The ledger's row of the image that a key means (see `find_key`).

        Raises:
            OutputError: there is none; the message suggests similar keys.
            DatasetError: several images fit.
        """
        if (row := self.row(key)) is not None:
            return row
        found = find_key(key, (row.key for row in self.rows()))
        if found is not None and (row := self.row(found)) is not None:
            return row
        count = sum(self.counts().values())
        close = nearest_names(key, (row.key for row in self.rows()))
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {count} images"
        raise OutputError(Problem(f"the run in '{self.folder}' has no image {key!r}", hint=hint))

    def result(self, row: LedgerRow) -> ImageResult:
        """The stored result of an image.

        Raises:
            OutputError: it is missing or damaged.
        """
        return self._ledger.result(row)

    def results(self, statuses: Sequence[Status] = ("done", "empty")) -> Iterator[ImageResult]:
        """The stored results in key order, one at a time; OutputError if one is missing or damaged."""
        for row in self.rows(statuses):
            yield self.result(row)


def read_run(output: Path | str) -> Iterator[ImageResult]:
    """The results of a run, in key order, one at a time.

    Args:
        output: the output folder of a run, finished or not.

    Raises:
        OutputError: the folder holds no run, or a result that its ledger lists is missing.
    """
    with Run(output) as run:
        yield from run.results(STATUSES)
