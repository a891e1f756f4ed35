"""Listing the images of a folder, lazily: one directory at a time, sorted, links followed, loops not."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DatasetError
from ..images import SUFFIXES
from ..output.ledger import NAME as LEDGER

#: Everything below a folder.
ALL = ("**", "*")

_SUFFIXES = tuple(SUFFIXES)
State = frozenset[int]
Identity = tuple[int, int]


class Pattern:
    """A path pattern, matched one name at a time on the way down.

    Args:
        parts: one pattern a level, with `*`, `?` and `[...]`; `**` stands for any number of levels.
            A name that begins with a dot is matched only by a part that does.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = [None if part in ("*", "**") else _compiled(part) for part in parts]
        self._deep = [part == "**" for part in parts]
        self._dotted = [part.startswith(".") for part in parts]
        self.end = len(parts)
        self.start = self._with_skips({0})

    def _with_skips(self, places: set[int]) -> State:
        for place in range(self.end):
            if place in places and self._deep[place]:  # `**` may stand for no level at all
                places.add(place + 1)
        return frozenset(places)

    def step(self, state: State, name: str) -> State:
        """The places in the pattern after `name`; `end` among them: it matches. Empty: nothing below can."""
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


def _compiled(part: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(os.path.normcase(part)))


@dataclass
class _Level:
    """A directory under way: the path from the root, what is left to enter, the directories above."""

    rel: str
    folders: Iterator[tuple[str, State]]
    above: tuple[Identity, ...]


@dataclass
class Walk:
    """The images below a folder; iterating gives POSIX paths relative to it.

    Files of a directory come first, then its subdirectories, each sorted by name. Only one
    directory's names are held at a time (and those of the directories above it to be entered).
    Hidden names are left out. Outputs of a run that lie below are left out.

    Attributes:
        root: the folder.
        pattern: which files; images are told by their suffix besides.
        warnings: receives a line for each thing that had to be left out.
    """

    root: Path
    pattern: Pattern
    warnings: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[str]:
        """Walk.

        Raises:
            DatasetError: the folder itself cannot be read, or is the output of a run.
        """
        stack = [_Level("", iter([("", self.pattern.start)]), ())]
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
                stack.append(_Level(rel, iter(folders), (*level.above, identity)))

    def _enter(
        self, rel: str, state: State, above: tuple[Identity, ...]
    ) -> tuple[list[str], list[tuple[str, State]], Identity] | None:
        """The sorted images and directories of one directory; None if it is left out."""
        folder = self.root / rel
        try:
            stat = folder.stat()
            identity = (stat.st_dev, stat.st_ino)
            if identity in above:
                self.warnings.append(f"{folder} leads back to a folder above it; not entered again")
                return None
            listed = self._scan(folder, state)
        except OSError as error:
            if not rel:
                raise DatasetError(f"cannot read the folder {folder}: {error.strerror}") from None
            self.warnings.append(f"cannot read the folder {folder}: {error.strerror}; its images are left out")
            return None
        if listed is None:
            if not rel:
                raise DatasetError(f"{folder} is the output folder of a run; its pictures are no dataset")
            self.warnings.append(f"{folder} is the output folder of a run; left out")
            return None
        files, folders = listed
        return sorted(files), sorted(folders, key=lambda item: item[0]), identity

    def _scan(self, folder: Path, state: State) -> tuple[list[str], list[tuple[str, State]]] | None:
        """Images and directories as the system gives them; None for the output folder of a run."""
        files: list[str] = []
        folders: list[tuple[str, State]] = []
        unnameable: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name == LEDGER:
                    return None
                after = self.pattern.step(state, name)
                if not after:
                    continue
                is_folder = _is_folder(entry)
                if is_folder and after == {self.pattern.end}:
                    continue
                if not is_folder and (self.pattern.end not in after or not name.lower().endswith(_SUFFIXES)):
                    continue
                if not _is_text(name):
                    unnameable.append(name)
                elif is_folder:
                    folders.append((name, after))
                elif _can_be_read(entry):
                    files.append(name)
                else:
                    self.warnings.append(f"{folder / name} is no file but a pipe, socket or device; left out")
        if unnameable:
            shown = min(unnameable).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            self.warnings.append(
                f"{folder}: {len(unnameable)} names are not UTF-8 and left out, such as {shown}; rename them"
            )
        return files, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _can_be_read(entry: os.DirEntry[str]) -> bool:
    """True for files, and for links to nothing: these fail as images, by name."""
    try:
        return entry.is_file() or (entry.is_symlink() and not Path(entry.path).exists())
    except OSError:
        return True


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
