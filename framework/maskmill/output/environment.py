"""The machine and the package versions that results can depend on, as `run.json` records them."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

_PACKAGES = (
    "maskmill",
    "numpy",
    "onnxruntime",
    "opencv-python",
    "pillow",
    "pycocotools",
    "safetensors",
    "segment-anything",
    "timm",
    "tokenizers",
    "torch",
    "torchvision",
    "transformers",
)


def describe_machine(threads: int) -> dict[str, Any]:
    """The machine, as far as results and timings can depend on it."""
    import psutil

    return {
        "system": platform.platform(),
        "processor": find_processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 1024**3, 1),
        "python": platform.python_version(),
        "threads_per_worker": threads,
    }


def find_processor() -> str:
    """The type of the processor, as the system calls it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def read_versions() -> dict[str, str]:
    """Versions of the installed packages that results can depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
