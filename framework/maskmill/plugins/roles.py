"""What a plugin subclasses: `PromptSource`, `Backend`, `Filter`, `Writer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..images import Image
from ..masks import Mask
from ..prompts import Prompt
from ..results import Artifact, ImageResult, Status
from .optional import prepare_stage
from .stage import Stage


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

    def kinds(self) -> frozenset[str] | None:
        """What its prompts can need of a backend ("points", "box", "text", "everything"), None if unknown.

        Lets `maskmill check` find a backend that does not take them.
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
        """Let each stage fetch what is missing on this machine."""
        for _, _, stage in self.all():
            prepare_stage(stage, say)
