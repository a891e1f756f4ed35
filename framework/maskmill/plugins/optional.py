"""Methods that only a few stages need. A stage has one by defining a method of that name; nothing else to declare.

The protocols document the methods; the functions below them are the only callers, and supply what
applies to a stage without the method. Unless stated otherwise, a method is called in the main
process, on a stage that is not open.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from ..images import ImageRef
from ..output.entry_store import TEMPORARY, EntryStore
from ..prompts import Prompt
from ..results import Artifact, ImageResult
from .entries import Entries, Entry
from .stage import Network, Stage

T = TypeVar("T")
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Item:
    """One annotation that a prompt source holds; `prompts.csv` has a row for each.

    Attributes:
        file: the file that contains it.
        place: where in the file: a line, an element.
        ref: the `ref` of its prompt.
        image: its image as the source names it.
        key: the key of that image in the dataset, None if none matches.
        prompt: the prompt, None if the annotation is invalid.
        relative: whether the prompt's coordinates are fractions of the width and the height.
        problem: why the prompt is not used, or why no image matches; "" if nothing is wrong.
    """

    file: str
    place: str
    ref: str
    image: str
    key: str | None
    prompt: Prompt | None
    relative: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a prompt source found when it compared its content with the dataset.

    Attributes:
        warnings: for the user, one line each.
        about: JSON, stored in `run.json`.
        memory: JSON that `recall` receives in every worker.
        state: changes whenever the source's content, or how it matches the dataset, changes.
        doubts: what is doubtful and belongs to no image: a key of `maskmill.results.DOUBTS` -> how often.
    """

    warnings: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    memory: Any = None
    state: str = ""
    doubts: Mapping[str, int] = field(default_factory=dict)


class NetworkStage(Protocol):
    """A stage whose options decide how far it reaches, or that downloads something first."""

    def reaches(self) -> Network:
        """How far it reaches with these options, for `--offline`."""

    def prepare(self, say: Callable[[str], None]) -> None:
        """Fetch what is missing on this machine, such as a download; once, before any worker opens the stage.

        Args:
            say: prints a line for the user.
        """


class GpuStage(Protocol):
    """A stage that computes on this machine's NVIDIA GPUs, with CUDA."""

    def uses_gpu(self) -> bool:
        """Whether it does so with these options, if there are any.

        Then `jobs: auto` starts two workers for each GPU, and with several GPUs a worker sees only one.
        """


class PaidStage(Protocol):
    """A stage whose work costs money.

    Args of both methods: `refs` are the images it would be given, `output` is the run's output
    folder, which may not exist yet.
    """

    def forecast(self, refs: Sequence[ImageRef], output: Path) -> list[str]:
        """What the run will cost, in lines for `--dry-run`."""

    def objection(self, refs: Sequence[ImageRef], output: Path) -> str:
        """Why the run should not start without `--yes`, "" if it may."""


class WaitingSource(Protocol):
    """A prompt source that waits on a network (`waits = True`)."""

    def at_once(self) -> int:
        """How many images it can work on at the same time, in threads of one process."""


class ModelSource(Protocol):
    """A prompt source that computes with a model of its own, in the worker beside the backend."""

    def model_id(self) -> str:
        """Identifies the model, as a hash or a name with version; part of the fingerprint.

        "" as long as it is not known, before `prepare` has downloaded the model.
        """

    def memory_per_worker(self) -> int | None:
        """Peak memory that it needs in a worker in bytes, None if it is small; `jobs: auto` adds the backend's."""


class PromptStore(Protocol):
    """A prompt source that holds the prompts of many images, such as an annotation file."""

    def fingerprint(self, ref: ImageRef) -> str:
        """A text that changes when the prompts of this one image change, so that only that image is redone."""

    def has_answer(self, ref: ImageRef) -> bool | None:
        """Whether it has prompts for this image; None if that is not known before `prompts` is called."""

    def survey(self, refs: Iterable[ImageRef]) -> Survey | None:
        """Compare its content with the dataset, once before a run.

        Args:
            refs: every image of the dataset, also if the run covers only some; can be iterated once.
        """

    def recall(self, memory: Any) -> None:
        """Take the `memory` of `survey`; in each worker, before `open`."""

    def inventory(self) -> Iterator[Item] | None:
        """Every annotation it holds, for `prompts.csv`; after the run, on the stage whose `survey` was called."""


class ScalingBackend(Protocol):
    """A backend whose model works on a scaled copy of the image."""

    def input_side(self) -> int | None:
        """Pixels of the longer side of the model's input, None if unknown; in each worker, after `open`.

        With it, objects that have too few pixels there are doubtful: `too_small`.
        """


class AdvisingBackend(Protocol):
    """A backend that knows what would make it faster."""

    def speed_advice(self) -> str:
        """What would make it faster with these options, as it follows "To speed it up: "; for `--dry-run --probe`."""


class EntryWriter(Protocol):
    """A writer whose files about the whole dataset are put together from what each image adds to them.

    A writer has both methods, and no `finish`. The entries are made in parallel, and kept in the output folder: at the
    end no result is read again, and an image that did not change costs little.
    """

    def make_entry(self, result: ImageResult) -> bytes:
        """What an image adds, without what is known only at the end, such as ids and class numbers.

        Called in a worker, after `write`, for results with a status in `takes`. It must depend on nothing but the
        result, its files and notes included, and the options.
        """

    def finish_entries(self, entries: Entries, folder: Path) -> Iterable[Artifact]:
        """Write the files; called once in the main process, after the last image.

        Args:
            entries: of the images with a status in `takes`, in key order.
            folder: this writer's folder.

        Returns:
            As for `finish`: every file, those included that stay as they are.
        """


class DecisionsWriter(Protocol):
    """A writer whose files about the whole dataset show what people decided about its images."""

    def shows_corrections(self) -> bool:
        """Whether they do so; then they are written again after new decisions, also if these change no result."""


#: Concurrent images of a source that waits and does not define `at_once`.
AT_ONCE = 4
STAGE_PROTOCOLS: tuple[type, ...] = (NetworkStage, GpuStage, PaidStage)
SOURCE_PROTOCOLS: tuple[type, ...] = (WaitingSource, ModelSource, PromptStore)
BACKEND_PROTOCOLS: tuple[type, ...] = (ScalingBackend, AdvisingBackend)
WRITER_PROTOCOLS: tuple[type, ...] = (EntryWriter, DecisionsWriter)
#: The optional methods of each role, beside those of any stage.
BY_ROLE = {"prompt source": SOURCE_PROTOCOLS, "backend": BACKEND_PROTOCOLS, "writer": WRITER_PROTOCOLS}


def optional_methods(role: str) -> dict[str, Callable[..., Any]]:
    """The optional methods of a role by name."""
    protocols = STAGE_PROTOCOLS + BY_ROLE.get(role, ())
    return {name: method for each in protocols for name, method in vars(each).items() if not name.startswith("_")}


def defines(stage: Stage, method: str) -> bool:
    """Whether a stage has an optional method."""
    return callable(getattr(type(stage), method, None))


def network_reach(stage: Stage) -> Network:
    """How far a stage reaches with its options."""
    return _call(stage, "reaches", default=stage.network)


def prepare_stage(stage: Stage, say: Callable[[str], None]) -> None:
    """Let a stage fetch what it needs."""
    _call(stage, "prepare", say, default=None)


def uses_gpu(stage: Stage) -> bool:
    """Whether a stage computes on this machine's NVIDIA GPUs."""
    return _call(stage, "uses_gpu", default=False)


def max_concurrent(source: Stage) -> int:
    """How many images a source that waits can work on at the same time."""
    return _call(source, "at_once", default=AT_ONCE)


def source_model(source: Stage) -> str:
    """Identifies the model of a source, "" if it has none."""
    return _call(source, "model_id", default="")


def source_memory(source: Stage) -> int:
    """Peak memory of a source in a worker, in bytes beyond what every worker needs."""
    return _call(source, "memory_per_worker", default=None) or 0


def has_answer(source: Stage, ref: ImageRef) -> bool | None:
    """Whether a source has prompts for an image, None if unknown."""
    return True if getattr(source, "always_answers", False) else _call(source, "has_answer", ref, default=None)


def prompts_fingerprint(source: Stage) -> Callable[[ImageRef], str]:
    """The function that gives the fingerprint of an image's prompts; constant if the source does not define it."""
    if defines(source, "fingerprint"):
        return source.fingerprint  # type: ignore[attr-defined,no-any-return]
    constant = source.digest()
    return lambda ref: constant


def survey_dataset(source: Stage, refs: Callable[[], Iterable[ImageRef]]) -> Survey | None:
    """Let a source compare its content with the dataset, which is listed only if the source wants it."""
    return source.survey(iter(refs())) if defines(source, "survey") else None  # type: ignore[attr-defined]


def recall_survey(source: Stage, memory: Any) -> None:
    """Hand a source the memory of its survey."""
    _call(source, "recall", memory, default=None)


def list_inventory(source: Stage) -> Iterator[Item] | None:
    """Every annotation that a source holds, None if it holds none."""
    return _call(source, "inventory", default=None)


def input_side(backend: Stage) -> int | None:
    """Pixels of the longer side of the input of a backend's model, None if unknown."""
    return _call(backend, "input_side", default=None)


def speed_advice(backend: Stage) -> str:
    """What would make a backend faster."""
    return _call(backend, "speed_advice", default="fewer prompts per image")


def has_entries(writer: Stage) -> bool:
    """Whether a writer puts its files about the whole dataset together from entries."""
    return defines(writer, "make_entry") and defines(writer, "finish_entries")


def shows_corrections(writer: Stage) -> bool:
    """Whether a writer's files about the whole dataset show what people decided."""
    return _call(writer, "shows_corrections", default=False)


def make_entry(writer: Stage, result: ImageResult) -> bytes:
    """What an image adds to the files of a writer that has entries.

    Raises:
        TypeError: it is no bytes.
    """
    entry = writer.make_entry(result)  # type: ignore[attr-defined]
    if not isinstance(entry, bytes):
        raise TypeError(f"make_entry must return bytes, not {reprlib.repr(entry)}")
    return entry


def finish_results(writer: Stage, results: Iterable[ImageResult], folder: Path) -> Iterable[Artifact]:
    """Write the files about the whole dataset with a writer that has entries, from results in key order."""
    with ExitStack() as stack:
        store = stack.enter_context(EntryStore.temporary(folder))
        for number, result in enumerate(results):  # which keeps their order
            store.put("", f"{number:0{_DIGITS}}{result.key}", TEMPORARY, make_entry(writer, result))
        made = finish_stored(writer, store, folder, _DIGITS)
        return made if isinstance(made, list) else _keep_open(stack.pop_all(), made)


def _keep_open(stack: ExitStack, files: Iterable[Artifact]) -> Iterator[Artifact]:
    with stack:
        yield from files


def finish_stored(writer: Stage, store: EntryStore, folder: Path, start: int = 0) -> Iterable[Artifact]:
    """The same from a store that has the entries of this writer alone, under the name "".

    Args:
        writer: with entries.
        store: of its entries.
        folder: of the writer.
        start: where the key of an image begins in that of its entry.
    """
    entries = Entries(store.count(""), lambda: (Entry(each.key[start:], each.data) for each in store.read("")))
    return cast(Iterable[Artifact], writer.finish_entries(entries, folder))  # type: ignore[attr-defined]


def _call(stage: Stage, method: str, *arguments: Any, default: T) -> T:
    return cast(T, getattr(stage, method)(*arguments)) if defines(stage, method) else default
