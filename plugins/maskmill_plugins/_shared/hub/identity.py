"""What a model is, as one hash: of the files that decide its results."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from maskmill.files import hash_once

from .snapshot import CONFIG, PROCESSORS, list_weights

#: Files beside weights and configuration that decide what a text means to a model.
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
_SHA256 = re.compile("[0-9a-f]{64}")


def compute_model_id(folder: Path) -> str:
    """SHA-256 over the names and contents of a model's weights, configuration, processor and tokenizer.

    In the hub's cache the large files are not read: their names there are their SHA-256.

    Args:
        folder: from `ModelFiles.folder`.

    Raises:
        OSError: a file cannot be read.
    """
    named = [folder / name for name in (CONFIG, *PROCESSORS, *TOKENIZERS)]
    files = [path for path in named if path.is_file()] + list_weights(folder)
    text = "\n".join(f"{path.name} {file_sha256(path)}" for path in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content; computed once while it is unchanged, and not at all for large blobs of the hub.

    Raises:
        OSError: the file cannot be read.
    """
    if path.is_symlink():
        # One step only: what the blob's own link points to may have another kind of hash as its name.
        blob = path.readlink()
        if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
            return blob.name
    return hash_once(path)
