"""Reading the output of a run: its results, its ledger, its `run.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ..display import brief, import_package
from ..errors import OutputError, Problem, nearest_names
from ..images import find_key
from ..results import STATUSES, Artifact, ImageResult, LedgerRow, Outdated, Status
from ..wording import count_noun
from .folder import is_claimed
from .hosts import join_hosts
from .ledger import Ledger
from .mirror import find_worker, locate_run
from .outdated import read_outdated
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
        self.folder = locate_run(Path(folder))
        found, self.notice = open_for_reading(self.folder) if rebuild else (None, "")
        self._ledger = found or Ledger.open_existing(self.folder)
        self.about: Mapping[str, Any] = read_about(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._ledger.close()

    def __repr__(self) -> str:
        return f"<Run {brief(self.name)} in {brief(str(self.folder))}>"

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
        """Whether a run is working in this folder now, or in another one that is copied to it."""
        return is_claimed(self.folder) or find_worker(self.folder) is not None

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

    def files(self) -> Iterator[Artifact]:
        """The files about the whole dataset, paths below the output folder, in the order of their paths."""
        return self._ledger.files.current()

    def outdated(self) -> Outdated:
        """Files of earlier runs that are not part of the last one, as of its end or of the last `maskmill prune`."""
        return read_outdated(self._ledger)

    def stage_seconds(self) -> dict[str, float]:
        """Seconds by stage, over all runs into this folder."""
        return dict(self._ledger.meta("stage_seconds", {}))

    def hosts(self) -> dict[str, dict[str, Any]]:
        """The machines that worked for it by name, if they were told apart: slots, slots that were lost, images."""
        return join_hosts(self.parts(), self._ledger.hosts.counts())

    def host_of(self, key: str) -> str:
        """The machine that made the result of an image, "" if that is not known."""
        return self._ledger.hosts.find(key)

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
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {count_noun(count, 'image')}"
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


#: Columns of `RunResults.to_dataframe`; those that the writer `parquet` has, too, have the same names.
COLUMNS = (
    *("key", "status", "height", "width", "mask", "label", "score", "stability", "area", "x1", "y1", "x2", "y2"),
    *("kept", "dropped_by", "reason", "source", "ref"),
)
_NULLABLE = {"height": "Int64", "width": "Int64", "mask": "Int64", "area": "Int64", "kept": "boolean"}


class RunResults(Iterator[ImageResult]):
    """The results of a run, in key order, read one at a time; each loop over them begins anew.

    Attributes:
        output: the output folder.

    Raises:
        OutputError: the folder holds no run; while looping: a result that its ledger lists is missing.
    """

    def __init__(self, output: Path | str) -> None:
        self.output = Path(output)
        with Run(self.output) as run:
            self._name = run.name
        self._pass: Iterator[ImageResult] | None = None

    def __iter__(self) -> Iterator[ImageResult]:
        with Run(self.output) as run:
            yield from run.results(STATUSES)

    def __next__(self) -> ImageResult:
        if self._pass is None:
            self._pass = iter(self)
        return next(self._pass)

    def __len__(self) -> int:
        with Run(self.output) as run:
            return sum(run.counts().values())

    def __repr__(self) -> str:
        count = len(self)
        images = "1 image" if count == 1 else f"{count} images"
        return f"<RunResults {brief(self._name)}: {images}, in {brief(str(self.output))}>"

    def to_dataframe(self) -> Any:
        """A pandas DataFrame with a row for each mask, also those that filters dropped (`kept` is False).

        An image without masks has one row, whose `reason` says why. `mask` is the number among the backend's masks,
        `area` in pixels, the box (x1, y1, x2, y2) in pixels with the right and bottom edge exclusive.

        Raises:
            UsageError: pandas is not installed.
            OutputError: a result is missing or damaged.
        """
        pandas = import_package("pandas", "to_dataframe()")
        rows = [row for result in self for row in _list_rows(result)]
        return pandas.DataFrame(rows, columns=list(COLUMNS)).astype(_NULLABLE)


def _list_rows(result: ImageResult) -> Iterator[dict[str, Any]]:
    height, width = result.size or (None, None)
    image = {"key": result.key, "status": result.status, "height": height, "width": width}
    if not result.masks:
        failure = result.failure
        yield {**image, "reason": f"{failure.type}: {failure.message}" if failure else result.reason}
    for mask in result.masks:
        corners = dict(zip(("x1", "y1", "x2", "y2"), mask.box.xyxy, strict=True)) if mask.box else {}
        about = {name: getattr(mask, name) for name in ("label", "score", "stability", "area", "kept", "dropped_by")}
        origin = {name: getattr(mask.prompt, name) for name in ("source", "ref")} if mask.prompt else {}
        yield {**image, **about, **corners, **origin, "mask": mask.index, "reason": mask.reason}


def read_run(output: Path | str) -> RunResults:
    """The results of a run, in key order, one at a time.

    Args:
        output: the output folder of a run, finished or not.

    Raises:
        OutputError: the folder holds no run, or a result that its ledger lists is missing.
    """
    return RunResults(output)
