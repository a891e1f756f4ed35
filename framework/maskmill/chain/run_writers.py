"""The writers of a chain on one image. One that fails does not keep the others from writing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..images import Image
from ..output.store import have_files
from ..plugins.optional import has_entries, make_entry
from ..plugins.roles import Writer
from ..results import Artifact, Doubt, Failure, ImageResult, removing_saved_on_error
from ..wording import count_noun
from .contract import call_for_list
from .fingerprint import Reuse
from .plugin_call import StepError, Trace


@dataclass(frozen=True, slots=True)
class WriterOutput:
    """What one writer made of an image.

    Attributes:
        artifacts: the files, paths below the output folder.
        notes: what it noted.
        doubts: what it doubts.
    """

    artifacts: tuple[Artifact, ...]
    notes: Mapping[str, Any]
    doubts: tuple[Doubt, ...]


@dataclass
class Written:
    """What the writers of one image did so far.

    Attributes:
        made: by the name of each writer that wrote.
        failures: why the others did not, by their name.
    """

    made: dict[str, WriterOutput] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)


class WriterCalls:
    """Runs the writers whose files are not up to date.

    Args:
        writers: with their names, in their order.
        fingerprints: of each writer.
        output: the output folder.
    """

    def __init__(self, writers: Sequence[tuple[str, Writer]], fingerprints: Sequence[str], output: Path) -> None:
        self._writers = [(*named, mark) for named, mark in zip(writers, fingerprints, strict=True)]
        self._output = output

    def run(
        self,
        image: Image,
        result: ImageResult,
        reuse: Reuse,
        trace: Trace,
        before_each: Callable[[str, Written], None] | None = None,
        last: str = "",
    ) -> Written:
        """Bring the files of all writers up to date.

        Args:
            image: whose files they are.
            result: after the filters, without files.
            reuse: whose files still hold.
            trace: receives seconds and lines; notes and doubts stay with each writer's output.
            before_each: called with a writer's name before it is called, and with what is there already.
            last: the name of a writer that is called after all others.
        """
        written = Written()
        due = [(name, writer) for name, writer, mark in self._writers if not self._reuse(name, mark, reuse, written)]
        for name, writer in sorted(due, key=lambda named: named[0] == last):
            if before_each is not None:
                before_each(name, written)
            own = Trace(trace.seconds, trace.story)
            call = partial(call_writer, writer, image, result, self._output / name)
            try:
                made = own.step("writers", name, call, image.sha256)
            except StepError as error:
                written.failures[name] = error.failure
                trace.story(f"{image.ref.key}: {name} failed: {error.failure.message}")
                continue
            artifacts = tuple(replace(artifact, path=f"{name}/{artifact.path}") for artifact in made)
            written.made[name] = WriterOutput(artifacts, own.notes[name], tuple(own.doubts))
            if made:
                trace.story(f"{image.ref.key}: {name} wrote {count_noun(len(made), 'file')}")
        return written

    def _reuse(self, name: str, mark: str, reuse: Reuse, written: Written) -> bool:
        """Take over what a writer made from the stored result, if it still holds."""
        before = reuse.before
        if before is None or mark not in reuse.writers:
            return False
        old = tuple(artifact for artifact in before.artifacts if artifact.path.startswith(f"{name}/"))
        if not have_files(self._output, old):
            return False
        doubts = tuple(doubt for doubt in before.doubts if (doubt.stage, doubt.plugin) == ("writers", name))
        written.made[name] = WriterOutput(old, before.notes.get(name, {}), doubts)
        return True

    def make_entries(self, result: ImageResult, written: Written, trace: Trace) -> None:
        """Make what the image adds to the files about the whole dataset; a writer that cannot has failed.

        Args:
            result: with the files of all writers.
            written: what they did; one whose entry cannot be made is moved to the failures.
            trace: receives the entries, seconds and lines.
        """
        for name, writer, _ in self._writers:
            if name not in written.made or not has_entries(writer) or result.status not in writer.takes:
                continue
            try:
                call = partial(make_entry, writer, result)
                trace.entries[name] = Trace(trace.seconds, trace.story).step("writers", name, call, result.sha256)
            except StepError as error:
                written.failures[name] = error.failure
                trace.story(f"{result.key}: {name} failed: {error.failure.message}")
                for artifact in written.made.pop(name).artifacts:
                    (self._output / artifact.path).unlink(missing_ok=True)

    def fingerprints_of(self, written: Written) -> tuple[str, ...]:
        """The fingerprints of the writers that have written."""
        return tuple(mark for name, _, mark in self._writers if name in written.made)

    def add_to(self, result: ImageResult, written: Written) -> ImageResult:
        """The result with the files, notes and doubts of the writers that have written, in the order of the writers."""
        artifacts: list[Artifact] = []
        notes, doubts = dict(result.notes), list(result.doubts)
        for name, _, _ in self._writers:
            if (made := written.made.get(name)) is not None:
                artifacts += made.artifacts
                doubts += [doubt for doubt in made.doubts if doubt not in doubts]
                notes |= {name: {**notes.get(name, {}), **made.notes}} if made.notes else {}
        return replace(result, artifacts=tuple(artifacts), notes=notes, doubts=tuple(doubts))

    def find_failure(self, written: Written) -> Failure | None:
        """One record of all failures: that of the first writer, whose message names the others."""
        failures = [written.failures[name] for name, _, _ in self._writers if name in written.failures]
        if not failures:
            return None
        more = "".join(f"; {each.plugin} failed, too: {each.type}: {each.message}" for each in failures[1:])
        return replace(failures[0], message=failures[0].message + more)


def call_writer(writer: Writer, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
    """The files that a writer wrote for one image; if it raises, what it had saved until then is removed.

    Raises:
        TypeError: it returned something else than a list of artifacts.
    """
    with removing_saved_on_error():
        return call_for_list(Artifact, writer.write, image, result, folder)
