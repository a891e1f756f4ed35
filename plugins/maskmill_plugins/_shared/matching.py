"""Which image a name in somebody's file means: by its path below the dataset, else by its stem."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable


class Matcher:
    """Finds one of many names.

    Args:
        names: paths as a file writes them, with slashes or backslashes between folders.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._paths: dict[str, str] = {}
        self._stems: dict[str, str | None] = {}
        for name in names:
            path = _plain(name)
            self._paths.setdefault(path, name)
            stem = _stem(path)
            self._stems[stem] = None if stem in self._stems else name

    def find(self, key: str) -> str | None:
        """The name that means this image, None if none does.

        The one with the same relative path; else the one whose file name without its ending is the
        same, if there is just one such name.
        """
        path = _plain(key)
        return self._paths.get(path) or self._stems.get(_stem(path))


def _plain(name: str) -> str:
    return posixpath.normpath(name.replace("\\", "/"))


def _stem(path: str) -> str:
    return posixpath.splitext(posixpath.basename(path))[0]
