"""Outputs in object storage: a folder on this machine that the run works in, whose files are uploaded at once.

The results in the bucket are what counts: a machine without the folder gets them from there and goes on. Whatever
cannot be uploaded stops the run, and nothing is recorded as done before it is in the bucket.
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
from ..errors import OutputError, OutputInUseError, Problem, UsageError
from ..files import safe_part, write_atomic
from ..results import Artifact, ImageResult
from ..wording import count_noun
from .folder import BUCKET
from .ledger import NAME as LEDGER
from .records import FAILURES, RUN
from .store import RESULTS, read_files, result_path

#: In the bucket: which run is working there.
MARKER = ".maskmill-run.json"
#: What a run writes beside results and files of writers.
RECORDS = (RUN, FAILURES, "prompts.csv", "pipeline.yaml", LEDGER)
#: Objects downloaded between two messages.
STEP = 500


@dataclass(frozen=True)
class Mirror:
    """A folder and its copy in a bucket.

    Attributes:
        folder: on this machine.
        address: of the output, without a slash at the end.
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
        owner = {"host": platform.node(), "folder": str(self.folder)}
        marker = {**owner, "process": os.getpid(), "since": datetime.datetime.now(datetime.UTC).isoformat()}
        address = f"{self.address}/{MARKER}"
        if not storage.create(address, json.dumps(marker).encode()):
            other = json.loads(storage.read_now(address) or b"{}")
            if {name: other.get(name) for name in owner} != owner:  # else it was a run here, which was killed
                text = f"a run on {other.get('host')} is using {self.address}, since {other.get('since')}"
                hint = f"wait for it to end; if it was killed, delete {address}"
                raise OutputInUseError(Problem(text, hint=hint))
        try:
            yield
        finally:
            storage.delete(address)

    def fetch(self, say: Callable[[str], None], records: bool = False) -> int:
        """Download the stored results that are not here, and those of other sizes; returns how many.

        Args:
            say: gets a line now and then.
            records: also what the run wrote about itself, for reading it.

        Raises:
            OutputError: the bucket cannot be read.
        """
        count = 0
        try:
            for path, (size, _) in storage.list_objects(self.address):
                place = self.folder / path
                wanted = path.startswith(f"{RESULTS}/") or (records and path in RECORDS)
                if not wanted or (place.exists() and place.stat().st_size == size and path not in RECORDS):
                    continue
                write_atomic(place, storage.read_now(f"{self.address}/{path}") or b"")
                count += 1
                if count % STEP == 0:
                    say(f"{count_noun(count, 'file')} of {self.address} downloaded")
        except UsageError as error:
            raise OutputError(*error.problems) from None
        return count

    def fetch_result(self, key: str) -> None:
        """Download the result of an image that another machine made."""
        place = result_path(self.folder, key)
        if not place.exists():
            data = storage.read_now(self._address_of(place))
            if data is not None:
                write_atomic(place, data)

    def upload_image(self, result: ImageResult, before: Iterable[Artifact] = ()) -> None:
        """Upload a result and the files of its writers, the result last; delete the files that it no longer has.

        Raises:
            StopRun: the bucket cannot be written.
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
            known: path -> SHA-256 of those that are in the bucket.

        Returns:
            What is in the bucket now, as `known`.
        """
        current = {file.path: file.sha256 for file in files}
        for path, sha256 in current.items():
            if known.get(path) != sha256:
                self.upload(self.folder / path)
        for path in known.keys() - current.keys():
            self.delete(self.folder / path)
        for name in RECORDS:
            if (self.folder / name).exists():
                self.upload(self.folder / name)
        return current

    def upload(self, path: Path) -> None:
        """Upload one file of the folder."""
        storage.write(self._address_of(path), path.read_bytes())

    def delete(self, path: Path) -> None:
        """Delete what the bucket has of a file of the folder."""
        storage.delete(self._address_of(path))

    def _address_of(self, path: Path) -> str:
        return f"{self.address}/{path.relative_to(self.folder).as_posix()}"


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
