"""What all plugins of a pipeline have in common: options, a check, a life in a worker.

A stage is a pydantic model: its fields are the options that users write in YAML,
their descriptions are the documentation. State that is not an option lives in
attributes that begin with an underscore, made in `open()`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.config import JsonDict

from ..errors import Problem

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


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def installed(package: str) -> bool:
    """Whether a package could be imported; does not import it."""
    return importlib.util.find_spec(package) is not None
