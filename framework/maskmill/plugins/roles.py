"""What a plugin subclasses: `PromptSource`, `Backend`, `Filter`, `Writer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ..images import Image, ImageRef
from ..masks import Mask
from ..prompts import Prompt
from ..results import Artifact, ImageResult, Status
from .stage import Stage


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a prompt source holds; a run says in `prompts.csv` what became of each.

    Attributes:
        file: the file it stands in.
        place: where in the file: a line, an element.
        ref: the `ref` of its prompt.
        image: its image as the source names it.
        key: the key of that image in the dataset, None if none fits.
        prompt: what it asks for, None if it is wrong.
        relative: whether the prompt's coordinates are parts of the width and the height.
        problem: why it is not asked for, or why no image fits; "" if nothing is wrong.
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
    """What a prompt source found when it was shown the dataset.

    Attributes:
        warnings: for the user, a line each.
        about: JSON, kept in `run.json`.
        memory: JSON that the same source is given in every worker, by `PromptSource.recall`.
        state: changes whenever what the source holds, or how it fits the dataset, does.
    """

    warnings: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    memory: Any = None
    state: str = ""


class PromptSource(Stage):
    """Says what to segment in an image.

    Class attributes:
        waits: True if it waits on a network; such sources run ahead of the backend, in the
            prompt lane: `prompts` is then called from several threads of one process at once.
    """

    waits: ClassVar[bool] = False

    def prompts(self, image: Image) -> list[Prompt] | None:
        """The prompts of this image.

        Returns:
            None: this source knows nothing of the image, ask the next one.
            []: there is nothing to segment in it (the result is `empty`).
        """
        raise NotImplementedError

    def at_once(self) -> int:
        """About how many images a source that waits may be asked at the same time, in threads of one process."""
        return 4

    def kinds(self) -> frozenset[str] | None:
        """What its prompts can need of a backend ("points", "box", "text", "everything"), None if unknown.

        Lets `maskmill check` find a backend that does not take them.
        """
        return None

    def has_answer(self, ref: ImageRef) -> bool | None:
        """Whether it has an answer for this image; None if that shows only when it is asked. Called without `open`."""
        return None

    def fingerprint(self, ref: ImageRef) -> str:
        """What decides the prompts of this one image; by default the same for every image.

        A source that holds prompts by image overrides it, so that a change to one
        image's prompts redoes that image alone. Called in the driver, without `open`.
        """
        return self.digest()

    def survey(self, refs: Iterable[ImageRef]) -> Survey | None:
        """Look at all images of the dataset, once before a run; in the driver, without `open`.

        Args:
            refs: all of them, also where the run is about some; listed as they are taken, once.
        """
        return None

    def recall(self, memory: Any) -> None:
        """Take what `survey` gave as `memory` in the driver; in each worker, before `open`."""

    def inventory(self) -> Iterator[Item] | None:
        """All that this source holds, one by one, for `prompts.csv`; None if it holds nothing.

        Called in the driver after the run, on the stage whose `survey` was called.
        """
        return None


class Backend(Stage):
    """Says where the object of a prompt is: Segment Anything, or something that stands in for it."""

    def accepts(self) -> frozenset[str]:
        """The kinds of prompt it takes, of "points", "box", "text", "everything"."""
        raise NotImplementedError

    def model_id(self) -> str:
        """What computes, as a hash or a name with version; enters the fingerprint."""
        return ""

    def memory_per_worker(self) -> int | None:
        """Bytes one worker needs at its peak, None if little; `jobs: auto` reckons with it."""
        return None

    def embed(self, image: Image) -> Any:
        """The image embedding: the part of the work that does not depend on the prompts.

        None (the default) if the backend has no such part.
        """
        return None

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """The masks of these prompts, each with its `prompt` set.

        Points and boxes: one mask a prompt, in order (or three, where the options ask for all).
        Text and everything: none or more.

        Args:
            image: the image.
            prompts: at least one, each of a kind in `accepts()`, lying inside the image.
            embedding: what `embed(image)` gave, or None to have it computed here.
        """
        raise NotImplementedError


class Filter(Stage):
    """Keeps the good masks."""

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks to keep, perhaps with other pixels (`mask.with_array`).

        A mask left out of the list is recorded as dropped by this filter; return
        `mask.drop("why")` to record the reason with it.
        """
        raise NotImplementedError


class Writer(Stage):
    """Makes files of results.

    Class attributes:
        needs_pixels: False if `write` works from the result alone.
        takes: the statuses of the images that `finish` is given.
    """

    needs_pixels: ClassVar[bool] = True
    takes: ClassVar[tuple[Status, ...]] = ("done", "empty")

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write this image's files below `folder`, with `maskmill.save`; runs in the worker."""
        return []

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the files about the whole dataset; once, in the driver, after the last image.

        Args:
            results: of the statuses of `takes`, in key order, read one at a time: do not collect them.
            folder: this writer's folder.
        """
        return []


@dataclass(frozen=True)
class Stages:
    """The plugins of a pipeline, named as in its file; writers by the name of their folder."""

    prompts: Sequence[tuple[str, PromptSource]]
    combine: str
    backend: tuple[str, Backend]
    filters: Sequence[tuple[str, Filter]] = ()
    writers: Sequence[tuple[str, Writer]] = ()

    def all(self) -> Iterator[tuple[str, str, Stage]]:
        """(role, name, stage) of each, in the order of the work."""
        yield from (("prompt source", name, stage) for name, stage in self.prompts)
        yield ("backend", *self.backend)
        yield from (("filter", name, stage) for name, stage in self.filters)
        yield from (("writer", name, stage) for name, stage in self.writers)

    def prepare(self, say: Callable[[str], None]) -> None:
        """`Stage.prepare` of each."""
        for _, _, stage in self.all():
            stage.prepare(say)
