"""Meta's published checkpoints: what they are called, where they come from, where they lie here."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from maskmill.files import sha256_of, write_atomic
from maskmill.plugins.stage import digest
from maskmill_plugins._shared.cache_folder import cache_folder

DOWNLOADS = "https://dl.fbaipublicfiles.com/segment_anything/"
#: Folders, below the pipeline file's and below the working directory, where weights usually lie.
USUAL_FOLDERS = ("", "weights", "checkpoints")


@dataclass(frozen=True, slots=True)
class Model:
    """One of the published sizes of SAM.

    Attributes:
        file: name of the checkpoint as Meta publishes it.
        bytes: its size.
        sha256: of its content.
        memory: bytes that a process needs at its peak on a CPU, weights included.
        stock_memory: the same without the fast way.
    """

    file: str
    bytes: int
    sha256: str
    memory: int
    stock_memory: int

    @property
    def url(self) -> str:
        """Where the checkpoint comes from: Meta, or the mirror that `MASKMILL_WEIGHTS_URL` names."""
        return (os.environ.get("MASKMILL_WEIGHTS_URL") or DOWNLOADS).rstrip("/") + "/" + self.file


MODELS: Mapping[str, Model] = {
    "vit_b": Model(
        "sam_vit_b_01ec64.pth",
        375042383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        1_500_000_000,
        4_000_000_000,
    ),
    "vit_l": Model(
        "sam_vit_l_0b3195.pth",
        1249524607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        2_400_000_000,
        5_700_000_000,
    ),
    "vit_h": Model(
        "sam_vit_h_4b8939.pth",
        2564550879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        3_900_000_000,
        7_000_000_000,
    ),
}


def find_checkpoint(model: str, folder: Path | None = None) -> Path | None:
    """Meta's checkpoint of this model, by its published name, if it lies in a usual place.

    Args:
        model: a key of `MODELS`.
        folder: the pipeline file's, looked into first.
    """
    places = (place / MODELS[model].file for place in usual_places(folder))
    return next((path for path in places if path.is_file()), None)


def usual_places(folder: Path | None = None) -> Iterator[Path]:
    """Where weights are looked for, in this order: beside the pipeline file, here, torch hub's cache, ours."""
    for root in [Path()] if folder is None else [folder, Path()]:
        yield from (root / name for name in USUAL_FOLDERS)
    yield torch_hub_folder()
    yield weights_folder()


def weights_folder() -> Path:
    """Where downloaded and added weights lie."""
    return cache_folder() / "weights"


def obtain(model: str, folder: Path | None, say: Callable[[str], None], bar: bool = False) -> Path:
    """Download Meta's checkpoint of this model, verified.

    Args:
        model: a key of `MODELS`.
        folder: where to; None: `weights_folder`.
        say: told what goes on.
        bar: show a bar on the standard error.

    Raises:
        PipelineError: it cannot be had, or cannot be written.
    """
    from .download import download

    published = MODELS[model]
    path = (folder or weights_folder()) / published.file
    download(published.url, path, published.bytes, published.sha256, say, bar)
    mark_verified(path, published.sha256)
    return path


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
    return sha256_of(path)


def mark_verified(path: Path, sha256: str) -> None:
    """Remember that this file has been read and had this content, for `is_verified`."""
    with contextlib.suppress(OSError):  # a cache that cannot be written: it is verified again next time
        write_atomic(_mark(path, sha256), f"{sha256}  {path}\n".encode("utf-8", "backslashreplace"))


def is_verified(path: Path, sha256: str) -> bool:
    """Whether the file had this content when it was last read, and has not been touched since."""
    return _mark(path, sha256).is_file()


def _mark(path: Path, sha256: str) -> Path:
    stat = path.stat()
    return weights_folder() / "verified" / digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns, sha256])
