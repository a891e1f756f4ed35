"""What a plugin subclasses: `PromptSource`, `Backend`, `Filter`, `Writer`.

A stage is a pydantic model: its fields are the options that users write in YAML,
their descriptions are the documentation. State that is not an option lives in
attributes that begin with an underscore, made in `open()`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.config import JsonDict

from .errors import Problem
from .images import Image, ImageRef
from .inventory import Item, Survey
from .masks import Mask
from .prompts import Prompt
from .results import Artifact, ImageResult, Status

#: `Field(..., json_schema_extra=NO_EFFECT)` marks an option that cannot change any result
#: (a device, a retry count, a key): changing it redoes nothing.
NO_EFFECT: JsonDict = {"affects_results": False}

Network = Literal["none", "lan", "internet"]

_notes: ContextVar[dict[str, Any] | None] = ContextVar("maskmill_notes", default=None)
_story: ContextVar[Callable[[str], None] | None] = ContextVar("maskmill_story", default=None)
_folder: ContextVar[Path | None] = ContextVar("maskmill_folder", default=None)


@contextmanager
def collecting(into: dict[str, Any], story: Callable[[str], None] | None = None) -> Iterator[None]:
    """While this is open, `Stage.note` and `Stage.tell` of this thread write into the dictionary and the story."""
    tokens = _notes.set(into), _story.set(story)
    try:
        yield
    finally:
        _notes.reset(tokens[0])
        _story.reset(tokens[1])


@contextmanager
def working_in(folder: Path | None) -> Iterator[None]:
    """While this is open, `run_folder` gives this folder."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def run_folder() -> Path | None:
    """The output folder of the run, None outside a run; known while `Stage.open` and `Writer.finish` run.

    For what a stage has to keep from one start of a run to the next, such as what it has spent.
    """
    return _folder.get()


def worker_threads() -> int:
    """How many threads this worker may use: cores divided by workers, set by the run."""
    return int(os.environ.get("MASKMILL_THREADS") or os.cpu_count() or 1)


class Stage(BaseModel):
    """Base of everything a pipeline file names under `use:`.

    Class attributes:
        requires: importable packages it needs; checked before the run starts.
        extra: the maskmill extra that installs them (`pip install "maskmill[extra]"`), or "".
        version: raise it when the same options give other results; enters the fingerprint.
        network: how far it reaches: "none", "lan" or "internet".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), validate_default=False)

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    version: ClassVar[int] = 1
    network: ClassVar[Network] = "none"

    @classmethod
    def from_options(cls, options: Mapping[str, Any], base: Path | None = None) -> Self:
        """A stage from options as they come from YAML, strictly validated.

        pydantic's strict JSON mode: it takes lists for tuples, text for paths and ints for
        floats, and refuses `"no"` for a bool or `1.0` for an int.

        Args:
            options: plain data.
            base: the folder that relative paths are relative to; None leaves them as they are.

        Raises:
            pydantic.ValidationError: an option is unknown or has a wrong value.
        """
        return cls.model_validate_json(json.dumps(dict(options)), strict=True, context={"base": base})

    def check(self) -> list[Problem]:
        """What is wrong that can be found without working: missing files, bad combinations.

        Runs in the driver before the first image; cheap, and imports nothing heavy.
        """
        return []

    def reaches(self) -> Network:
        """How far it reaches with these options, for `--offline`; `network`, unless the stage knows better."""
        return self.network

    def prepare(self, say: Callable[[str], None]) -> None:
        """Get what is missing on this machine, such as a download; once in the driver, before any worker opens it.

        Args:
            say: takes a line for the user.
        """

    def open(self) -> None:
        """Get ready (load a model, read a file); once in each worker, before its first image."""

    def close(self) -> None:
        """Release what `open` took; once in each worker, at its end."""

    def note(self, name: str, value: Any) -> None:
        """Put a JSON value into the current image's result, under this plugin's name."""
        notes = _notes.get()
        if notes is not None:
            notes[name] = value

    def tell(self, line: str) -> None:
        """Add a line to the current image's story, which `-v` shows."""
        story = _story.get()
        if story is not None:
            story(line)

    def forecast(self, refs: Sequence[ImageRef], output: Path) -> list[str]:
        """What this stage will take that has a price, in lines for `--dry-run`. Called without `open`.

        Args:
            refs: the images that it will be given.
            output: the run's output folder, which may not exist yet.
        """
        return []

    def objection(self, refs: Sequence[ImageRef], output: Path) -> str:
        """Why a run over these images should not start before the user said `--yes`, "" if it may.

        Called in the driver, without `open`, before anything is done; arguments as of `forecast`.
        """
        return ""

    def missing(self) -> list[Problem]:
        """A problem for each package of `requires` that is not installed."""
        return [self._missing(name) for name in self.requires if not installed(name)]

    def _missing(self, package: str) -> Problem:
        what = f"maskmill[{self.extra}]" if self.extra else package
        return Problem(f"needs the package {package!r}, which is not installed", hint=f'pip install "{what}"')

    def digest(self) -> str:
        """16 hexadecimal digits of all that decides this stage's results: class, version, options.

        Options marked `NO_EFFECT` are left out.
        """
        cls = type(self)
        ignored = {
            name
            for name, field in cls.model_fields.items()
            if (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("affects_results") is False)
            or "SecretStr" in str(field.annotation)
        }
        options = self.model_dump(mode="json", exclude=ignored)
        return digest([cls.__qualname__, cls.version, options])

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self).model_fields:
            raise AttributeError(
                f"{type(self).__name__} has no option {name!r}; keep state in an underscore attribute:"
                f" self._{name} = ..."
            )
        super().__setattr__(name, value)

    @field_validator("*", mode="after")
    @classmethod
    def _relative_to_the_pipeline_file(cls, value: Any, info: ValidationInfo) -> Any:
        base = (info.context or {}).get("base")
        if base is None:
            return value
        if isinstance(value, Path):
            return base / value.expanduser()
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, Path) for item in value):
            return type(value)(base / item.expanduser() for item in value)
        return value


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


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def installed(package: str) -> bool:
    """Whether a package could be imported; does not import it."""
    return importlib.util.find_spec(package) is not None


__all__ = [
    "NO_EFFECT",
    "Backend",
    "Filter",
    "PromptSource",
    "Stage",
    "Stages",
    "Writer",
    "digest",
    "run_folder",
    "worker_threads",
]
