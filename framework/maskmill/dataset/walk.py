"""Listing the images of a folder, lazily: one directory at a time, sorted; links are followed, but not in loops."""

from __future__ import annotations

import fnmatch
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..decoding.formats import left_out_suffixes, readable_suffixes
from ..errors import DatasetError
from ..output.folder import OWN, describe_own
from ..wording import count_noun

#: Everything below a folder.
ALL = ("**", "*")

State = frozenset[int]
Identity = tuple[int, int]


class Pattern:
    """A path pattern, matched level by level.

    Args:
        parts: one pattern a level, with `*`, `?` and `[...]`; `**` stands for any number of levels.
            A name that begins with a dot is matched only by a part that begins with one.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = [None if part in ("*", "**") else _compile(part) for part in parts]
        self._deep = [part == "**" for part in parts]
        self._dotted = [part.startswith(".") for part in parts]
        self.end = len(parts)
        self.start = self._with_skips({0})

    def _with_skips(self, places: set[int]) -> State:
        for place in range(self.end):
            if place in places and self._deep[place]:  # `**` may match no level at all
                places.add(place + 1)
        return frozenset(places)

    def step(self, state: State, name: str) -> State:
        """The positions in the pattern after `name`: `end` among them: it matches; none: nothing below can match."""
        hidden = name.startswith(".")
        text = os.path.normcase(name)
        after = set()
        for place in state:
            if place == self.end or hidden > self._dotted[place]:
                continue
            expression = self._parts[place]
            if expression is None or expression.match(text):
                after.add(place if self._deep[place] else place + 1)
        return self._with_skips(after)


def _compile(part: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(os.path.normcase(part)))


@dataclass
class _Directory:
    """A directory being walked: its path from the root, the subdirectories left to enter, the directories above."""

    rel: str
    folders: Iterator[tuple[str, State]]
    above: tuple[Identity, ...]


@dataclass
class FolderWalk:
    """The images below a folder; iterating gives POSIX paths relative to it.

    Files of a directory come first, then its subdirectories, each sorted by name. Memory holds the
    names of one directory, and of the subdirectories left to enter above it.
    Hidden names are skipped, and the folders that we made: outputs of runs, exports, reports.

    Attributes:
        root: the folder.
        pattern: which files; of these, those with the suffix of an image.
        warnings: receives a line for everything that had to be skipped.
        left_out: receives the files that look like images and cannot be read, counted by their endings.
    """

    root: Path
    pattern: Pattern
    warnings: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def __iter__(self) -> Iterator[str]:
        """Walk the folder.

        Raises:
            DatasetError: the folder itself cannot be read, or we made it.
        """
        stack = [_Directory("", iter([("", self.pattern.start)]), ())]
        while stack:
            level = stack[-1]
            name, state = next(level.folders, ("", frozenset[int]()))
            if not state:
                stack.pop()
                continue
            rel = f"{level.rel}{name}/" if name else ""
            found = self._enter(rel, state, level.above)
            if found is not None:
                files, folders, identity = found
                for file in files:
                    yield rel + file
                stack.append(_Directory(rel, iter(folders), (*level.above, identity)))

    def _enter(
        self, rel: str, state: State, above: tuple[Identity, ...]
    ) -> tuple[list[str], list[tuple[str, State]], Identity] | None:
        """The sorted images and directories of one directory; None if it is skipped."""
        folder = self.root / rel
        try:
            stat = folder.stat()
            identity = (stat.st_dev, stat.st_ino)
            if identity in above:
                self.warnings.append(f"{folder} links back to a folder above it; skipped")
                return None
            listed = self._scan(folder, state)
        except OSError as error:
            if not rel:
                raise DatasetError(f"cannot read the folder {folder}: {error.strerror}") from None
            self.warnings.append(f"cannot read the folder {folder}: {error.strerror}; its images are skipped")
            return None
        if isinstance(listed, str):
            if not rel:
                raise DatasetError(f"{folder} is {listed}, which cannot be a dataset")
            self.warnings.append(f"{folder} is {listed}; skipped")
            return None
        files, folders = listed
        return sorted(files), sorted(folders, key=lambda item: item[0]), identity

    def _scan(self, folder: Path, state: State) -> tuple[list[str], list[tuple[str, State]]] | str:
        """Images and directories, unsorted; what the folder is if we made it."""
        files: list[str] = []
        folders: list[tuple[str, State]] = []
        unnameable: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name in OWN and (own := describe_own(folder, name)):
                    return own
                after = self.pattern.step(state, name)
                if not after:
                    continue
                is_folder = _is_folder(entry)
                if is_folder and after == {self.pattern.end}:
                    continue
                if not is_folder and (self.pattern.end not in after or not self._is_image(name)):
                    continue
                if not _is_utf8(name):
                    unnameable.append(name)
                elif is_folder:
                    folders.append((name, after))
                elif _is_readable(entry):
                    files.append(name)
                else:
                    self.warnings.append(f"{folder / name} is a pipe, socket or device, not a file; skipped")
        if unnameable:
            shown = min(unnameable).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            names = count_noun(len(unnameable), "name is", "names are")
            self.warnings.append(f"{folder}: {names} not UTF-8: skipped, such as {shown}; rename the file")
        return files, folders

    def _is_image(self, name: str) -> bool:
        """Whether a file's ending is that of an image; counts those that cannot be read."""
        ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - once a file
        if ending in left_out_suffixes():
            self.left_out[ending] += 1
        return ending in readable_suffixes()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_readable(entry: os.DirEntry[str]) -> bool:
    """True for files, and for broken links, so that these are reported as failed images."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
