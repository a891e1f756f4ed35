"""The classes that a plugin subclasses: `PromptSource`, `Backend`, `Filter`, `Writer`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..images import Image
from ..masks import Mask
from ..prompts import Prompt
from ..results import Artifact, ImageResult, Status
from .messages import ModelIds
from .optional import finish_results, has_entries, prepare_stage, source_memory, source_model, uses_gpu
from .stage import Stage


class PromptSource(Stage):
    """Decides what to segment in an image.

    Class attributes:
        waits: True if it waits on a network. Such sources run ahead of the backend in a process of
            their own, where `prompts` is called from several threads at once.
        always_answers: True if `prompts` never returns None. With `combine: first`, sources after it are not used.
    """

    waits: ClassVar[bool] = False
    always_answers: ClassVar[bool] = False

    def prompts(self, image: Image) -> list[Prompt] | None:
        """The prompts of this image.

        Returns:
            None: this source has no information about the image; the next source is used.
            []: there is nothing to segment in it; the result is `empty`. `self.note("nothing", "why")` gives the
                reason that is recorded.
        """
        raise NotImplementedError

    def kinds(self) -> frozenset[str] | None:
        """The kinds of prompt it can return ("points", "box", "text", "exemplars", "everything"), None if unknown.

        With it, `maskmill check` reports a backend that does not accept them.
        """
        return None


class Backend(Stage):
    """Makes the masks of prompts, with Segment Anything or another model."""

    def accepts(self) -> frozenset[str]:
        """The kinds of prompt it accepts, of "points", "box", "text", "exemplars", "everything"."""
        raise NotImplementedError

    def model_id(self) -> str:
        """Identifies the model, as a hash or a name with version; part of the fingerprint.

        "" if there is nothing to tell apart, or if it is known only after `prepare` has downloaded the model.
        """
        return ""

    def memory_per_worker(self) -> int | None:
        """Peak memory of one worker in bytes, None if it is small; used by `jobs: auto`."""
        return None

    def embed(self, image: Image) -> Any:
        """The image embedding: the part of the computation that does not depend on prompts.

        None (the default) if the backend has no such part.
        """
        return None

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """The masks of these prompts, each with its `prompt` set.

        Points and boxes: one mask per prompt, in order (or three, if the options ask for all candidates).
        Text and everything: any number.

        Args:
            image: the image.
            prompts: at least one, each of a kind in `accepts()` and inside the image.
            embedding: the result of `embed(image)`, or None to compute it here.
        """
        raise NotImplementedError


class Filter(Stage):
    """Selects or changes masks."""

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks to keep, possibly with changed pixels (`mask.with_array`).

        A mask missing from the list is recorded as dropped by this filter; return
        `mask.drop("why")` to record a reason as well.
        """
        raise NotImplementedError


class Writer(Stage):
    """Writes files from results.

    Class attributes:
        needs_pixels: False if `write` does not use the pixels of the image.
        takes: the statuses of the images passed to `finish`.
        folder_is_read: True if programs read the writer's folder as a whole and accept no other file in it, as
            Polars does; the record of an export is then put beside the folder.
    """

    needs_pixels: ClassVar[bool] = True
    takes: ClassVar[tuple[Status, ...]] = ("done", "empty")
    folder_is_read: ClassVar[bool] = False

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write this image's files below `folder`, with `maskmill.save`; called in a worker."""
        return []

    def finish(self, results: Iterator[ImageResult], folder: Path) -> Iterable[Artifact]:
        """Write the files about the whole dataset; called once in the main process, after the last image.

        Args:
            results: those with a status in `takes`, in key order, read one at a time; do not collect them.
            folder: this writer's folder.

        Returns:
            Every file made: a list or, where there is one for each image, a generator, which needs no memory for them.
        """
        return finish_results(self, results, folder) if has_entries(self) else []


@dataclass(frozen=True)
class Stages:
    """The plugins of a pipeline with their names in the file; writers with the name of their folder."""

    prompts: Sequence[tuple[str, PromptSource]]
    combine: str
    backend: tuple[str, Backend]
    filters: Sequence[tuple[str, Filter]] = ()
    writers: Sequence[tuple[str, Writer]] = ()

    def all(self) -> Iterator[tuple[str, str, Stage]]:
        """(role, name, stage) of each, in the order in which an image passes them."""
        yield from (("prompt source", name, stage) for name, stage in self.prompts)
        yield ("backend", *self.backend)
        yield from (("filter", name, stage) for name, stage in self.filters)
        yield from (("writer", name, stage) for name, stage in self.writers)

    def model_ids(self) -> ModelIds:
        """What identifies the models; complete after `prepare`."""
        return ModelIds(self.backend[1].model_id(), tuple(source_model(source) for _, source in self.prompts))

    def list_reachable(self) -> Sequence[tuple[str, PromptSource]]:
        """The sources that can be queried: where the first answer counts, none after one that always answers."""
        for index, (_, source) in enumerate(self.prompts if self.combine == "first" else ()):
            if source.always_answers:
                return self.prompts[: index + 1]
        return self.prompts

    def list_ahead(self) -> list[int]:
        """Positions of the sources for the prompt lane: those that wait; with `combine: first` also those before."""
        waiting = [index for index, (_, source) in enumerate(self.list_reachable()) if source.waits]
        return list(range(max(waiting, default=-1) + 1)) if self.combine == "first" else waiting

    def memory_per_worker(self) -> int | None:
        """Peak memory of one worker in bytes: of the backend and the sources with models; None if it is small."""
        sources = sum(source_memory(source) for _, source in self.prompts)
        return sources + (self.backend[1].memory_per_worker() or 0) or None

    def uses_gpu(self) -> bool:
        """Whether a stage computes on this machine's NVIDIA GPUs."""
        return any(uses_gpu(stage) for _, _, stage in self.all())

    def prepare(self, say: Callable[[str], None]) -> None:
        """Let each stage fetch what is missing on this machine."""
        for _, _, stage in self.all():
            prepare_stage(stage, say)
