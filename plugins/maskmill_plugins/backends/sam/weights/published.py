"""The checkpoints that Meta published: file names, sizes, digests, and the memory that each model needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

DOWNLOADS = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """One of the published sizes of SAM.

    Attributes:
        file: name of the checkpoint file.
        bytes: its size.
        sha256: of its content, hexadecimal.
        memory: peak of a process on a CPU in bytes, weights included.
        stock_memory: the same with `fast: false`.
    """

    file: str
    bytes: int
    sha256: str
    memory: int
    stock_memory: int

    @property
    def url(self) -> str:
        """Where to download the checkpoint: from Meta, or from the mirror in `MASKMILL_WEIGHTS_URL`."""
        return (os.environ.get("MASKMILL_WEIGHTS_URL") or DOWNLOADS).rstrip("/") + "/" + self.file


MODELS: Mapping[str, PublishedModel] = {
    "vit_b": PublishedModel(
        "sam_vit_b_01ec64.pth",
        375042383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        1_500_000_000,
        4_000_000_000,
    ),
    "vit_l": PublishedModel(
        "sam_vit_l_0b3195.pth",
        1249524607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        2_400_000_000,
        5_700_000_000,
    ),
    "vit_h": PublishedModel(
        "sam_vit_h_4b8939.pth",
        2564550879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        3_900_000_000,
        7_000_000_000,
    ),
}
