"""Whether every image of a run fails for the same reason: then the cause is not in the images."""

from __future__ import annotations

import re

from ..images import ImageRef
from ..results import Failure

#: Paths, absolute or with at least one folder, and numbers: what differs between failures with one cause.
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[\w.~%-]*[\\/])+[\w.~%-]+")
_NUMBER = re.compile(r"[0-9a-fA-F]*\d[0-9a-fA-F.]*")


class SameFailures:
    """Counts the images that failed alike from the start of a run; ends with the first one that did not.

    Args:
        limit: so many are enough to stop the run; None never stops it.

    Attributes:
        first: key and failure of the first image, None before it and once an image ended differently.
        count: how many have failed like it, itself included.
    """

    def __init__(self, limit: int | None) -> None:
        self.first: tuple[str, Failure] | None = None
        self.count = 0
        self._limit = limit
        self._cause = ("", "", "")

    def add(self, ref: ImageRef, failure: Failure | None) -> bool:
        """Count an image.

        Args:
            ref: the image.
            failure: why it failed, None if it did not.

        Returns:
            Whether it failed like all images before it; False for the first one.
        """
        if self._limit is None:
            return False
        cause = None if failure is None else (failure.stage, failure.plugin, generalize(failure.message, ref))
        if self.count == 0 and failure is not None and cause is not None:
            self.first, self._cause, self.count = (ref.key, failure), cause, 1
            return False
        if cause != self._cause:
            self._limit = self.first = None
            return False
        self.count += 1
        return True

    @property
    def reason(self) -> str:
        """Why the run has to stop, with the cause; "" if it need not."""
        if self._limit is None or self.first is None or self.count < self._limit:
            return ""
        key, failure = self.first
        images = "the first image failed" if self.count == 1 else f"the first {self.count} images all failed alike"
        return f"{images}, at {failure} (first: {key}; run: {{same_failures: null}} goes on in spite of that)"


def generalize(message: str, ref: ImageRef) -> str:
    """A message without what is of one image: its names, paths and numbers."""
    for name in (ref.shown, ref.key, ref.key.rpartition("/")[2]):
        message = message.replace(name, "…")
    return _NUMBER.sub("#", _PATH.sub("…", message))
