"""The end of a run: the files about the whole dataset."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..chain.contract import iterate_over
from ..config.config import Config
from ..files import sha256_of
from ..output.entry_store import PAGE, DamagedEntriesError, EntryStore, Origin
from ..output.ledger import Ledger
from ..output.store import have_files, stat_result
from ..plugins.entries import Earlier, Entries, Entry
from ..plugins.optional import has_entries, make_entry, shows_corrections
from ..plugins.roles import Stages, Writer
from ..plugins.stage import collecting, digest, working_in
from ..results import Artifact, LedgerRow
from .stop import Stop, Stopped
from .tracker import Tracker

#: In the ledger: what each writer with entries remembers of the last complete writing, by folder.
MEMORIES = "memories"
#: Size and modification time of a stored result that is gone.
_GONE = (-1, -1)


@dataclass(frozen=True)
class FinishRequest:
    """What the end of a run works with.

    Attributes:
        config: the pipeline.
        stages: its plugins.
        ledger: of the output folder; records which results the files were made from, and the files.
        entries: of the output folder; None if no writer has any.
        stop: requested when a writer cannot finish; if the user requests it, the writing ends.
        marks: the fingerprints of the writers.
        again: write also if nothing changed, and trust no file.
        tell: gets what the writers tell about the dataset.
        tracker: gets how far it is.
    """

    config: Config
    stages: Stages
    ledger: Ledger
    entries: EntryStore | None
    stop: Stop
    marks: Sequence[str]
    again: bool
    tell: Callable[[str], None]
    tracker: Tracker


def finish(request: FinishRequest) -> Mapping[str, int]:
    """Write the files about the whole dataset, unless the run was interrupted or nothing changed.

    Returns:
        How many files each writer has now; those made before the first writer that failed.
    """
    ledger = request.ledger
    if request.stop.requested:
        return {}
    state = digest([request.marks, ledger.digest(), *_list_decisions(request)])
    finished = ledger.meta("finished")
    if finished is not None and finished["state"] == state and not request.again:
        return ledger.files.count(ledger.files.writing)
    try:
        return _Writing(request).write(state)
    except DamagedEntriesError:
        assert request.entries is not None, "there was an entry to read"
        request.entries.reset()
        return _Writing(request).write(state)


def _list_decisions(request: FinishRequest) -> list[str]:
    """The state of what people decided, if a writer shows it: accepting changes no result."""
    path = request.config.corrections
    if path is None or not any(shows_corrections(writer) for _, writer in request.stages.writers):
        return []
    return [sha256_of(path)] if path.exists() else []


class _Writing:
    """One writing of all files about the whole dataset."""

    def __init__(self, request: FinishRequest) -> None:
        self._request = request
        self._ledger = request.ledger
        self._output = request.config.output
        marked = zip(request.stages.writers, request.marks, strict=True)
        self._marks = {folder: mark for (folder, writer), mark in marked if has_entries(writer)}
        self._memories: dict[str, dict[str, Any]] = {} if request.again else self._ledger.meta(MEMORIES) or {}
        self._new_memories: dict[str, dict[str, Any]] = {}
        self._opened: dict[str, Writer] = {}
        self._counts = self._ledger.counts()

    def write(self, state: str) -> Mapping[str, int]:
        """Write them; `state` is recorded at the end."""
        ledger, stop = self._ledger, self._request.stop
        ledger.set_meta(MEMORIES, {})  # from now on the files are not those of the last complete writing
        number = ledger.files.begin()
        try:
            for folder, writer in self._request.stages.writers:
                try:
                    with stop.interruptible(), working_in(self._output), collecting({}, self._request.tell):
                        self._open(folder, writer)
                        self._record(folder, self._make(folder, writer), number)
                        self._opened.pop(folder).close()
                except (Stopped, KeyboardInterrupt):
                    return {}
                except DamagedEntriesError:
                    raise
                except Exception as error:
                    stop.request(f"the writer {folder!r} could not finish: {type(error).__name__}: {error}")
                    break
            else:
                self._end(state, number)
        finally:
            for writer in self._opened.values():
                with suppress(Exception):
                    writer.close()
        ledger.commit()
        return ledger.files.count(number)

    def _end(self, state: str, number: int) -> None:
        """Everything is written: record that."""
        if self._request.entries is not None:
            self._request.entries.end(self._marks)
        self._ledger.files.end(number)
        self._ledger.set_meta(MEMORIES, self._new_memories)
        self._ledger.set_meta("finished", {"state": state})

    def _open(self, folder: str, writer: Writer) -> None:
        """Open a writer, once."""
        if folder not in self._opened:
            writer.open()
            self._opened[folder] = writer

    def _make(self, folder: str, writer: Writer) -> Iterator[Artifact]:
        """The files of one writer, while they are written."""
        tracker, target = self._request.tracker, self._output / folder
        count = sum(self._counts[status] for status in writer.takes)
        tracker.begin(folder)
        if folder not in self._marks:
            results = (self._ledger.result(row).hide_unfinished() for row in self._ledger.rows(writer.takes))
            yield from iterate_over(Artifact, writer.finish, tracker.track(results, "", count), target)
            return
        entries = Entries(count, partial(self._read, folder, writer), self._find_earlier(folder), tracker.track)
        yield from iterate_over(Artifact, writer.finish_entries, entries, target)  # type: ignore[attr-defined]
        self._new_memories[folder] = {"made_with": self._marks[folder], "value": entries.memory}

    def _record(self, folder: str, files: Iterable[Artifact], number: int) -> None:
        """Enter the files in the ledger."""
        placed = (replace(file, path=f"{folder}/{file.path}") for file in files)
        batch: list[Artifact] = []
        try:
            for file in placed:
                batch.append(file)
                if len(batch) == PAGE:
                    self._ledger.files.add_all(batch, number)
                    batch.clear()
                self._request.stop.check()
        finally:  # also what was made before it failed
            self._ledger.files.add_all(batch, number)
            self._ledger.commit()

    def _find_earlier(self, folder: str) -> Earlier | None:
        """What is known of the files of a writer: nothing unless the last writing was complete and with its options."""
        memory = self._memories.get(folder)
        if memory is None or memory["made_with"] != self._marks[folder]:
            return None

        def find_file(path: str) -> Artifact | None:
            file = self._ledger.files.find(f"{folder}/{path}")
            return replace(file, path=path) if file is not None and have_files(self._output, [file]) else None

        return Earlier(memory["value"], find_file)

    def _read(self, folder: str, writer: Writer) -> Iterator[Entry]:
        """The entries of one writer in key order; those that do not belong to the stored results are made anew."""
        store = self._request.entries
        assert store is not None, "opened for a writer with entries"
        rows, mark, last = self._ledger.rows(writer.takes), self._marks[folder], ""
        while batch := list(itertools.islice(rows, PAGE)):
            keys = [row.key for row in batch]
            stored = self._ledger.find_stored(keys)
            known = {key: stored.get(key) or stat_result(self._output, key) or _GONE for key in keys}
            found = store.find_origins(folder, keys, last)
            if outdated := [row for row in batch if found.get(row.key) != Origin(known[row.key], mark)]:
                self._make_entries(outdated, known, store)
            for entry in store.read(folder, keys[0], keys[-1]):
                yield Entry(entry.key, entry.data, not entry.finished)
            last = keys[-1]
        store.forget_after(folder, last)

    def _make_entries(self, rows: Sequence[LedgerRow], known: Mapping[str, tuple[int, int]], store: EntryStore) -> None:
        """Make the entries of images for all writers, from results that are read once."""
        for row in rows:
            self._request.stop.check()
            result = self._ledger.result(row).hide_unfinished()
            for folder, writer in self._request.stages.writers:
                if folder in self._marks and row.status in writer.takes:
                    self._open(folder, writer)
                    origin = Origin(known[row.key], self._marks[folder])
                    store.put(folder, row.key, origin, make_entry(writer, result))
        store.commit()
