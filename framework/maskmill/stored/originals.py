"""The images behind a run's results: found again by key, and read only if they are still the same."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ..dataset.dataset import Dataset
from ..decoding import MAX_PIXELS
from ..errors import DatasetError, ImageReadError, OutputError, Problem
from ..images import PACKAGE, Image, ImageRef, spellings
from ..output.run import Run
from ..results import ImageResult


class Originals:
    """Where the images of a run are; a context manager.

    Looked for as the run's datasets list them or, given a folder, below that by key. A dataset that
    is no plain folder is listed once, when it is first needed, into a temporary file: memory does
    not grow with it.

    Args:
        run: whose images.
        folder: holds them now, each under its key; None takes the datasets that `run.json` names.

    Raises:
        OutputError: the folder does not exist.
    """

    def __init__(self, run: Run, folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise OutputError(f"the folder of images '{folder}' does not exist")
        self._datasets = [[str(folder)]] if folder else [list(each.get("dataset", ())) for each in run.pipelines()]
        self._listed: sqlite3.Connection | None = None
        limits = [each.get("run", {}).get("max_pixels", MAX_PIXELS) for each in run.pipelines()]
        self.max_pixels: int = max(limits, default=MAX_PIXELS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listed is not None:
            self._listed.close()

    def find(self, key: str) -> ImageRef | None:
        """Where the image of this key is, None if it cannot be found."""
        folders = [entry for dataset in self._datasets for entry in dataset if not entry.startswith(PACKAGE)]
        names = [key] if key.isascii() else spellings(key)
        for folder, name in itertools.product(folders, names):
            if os.path.isfile(path := os.path.join(folder, name)):  # noqa: PTH113, PTH118 - once an image
                return ImageRef(path, key)
        for name in names:
            row = self._listing().execute("SELECT uri FROM images WHERE key = ?", (name,)).fetchone()
            if row is not None:
                return ImageRef(str(row[0]), key)
        return None

    def _listing(self) -> sqlite3.Connection:
        """The images of datasets that are lists, patterns, packages or single images."""
        if self._listed is None:
            self._listed = sqlite3.connect("", check_same_thread=False)  # SQLite's own temporary file
            self._listed.execute("CREATE TABLE images (key TEXT PRIMARY KEY, uri TEXT NOT NULL) WITHOUT ROWID")
            for dataset in self._datasets:
                if entries := [entry for entry in dataset if not Path(entry).is_dir()]:
                    self._list(self._listed, entries)
        return self._listed

    @staticmethod
    def _list(into: sqlite3.Connection, entries: Sequence[str]) -> None:
        for entry in entries:
            with contextlib.suppress(DatasetError):  # what is gone holds no images; the caller says which it misses
                for ref in Dataset((entry,), Path()):
                    into.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (ref.key, ref.uri))


def same_image(result: ImageResult, ref: ImageRef | None, max_pixels: int = MAX_PIXELS) -> Image:
    """The image of a result, read again.

    Args:
        result: whose image it is.
        ref: where it is; None if that is not known.
        max_pixels: larger images are refused.

    Raises:
        ImageReadError: it is gone, cannot be read, or is not what the masks were made of.
    """
    if ref is None:
        raise ImageReadError(f"not found; --images FOLDER names the folder that holds it as {result.key}")
    image = Image.load(ref, max_pixels)
    if image.sha256 != result.sha256:
        raise ImageReadError(
            f"{ref.uri} has changed since its masks were made"
            f" (sha256 {image.sha256[:12]}…, then {result.sha256[:12]}…): run the pipeline again"
        )
    return image


def stand_in(result: ImageResult, ref: ImageRef | None) -> Image:
    """An image of the right size, name and sha256 whose pixels are all black and take no memory."""
    pixels = np.broadcast_to(np.zeros(3, np.uint8), (*(result.size or (1, 1)), 3))
    return Image(pixels, ref or ImageRef(result.key, result.key), result.sha256)


def missing_dataset(pipelines: Sequence[Mapping[str, Any]]) -> Problem | None:
    """The problem if nothing that the datasets name exists any more, None if something does."""
    entries = [entry for each in pipelines for entry in each.get("dataset", ())]
    if not entries:
        text = "the run does not say where its images are (run.json is gone)"
    elif all(Dataset((entry,), Path()).check() for entry in entries):
        text = f"the images of the run are not where they were: {', '.join(entries)}"
    else:
        return None
    return Problem(text, hint="give their folder: --images FOLDER")
