"""The original images of a run's results: found by key, and read only if they have not changed."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..dataset.bucket import BucketEntry
from ..dataset.dataset import Dataset
from ..decoding.bit_depth import Conversion
from ..decoding.decoder import MAX_PIXELS
from ..errors import DatasetError, ImageReadError, OutputError, Problem
from ..images import PACKAGE, Image, ImageRef, spellings
from ..output.run import Run
from ..results import ImageResult
from ..storage import configure, is_address, is_bucket, options_from_json


class OriginalImages:
    """Finds the images of a run; a context manager.

    They are found as the run's datasets list them or, given a folder, in that folder by key. A dataset
    that is not a plain folder is listed once, when first needed, into a temporary file, so that memory
    does not grow with it.

    Args:
        run: whose images.
        folder: contains them now, each under its key; None for the datasets in `run.json`.

    Raises:
        OutputError: the folder does not exist.
    """

    def __init__(self, run: Run, folder: Path | None = None) -> None:
        if folder is not None and not folder.is_dir():
            raise OutputError(f"the folder of images '{folder}' does not exist")
        _configure_storage(run.pipelines())
        self._datasets = [[str(folder)]] if folder else [list(each.get("dataset", ())) for each in run.pipelines()]
        self._listed: sqlite3.Connection | None = None
        self._bucket = _find_only_bucket(self._datasets)
        limits = [each.get("run", {}).get("max_pixels", MAX_PIXELS) for each in run.pipelines()]
        self.max_pixels: int = max(limits, default=MAX_PIXELS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._listed is not None:
            self._listed.close()

    def find(self, key: str) -> ImageRef | None:
        """Where the image of this key is, None if it cannot be found; not asked for in a bucket.

        Raises:
            DatasetError: a bucket among several entries cannot be listed.
        """
        if self._bucket is not None:
            return self._bucket.locate(key)
        every = [entry for dataset in self._datasets for entry in dataset]
        folders = [entry for entry in every if not entry.startswith(PACKAGE) and not is_address(entry)]
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
            self._listed = sqlite3.connect("", check_same_thread=False)  # a temporary file of SQLite
            self._listed.execute("CREATE TABLE images (key TEXT PRIMARY KEY, uri TEXT NOT NULL) WITHOUT ROWID")
            for dataset in self._datasets:
                if entries := [entry for entry in dataset if is_address(entry) or not Path(entry).is_dir()]:
                    self._list(self._listed, entries)
        return self._listed

    @staticmethod
    def _list(into: sqlite3.Connection, entries: Sequence[str]) -> None:
        for entry in entries:
            try:
                for ref in Dataset((entry,), Path()):
                    into.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (ref.key, ref.uri))
            except DatasetError:  # a missing entry has no images; the caller reports those it cannot find
                if is_address(entry):
                    raise


def load_unchanged(result: ImageResult, ref: ImageRef | None, max_pixels: int = MAX_PIXELS) -> Image:
    """Read the image of a result again.

    Args:
        result: whose image it is.
        ref: where it is; None if unknown.
        max_pixels: larger images are refused.

    Raises:
        ImageReadError: it is missing, cannot be read, or has changed since the masks were made.
    """
    if ref is None:
        raise ImageReadError(f"not found; name the folder that contains it as {result.key} with --images FOLDER")
    conversion = Conversion.from_json(result.provenance.get("images"))
    image = Image.load(ref, max_pixels, conversion)
    if image.sha256 != result.sha256:
        raise ImageReadError(
            f"{ref.shown} has changed since its masks were made"
            f" (sha256 {image.sha256[:12]}…, was {result.sha256[:12]}…): run the pipeline again"
        )
    return image


def black_image(result: ImageResult, ref: ImageRef | None) -> Image:
    """A stand-in with the right size, name and sha256, whose black pixels take no memory."""
    pixels = np.broadcast_to(np.zeros(3, np.uint8), (*(result.size or (1, 1)), 3))
    return Image(pixels, ref or ImageRef(result.key, result.key), result.sha256)


def _find_only_bucket(datasets: Sequence[Sequence[str]]) -> BucketEntry | None:
    """The bucket that all images are in, so that it need not be listed; None if there are other entries."""
    entries = {entry for dataset in datasets for entry in dataset}
    entry = entries.pop() if len(entries) == 1 else ""
    return BucketEntry.parse(1, entry) if is_bucket(entry) else None


def _configure_storage(pipelines: Sequence[Mapping[str, Any]]) -> None:
    """Read object storage as the run did; of merged runs with different options, as one of them."""
    for pipeline in pipelines:
        if options := options_from_json(pipeline.get("storage")):
            configure(options)


def find_missing_dataset(pipelines: Sequence[Mapping[str, Any]]) -> Problem | None:
    """The problem if nothing in the datasets exists any more, None if something does."""
    _configure_storage(pipelines)
    entries = [entry for each in pipelines for entry in each.get("dataset", ())]
    if not entries:
        text = "run.json is missing, so the images of the run cannot be found"
    elif all(problems := [Dataset((entry,), Path()).check() for entry in entries]):
        if is_address(entries[0]):
            return problems[0][0]
        text = f"the images of the run are no longer where they were: {', '.join(entries)}"
    else:
        return None
    return Problem(text, hint="name their folder with --images FOLDER")
