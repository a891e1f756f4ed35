"""The prompts file that a person's work goes into: a line a save, on disk before it is acknowledged.

It is the file that the source `file` replays, `{"image": key, "prompts": [...], ...}` a line, of which
the last for a key counts. Saving appends. Lines of others stay as they are, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import threading
from codecs import BOM_UTF8
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from filelock import FileLock, Timeout

from maskmill import PipelineError, Problem, UsageError
from maskmill.files import TEMPORARY_PREFIX
from maskmill_plugins._shared.prompt_files.formats import JsonLinesReader

from .line_file import append, compact, mend, parsed

Status = Literal["todo", "done", "empty", "rejected"]
STATUSES: tuple[Status, ...] = ("todo", "done", "empty", "rejected")
SCHEMA = 1
#: What `tool` of a line that was written here begins with.
TOOL = "maskmill annotate"
#: The revision of an image that the file does not name.
NOTHING = "none"
#: Problems of a file that are told one by one.
TOLD = 20


@dataclass(frozen=True, slots=True)
class Line:
    """What is known of an image without reading its line again.

    Attributes:
        offset: where its line begins, in bytes.
        status: todo, done, empty or rejected.
        objects: number of prompts.
    """

    offset: int
    status: Status
    objects: int


class ChangedError(Exception):
    """Somebody else has saved this image meanwhile; what is there now is in `Store.read`."""


class Store:
    """A prompts file, held by this process alone; for any number of threads. A context manager.

    Args:
        path: the file; it is made by the first save.
        say: is told what was repaired.
    """

    def __init__(self, path: Path, say: Any = lambda line: None) -> None:
        self.path = path
        self._say = say
        self._alone = threading.RLock()
        self._held = FileLock(path.with_name(f".{path.name}.lock"))
        self._lines: dict[str, Line] = {}
        self._labels: dict[str, None] = {}
        self._state: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        """Take hold of the file, repair what a kill left, and read it.

        Raises:
            UsageError: another process has it, it cannot be written, or lines of it are wrong.
        """
        try:
            self._held.acquire(timeout=0)
        except Timeout:
            hint = "end the other `maskmill annotate`, or give this one another file by --prompts"
            raise UsageError(
                Problem("another `maskmill annotate` writes this file", str(self.path), hint=hint)
            ) from None
        except (OSError, NotImplementedError) as error:
            raise self._unwritable(error) from None
        try:
            self._begin()
        except BaseException:
            self._held.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        self._held.release()

    def lines(self) -> Mapping[str, Line]:
        """What is known of each image that the file names; a snapshot."""
        with self._alone:
            self._refresh()
            return dict(self._lines)

    def labels(self) -> list[str]:
        """The labels of all prompts, in the order in which they came."""
        with self._alone:
            self._refresh()
            return list(self._labels)

    def read(self, key: str) -> tuple[dict[str, Any] | None, str]:
        """What the file says of an image, None if nothing, and its revision."""
        with self._alone:
            self._refresh()
            return self._read(key)

    def save(self, key: str, revision: str, said: Mapping[str, Any]) -> str:
        """Append what is said of an image; it is on disk when this returns.

        Args:
            key: the image's.
            revision: of what this replaces.
            said: "prompts", "status" and more; fields that the line before has besides are carried on.

        Returns:
            The new revision.

        Raises:
            ChangedError: `revision` is not the current one.
            OSError: it could not be written; the file is as before.
        """
        with self._alone:
            self._refresh()
            before, current = self._read(key)
            if revision != current:
                raise ChangedError(key)
            line = {**(before or {}), **said, "image": key, "schema": SCHEMA}
            ordered = {name: line[name] for name in ("image", *(name for name in line if name != "image"))}
            raw = json.dumps(ordered, ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n"
            offset = append(self.path, raw)
            self._note(key, offset, ordered)
            self._state = self._stat()
            return _revision(raw)

    def _begin(self) -> None:
        if self.path.exists():
            try:
                self._tell(mend(self.path))
                problems = _problems(self.path)
            except OSError as error:
                raise self._unwritable(error) from None
            if problems:
                raise PipelineError(*problems)
            self._tell(compact(self.path, lambda data: str(data.get("tool", "")).startswith(TOOL)))
        else:
            self._probe()
        self._load()

    def _tell(self, line: str) -> None:
        if line:
            self._say(line)

    def _probe(self) -> None:
        """Find out early whether the file can be made; leaves none behind that was not there."""
        probe = self.path.with_name(f"{TEMPORARY_PREFIX}probe")
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: BaseException) -> UsageError:
        text = f"the prompts file cannot be written: {getattr(error, 'strerror', None) or error}"
        return UsageError(Problem(text, str(self.path), hint="give another by --prompts FILE.jsonl"))

    def _load(self) -> None:
        self._lines.clear()
        self._labels.clear()
        self._state = self._stat()
        for offset, _, data in parsed(self.path):
            self._note(data["image"], offset, data)

    def _refresh(self) -> None:
        """Read the file again if somebody has edited it."""
        if self._stat() != self._state:
            self._load()

    def _stat(self) -> tuple[int, int] | None:
        try:
            about = self.path.stat()
        except FileNotFoundError:
            return None
        return about.st_size, about.st_mtime_ns

    def _note(self, key: str, offset: int, data: Mapping[str, Any]) -> None:
        prompts = data.get("prompts") or []
        self._lines[key] = Line(offset, status_of(data), len(prompts))
        self._labels.update(dict.fromkeys(prompt["label"] for prompt in prompts if prompt.get("label")))

    def _read(self, key: str) -> tuple[dict[str, Any] | None, str]:
        line = self._lines.get(key)
        if line is None:
            return None, NOTHING
        with self.path.open("rb") as file:
            file.seek(line.offset)
            raw = file.readline()
        return json.loads(raw.removeprefix(BOM_UTF8)), _revision(raw)


def status_of(data: Mapping[str, Any]) -> Status:
    """The status that a line gives its image; a line without one, as people write, is done or empty."""
    said = data.get("status")
    if said in ("todo", "rejected"):
        return "todo" if said == "todo" else "rejected"
    return "done" if data.get("prompts") else "empty"


def _revision(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:24]


def _problems(path: Path) -> Sequence[Problem]:
    records = JsonLinesReader(path).records()
    found = [Problem(each.error, each.file, each.line) for each in records if each.error]
    if len(found) > TOLD:
        found[TOLD:] = [Problem(f"and {len(found) - TOLD} more lines", str(path))]
    return found
