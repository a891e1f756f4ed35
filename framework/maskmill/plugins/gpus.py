"""Which NVIDIA GPUs this process may use, without loading a library that computes on them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from itertools import takewhile

#: Read by CUDA: the GPUs that a process sees, by number or id.
VARIABLE = "CUDA_VISIBLE_DEVICES"
#: Seconds that the driver's tool may take; a GPU that failed can keep it from ever ending.
PATIENCE = 30.0


def list_gpus() -> tuple[str, ...]:
    """The GPUs as `CUDA_VISIBLE_DEVICES` names them: those it has now, else all; empty if the driver finds none."""
    try:
        said = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found, given = _read_list(said.stdout), os.environ.get(VARIABLE)
    if given is None or not found:
        return found
    names = (name.strip() for name in given.split(","))
    return tuple(takewhile(lambda name: name and not name.startswith("-"), names))  # as CUDA reads it


def share_gpus(environment: Mapping[str, str], slots: int) -> list[Mapping[str, str]]:
    """The environment of each slot's processes, in which `CUDA_VISIBLE_DEVICES` names one of the GPUs given.

    All slots would compute on the first one otherwise.
    """
    names = environment.get(VARIABLE, "").split(",")
    return [{**environment, VARIABLE: names[slot % len(names)]} if names[0] else environment for slot in range(slots)]


def _read_list(text: str) -> tuple[str, ...]:
    """The ids in `nvidia-smi -L`; of a GPU that is divided into MIG devices, theirs."""
    gpus: list[list[str]] = []
    for kind, rest in re.findall(r"\(UUID: (GPU|MIG)-([^)]+)\)", text):
        if kind == "GPU":
            gpus.append([f"GPU-{rest}"])
        elif gpus:
            gpus[-1].append(f"MIG-{rest}")
    return tuple(name for gpu in gpus for name in gpu[1:] or gpu)
