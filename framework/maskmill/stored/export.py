"""Exports: the files of any writer from stored results, without computing the masks again.

An export is a folder of its own. Its journal, `.export.jsonl`, records what made it and its files
with their sha256, so that a second export can tell which files it may replace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from ..chain.contract import iterate_over
from ..errors import MaskmillError, OutputError, Problem, StopRun
from ..output.entry_store import TEMPORARY, EntryStore
from ..output.folder import EXPORTS, check_outside_runs, writing_to
from ..output.run import Run
from ..plugins.optional import finish_stored, has_entries, make_entry
from ..plugins.registry import Registry
from ..plugins.roles import Writer
from ..plugins.stage import collecting, working_in
from ..results import FINISHED, Artifact, ImageResult, LedgerRow
from ..storage import current_options
from .export_folder import Journal, choose_journal, claim_export
from .export_worker import ExportedImage, ExportSetup, add_files, build_writer, close_writer, export_one
from .originals import OriginalImages, find_missing_dataset

#: With fewer images than this, starting processes is not worth it.
WORTH_PROCESSES = 200


@dataclass(frozen=True)
class ExportRequest:
    """What to export.

    Attributes:
        writer: the registered name.
        options: of the writer, as in YAML.
        folder: where to write; None for `exports/<writer>` in the run's folder.
        images: folder with the images, by key; None for the run's own dataset.
        drop_ins: plugin files to load.
        jobs: number of processes, as in joblib; None chooses by the number of images.
    """

    writer: str
    options: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    images: Path | None = None
    drop_ins: Sequence[Path] = ()
    jobs: int | None = None


@dataclass(frozen=True)
class ExportReport:
    """The outcome of an export.

    Attributes:
        folder: where the files are.
        images: number of exported images.
        failed: number of images that could not be exported.
        files: number of files, including those about the whole dataset.
        left_out: number of images that failed in the run and have no masks.
        doubts: images of the run by the code of their doubts; they are exported like all others.
    """

    folder: Path
    images: int
    failed: int
    files: int
    left_out: int
    doubts: Mapping[str, int] = field(default_factory=dict)


def export(
    run: Run, request: ExportRequest, log: Callable[[str], None], tell: Callable[[str], None] = lambda line: None
) -> ExportReport:
    """Write the files of one writer for every finished image of a run.

    Args:
        run: with the results.
        request: which writer, where to.
        log: gets a line for each image that fails.
        tell: gets what the writer tells about the dataset.

    Raises:
        UsageError: there is no such writer, an option is wrong, or the folder holds other files.
        StopRun: the folder can no longer be written, or the writer cannot finish.
    """
    registry = Registry.load(request.drop_ins)
    writer = build_writer(registry, request.writer, request.options)
    folder = request.folder or run.folder / EXPORTS / request.writer
    check_outside_runs(folder)
    if _needs_pixels(writer) and request.images is None and (problem := find_missing_dataset(run.pipelines())):
        raise OutputError(problem)
    counts = run.counts()
    about = {
        "writer": request.writer,
        "options": writer.model_dump(mode="json", by_alias=True),
        "run": str(run.folder.absolute()),
        "pipeline": run.name,
        "model": run.about.get("fingerprint", {}).get("model"),
    }
    with writing_to(folder), OriginalImages(run, request.images) as originals:
        if _needs_pixels(writer):
            _check_images(run, request, originals)
        path = choose_journal(folder, writer.folder_is_read)
        with claim_export(folder, log), Journal(path, about) as journal:
            with _open_entries(writer, folder) as entries:
                work = _Export(run, request, writer, folder, originals, entries)
                images, failed = work.write(journal, log)
                work.finish(journal, tell)
            journal.end({"images": images, "failed": failed})
    left_out = counts["failed"] + counts["quarantined"]
    return ExportReport(folder, images, failed, journal.files, left_out, run.doubt_counts()[1])


def _open_entries(writer: Writer, folder: Path) -> AbstractContextManager[EntryStore | None]:
    return EntryStore.temporary(folder) if has_entries(writer) else nullcontext()


def _needs_pixels(writer: Writer) -> bool:
    """Whether it reads the images; a writer without files for single images does not."""
    return writer.needs_pixels and type(writer).write is not Writer.write


def _check_images(run: Run, request: ExportRequest, originals: OriginalImages) -> None:
    """Refuse a folder without any image of the run, before an earlier export is removed."""
    keys = (row.key for row in run.rows(FINISHED))
    first = next(keys, None)
    if first is None or any(originals.find(key) for key in chain((first,), keys)):
        return
    where = f"in '{request.images}'" if request.images else "where the run found it"
    hint = f"name a folder that contains the images by key with --images FOLDER, such as FOLDER/{first}"
    raise OutputError(Problem(f"no image of the run is {where}", hint=hint))


class _Export:
    """The two steps of an export: the files of each image, in processes, then those about the whole dataset."""

    def __init__(
        self,
        run: Run,
        request: ExportRequest,
        writer: Writer,
        folder: Path,
        originals: OriginalImages,
        entries: EntryStore | None,
    ) -> None:
        self._run = run
        self._request = request
        self._writer = writer
        self._folder = folder
        self._originals = originals
        self._entries = entries

    def write(self, journal: Journal, log: Callable[[str], None]) -> tuple[int, int]:
        """Write each image's files; returns the numbers of exported and of failed images."""
        images = failed = 0
        for done in self._export_images():
            if done.failure is not None:
                failed += 1
                log(f"{done.key}: {done.failure.text}")
            else:
                images += 1
            if self._entries is not None and done.entry is not None:
                self._entries.put("", done.key, TEMPORARY, done.entry)
            journal.add(done)
        return images, failed

    def _export_images(self) -> Iterator[ExportedImage]:
        setup = ExportSetup(
            writer=self._request.writer,
            options=self._request.options,
            drop_ins=self._request.drop_ins,
            run=self._run.folder,
            folder=self._folder,
            reads_pixels=_needs_pixels(self._writer),
            max_pixels=self._originals.max_pixels,
            storage=current_options(),
        )
        tasks = ((setup, row.key, self._find_uri(row)) for row in self._run.rows(FINISHED))
        if (jobs := self._jobs()) == 1:
            try:
                yield from (export_one(*task) for task in tasks)
            finally:
                close_writer()
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

    def _find_uri(self, row: LedgerRow) -> str | None:
        ref = self._originals.find(row.key)
        return None if ref is None else ref.uri

    def finish(self, journal: Journal, tell: Callable[[str], None]) -> None:
        """Write the files about the whole dataset, and enter them in the journal.

        Args:
            journal: with the images written before.
            tell: gets what the writer tells about the dataset.

        Raises:
            StopRun: the writer cannot make them.
        """
        try:
            with working_in(self._run.folder), collecting({}, tell):
                self._writer.open()
                for file in self._make(journal):
                    journal.add_file(file)
                self._writer.close()
        except (MaskmillError, KeyboardInterrupt):
            raise
        except Exception as error:
            text = f"the writer {self._request.writer!r} could not finish: {type(error).__name__}: {error}"
            raise StopRun(text) from error

    def _make(self, journal: Journal) -> Iterator[Artifact]:
        """The files about the whole dataset, while they are written."""
        if self._entries is None:
            return iterate_over(Artifact, self._writer.finish, self._results(journal), self._folder)
        others = [status for status in self._writer.takes if status not in FINISHED]
        for row in self._run.rows(others) if others else ():  # no files were written for them
            result = replace(self._run.result(row).hide_unfinished(), artifacts=())
            self._entries.put("", row.key, TEMPORARY, make_entry(self._writer, result))
        return iterate_over(Artifact, finish_stored, self._writer, self._entries, self._folder)

    def _results(self, journal: Journal) -> Iterator[ImageResult]:
        """The results as the writer's `finish` gets them in a run: with its own files and notes only."""
        entries = journal.entries()
        entry = next(entries, None)
        for row in self._run.rows(self._writer.takes):
            while entry is not None and entry["key"] < row.key:
                entry = next(entries, None)
            if entry is None or entry["key"] != row.key:
                if row.status not in FINISHED:  # otherwise a run has just finished it, and it has no files yet
                    yield replace(self._run.result(row).hide_unfinished(), artifacts=())
            elif entry["failure"] is None:
                artifacts = [Artifact(*values) for values in entry["artifacts"]]
                notes, folder = entry["notes"], self._folder.name
                yield add_files(self._run.result(row), artifacts, notes, self._request.writer, folder)
