"""The pipeline's filters on the masks of the page: what a batch run would keep, change and drop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

from maskmill import Filter, Image, Mask, StopRun
from maskmill.chain.apply_filters import apply_filters
from maskmill.chain.plugin_call import StepError, Trace, describe_failure


class FilterError(Exception):
    """A filter failed; a batch run would fail on the image in the same way."""


class FilterPreview:
    """Filters that are opened when they are first used, and work on one image at a time.

    Attributes:
        names: of the filters, in their order.

    Args:
        filters: with their names, in their order, not open.
        backend: the name of the backend, which drops the masks that it left empty.
    """

    def __init__(self, filters: Sequence[tuple[str, Filter]], backend: str) -> None:
        self.names = [name for name, _ in filters]
        self._filters = filters
        self._backend = backend
        self._lock = threading.Lock()
        self._opened = 0

    def apply(self, image: Image, masks: Sequence[Mask]) -> tuple[Mask, ...]:
        """All masks of an image as a batch run stores them: dropped and changed ones name the filter.

        Args:
            image: with pixels.
            masks: of all prompts of the image, in the order of these.

        Raises:
            FilterError: a filter failed.
        """
        numbered = [replace(mask, index=number) for number, mask in enumerate(masks)]
        with self._lock:
            try:
                self._open()
                return apply_filters(self._filters, self._backend, image, numbered, Trace())
            except StepError as error:
                raise FilterError(str(error.failure)) from error
            except StopRun as error:
                raise FilterError(f"a batch run stops: {error}") from error

    def close(self) -> None:
        """Close the filters that are open."""
        with self._lock:
            opened, self._opened = self._opened, 0
            for _, stage in self._filters[:opened]:
                stage.close()

    def _open(self) -> None:
        while self._opened < len(self._filters):
            name, stage = self._filters[self._opened]
            try:
                stage.open()
            except Exception as error:
                raise StepError(describe_failure("filters", name, error)) from error
            self._opened += 1
