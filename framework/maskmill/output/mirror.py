"""Outputs elsewhere, in object storage or on a drive that machines share: the run works in a folder on this machine.

Its files are copied to the output at once. The results there are what counts: a machine without the folder gets them
from there and goes on. Whatever cannot be copied stops the run, and nothing is recorded as done before it is there.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from .. import storage
from ..errors import OutputError, OutputInUseError, Problem, StopRun, UsageError
from ..files import gather_temporary_files, release_temporary_files, safe_part, sha256_of, write_atomic
from ..results import Artifact, ImageResult
from ..wording import count_noun
from .folder import BUCKET, MARKER, STATE, check_output, remove_leftovers
from .ledger import NAME as LEDGER
from .mirror_stores import Bucket, MirrorStore, SharedFolder
from .records import FAILURES, RUN
from .store import RESULTS, have_files, read_files, result_path

#: What a run writes beside results and files of writers.
RECORDS = (RUN, FAILURES, "prompts.csv", "pipeline.yaml", LEDGER)
#: Objects downloaded between two messages.
STEP = 500


@dataclass(frozen=True)
class Mirror:
    """A folder and its copy, which is the output.

    Attributes:
        folder: on this machine.
        address: of the output, without a slash at the end; or the absolute path of a folder.
        options: of the storage.
    """

    folder: Path
    address: str
    options: storage.StorageOptions

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """The mirror of a folder, None if it is an output like any other."""
        try:
            about = json.loads((folder / BUCKET).read_bytes())
            return cls(folder, about["address"], storage.StorageOptions(**about["storage"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @property
    def is_bucket(self) -> bool:
        """Whether the output is in object storage."""
        return storage.is_bucket(self.address)

    @property
    def store(self) -> MirrorStore:
        """Where the copy is."""
        return Bucket(self.address) if self.is_bucket else SharedFolder(Path(self.address), MARKER)

    def prepare(self) -> None:
        """Make the folder, and note in it where its files go.

        Raises:
            OutputError: it is the folder of another address.
        """
        before = Mirror.of(self.folder)
        if before is not None and before.address != self.address:
            text = f"'{self.folder}' belongs to the output {before.address}"
            raise OutputError(Problem(text, hint="give another folder with --state"))
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / BUCKET, json.dumps(self.to_json()).encode())

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the folder."""
        return {"address": self.address, "storage": asdict(self.options)}

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the address against runs on other machines; call it while the folder is claimed.

        Raises:
            OutputInUseError: another run is working there, or was ended without being able to say so.
        """
        owner = self._owner()
        marker = {**owner, "process": os.getpid(), "since": datetime.datetime.now(datetime.UTC).isoformat()}
        if not self.store.create(MARKER, json.dumps(marker).encode()):
            other = json.loads(self.store.read(MARKER) or b"{}")
            if {name: other.get(name) for name in owner} != owner:  # else it was a run here, which was killed
                text = f"a run on {other.get('host')} is using {self.address}, since {other.get('since')}"
                hint = f"wait for it to end; if it was killed, delete {self.address}/{MARKER}"
                raise OutputInUseError(Problem(text, hint=hint))
        try:
            with contextlib.nullcontext() if self.is_bucket else self._hold_shared_folder():
                yield
        finally:
            self.store.delete(MARKER)

    @contextlib.contextmanager
    def _hold_shared_folder(self) -> Iterator[None]:
        shared = Path(self.address)
        gather_temporary_files(shared)
        try:
            remove_leftovers(shared, deep=False)  # of a run that was killed
            self.store.write(STATE, json.dumps(self._owner()).encode())
            yield
        finally:
            remove_leftovers(shared, deep=False)  # of processes that were
            release_temporary_files(shared)

    def _owner(self) -> dict[str, str]:
        return {"host": platform.node(), "folder": str(self.folder)}

    def check(self) -> None:
        """Check a shared folder before anything is made.

        Raises:
            OutputError: it has other files, or a run that worked in another folder has written to it since.
        """
        if self.is_bucket:
            return
        if problems := check_output(Path(self.address)):
            raise OutputError(*problems)
        last = json.loads(self.store.read(STATE) or b"null")
        if last not in (None, self._owner()) and (self.folder / LEDGER).exists():
            text = f"'{self.address}' was written since from {last['host']}, with --state {last['folder']}"
            hint = f"continue there; or delete '{self.folder}', and the run takes over what '{self.address}' has"
            raise OutputError(Problem(text, hint=hint))

    def fetch(self, say: Callable[[str], None], records: bool = False) -> int:
        """Get the stored results that are not here, and those of other sizes; returns how many.

        Args:
            say: gets a line now and then.
            records: also what the run wrote about itself, for reading it.

        Raises:
            OutputError: the output cannot be read.
        """
        count = 0
        try:
            for path, (size, _) in self.store.list_files():
                place = self.folder / path
                wanted = path.startswith(f"{RESULTS}/") or (records and path in RECORDS)
                if not wanted or (place.exists() and place.stat().st_size == size and path not in RECORDS):
                    continue
                write_atomic(place, self.store.read(path) or b"")
                count += 1
                if count % STEP == 0:
                    say(f"{count_noun(count, 'file')} of {self.address} copied")
        except UsageError as error:
            raise OutputError(*error.problems) from None
        return count

    def fetch_image(self, key: str, elsewhere: bool) -> None:
        """Get what the output has of an image and this folder has not.

        Args:
            key: the image.
            elsewhere: whether another machine may have made it, so that what is here may be older, and files of writers
                may be missing, which their last step reads.
        """
        place = result_path(self.folder, key)
        if not elsewhere and place.exists():
            return
        if (data := self.store.read(self._path_of(place))) is None:
            return
        write_atomic(place, data)
        for artifact in self.files_of(key) if elsewhere else ():
            path = self.folder / artifact.path
            is_here = have_files(self.folder, [artifact]) and sha256_of(path) == artifact.sha256
            if not is_here and (data := self.store.read(artifact.path)) is not None:
                write_atomic(path, data)

    def upload_image(self, result: ImageResult, before: Iterable[Artifact] = ()) -> None:
        """Upload a result and the files of its writers, the result last; delete the files that it no longer has.

        Raises:
            StopRun: the output cannot be written.
        """
        for artifact in result.artifacts:
            self.upload(self.folder / artifact.path)
        self.upload(result_path(self.folder, result.key))
        current = {artifact.path for artifact in result.artifacts}
        for artifact in before:
            if artifact.path not in current:
                self.delete(self.folder / artifact.path)

    def files_of(self, key: str) -> tuple[Artifact, ...]:
        """The files that the stored result of an image lists, () if there is none."""
        return read_files(self.folder, key) or ()

    def upload_run(self, files: Iterable[Artifact], known: dict[str, str]) -> dict[str, str]:
        """Upload the files about the whole dataset that changed, and what the run wrote about itself.

        Args:
            files: about the dataset.
            known: path -> SHA-256 of those that are there.

        Returns:
            What is there now, as `known`.
        """
        current = {file.path: file.sha256 for file in files}
        for path, sha256 in current.items():
            if known.get(path) != sha256:
                self.upload(self.folder / path)
        for path in known.keys() - current.keys():
            self.delete(self.folder / path)
        self.upload_records()
        return current

    def upload_records(self) -> None:
        """Upload what the run wrote about itself; the ledger must be committed."""
        for name in RECORDS:
            if (self.folder / name).exists():
                self.upload(self.folder / name)

    def upload(self, path: Path) -> None:
        """Upload one file of the folder."""
        self.store.write(self._path_of(path), path.read_bytes())

    def delete(self, path: Path) -> None:
        """Delete what the output has of a file of the folder."""
        self.store.delete(self._path_of(path))

    def delete_all(self, paths: Iterable[str]) -> None:
        """The same for several files, by their paths below the folder."""
        for path in paths:
            self.store.delete(path)

    def _path_of(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()


def state_folder(address: str) -> Path:
    """The folder on this machine for an output in object storage, unless `--state` names another."""
    import platformdirs

    return platformdirs.user_state_path("maskmill", appauthor=False) / "outputs" / safe_part(address)


def locate_run(folder: Path) -> Path:
    """Where an output can be read: the folder itself, or that of an address, with what the bucket has.

    Raises:
        OutputError: nothing is known of the address, or it cannot be read.
    """
    address = storage.restore_address(folder)
    if address is None:
        if (mirror := Mirror.of(folder)) is not None:
            storage.configure(mirror.options)
        return folder
    address = address.rstrip("/")
    place = state_folder(address)
    mirror = Mirror.of(place) or Mirror(place, address, storage.current_options())
    storage.configure(mirror.options)
    mirror.prepare()
    mirror.fetch(lambda line: None, records=True)
    return place


def find_worker(folder: Path) -> dict[str, Any] | None:
    """Which run copies its files to a shared folder, as its marker says: host, folder, process, since; or None.

    Args:
        folder: the shared one, or one that a run works in.
    """
    mirror = Mirror.of(folder)
    shared = folder if mirror is None else Path(mirror.address)
    if (mirror is not None and mirror.is_bucket) or not (shared / STATE).exists():
        return None
    store = SharedFolder(shared, MARKER)
    with contextlib.suppress(StopRun, UsageError, ValueError):
        marker = json.loads(store.read(MARKER) or b"null")
        if isinstance(marker, dict) and not (marker.get("host") == platform.node() and _has_ended(marker)):
            return marker
    return None


def _has_ended(marker: dict[str, Any]) -> bool:
    import psutil

    return not psutil.pid_exists(int(marker.get("process", -1)))
