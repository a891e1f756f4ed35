"""Image embeddings on disk, so that an image is encoded only once however often its prompts change.

Plain files instead of a library: an embedding is one block of 4 MB that is written once and
read whole, so a bounded cache needs only atomic renames, a lock and file times. diskcache, the
usual choice, has had no release since 2023 and unpickles what it reads. The files are zip
archives of numpy arrays, whose checksum is verified on every read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from maskmill.files import TEMPORARY_PREFIX, write_atomic
from maskmill_plugins._shared.cache_folder import cache_folder

from .prompts import FloatArray

#: Raise it when the preprocessing of images or the encoder's arithmetic changes.
PREPROCESSING = 1
#: Seconds to wait while another process writes; an embedding takes milliseconds.
LOCK_TIMEOUT = 5.0
LOCK = ".lock"

_NAME = re.compile(r"[0-9a-f]{64}\.npz")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredEmbedding:
    """An embedding on disk.

    Attributes:
        path: its file.
        bytes: its size.
        used: when it was last read or written, in nanoseconds since the epoch.
    """

    path: Path
    bytes: int
    used: int


class EmbeddingCache:
    """A folder of embeddings that any number of processes may share.

    Problems with the folder cost time, never a result: an entry that cannot be read is computed
    again, and one that cannot be written is skipped, with a warning the first time.

    Args:
        folder: used for nothing else; created on first use.
        limit: bytes; the least recently used entries are removed to stay below it.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._warned = False

    def get(self, name: str) -> list[FloatArray] | None:
        """The arrays of the embedding stored under this name, float32; None if it is missing or damaged."""
        path = self.folder / name
        try:
            with zipfile.ZipFile(path) as archive:
                parts = [archive.read(member) for member in archive.namelist()]
            embedding = [_load(part) for part in parts]
        except OSError:  # missing, or being replaced by another process
            return None
        except Exception:  # damaged files raise almost any exception
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return embedding

    def put(self, name: str, embedding: Sequence[np.ndarray[Any, np.dtype[np.floating]]]) -> None:
        """Store the arrays of an embedding, each in its own precision.

        Args:
            name: from `entry_name`.
            embedding: of any shapes; float32 or float16.
        """
        buffer = io.BytesIO()
        # The first one's name is that of all embeddings stored when models had one array only.
        arrays: dict[str, Any] = {f"embedding{number or ''}": part for number, part in enumerate(embedding)}
        np.savez(buffer, **arrays)
        data = buffer.getvalue()
        try:
            with self._locked():
                if self._make_room(len(data)):
                    write_atomic(self.folder / name, data)
        except (OSError, NotImplementedError) as error:  # disk full, no permission, or a file system without locks
            if not self._warned:
                _log.warning("cannot write to the embedding cache %s: %s", self.folder, error)
            self._warned = True

    def entries(self) -> list[StoredEmbedding]:
        """All stored embeddings, the least recently used first.

        Raises:
            OSError: the folder exists but cannot be read.
        """
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as listed:
            for item in listed:
                if _NAME.fullmatch(item.name):
                    with contextlib.suppress(OSError):  # removed by another process in the meantime
                        stat = item.stat()
                        found.append(StoredEmbedding(Path(item.path), stat.st_size, stat.st_mtime_ns))
        return sorted(found, key=lambda entry: entry.used)

    def clear(self) -> int:
        """Remove every embedding; returns the number of bytes freed.

        Raises:
            OSError: another process holds the lock, or the folder cannot be written to.
        """
        if not self.folder.exists():
            return 0
        with self._locked():
            return sum(entry.bytes for entry in self.entries() if _remove(entry.path))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing and removing; incomplete files of killed ones are deleted first."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK, timeout=LOCK_TIMEOUT):
            for incomplete in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
                _remove(incomplete)
            yield

    def _make_room(self, needed: int) -> bool:
        """Remove the least recently used entries until so many bytes fit; False if they cannot."""
        entries = self.entries()
        excess = sum(entry.bytes for entry in entries) + needed - self.limit
        for entry in entries:
            if excess <= 0 or needed > self.limit:
                break
            if _remove(entry.path):
                excess -= entry.bytes
        return excess <= 0


def _load(data: bytes) -> FloatArray:
    array: FloatArray = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float32, copy=False)
    return array


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:  # Windows keeps a file that is being read
        return False
    return True


def entry_name(image: str, size: tuple[int, int], **way: str) -> str:
    """The file name of an embedding: a hash of everything that its values depend on.

    Args:
        image: SHA-256 of the image file.
        size: (height, width); needed because the digest of an image made from an array does not cover its shape.
        way: the model, and how it is computed.
    """
    text = json.dumps([PREPROCESSING, image, size, way], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest() + ".npz"


def embeddings_folder(chosen: Path | None = None) -> Path:
    """The folder of embeddings: below the chosen folder, or else below the cache folder of this system.

    The environment variable `MASKMILL_CACHE` replaces the latter.
    """
    return (chosen or cache_folder()) / "embeddings"
