"""Removing the files of earlier runs that the last run would not make.

Only what the records say that we made is removed, and only as we made it: a file that was changed since, or that a
link leads to, stays and is named. A kill at any moment leaves a folder in which the next `prune` or run goes on.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ..errors import OutputError, Problem
from ..output.folder import claim, file_state
from ..output.ledger import NAME, Ledger
from ..output.mirror import Mirror, locate_run
from ..output.outdated import GoneImage, OutdatedFiles, count_outdated, forget_images, mark_due
from ..results import Artifact

BATCH = 64


@dataclass
class PruneReport:
    """What was removed or, without removing, would be.

    Attributes:
        files: how many, the stored results of `images` included.
        bytes: their size in all.
        images: images that left the dataset and are forgotten now.
        kept: files that were left, each named in a line.
        failed: files of these that could not be removed; a later `prune` tries again.
    """

    files: int = 0
    bytes: int = 0
    images: int = 0
    kept: int = 0
    failed: int = 0


def prune(output: Path, log: Callable[[str], None], listed: Callable[[str], None] | None = None) -> PruneReport:
    """Remove the outdated files of a run.

    Args:
        output: its output folder.
        log: gets a line for each file that is left.
        listed: if given, nothing is removed: it gets the path of each file that would be.

    Raises:
        OutputError: the folder holds no run, or one is working there.
    """
    output = locate_run(output)
    if listed is not None:
        with Ledger.open_existing(output) as ledger:
            return _Pruner(output, ledger, log, listed).prune()
    if not (output / NAME).is_file():
        raise OutputError(Problem(f"'{output}' is not the output folder of a run (it has no {NAME})"))
    with claim(output), Ledger.create(output) as ledger:
        ledger.files.adopt()
        return prune_run(output, ledger, log)


def prune_run(output: Path, ledger: Ledger, log: Callable[[str], None]) -> PruneReport:
    """The same for a run whose folder is held already."""
    report = _Pruner(output, ledger, log, None).prune()
    count_outdated(output, ledger, again=True)
    return report


class _Pruner:
    """Removes what `OutdatedFiles` finds, or only lists it."""

    def __init__(
        self, output: Path, ledger: Ledger, log: Callable[[str], None], listed: Callable[[str], None] | None
    ) -> None:
        self._output = output
        self._mirror = Mirror.of(output)
        self._ledger = ledger
        self._log = log
        self._listed = listed
        self._report = PruneReport()

    def prune(self) -> PruneReport:
        """Go through all of it."""
        with OutdatedFiles(self._output, self._ledger) as found:
            images = found.images()
            while batch := list(itertools.islice(images, BATCH)):
                self._prune_images(batch)
            for file in found.files():
                if self._remove(file.path, partial(_differs, file)) and self._listed is None:
                    self._ledger.files.forget(file.path)
                    self._ledger.commit(only_if_due=True)
        if self._listed is None:
            self._ledger.commit()
        return self._report

    def _prune_images(self, images: list[GoneImage]) -> None:
        """Remove the files of images, then what is recorded of them.

        If this ends in between and an image is listed again, its files are looked at, because it counts as due.
        """
        keys = [image.key for image in images]
        if self._listed is None:
            mark_due(self._ledger, keys)
        sizes = self._ledger.find_stored(keys)
        forgotten = []
        for image in images:
            before = self._report.files
            done = [self._remove(file.path, partial(_differs, file)) for file in image.files]
            if all(done) and image.result:  # the last, because it lists the others
                done.append(self._remove(image.result, partial(_has_other_size, sizes.get(image.key))))
            self._report.images += self._report.files > before
            if all(done):
                forgotten.append(image.key)
        if self._listed is None:
            forget_images(self._ledger, forgotten)
            self._ledger.commit()

    def _remove(self, name: str, differs: Callable[[Path], bool]) -> bool:
        """Remove a file unless it is somebody else's now; returns False if that has to be tried again."""
        path = self._output / name
        try:
            state = self._find_state(name, path, differs)
            if state == "gone":
                return True
            if state != "ours":
                self._report.kept += 1
                self._log(f"kept: {path}: {state}")
                return True
            size = path.lstat().st_size
            if self._listed is not None:
                self._listed(str(path))
            else:
                path.unlink()
                if self._mirror is not None:
                    self._mirror.delete(path)
                self._remove_empty_folders(path)
        except OSError as error:
            self._report.kept += 1
            self._report.failed += 1
            self._log(f"kept: {path} cannot be removed: {error.strerror or error}")
            return False
        self._report.files += 1
        self._report.bytes += size
        return True

    def _find_state(self, name: str, path: Path, differs: Callable[[Path], bool]) -> str:
        """The state of a file: "ours" if it is as we made it, "gone", or why it has to stay."""
        parts = PurePosixPath(name).parts
        if not parts or ".." in parts or PurePosixPath(name).is_absolute() or Path(name).drive:
            return "its recorded path leads out of the folder"
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return "gone"
        real = Path(os.path.realpath(self._output), *parts[:-1])
        if os.path.normcase(os.path.realpath(path.parent)) != os.path.normcase(real):
            return "its folder is a link now"
        if not stat.S_ISREG(mode):
            return "it is no regular file any more"
        return "it was changed after it was written" if differs(path) else "ours"

    def _remove_empty_folders(self, path: Path) -> None:
        with suppress(OSError):  # not empty
            for parent in path.parents:
                if parent == self._output:
                    break
                parent.rmdir()


def _differs(file: Artifact, path: Path) -> bool:
    return file_state(path, file) == "changed"


def _has_other_size(stored: tuple[int, int] | None, path: Path) -> bool:
    """Whether a stored result is not as it was recorded; copying a folder changes its time, so that tells nothing."""
    return stored is not None and path.lstat().st_size != stored[0]
