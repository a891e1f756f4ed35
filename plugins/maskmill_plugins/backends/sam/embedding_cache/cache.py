"""Embeddings on disk: an image that was encoded once is not encoded again, whatever the prompts.

Plain files rather than a library: an embedding is one block of 4 MB that is written once and
read whole, so an atomic rename, a lock and the files' times are all that a bounded cache needs.
diskcache, the usual choice, has had no release since 2023 and unpickles what it reads. Files
are zip archives of numpy arrays: their checksum is verified at every reading.
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from maskmill.files import TEMPORARY_PREFIX, write_atomic
from maskmill_plugins._shared.cache_folder import cache_folder

from ..segment.segmenter import FloatArray

#: Raise it when the way from an image's file to the encoder's output changes.
PREPROCESSING = 1
#: Seconds to wait for another process that writes; an embedding takes milliseconds.
PATIENCE = 5.0
LOCK = ".lock"

_NAME = re.compile(r"[0-9a-f]{64}\.npz")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored embedding.

    Attributes:
        path: its file.
        bytes: its size.
        used: when it was last read or written, in nanoseconds since the epoch.
    """

    path: Path
    bytes: int
    used: int


class EmbeddingCache:
    """A folder of embeddings; any number of processes may share it.

    What goes wrong with the folder costs time, never a result: an entry that cannot be read is
    computed anew, one that cannot be written is left out, with a warning the first time.

    Args:
        folder: holds nothing else; made when first needed.
        limit: bytes; those unused for longest make room.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        self.limit = limit
        self._warned = False

    def get(self, name: str) -> FloatArray | None:
        """The embedding stored under this name, float32; None if there is none that can be read."""
        path = self.folder / name
        try:
            with zipfile.ZipFile(path) as archive:
                data = archive.read("embedding.npy")
            embedding: FloatArray = np.load(io.BytesIO(data), allow_pickle=False).astype(np.float32, copy=False)
        except OSError:  # not there, or another process is about to replace it
            return None
        except Exception:  # damaged files raise nearly anything
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return embedding

    def put(self, name: str, embedding: np.ndarray[Any, np.dtype[np.floating]]) -> None:
        """Store an embedding, in its own precision.

        Args:
            name: from `entry_name`.
            embedding: any shape; float32 or float16.
        """
        buffer = io.BytesIO()
        np.savez(buffer, embedding=embedding)
        data = buffer.getvalue()
        try:
            with self._alone():
                if self._make_room(len(data)):
                    write_atomic(self.folder / name, data)
        except (OSError, NotImplementedError) as error:  # a full disk, no permission, no locks in this file system
            if not self._warned:
                _log.warning("the embedding cache %s is not written to: %s", self.folder, error)
            self._warned = True

    def entries(self) -> list[Entry]:
        """What is stored, the longest unused first.

        Raises:
            OSError: the folder is there and cannot be read.
        """
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as listed:
            for item in listed:
                if _NAME.fullmatch(item.name):
                    with contextlib.suppress(OSError):  # removed by another process meanwhile
                        stat = item.stat()
                        found.append(Entry(Path(item.path), stat.st_size, stat.st_mtime_ns))
        return sorted(found, key=lambda entry: entry.used)

    def clear(self) -> int:
        """Remove every embedding; returns how many bytes that freed.

        Raises:
            OSError: another process does not let go of the folder, or it cannot be written to.
        """
        if not self.folder.exists():
            return 0
        with self._alone():
            return sum(entry.bytes for entry in self.entries() if _removed(entry.path))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While this is open, no other process writes or removes; what a killed one left half is gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / LOCK, timeout=PATIENCE):
            for half in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
                _removed(half)
            yield

    def _make_room(self, needed: int) -> bool:
        """Remove what was unused for longest until so many bytes fit; False if they cannot."""
        entries = self.entries()
        excess = sum(entry.bytes for entry in entries) + needed - self.limit
        for entry in entries:
            if excess <= 0 or needed > self.limit:
                break
            if _removed(entry.path):
                excess -= entry.bytes
        return excess <= 0


def _removed(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:  # on Windows a file that is being read stays
        return False
    return True


def entry_name(image: str, size: tuple[int, int], **way: str) -> str:
    """The file name of an embedding, by everything that decides its numbers.

    Args:
        image: SHA-256 of the image's file.
        size: (height, width); of an image that never was a file the digest does not tell it.
        way: the model, and how it computes.
    """
    text = json.dumps([PREPROCESSING, image, size, way], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest() + ".npz"


def embeddings_folder(chosen: Path | None = None) -> Path:
    """Where embeddings lie: below a folder of the user's choice, or where this system keeps caches.

    The variable `MASKMILL_CACHE` names another folder than the system's.
    """
    return (chosen or cache_folder()) / "embeddings"
