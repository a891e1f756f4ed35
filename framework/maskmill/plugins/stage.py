"""`Stage`, the base of all plugins of a pipeline: options, `check`, `open` and `close`.

A stage is a pydantic model. Its fields are the options that users write in YAML, and the fields'
descriptions are the documentation. Other state belongs in attributes that begin with an underscore,
set in `open()`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo

from ..errors import Problem
from ..files import expand_home
from ..results import Doubt
from ..storage import restore_address
from .packages import is_installed, package_of
from .threads import worker_threads as worker_threads  # noqa: PLC0414 - plugins of users import it from here

#: `Field(..., json_schema_extra=NO_EFFECT)` marks an option that cannot change any result, such as
#: a device, a retry count or a key. When it changes, existing results stay valid.
NO_EFFECT: JsonDict = {"affects_results": False}
#: `Field(..., json_schema_extra=ONLY_IF_SET)` marks an option added to a plugin that is in use already: as
#: long as it has its default value, results made before it existed stay valid.
ONLY_IF_SET: JsonDict = {"affects_results": "if set"}
#: The JSON Schema's `format` of an option that takes the path of a folder or file, or a name of another kind.
PATH_OR_NAME = "path-or-name"

Network = Literal["none", "lan", "internet"]

_notes: ContextVar[dict[str, Any] | None] = ContextVar("maskmill_notes", default=None)
_doubts: ContextVar[list[Doubt] | None] = ContextVar("maskmill_doubts", default=None)
_story: ContextVar[Callable[[str], None] | None] = ContextVar("maskmill_story", default=None)
_folder: ContextVar[Path | None] = ContextVar("maskmill_folder", default=None)


@contextmanager
def collecting(
    into: dict[str, Any], story: Callable[[str], None] | None = None, doubts: list[Doubt] | None = None
) -> Iterator[None]:
    """Within the block, `Stage.note`, `tell` and `doubt` write to `into`, `story`, `doubts`, in this thread only."""
    tokens = _notes.set(into), _story.set(story), _doubts.set(doubts)
    try:
        yield
    finally:
        _notes.reset(tokens[0])
        _story.reset(tokens[1])
        _doubts.reset(tokens[2])


@contextmanager
def working_in(folder: Path | None) -> Iterator[None]:
    """Within the block, `run_folder` returns this folder."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def run_folder() -> Path | None:
    """The run's output folder, during `Stage.open` and `Writer.finish`; None otherwise.

    For what a stage has to remember when a run is resumed, such as money spent.
    """
    return _folder.get()


class Stage(BaseModel):
    """Base of every plugin that a pipeline file selects with `use:`.

    Class attributes:
        requires: importable packages it needs; checked before the run starts.
        extra: the maskmill extra that installs them (`pip install "maskmill[extra]"`), or "".
        version: increase it when the same options give different results; part of the fingerprint.
        network: how far it reaches: "none", "lan" or "internet".
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), validate_default=False)

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    version: ClassVar[int] = 1
    network: ClassVar[Network] = "none"

    @classmethod
    def from_options(cls, options: Mapping[str, Any], base: Path | None = None) -> Self:
        """Create a stage from options as in YAML, validated strictly.

        This is pydantic's strict JSON mode: it accepts lists for tuples, text for paths and ints for
        floats, and rejects `"no"` for a bool or `1.0` for an int.

        Args:
            options: plain data.
            base: the folder that relative paths start from; None leaves them unchanged.

        Raises:
            pydantic.ValidationError: an option is unknown or its value is invalid.
        """
        return cls.model_validate_json(json.dumps(dict(options)), strict=True, context={"base": base})

    def check(self) -> list[Problem]:
        """Problems that can be found before the run, such as missing files or options that exclude each other.

        Called in the main process; must be fast and import nothing heavy.
        """
        return []

    def open(self) -> None:
        """Load the model, read the file; called once in each worker, before its first image."""

    def close(self) -> None:
        """Release what `open` acquired; called once in each worker, at its end."""

    def note(self, name: str, value: Any) -> None:
        """Store a JSON value in the current image's result, under this plugin's name."""
        notes = _notes.get()
        if notes is not None:
            notes[name] = value

    def doubt(self, code: str, message: str) -> None:
        """Mark the current image's result as doubtful: it is kept, and counted until somebody has looked at it.

        Args:
            code: a key of `maskmill.results.DOUBTS`; users can turn it into a failure with `fail_on`.
            message: what is doubtful, for the user.
        """
        doubt = Doubt(code, message)
        doubts = _doubts.get()
        if doubts is not None and doubt not in doubts:
            doubts.append(doubt)

    def tell(self, line: str) -> None:
        """Print a line about the current image, if the run is verbose (`-v`); in `Writer.finish`, in any case."""
        story = _story.get()
        if story is not None:
            story(line)

    def missing(self) -> list[Problem]:
        """A problem for each package of `requires` that is not installed."""
        return [self._missing(name) for name in self.requires if not is_installed(name)]

    def _missing(self, package: str) -> Problem:
        wanted = f"maskmill[{self.extra}]" if self.extra else package_of(package)
        return Problem(f"needs the package {package!r}, which is not installed", hint=f'pip install "{wanted}"')

    def digest(self) -> str:
        """16 hexadecimal digits for everything that decides this stage's results: class, version, options.

        Secrets and options marked `NO_EFFECT` are not included, nor `ONLY_IF_SET` ones at their defaults.
        """
        cls = type(self)
        ignored = {
            name
            for name, field in cls.model_fields.items()
            if (effect := _effect_of(field)) is False
            or (effect == "if set" and getattr(self, name) == field.get_default(call_default_factory=True))
            or "SecretStr" in str(field.annotation)
        }
        options = self.model_dump(mode="json", exclude=ignored)
        return digest([cls.__qualname__, cls.version, options])

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """The options that were given."""
        return ((name, value) for name, value in super().__repr_args__() if name in self.model_fields_set)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in type(self).model_fields:
            raise AttributeError(
                f"{type(self).__name__} has no option {name!r}; for internal state, use an underscore attribute:"
                f" self._{name} = ..."
            )
        super().__setattr__(name, value)

    @field_validator("*", mode="after")
    @classmethod
    def _resolve_paths(cls, value: Any, info: ValidationInfo) -> Any:
        base = (info.context or {}).get("base")
        if base is None:
            return value
        if isinstance(value, Path):
            return _resolve(value, base)
        if isinstance(value, (list, tuple)) and value and all(isinstance(item, Path) for item in value):
            return type(value)(_resolve(item, base) for item in value)
        return value


def _resolve(path: Path, base: Path) -> Path:
    """The path from its base; an address stays as it is, for those plugins that read from object storage."""
    return path if restore_address(path) else expand_home(path, base)


def _effect_of(field: FieldInfo) -> object:
    """Whether an option affects results: True, False, or "if set" (see `ONLY_IF_SET`)."""
    extra = field.json_schema_extra
    return extra.get("affects_results", True) if isinstance(extra, dict) else True


def digest(value: Any) -> str:
    """A hash of a JSON value, 16 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
