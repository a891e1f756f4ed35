"""Writing files so that a killed process leaves the old file or the new one, never half of one.

Names of outputs follow the image's key. Here they are made safe for every system:
characters and names that Windows forbids are replaced, and a part longer than
255 bytes is shortened, with a hash of the whole.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

MAX_NAME_BYTES = 255
TEMPORARY_PREFIX = ".mm-"
_FORBIDDEN = re.compile(r'[<>:"/|?*\\\x00-\x1f\x7f\ud800-\udfff]')
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"
}
_HASH_SUFFIX = re.compile(r"~[0-9a-f]{16}$")


def safe_part(text: str, suffix: str = "") -> str:
    """One path component that every system accepts, at most 255 bytes with `suffix`.

    A text that has to be changed gets a hash of itself, so that two texts never become
    the same name (64 bits: enough unless collisions are made on purpose).

    Raises:
        ValueError: the suffix, which comes from the program, is not safe itself.
    """
    room = _count_room(suffix)
    part = _FORBIDDEN.sub("_", text).rstrip(". ")
    if part.split(".")[0].strip().lower() in _DEVICES or part.startswith(TEMPORARY_PREFIX) or not part:
        part = "_" + part
    if part == text and len(_encode(part)) <= room and not _HASH_SUFFIX.search(part):
        return part + suffix
    mark = "~" + hashlib.sha256(_encode(text)).hexdigest()[:16]
    kept = _encode(part)[: room - len(mark)].decode("utf-8", "ignore")
    return kept + mark + suffix


@functools.cache
def _count_room(suffix: str) -> int:
    """Bytes that a file name may have before this suffix."""
    if _FORBIDDEN.search(suffix) or len(_encode(suffix)) > 64 or suffix.endswith((".", " ")):
        raise ValueError(f"{suffix!r} cannot end a file name")
    return MAX_NAME_BYTES - len(_encode(suffix))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a label from JSON may hold lone surrogates


def safe_path(name: str, suffix: str = "") -> str:
    """A POSIX path below an output folder, each part of it made safe by `safe_part`.

    Neither `..` nor a leading slash leads out of the folder: no part stays empty or all dots.
    No file of this suffix can take the name of a folder that another needs: a folder that ends
    with the suffix gets a hash (from the NUL, which no real name contains).
    """
    folders, slash, last = name.rpartition("/")
    return _safe_folders(folders, suffix) + safe_part(last, suffix) if slash else safe_part(last, suffix)


@functools.lru_cache(4096)
def _safe_folders(folders: str, suffix: str) -> str:
    """The folders of a path, made safe, with a slash at the end."""
    ends = suffix.lower() or "\0"
    parts = [f"{folder}\0" if folder.lower().endswith(ends) else folder for folder in folders.split("/")]
    return "".join(f"{safe_part(part)}/" for part in parts)


def quote_command(parts: Sequence[str]) -> str:
    """A command line, quoted for this system's shell."""
    return subprocess.list2cmdline(parts) if sys.platform == "win32" else shlex.join(parts)


def absolute_path(path: Path) -> Path:
    """The path from the root; links are not resolved, users see their own path."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def expand_home(path: Path | str, base: Path) -> Path:
    """`path` below `base`, with the home folder for `~` and `~user`; a file that exists as written means itself.

    Raises:
        ValueError: there is no such user.
    """
    path = Path(path)
    try:
        return base / path.expanduser()
    except RuntimeError:  # pathlib's, for a user that the system does not know
        if os.path.lexists(base / path):
            return base / path
    raise ValueError(f"the path '{path}' begins with the home folder of the user {path.parts[0][1:]!r}, who is unknown")


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one piece: see `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


#: Root of an output -> the folder of its temporary files.
_gathered: dict[Path, Path] = {}


def gather_temporary_files(root: Path) -> None:
    """From now on, `atomic_path` writes what goes below this folder to one place, where a sweep finds what is left."""
    _gathered[root] = root / f"{TEMPORARY_PREFIX}files"


def release_temporary_files(root: Path) -> None:
    """Undo `gather_temporary_files`, and remove its folder if it is empty."""
    if (folder := _gathered.pop(root, None)) is not None:
        with suppress(OSError):
            folder.rmdir()


def _choose_folder(path: Path) -> Path:
    """The folder for the temporary file of a path."""
    folder = next((folder for root, folder in _gathered.items() if path.is_relative_to(root)), None)
    if folder is None or path.parent == folder.parent:
        return path.parent
    folder.mkdir(exist_ok=True)
    return folder if folder.stat().st_dev == path.parent.stat().st_dev else path.parent


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file name; it becomes `path` when the block ends, or is removed if it raises.

    The name is another one each time, so that two processes, on two machines perhaps, that write the same file do not
    tear each other's. It is in the folder of `gather_temporary_files`, if that is on the same disk, else in the file's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _choose_folder(path) / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        yield temporary
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def replace(source: Path, target: Path, tries: int = 8) -> None:
    """Rename over an existing file; on Windows, retried while another program has the target open.

    Virus scanners and indexers open fresh files for some tens of milliseconds.
    """
    for attempt in range(tries):
        try:
            source.replace(target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == tries - 1:
                raise
            time.sleep(0.02 * 2**attempt)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_known: dict[tuple[str, int, int], str] = {}


def hash_once(path: Path) -> str:
    """SHA-256 of a large file's content, hexadecimal; read once as long as its size and time stay the same."""
    stat = path.stat()
    key = str(path), stat.st_size, stat.st_mtime_ns
    if key not in _known:
        _known[key] = sha256_of(path)
    return _known[key]


def known_hashes() -> tuple[tuple[str, int, int, str], ...]:
    """(path, size, modification time in nanoseconds, SHA-256) of each file that `hash_once` has read."""
    return tuple((*key, sha256) for key, sha256 in _known.items())


def adopt_hashes(hashes: Iterable[tuple[str, int, int, str]]) -> None:
    """Take over what `hash_once` has read in another process."""
    _known.update({(path, size, mtime): sha256 for path, size, mtime, sha256 in hashes})


def unused_name(path: Path, ending: str) -> Path:
    """The path with `ending` and the first number from 1 that no file has yet."""
    number = 1
    while (free := path.with_name(f"{path.name}{ending}{number}")).exists():
        number += 1
    return free


def walk_files(folder: Path) -> Iterator[Path]:
    """The files below a folder in no order, links included, not followed; unlike `rglob` it holds no listing."""
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, PermissionError):  # as `rglob`; another process may have removed it
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from walk_files(Path(entry.path))
            else:
                yield Path(entry.path)


def find_leftovers(folder: Path, deep: bool = True) -> Iterator[Path]:
    """Temporary files below `folder` that a killed process left.

    Args:
        folder: to search.
        deep: search every folder below it; else only it, the folders in it, and that of `gather_temporary_files`.
    """
    if deep:
        files = walk_files(folder)
        return (path for path in files if TEMPORARY_PREFIX in (path.name[:4], path.parent.name[:4]))
    tops = (f"{TEMPORARY_PREFIX}*", f"{TEMPORARY_PREFIX}files/*", f"*/{TEMPORARY_PREFIX}*")
    return (path for top in tops for path in folder.glob(top) if path.is_file())


def path_from(folder: Path, target: Path) -> str:
    """The POSIX path that leads from a folder to a file, also if the folder was reached through a link.

    A system resolves `..` in the real folder. So the path between the two as they are written is taken only if it
    leads to the target from there; otherwise that from the real folder.

    Args:
        folder: will hold the path; may be missing.
        target: may be missing.

    Raises:
        ValueError: they are on different drives.
    """
    real, there = os.path.realpath(folder), os.path.abspath(target)  # noqa: PTH100 - no links are resolved
    written = os.path.relpath(there, os.path.abspath(folder))  # noqa: PTH100
    leads = os.path.realpath(os.path.join(real, written)) == os.path.realpath(there)  # noqa: PTH118
    return Path(written if leads else os.path.relpath(there, real)).as_posix()
