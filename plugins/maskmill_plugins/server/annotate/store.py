"""The prompts file that a person's work goes into: a line a save, on disk before it is acknowledged.

It is the file that the source `file` replays, `{"image": key, "prompts": [...], ...}` a line, of which
the last for a key counts. Saving appends. Lines of others stay as they are, byte for byte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from filelock import FileLock, Timeout

from maskmill import PipelineError, Problem, UsageError
from maskmill.files import TEMPORARY_PREFIX, replace
from maskmill_plugins._shared.promptfiles import JsonLines

Status = Literal["todo", "done", "empty", "rejected"]
STATUSES: tuple[Status, ...] = ("todo", "done", "empty", "rejected")
SCHEMA = 1
#: What `tool` of a line that was written here begins with.
TOOL = "maskmill annotate"
#: The revision of an image that the file does not name.
NOTHING = "none"
#: Bytes of lines that later ones have replaced, from which on they are taken out at a start, if they are half of all.
WASTE = 1_000_000
#: Problems of a file that are told one by one.
TOLD = 20
_BOM = b"\xef\xbb\xbf"


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
            offset = self._append(raw)
            self._note(key, offset, ordered)
            self._state = self._stat()
            return _revision(raw)

    def _begin(self) -> None:
        if self.path.exists():
            try:
                self._mend()
                problems = _problems(self.path)
            except OSError as error:
                raise self._unwritable(error) from None
            if problems:
                raise PipelineError(*problems)
            self._compact()
        else:
            self._probe()
        self._load()

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

    def _mend(self) -> None:
        """Complete the last line: by its end, or, where a kill has torn it, by putting its piece aside."""
        with self.path.open("r+b") as file:
            piece, offset = _unended(file)
            if not piece:
                return
            if _is_whole(piece):
                file.seek(0, os.SEEK_END)
                file.write(b"\n")
            else:
                aside = self._free_name(".torn")
                _write_through(aside, piece)
                file.truncate(offset)
                self._say(f"the last line of {self.path.name} was torn; its {len(piece)} bytes are now in {aside.name}")
            file.flush()
            os.fsync(file.fileno())

    def _free_name(self, ending: str) -> Path:
        number = 1
        while (path := self.path.with_name(f"{self.path.name}{ending}{number}")).exists():
            number += 1
        return path

    def _load(self) -> None:
        self._lines.clear()
        self._labels.clear()
        self._state = self._stat()
        for offset, _, data in _parsed(self.path):
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
        return json.loads(raw.removeprefix(_BOM)), _revision(raw)

    def _append(self, raw: bytes) -> int:
        new = not self.path.exists()
        with self.path.open("ab") as file:
            offset = file.seek(0, os.SEEK_END)
            if offset and not _ends_line(self.path):  # an editor has left it so
                raw = b"\n" + raw
            try:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            except OSError:  # a full disk: half a line must not stay
                with contextlib.suppress(OSError):
                    file.truncate(offset)
                raise
        if new:
            _sync_folder(self.path.parent)
        return offset + raw.startswith(b"\n")

    def _compact(self) -> None:
        """Take out lines written here that later ones have replaced, if they are most of the file.

        What was there before is kept beside it, as `.bak`.
        """
        last = {data["image"]: offset for offset, _, data in _parsed(self.path)}
        stale = {
            offset: size
            for offset, size, data in _parsed(self.path)
            if last[data["image"]] != offset and str(data.get("tool", "")).startswith(TOOL)
        }
        waste = sum(stale.values())
        if waste < WASTE or waste < self.path.stat().st_size / 2:
            return
        try:
            self._rewrite(stale)
        except OSError as error:  # it only saves room
            self._say(f"{self.path.name} could not be made smaller: {error.strerror or error}")

    def _rewrite(self, stale: Mapping[int, int]) -> None:
        kept = self.path.with_name(f"{TEMPORARY_PREFIX}{self.path.name}")
        backup = self.path.with_name(f"{self.path.name}.bak")
        try:
            _write_through(kept, self.path.read_bytes())
            replace(kept, backup)
            with self.path.open("rb") as old, kept.open("wb") as new:
                offset = 0
                for raw in old:
                    if offset not in stale:
                        new.write(raw)
                    offset += len(raw)
                new.flush()
                os.fsync(new.fileno())
            replace(kept, self.path)
        finally:
            kept.unlink(missing_ok=True)
        self._say(f"{len(stale)} replaced lines were taken out of {self.path.name}; {backup.name} has them all")


def status_of(data: Mapping[str, Any]) -> Status:
    """The status that a line gives its image; a line without one, as people write, is done or empty."""
    said = data.get("status")
    if said in ("todo", "rejected"):
        return "todo" if said == "todo" else "rejected"
    return "done" if data.get("prompts") else "empty"


def _revision(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:24]


def _parsed(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(offset, bytes, content) of each line about an image; others, left by an editor meanwhile, are passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        offset = 0
        for raw in file:
            with contextlib.suppress(ValueError, RecursionError):
                data = json.loads(raw.removeprefix(_BOM)) if raw.strip() else None
                if isinstance(data, dict) and isinstance(data.get("image"), str) and _has_prompts(data):
                    yield offset, len(raw), data
            offset += len(raw)


def _has_prompts(data: Mapping[str, Any]) -> bool:
    prompts = data.get("prompts")
    return isinstance(prompts, list) and all(isinstance(prompt, dict) for prompt in prompts)


def _problems(path: Path) -> Sequence[Problem]:
    said = JsonLines(path).everything()
    found = [Problem(each.fault, each.file, each.line) for each in said if each.fault]
    if len(found) > TOLD:
        found[TOLD:] = [Problem(f"and {len(found) - TOLD} more lines", str(path))]
    return found


def _unended(file: Any) -> tuple[bytes, int]:
    """What follows the last end of a line, and where it begins."""
    end = file.seek(0, os.SEEK_END)
    piece, start = b"", end
    while start > 0 and b"\n" not in piece:
        start = max(0, start - 65536)
        file.seek(start)
        piece = file.read(end - start)
    cut = piece.rfind(b"\n") + 1
    return piece[cut:], start + cut


def _is_whole(piece: bytes) -> bool:
    try:
        return not piece.strip() or isinstance(json.loads(piece.removeprefix(_BOM)), dict)
    except (ValueError, RecursionError):
        return False


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """So that the name of a new file survives a power cut too; Windows does that by itself."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
