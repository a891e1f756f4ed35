"""Writing files so that a kill leaves the old file or the new one, never half of one.

Names of outputs follow the image's key. They are made safe for every system here,
in one place: characters and names that Windows forbids are replaced, and a part
longer than 255 bytes is shortened with a hash of the whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

MAX_NAME_BYTES = 255
TEMPORARY_PREFIX = ".mm-"
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]')
_DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10)}


def safe_part(text: str, suffix: str = "") -> str:
    """One path component that every system accepts, at most 255 bytes with `suffix`.

    A text that has to be changed gets a hash of itself, so that two texts never
    become the same name.
    """
    part = _FORBIDDEN.sub("_", text.replace("/", "_")).rstrip(". ")
    if part.split(".")[0].strip().lower() in _DEVICES or part.startswith(TEMPORARY_PREFIX) or not part:
        part = "_" + part
    room = MAX_NAME_BYTES - len(os.fsencode(suffix))
    if part == text and len(os.fsencode(part)) <= room:
        return part + suffix
    mark = "~" + hashlib.sha256(os.fsencode(text)).hexdigest()[:10]
    kept = os.fsencode(part)[: room - len(mark)].decode("utf-8", "ignore")
    return kept + mark + suffix


def safe_path(name: str, suffix: str = "") -> str:
    """A POSIX path below an output folder, each part of it made safe by `safe_part`."""
    *folders, last = name.split("/")
    return "/".join([*(safe_part(folder) for folder in folders), safe_part(last, suffix)])


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` under a temporary name in the same folder, then rename.

    The temporary name depends on `path` alone, so that a second try after a kill
    overwrites what the first one left.
    """
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{digest}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(data)
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace(source: Path, target: Path, tries: int = 8) -> None:
    """`os.replace`, tried again while Windows says that another program holds the target.

    Virus scanners and indexers open fresh files for some tens of milliseconds.
    """
    for attempt in range(tries):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == tries - 1:
                raise
            time.sleep(0.02 * 2**attempt)


def leftovers(folder: Path) -> Iterator[Path]:
    """Temporary files below `folder` that a killed process left."""
    yield from folder.rglob(f"{TEMPORARY_PREFIX}*")
