"""Meta's published checkpoints: what they are called, where they come from, where they lie here."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maskmill import PipelineError, Problem

DOWNLOADS = "https://dl.fbaipublicfiles.com/segment_anything/"
#: Folders, below the pipeline file's and below the working directory, where weights usually lie.
USUAL_FOLDERS = ("", "weights", "checkpoints")


@dataclass(frozen=True, slots=True)
class Model:
    """One of the published sizes of SAM.

    Attributes:
        file: name of the checkpoint as Meta publishes it.
        bytes: its size.
        memory: bytes that a process needs at its peak on a CPU, weights included.
        stock_memory: the same without the fast way.
    """

    file: str
    bytes: int
    memory: int
    stock_memory: int

    @property
    def url(self) -> str:
        """Where Meta publishes the checkpoint."""
        return DOWNLOADS + self.file


MODELS: Mapping[str, Model] = {
    "vit_b": Model("sam_vit_b_01ec64.pth", 375042383, 1_500_000_000, 4_000_000_000),
    "vit_l": Model("sam_vit_l_0b3195.pth", 1249524607, 2_400_000_000, 5_700_000_000),
    "vit_h": Model("sam_vit_h_4b8939.pth", 2564550879, 3_900_000_000, 7_000_000_000),
}


def find_checkpoint(model: str, folder: Path | None = None) -> Path:
    """Look for Meta's checkpoint of this model, by its published name.

    Args:
        model: a key of `MODELS`.
        folder: the pipeline file's, looked into first.

    Raises:
        PipelineError: it is nowhere; says where to get it and where to put it.
    """
    published = MODELS[model]
    roots = [Path()] if folder is None else [folder, Path()]
    folders = [root / name for root in roots for name in USUAL_FOLDERS]
    for place in [*folders, torch_hub_folder()]:
        if (path := place / published.file).is_file():
            return path
    raise PipelineError(
        Problem(
            f"no weights for {model}: {published.file} is not beside the pipeline file, nor in"
            f" {', '.join(str(place) for place in [*folders, torch_hub_folder()])}",
            hint=f"download {published.url} ({published.bytes / 1e6:.0f} MB) into {Path('weights').absolute()},"
            " or name a file with `checkpoint:`",
        )
    )


def torch_hub_folder() -> Path:
    """Where `torch.hub` keeps what it downloads; found by torch's own rules, without importing it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")  # noqa: PTH118 - "~" is expanded below
    return Path(os.path.expandvars(home)).expanduser() / "hub" / "checkpoints"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal; computed once a process for an unchanged file."""
    stat = path.stat()
    return _file_sha256(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache
def _file_sha256(path: Path, size: int, modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
