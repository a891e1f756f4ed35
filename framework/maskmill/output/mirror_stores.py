"""Where the files of a mirrored run are copied to: a bucket, or a folder that machines share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from .. import storage
from ..errors import StopRun, UsageError
from ..files import walk_files, write_atomic
from ..storage import StoredObject


class MirrorStore(Protocol):
    """Files by their paths below the output; each method raises `StopRun` if they cannot be reached."""

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one; returns whether it was written."""

    def write(self, path: str, data: bytes) -> None:
        """Write a file, in one piece."""

    def read(self, path: str) -> bytes | None:
        """The content of a file, None if there is none."""

    def delete(self, path: str) -> None:
        """Delete a file, if there is one."""

    def list_files(self) -> Iterator[StoredObject]:
        """All files, lazily; raises `UsageError` if they cannot be listed."""


class Bucket:
    """An address in object storage, without a slash at the end."""

    def __init__(self, address: str) -> None:
        self._address = address

    def create(self, path: str, data: bytes) -> bool:
        """Write an object unless there is one."""
        return storage.create(f"{self._address}/{path}", data)

    def write(self, path: str, data: bytes) -> None:
        """Write an object."""
        storage.write(f"{self._address}/{path}", data)

    def read(self, path: str) -> bytes | None:
        """The content of an object."""
        return storage.read_now(f"{self._address}/{path}")

    def delete(self, path: str) -> None:
        """Delete an object."""
        storage.delete(f"{self._address}/{path}")

    def list_files(self) -> Iterator[StoredObject]:
        """The objects."""
        return storage.list_objects(self._address)


class SharedFolder:
    """A folder, perhaps on a network drive; `sign` is a file that is there as long as the folder is the run's."""

    def __init__(self, folder: Path, sign: str) -> None:
        self._folder, self._sign = folder, folder / sign

    def create(self, path: str, data: bytes) -> bool:
        """Write a file unless there is one; also makes the folder."""
        place = self._folder / path
        with self._explain("written"):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with place.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
        return True

    def write(self, path: str, data: bytes) -> None:
        """Write a file, unless the drive is gone: then its place may be another drive's."""
        with self._explain("written"):
            if not self._sign.exists():
                raise StopRun(f"the output folder '{self._folder}' is gone, or another drive is in its place")
            write_atomic(self._folder / path, data)

    def read(self, path: str) -> bytes | None:
        """The content of a file."""
        with self._explain("read"):
            try:
                return (self._folder / path).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def delete(self, path: str) -> None:
        """Delete a file."""
        with self._explain("written"):
            (self._folder / path).unlink(missing_ok=True)

    def list_files(self) -> Iterator[StoredObject]:
        """The files, in no order."""
        for path in walk_files(self._folder):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise UsageError(f"'{path}' cannot be read: {error.strerror or error}") from None
            yield StoredObject(path.relative_to(self._folder).as_posix(), (found.st_size, found.st_mtime_ns))

    @contextmanager
    def _explain(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or os.strerror(error.errno or 0)
            raise StopRun(f"the output folder '{self._folder}' cannot be {what}: {reason}") from error
