"""A JSON Lines file that grows by a line at a time and is never left torn: append, mend, make smaller."""

from __future__ import annotations

import contextlib
import io
import json
import os
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from maskmill.files import atomic_path, unused_name

#: Bytes of lines that later ones have replaced, from which on they are taken out, if they are half of all.
WASTE = 1_000_000


def append(path: Path, raw: bytes) -> int:
    """Add a line; it is on disk when this returns.

    Returns:
        Where it begins, in bytes.

    Raises:
        OSError: it could not be written; the file is as before.
    """
    new = not path.exists()
    with path.open("ab", buffering=0) as file:  # a buffer would be written once more by truncating and closing
        offset = file.seek(0, os.SEEK_END)
        if offset and not _ends_line(path):  # an editor has left it so
            raw = b"\n" + raw
        try:
            rest = memoryview(raw)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:  # a full disk: half a line must not stay
            with contextlib.suppress(OSError):
                file.truncate(offset)
            raise
    if new:
        _sync_folder(path.parent)
    return offset + raw.startswith(b"\n")


def mend(path: Path) -> str:
    """Complete the last line: by its end, or, where a kill has torn it, by putting its piece aside; a line about it."""
    with path.open("r+b") as file:
        piece, offset = _unended(file)
        if not piece:
            return ""
        said = ""
        if _is_whole(piece):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        else:
            aside = unused_name(path, ".torn")
            _write_through(aside, piece)
            file.truncate(offset)
            said = f"the last line of {path.name} was torn; its {len(piece)} bytes are now in {aside.name}"
        file.flush()
        os.fsync(file.fileno())
    return said


def compact(path: Path, ours: Callable[[Mapping[str, Any]], bool]) -> str:
    """Take out lines that later ones have replaced, if they are most of the file; a line about it, or "".

    What was there before is kept beside it, as `.bak`.

    Args:
        path: the file.
        ours: whether a line may be taken out.
    """
    newest: dict[str, tuple[int, int, bool]] = {}
    stale: dict[int, int] = {}
    for offset, size, data in parsed(path):
        before, length, own = newest.get(data["image"], (0, 0, False))
        if own:
            stale[before] = length
        newest[data["image"]] = offset, size, ours(data)
    waste = sum(stale.values())
    if waste < WASTE or waste < path.stat().st_size / 2:
        return ""
    backup = path.with_name(f"{path.name}.bak")
    try:
        whole = path.read_bytes()
        with atomic_path(backup) as copy:
            _write_through(copy, whole)
        with atomic_path(path) as smaller:
            _write_through(smaller, b"".join(_without(whole, stale)))
    except OSError as error:  # it only saves room
        return f"{path.name} could not be made smaller: {error.strerror or error}"
    return f"{len(stale)} replaced lines were taken out of {path.name}; {backup.name} has them all"


def _without(whole: bytes, offsets: Mapping[int, int]) -> Iterator[bytes]:
    """The lines, but for those that begin there."""
    offset = 0
    for raw in io.BytesIO(whole):
        if offset not in offsets:
            yield raw
        offset += len(raw)


def parsed(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(offset, bytes, content) of each line about an image; others, left by an editor meanwhile, are passed over."""
    if not path.exists():
        return
    with path.open("rb") as file:
        offset = 0
        for raw in file:
            with contextlib.suppress(ValueError, RecursionError):
                data = json.loads(raw.removeprefix(BOM_UTF8)) if raw.strip() else None
                if isinstance(data, dict) and isinstance(data.get("image"), str) and _has_prompts(data):
                    yield offset, len(raw), data
            offset += len(raw)


def _has_prompts(data: Mapping[str, Any]) -> bool:
    prompts = data.get("prompts")
    return isinstance(prompts, list) and all(isinstance(prompt, dict) for prompt in prompts)


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
        return not piece.strip() or isinstance(json.loads(piece.removeprefix(BOM_UTF8)), dict)
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
