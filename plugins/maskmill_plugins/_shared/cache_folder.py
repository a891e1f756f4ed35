"""The folder for data that is expensive to recompute and safe to delete: weights, embeddings, answers."""

from __future__ import annotations

import os
from pathlib import Path

from maskmill import UsageError
from maskmill.files import expand_home


def cache_folder() -> Path:
    """The folder of maskmill's caches: `MASKMILL_CACHE`, or the cache folder of the system.

    Raises:
        UsageError: `MASKMILL_CACHE` begins with the home folder of an unknown user.
    """
    if own := os.environ.get("MASKMILL_CACHE"):
        try:
            return expand_home(own, Path())
        except ValueError as error:
            raise UsageError(f"MASKMILL_CACHE: {error}") from None
    import platformdirs

    return platformdirs.user_cache_path("maskmill", appauthor=False)
