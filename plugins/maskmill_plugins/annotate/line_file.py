"""A JSON Lines file that grows line by line and survives crashes: append, repair, compact."""

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

#: Replaced lines are removed when they take this many bytes and at least half of the file.
WASTE = 1_000_000


def append(path: Path, raw: bytes) -> int:
    """Append a line; it is on disk when this returns.

    Returns:
        Where it starts, in bytes.

    Raises:
        OSError: it could not be written; the file is unchanged.
    """
    new = not path.exists()
    with path.open("ab", buffering=0) as file:  # a buffer would be written again by truncate and close
        offset = file.seek(0, os.SEEK_END)
        if offset and not _ends_line(path):  # as some editors leave it
            raw = b"\n" + raw
        try:
            rest = memoryview(raw)
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:  # for example a full disk: no partial line may stay
            with contextlib.suppress(OSError):
                file.truncate(offset)
            raise
    if new:
        _sync_folder(path.parent)
    return offset + raw.startswith(b"\n")


def repair(path: Path) -> str:
    """End the last line, or move it to another file if it is incomplete after a crash.

    Returns:
        A line for the user about the moved bytes; "" if there are none.
    """
    with path.open("r+b") as file:
        piece, offset = _read_last_line(file)
        if not piece:
            return ""
        message = ""
        if _is_whole(piece):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        else:
            aside = unused_name(path, ".torn")
            _write_synced(aside, piece)
            file.truncate(offset)
            message = f"the last line of {path.name} was incomplete; its {len(piece)} bytes are now in {aside.name}"
        file.flush()
        os.fsync(file.fileno())
    return message


def compact(path: Path, ours: Callable[[Mapping[str, Any]], bool]) -> str:
    """Remove replaced lines if they are most of the file, keeping the previous file as `.bak`.

    Args:
        path: the file.
        ours: whether a line may be removed.

    Returns:
        A line for the user; "" if nothing was done.
    """
    newest: dict[str, tuple[int, int, bool]] = {}
    stale: dict[int, int] = {}
    for offset, size, data in read_lines(path):
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
            _write_synced(copy, whole)
        with atomic_path(path) as smaller:
            _write_synced(smaller, b"".join(_drop_lines(whole, stale)))
    except OSError as error:  # not fatal: compacting only saves space
        return f"{path.name} could not be compacted: {error.strerror or error}"
    return f"removed {len(stale)} replaced lines from {path.name}; {backup.name} is the file as it was"


def _drop_lines(whole: bytes, offsets: Mapping[int, int]) -> Iterator[bytes]:
    """The lines except those that start at these offsets."""
    offset = 0
    for raw in io.BytesIO(whole):
        if offset not in offsets:
            yield raw
        offset += len(raw)


def read_lines(path: Path) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """(offset, bytes, content) of each line about an image; invalid lines, as after an edit, are skipped."""
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


def _read_last_line(file: Any) -> tuple[bytes, int]:
    """The bytes after the last newline, and where they start."""
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


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the name of a new file survive a power failure; Windows does that itself."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
