"""The folder for data that is expensive to recompute and safe to delete: weights, embeddings, answers."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder of maskmill's caches: `MASKMILL_CACHE`, or the cache folder of the system."""
    if own := os.environ.get("MASKMILL_CACHE"):
        return Path(own).expanduser()
    import platformdirs

    return platformdirs.user_cache_path("maskmill", appauthor=False)
