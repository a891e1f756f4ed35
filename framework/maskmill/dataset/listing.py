"""One listing of a dataset that several readers share, so that folders are read once a run."""

from __future__ import annotations

import itertools
import pickle
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from ..images import ImageRef
from .dataset import Dataset

BATCH = 256


class SharedListing:
    """The images of a dataset, listed lazily and once; can be iterated any number of times, in several threads.

    What was listed is kept in a temporary file, so that memory does not grow with the dataset.
    A context manager, which removes the file.

    Args:
        dataset: lists the images; iterated once.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._source = iter(dataset)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._offsets: list[int] = []
        self._complete = False
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file. Readers in other threads end at their next batch."""
        with self._lock:
            self._complete = True
            self._offsets.clear()
            self._file.close()

    @property
    def warnings(self) -> Sequence[str]:
        """What was left out, as far as the dataset was listed, a line each."""
        return self._dataset.warnings

    @property
    def left_out(self) -> Mapping[str, int]:
        """Files that look like images and cannot be read, by ending, as far as the dataset was listed."""
        return self._dataset.left_out

    @property
    def is_complete(self) -> bool:
        """Whether the dataset was listed to its end."""
        return self._complete

    def __iter__(self) -> Iterator[ImageRef]:
        """The images in the order of the dataset.

        Raises:
            DatasetError: what listing them raised; every reader gets it at the same image.
        """
        for number in itertools.count():
            batch = self._batch(number)
            if batch is None:
                return
            yield from batch

    def _batch(self, number: int) -> list[ImageRef] | None:
        with self._lock:
            if number < len(self._offsets):
                self._file.seek(self._offsets[number])
                return [ImageRef(*parts) for parts in pickle.load(self._file)]  # noqa: S301 - our own file
            return self._draw()

    def _draw(self) -> list[ImageRef] | None:
        """List the next batch, and keep it for the other readers."""
        if self._error is not None:
            raise self._error
        if self._complete:
            return None
        batch: list[ImageRef] = []
        try:
            batch.extend(itertools.islice(self._source, BATCH))
        except Exception as error:
            self._error = error
            if not batch:
                raise
        if not batch:
            self._complete = True
            return None
        self._offsets.append(self._file.seek(0, 2))
        pickle.dump([(ref.uri, ref.key, ref.state) for ref in batch], self._file, pickle.HIGHEST_PROTOCOL)
        return batch
