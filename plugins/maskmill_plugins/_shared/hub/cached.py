"""Models that are in the hub's cache on this machine, and whether their files are undamaged."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maskmill.files import sha256_of
from maskmill.plugins.stage import is_installed

from .snapshot import CONFIG, ModelFiles, hub_cache, list_weights

_HASH = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A complete model in the hub's cache.

    Attributes:
        name: `owner/name`.
        commit: the revision of its files.
        folder: of its files.
        bytes: size of its weights.
    """

    name: str
    commit: str
    folder: Path
    bytes: int


def list_cached_models() -> Iterator[CachedModel]:
    """The models in the hub's cache that have a config.json and all their safetensors, by name."""
    if not hub_cache().is_dir() or not is_installed("huggingface_hub"):
        return
    from huggingface_hub import scan_cache_dir

    for repo in sorted(scan_cache_dir(hub_cache()).repos, key=lambda each: each.repo_id):
        for revision in sorted(repo.revisions, key=lambda each: each.commit_hash):
            model = ModelFiles(repo.repo_id, revision.commit_hash)
            if repo.repo_type == "model" and "/" in repo.repo_id and (folder := model.find()):
                size = sum(path.stat().st_size for path in list_weights(folder))
                yield CachedModel(repo.repo_id, revision.commit_hash, folder, size)


def find_damaged(folder: Path) -> list[Path]:
    """The files of a model in the hub's cache whose content is not that of their name there.

    Args:
        folder: from `ModelFiles.find`, in the hub's cache.

    Raises:
        OSError: a file cannot be read.
    """
    return [path for path in [folder / CONFIG, *list_weights(folder)] if not _is_sound(path)]


def _is_sound(path: Path) -> bool:
    """Whether a file is as its blob's name says: SHA-256 of a large one, git's SHA-1 of another."""
    name = path.readlink().name if path.is_symlink() else ""
    if not _HASH.fullmatch(name):
        return True  # copied, where there are no links: nothing to compare with
    if len(name) == 64:
        return sha256_of(path) == name
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == name
