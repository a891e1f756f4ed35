"""Datasets: which images to segment, listed lazily.

A dataset is one entry or several: a folder, a pattern such as `photos/**/*.jpg`, an image, a
list of images (.txt, .csv, .jsonl), or any of the first three inside an installed package,
`package:PACKAGE/PATH`. Each image has a key, its path relative to the folder (for a pattern: to
the part before the first wildcard); images of a package have the key `PACKAGE/PATH`.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from ..decoding.formats import SUFFIXES, describe_left_out, readable_suffixes
from ..display import brief
from ..errors import DatasetError, ImageReadError, Problem
from ..files import expand_home
from ..images import PACKAGE, ImageRef, package_path
from ..storage import check_packages, derive_key, hide_query, is_address, is_bucket
from ..wording import count_noun
from .bucket import BucketEntry
from .lists import READERS, ListedImage, read_list
from .walk import ALL, FolderWalk, Pattern

#: Rows of a list that `check` reads; a mistake further down stops the run when it gets there.
CHECKED_ROWS = 100_000
#: Images of a list that `check` looks for, and mistakes that it reports one by one.
SAMPLE = 20

_WILDCARD = re.compile(r"[*?[]")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


@dataclass(frozen=True, slots=True)
class _DatasetEntry:
    """One entry of a dataset, located on this machine.

    Attributes:
        number: its position in the dataset, from 1.
        text: as the user wrote it.
        path: a folder, an image, or a list.
        uri: what the uris of its images begin with.
        prefix: what their keys begin with.
        pattern: which files of a folder.
    """

    number: int
    text: str
    path: Path
    uri: str
    prefix: str
    pattern: tuple[str, ...] | None

    @property
    def is_list(self) -> bool:
        return self.pattern is None and self.path.suffix.lower() in READERS

    def describe_place(self, line: int) -> str:
        """Where one of its images is listed, for messages."""
        return f"{self.path}:{line}" if line else f"entry {self.number} of the dataset ({self.text})"


Entry: TypeAlias = _DatasetEntry | BucketEntry


@dataclass
class Dataset:
    """The images of a dataset; iterating lists them again each time, in the same order.

    Attributes:
        spec: the entries, as the user wrote them.
        base: the folder that relative entries are relative to.
        warnings: what the last listing had to leave out; filled during the listing.
        left_out: files that look like images and cannot be read, counted by their endings, likewise.
    """

    spec: tuple[str, ...]
    base: Path
    warnings: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def __repr__(self) -> str:
        more = f" and {len(self.spec) - 1} more" if len(self.spec) > 1 else ""
        return f"<Dataset {', '.join(map(brief, self.spec[:1])) or 'without entries'}{more}>"

    def __iter__(self) -> Iterator[ImageRef]:
        """List the images.

        Raises:
            DatasetError: an entry is missing, a row of a list is wrong, or two images have one key.
        """
        self.warnings.clear()
        self.left_out.clear()
        entries = self._resolve_entries()
        # A single folder cannot contain a key twice, and may have too many images to remember their keys.
        seen: set[int] | None = set() if len(entries) > 1 or any(entry.is_list for entry in entries) else None
        for entry, ref, line in self._list_entries(entries):
            if seen is not None:
                mark = hash(ref.key)
                if mark in seen:
                    self._refuse_duplicate(entry, ref, line)
                seen.add(mark)
            yield ref

    def check(self, may_be_empty: bool = False) -> list[Problem]:
        """Problems that can be found quickly: missing entries, no images, broken lists.

        Args:
            may_be_empty: whether a folder without images is right, because they come later.
        """
        problems: list[Problem] = []
        if not self.spec:
            problems.append(Problem("the dataset is empty", hint="name a folder of images"))
        for number, text in enumerate(self.spec, 1):
            try:
                entry = self._resolve_entry(number, text)
                if isinstance(entry, _DatasetEntry) and entry.is_list:
                    problems += self._check_list(entry)
                elif not may_be_empty:
                    problems += self._check_images(entry)
            except DatasetError as error:
                problems += error.problems
        return problems

    def describe_buckets(self) -> list[str]:
        """What was found at each address of object storage, in words.

        Raises:
            DatasetError: as iterating.
        """
        found = []
        for entry in self._resolve_entries():
            if isinstance(entry, BucketEntry) and (first := next(entry.list_images(Counter()), None)) is not None:
                found.append(f"{entry.text}: the first image is {first.key} ({first.stat()[0]:,} bytes)")
        return found

    def _resolve_entries(self) -> list[Entry]:
        return [self._resolve_entry(number, text) for number, text in enumerate(self.spec, 1)]

    def _resolve_entry(self, number: int, text: str) -> Entry:
        """Locate an entry on this machine.

        Raises:
            DatasetError: it does not exist, or is neither folder, image nor list.
        """
        if is_address(text):
            return BucketEntry.parse(number, text)
        path_text, pattern = text, None
        if _WILDCARD.search(text) and not _exists(self._locate(text)):
            path_text, pattern = self._split_pattern(text)
        path = self._locate(path_text)
        package = path_text.removeprefix(PACKAGE).strip("/") if path_text.startswith(PACKAGE) else None
        if not _exists(path):
            what = f" (the folder of the pattern {text!r})" if pattern else ""
            raise DatasetError(Problem(f"the dataset '{path}'{what} does not exist"))
        if path.is_dir():
            prefix = "" if package is None else f"{package}/"
            return _DatasetEntry(
                number, text, path, PACKAGE if package else str(path / "_")[:-1], prefix, pattern or ALL
            )
        if pattern or path.suffix.lower() not in SUFFIXES | READERS.keys() or not path.is_file():
            kinds = "an image nor a list (.txt, .csv, .jsonl)"
            raise DatasetError(Problem(f"the dataset '{path}' is neither a folder nor {kinds}"))
        return _DatasetEntry(number, text, path, path_text if package else str(path), package or path.name, None)

    def _split_pattern(self, text: str) -> tuple[str, tuple[str, ...]]:
        """The folder before the first wildcard, and the levels from there on; a folder that exists has none."""
        parts = text.replace(os.sep, "/").split("/")
        first = 0
        while first < len(parts) and (
            not _WILDCARD.search(parts[first]) or _exists(self._locate("/".join(parts[: first + 1])))
        ):
            first += 1
        folder = "/".join(parts[:first])
        if first and not folder:
            folder = "/"
        return folder or ".", tuple(part for part in parts[first:] if part)

    def _locate(self, text: str) -> Path:
        if text.startswith(PACKAGE):
            try:
                return package_path(text)
            except ImageReadError as error:
                raise DatasetError(str(error)) from None
        if _URL.match(text):
            text = f"'{text}' is the address of a server of a kind from which images cannot be read"
            raise DatasetError(Problem(text, hint="s3://, gs:// and az:// can; else mount the storage as a folder"))
        try:
            path = expand_home(text, self.base)
        except ValueError as error:
            raise DatasetError(str(error)) from None
        return path.resolve() if ".." in path.parts else path.absolute()

    def _list_entries(self, entries: list[Entry]) -> Iterator[tuple[Entry, ImageRef, int]]:
        """(entry, image, line in a list or 0) of every image."""
        for entry in entries:
            for item in self._list_entry(entry):
                if isinstance(item, Problem):
                    raise DatasetError(item)
                yield entry, *item

    def _list_entry(self, entry: Entry) -> Iterator[tuple[ImageRef, int] | Problem]:
        if isinstance(entry, BucketEntry):
            return ((ref, 0) for ref in entry.list_images(self.left_out))
        return self._list_rows(entry) if entry.is_list else self._list_images(entry)

    def _list_images(self, entry: _DatasetEntry) -> Iterator[tuple[ImageRef, int]]:
        if entry.pattern is None:
            yield ImageRef(entry.uri, entry.prefix), 0
            return
        for rel in FolderWalk(entry.path, Pattern(entry.pattern), self.warnings, self.left_out):
            key = entry.prefix + rel
            yield ImageRef(entry.uri + (key if entry.prefix else rel), key), 0

    def _list_rows(self, entry: _DatasetEntry) -> Iterator[tuple[ImageRef, int] | Problem]:
        folder = str(entry.path.parent)
        for row in read_list(entry.path):
            if isinstance(row, Problem):
                yield row
                continue
            try:
                yield _to_ref(folder, row), row.line
            except ValueError as error:
                yield Problem(str(error), str(entry.path), row.line)

    def _refuse_duplicate(self, entry: Entry, ref: ImageRef, line: int) -> None:
        """List again up to the first image with this key; if only the hashes were equal, that is the image itself."""
        for other, twin, other_line in Dataset(self.spec, self.base)._list_entries(self._resolve_entries()):
            if twin.key != ref.key:
                continue
            if (other.number, twin.uri, other_line) != (entry.number, ref.uri, line):
                raise DatasetError(
                    _duplicate_key(ref.key, other.describe_place(other_line), entry.describe_place(line))
                )
            return

    def _check_images(self, entry: Entry) -> list[Problem]:
        if next(self._list_entry(entry), None) is not None:
            return []
        hint = describe_left_out(self.left_out) or f"image files end in {' '.join(sorted(readable_suffixes()))}"
        if entry.pattern != ALL:
            hint += "; a pattern such as `folder/**/*.jpg` finds files in all subfolders"
        return [Problem(f"there is no image in {entry.text!r}", hint=hint)]

    def _check_list(self, entry: _DatasetEntry) -> list[Problem]:
        problems: list[Problem] = []
        lines: dict[str, int] = {}
        sample: list[ImageRef] = []
        for item in itertools.islice(self._list_rows(entry), CHECKED_ROWS):
            if isinstance(item, Problem):
                problems.append(item)
                continue
            ref, line = item
            first = lines.setdefault(ref.key, line)
            if first != line:
                problems.append(_duplicate_key(ref.key, entry.describe_place(first), entry.describe_place(line)))
            if len(sample) < SAMPLE:
                sample.append(ref)
        if not lines and not problems:
            problems.append(Problem("the list names no image", str(entry.path)))
        if sample and not any(_image_exists(ref) for ref in sample):
            text = f"none of the first {count_noun(len(sample), 'image')} exists, beginning with {sample[0].shown}"
            problems.append(Problem(text, str(entry.path), hint="paths are relative to the folder of the list"))
        if len(problems) > SAMPLE:
            more = Problem(f"and {len(problems) - SAMPLE} more", str(entry.path))
            problems = [*problems[:SAMPLE], more]
        return problems


def _to_ref(folder: str, row: ListedImage) -> ImageRef:
    """The image that a row of a list names.

    Raises:
        ValueError: the row is wrong; the text is for the user.
    """
    image = row.image
    if image.startswith(PACKAGE):
        return ImageRef(image, _check_key(row.key or posixpath.normpath(image.removeprefix(PACKAGE))))
    if is_address(image):
        if is_bucket(image) and (problems := check_packages()):
            raise ValueError(f"{image}: {problems[0].message}; {problems[0].hint}")
        return ImageRef(image, _check_key(row.key or derive_key(image)))
    if _URL.match(image):
        raise ValueError(f"{hide_query(image)}: images are read from paths, s3://, gs://, az:// and https:// only")
    full = os.path.normpath(os.path.join(folder, os.path.expanduser(image)))  # noqa: PTH111, PTH118 - see _derive_key
    return ImageRef(full, _check_key(row.key or _derive_key(folder, image, full)))


def _derive_key(folder: str, image: str, full: str) -> str:
    """The path below the list's folder, or as written without its drive.

    On strings, because a list may have a million rows and pathlib is ten times slower.
    """
    above = os.path.join(folder, "")  # noqa: PTH118
    if os.path.normcase(full).startswith(os.path.normcase(above)):
        return full[len(above) :].replace(os.sep, "/")
    written = os.path.splitdrive(os.path.normpath(image))[1].replace(os.sep, "/").lstrip("/")
    if written.startswith("../") or written == "..":
        raise ValueError(f"{image} is outside the list's folder: give it a `key` (in CSV or JSONL)")
    return written


def _check_key(key: str) -> str:
    """The key, if it is a plain relative path.

    Raises:
        ValueError: it is not.
    """
    if key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} cannot be a key: expected a relative path such as folder/name.jpg, without '..'")
    if "\0" in key or (not key.isascii() and key != key.encode("utf-8", "replace").decode()):
        raise ValueError(f"{key!r} cannot be a key: it contains characters that no file name can have")
    return key


def _duplicate_key(key: str, first: str, second: str) -> Problem:
    hint = "give one of them another `key` (in a CSV or JSONL list), or list the folder that contains both"
    return Problem(f"two images have the key {key!r}: {first} and {second}", hint=hint)


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - False where Path.exists raises: forbidden, too long


def _image_exists(ref: ImageRef) -> bool:
    try:
        return is_address(ref.uri) or _exists(ref.path)
    except ImageReadError:
        return False
