"""A JSON Lines file about images that one server writes: each save appends a line, on disk before it is acknowledged.

The last line of a key counts. Lines of other origin stay byte for byte as they are.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from filelock import FileLock, Timeout

from maskmill import PipelineError, Problem, UsageError
from maskmill.files import TEMPORARY_PREFIX

from .line_file import append, read_lines, repair

#: The revision of an image without a line.
NO_REVISION = "none"


class Summary(Protocol):
    """The facts about an image's line that are kept in memory."""

    @property
    def offset(self) -> int:
        """Where the line starts, in bytes."""


S = TypeVar("S", bound=Summary)


class ChangedError(Exception):
    """The image has been saved by someone else in the meantime; `LockedLines.read` gives that entry."""


class LockedLines(ABC, Generic[S]):
    """A file of lines, locked by this process; thread-safe. A context manager.

    Args:
        path: the file; created by the first save.
        report: called with a line about each repair.
        find_key: the image that a line's name means; by default the one of this very key.
    """

    #: What the file is, the command that locks it, and the option that names another one, for messages.
    kind: ClassVar[str]
    command: ClassVar[str]
    option: ClassVar[str]

    def __init__(
        self,
        path: Path,
        report: Callable[[str], None] = lambda line: None,
        find_key: Callable[[str], str] = lambda name: name,
    ) -> None:
        self.path = path
        self._report = report
        self._find_key = find_key
        self._mutex = threading.RLock()
        self._file_lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._lines: dict[str, S] = {}
        self._labels: dict[str, tuple[str, ...]] = {}
        self._state: tuple[int, int] | None = None
        self.forget_lines()

    @abstractmethod
    def summarize(self, offset: int, data: Mapping[str, Any]) -> S:
        """What is kept in memory of a line."""

    @abstractmethod
    def find_problems(self) -> Sequence[Problem]:
        """What is wrong with the lines of the file, which exists."""

    @abstractmethod
    def compact(self) -> str:
        """Make the file smaller if that is worth it; returns a line for the user, or ""."""

    @abstractmethod
    def merge(self, before: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a new line but for its "image", given the one that it replaces."""

    def __enter__(self) -> Self:
        """Lock the file, repair what a killed process left, and read it.

        Raises:
            UsageError: another process has locked it, or it cannot be written.
            PipelineError: some of its lines are wrong.
        """
        try:
            self._file_lock.acquire(timeout=0)
        except Timeout:
            hint = f"stop the other `maskmill {self.command}`, or use another file with {self.option}"
            text = f"another `maskmill {self.command}` is using this file"
            raise UsageError(Problem(text, str(self.path), hint=hint)) from None
        except (OSError, NotImplementedError) as error:
            raise self._not_writable(error) from None
        try:
            self._open()
        except BaseException:
            self._file_lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Unlock the file."""
        self._file_lock.release()

    def lines(self) -> dict[str, S]:
        """A copy of the line summaries, by image."""
        with self._mutex:
            self._refresh()
            return dict(self._lines)

    def find(self, key: str) -> S | None:
        """The summary of an image's line, None if it has none."""
        with self._mutex:
            self._refresh()
            return self._lines.get(key)

    def labels(self) -> list[str]:
        """The labels of the objects of all images, in the order of these; those of replaced lines are forgotten."""
        return list(dict.fromkeys(label for labels in self.labels_by_image().values() for label in labels))

    def labels_by_image(self) -> dict[str, tuple[str, ...]]:
        """The labels of the objects of each image."""
        with self._mutex:
            self._refresh()
            return dict(self._labels)

    def read(self, key: str) -> tuple[dict[str, Any] | None, str]:
        """The content of an image's line, None if there is none, and its revision."""
        with self._mutex:
            self._refresh()
            return self._read(key)

    def read_at(self, offset: int) -> tuple[dict[str, Any], str]:
        """The content of the line that starts at an offset in bytes, as a summary has it, and its revision."""
        with self.path.open("rb") as file:
            file.seek(offset)
            raw = file.readline()
        return json.loads(raw.removeprefix(BOM_UTF8)), _revision(raw)

    def save(self, key: str, revision: str, entry: Mapping[str, Any]) -> str:
        """Append a line for an image; it is on disk when this returns.

        Args:
            key: of the image.
            revision: of the line that this one replaces.
            entry: "prompts" and more.

        Returns:
            The new revision.

        Raises:
            ChangedError: `revision` is not the current one.
            OSError: it could not be written; the file is unchanged.
        """
        with self._mutex:
            self._refresh()
            before, current = self._read(key)
            if revision != current:
                raise ChangedError(key)
            return self._append({key: self.merge(before, entry)})[key]

    def _append(self, contents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
        """Append a line for each of these images, all or none; returns their new revisions."""
        lines = {key: {"image": key, **content} | {"image": key} for key, content in contents.items()}
        raws = {key: _encode(line) for key, line in lines.items()}
        offset = append(self.path, b"".join(raws.values()))
        for key, line in lines.items():
            self.add_line(key, offset, line)
            offset += len(raws[key])
        self._state = self._stat()
        return {key: _revision(raw) for key, raw in raws.items()}

    def _open(self) -> None:
        if self.path.exists():
            try:
                self._report_line(repair(self.path))
                problems = self.find_problems()
            except OSError as error:
                raise self._not_writable(error) from None
            if problems:
                raise PipelineError(*problems)
            self._report_line(self.compact())
        else:
            self._check_writable()
        self._load()

    def _report_line(self, line: str) -> None:
        if line:
            self._report(line)

    def _check_writable(self) -> None:
        """Check at the start that the file can be created, without leaving one behind."""
        probe = self.path.with_name(f"{TEMPORARY_PREFIX}probe")
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise self._not_writable(error) from None

    def _not_writable(self, error: BaseException) -> UsageError:
        text = f"the {self.kind} cannot be written: {getattr(error, 'strerror', None) or error}"
        return UsageError(Problem(text, str(self.path), hint=f"use another file with {self.option} FILE.jsonl"))

    def _load(self) -> None:
        self.forget_lines()
        self._state = self._stat()
        written: set[str] = set()
        for offset, _, data in read_lines(self.path):
            name, key = data["image"], self._find_key(data["image"])
            if name == key:
                written.add(key)
            if name == key or key not in written:  # as the source `file`: the very key before other spellings
                self.add_line(key, offset, data)

    def _refresh(self) -> None:
        """Read the file again if it was edited."""
        if self._stat() != self._state:
            self._load()

    def _stat(self) -> tuple[int, int] | None:
        try:
            about = self.path.stat()
        except FileNotFoundError:
            return None
        return about.st_size, about.st_mtime_ns

    def forget_lines(self) -> None:
        """The file is read anew."""
        self._lines.clear()
        self._labels.clear()

    def add_line(self, key: str, offset: int, data: Mapping[str, Any]) -> None:
        """A line was read or written: from now on it is the one that counts."""
        self._lines[key] = self.summarize(offset, data)
        prompts = data.get("prompts") or []
        self._labels[key] = tuple(sys.intern(str(prompt["label"])) for prompt in prompts if prompt.get("label"))

    def _read(self, key: str) -> tuple[dict[str, Any] | None, str]:
        line = self._lines.get(key)
        return (None, NO_REVISION) if line is None else self.read_at(line.offset)


def _encode(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(", ", ": ")).encode() + b"\n"


def _revision(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:24]
