"""Files out of stored results: any writer, after the run, without making the masks again.

An export is a folder of its own. Its journal, `export.jsonl`, says what made it and which files
belong to it, each with its sha256: that is how a second export knows what it may replace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..chain.contract import call_for_list
from ..errors import MaskmillError, OutputError, Problem, StopRun
from ..output.folder import EXPORTS, check_outside_runs, writing_to
from ..output.run import Run
from ..plugins.registry import Registry
from ..plugins.roles import Writer
from ..plugins.stage import working_in
from ..results import Artifact, ImageResult, Row, Status
from .export_folder import Journal, claim_export
from .export_worker import close, export_one, named_writer
from .originals import Originals, missing_dataset

#: Fewer images than this are not worth starting processes for.
WORTH_PROCESSES = 200
#: Of images that have something to export.
FINISHED: tuple[Status, ...] = ("done", "empty")


@dataclass(frozen=True)
class Request:
    """What is asked of one export.

    Attributes:
        writer: the registered name.
        options: of the writer, as in YAML.
        folder: where to; None takes `exports/<writer>` in the run's folder.
        images: where the images are now, by key; None takes the run's own dataset.
        drop_ins: plugin files to load.
        jobs: processes, with joblib's meaning; None decides by the number of images.
    """

    writer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    images: Path | None = None
    drop_ins: Sequence[Path] = ()
    jobs: int | None = None


@dataclass(frozen=True)
class Exported:
    """What an export came to.

    Attributes:
        folder: where the files are.
        images: that were exported.
        failed: images that could not be.
        files: written, those about the whole dataset included.
        left_out: images of the run that have no masks because they failed there.
    """

    folder: Path
    images: int
    failed: int
    files: int
    left_out: int


def export(run: Run, request: Request, say: Callable[[str], None]) -> Exported:
    """Write the files of one writer for every finished image of a run.

    Args:
        run: whose results.
        request: which writer, where to.
        say: takes a line for each image that fails.

    Raises:
        UsageError: no such writer, wrong options, a folder that holds anything but an earlier export.
        StopRun: the folder cannot be written any more, or the writer cannot finish.
    """
    registry = Registry.load(request.drop_ins)
    writer = named_writer(registry, request.writer, request.options)
    folder = request.folder or run.folder / EXPORTS / request.writer
    check_outside_runs(folder)
    if _reads(writer) and request.images is None and (problem := missing_dataset(run.pipelines())):
        raise OutputError(problem)
    counts = run.counts()
    about = {
        "writer": request.writer,
        "options": writer.model_dump(mode="json", by_alias=True),
        "run": str(run.folder.absolute()),
        "pipeline": run.name,
        "model": run.about.get("fingerprint", {}).get("model"),
    }
    with writing_to(folder), Originals(run, request.images) as originals:
        if _reads(writer):
            _some_image(run, request, originals)
        with claim_export(folder, say), Journal(folder, about) as journal:
            work = _Work(run, request, writer, folder, originals)
            images, failed = work.write(journal, say)
            finished = work.finish(journal)
            journal.end(finished, {"images": images, "failed": failed})
    return Exported(folder, images, failed, journal.files, counts["failed"] + counts["quarantined"])


def _reads(writer: Writer) -> bool:
    """Whether it looks at the images: one that has no files of single images does not."""
    return writer.needs_pixels and type(writer).write is not Writer.write


def _some_image(run: Run, request: Request, originals: Originals) -> None:
    """Refuse a folder without any image of the run before an earlier export makes room for this one."""
    keys = (row.key for row in run.rows(FINISHED))
    first = next(keys, None)
    if first is None or any(originals.find(key) for key in chain((first,), keys)):
        return
    where = f"in '{request.images}'" if request.images else "where the run found them"
    hint = f"--images FOLDER names the folder that holds each as its key says, such as FOLDER/{first}"
    raise OutputError(Problem(f"no image of the run is {where}", hint=hint))


class _Work:
    """The two halves of an export: file by file in processes, then the files about the whole."""

    def __init__(self, run: Run, request: Request, writer: Writer, folder: Path, originals: Originals) -> None:
        self._run = run
        self._request = request
        self._writer = writer
        self._folder = folder
        self._originals = originals

    def write(self, journal: Journal, say: Callable[[str], None]) -> tuple[int, int]:
        """Each image's files; returns how many images there were, and how many of them failed."""
        images = failed = 0
        for done in self._done():
            if (failure := done["failure"]) is not None:
                failed += 1
                say(f"{done['key']}: {failure['message']}")
            else:
                images += 1
            journal.add(done)
        return images, failed

    def _done(self) -> Iterator[dict[str, Any]]:
        setup = {
            "writer": self._request.writer,
            "options": dict(self._request.options),
            "drop_ins": [str(path) for path in self._request.drop_ins],
            "run": str(self._run.folder),
            "folder": str(self._folder),
            "pixels": _reads(self._writer),
            "max_pixels": self._originals.max_pixels,
        }
        tasks = ((setup, row.key, self._uri(row)) for row in self._run.rows(FINISHED))
        if (jobs := self._jobs()) == 1:
            try:
                yield from (export_one(*task) for task in tasks)
            finally:
                close()
            return
        import joblib

        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator")
        yield from parallel(joblib.delayed(export_one)(*task) for task in tasks)

    def _jobs(self) -> int:
        import joblib

        if self._request.jobs is not None:
            return int(joblib.effective_n_jobs(self._request.jobs))
        counts = self._run.counts()
        return 1 if counts["done"] + counts["empty"] < WORTH_PROCESSES else int(joblib.cpu_count())

    def _uri(self, row: Row) -> str | None:
        ref = self._originals.find(row.key)
        return None if ref is None else ref.uri

    def finish(self, journal: Journal) -> list[Artifact]:
        """The files about the whole dataset.

        Raises:
            StopRun: the writer cannot make them.
        """
        try:
            with working_in(self._run.folder):
                self._writer.open()
                made = call_for_list(Artifact, self._writer.finish, self._results(journal), self._folder)
                self._writer.close()
        except (MaskmillError, KeyboardInterrupt):
            raise
        except Exception as error:
            text = f"the writer {self._request.writer!r} could not finish: {type(error).__name__}: {error}"
            raise StopRun(text) from error
        return made

    def _results(self, journal: Journal) -> Iterator[ImageResult]:
        """The results as the writer's `finish` sees them in a run: with its own files and notes, no others'."""
        entries = journal.entries()
        entry = next(entries, None)
        for row in self._run.rows(self._writer.takes):
            while entry is not None and entry["key"] < row.key:
                entry = next(entries, None)
            if entry is None or entry["key"] != row.key:
                if row.status not in FINISHED:  # else a run that goes on finished it meanwhile: it has no files
                    yield replace(self._run.result(row), artifacts=())
            elif entry["failure"] is None:
                yield _with_files(self._run.result(row), entry, self._request.writer, self._folder.name)


def _with_files(result: ImageResult, entry: Mapping[str, Any], writer: str, folder: str) -> ImageResult:
    artifacts = tuple(Artifact(f"{folder}/{path}", sha256, size) for path, sha256, size in entry["artifacts"])
    notes = {name: values for name, values in result.notes.items() if name != writer}
    return replace(result, artifacts=artifacts, notes={**notes, **({writer: entry["notes"]} if entry["notes"] else {})})
