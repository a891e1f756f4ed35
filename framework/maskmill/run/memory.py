"""How much memory this process may still use, and how the C library of a worker keeps it."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

#: Parameters of glibc's `mallopt`.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
#: Highest threshold for mmap that every glibc accepts (32 MiB), and the highest that newer ones do.
_SAFE_THRESHOLD, _HIGH_THRESHOLD = 2**25, 2**31 - 1
#: Bytes that the heap grows by at least, so that it grows seldom.
_PAD = 2**28


def keep_freed_memory() -> bool:
    """Have glibc keep freed memory for the next request, unless the user configured it.

    By default it returns large blocks to the system at once, which clears each page again for the next image:
    1.2 to 1.9 times the CPU time in an encoder. A worker needs the same memory for every image anyway.

    Returns:
        Whether anything was changed; False on systems without glibc.
    """
    configured = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get(
        "GLIBC_TUNABLES", ""
    )
    if sys.platform != "linux" or configured:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    kept = bool(mallopt(_MMAP_THRESHOLD, _HIGH_THRESHOLD) or mallopt(_MMAP_THRESHOLD, _SAFE_THRESHOLD))
    return kept and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1)) and bool(mallopt(_TOP_PAD, _PAD))


def find_available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still use: what the system has free, at most what its container has left.

    Args:
        root: where /proc and /sys are.
    """
    return min([psutil.virtual_memory().available, *_find_container_memory(root)])


def _find_container_memory(root: Path) -> Iterator[int]:
    """What is left below each memory limit (cgroup v1 or v2) that applies to this process."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, usage, reclaimable = "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, usage = "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            reclaimable = "total_inactive_file"
        else:
            continue
        group = root / top / path.strip("/")
        # Limits of the groups above apply, too. Inside a container, the path may be that outside of it: then its
        # own group is mounted at the top.
        for folder in [group, *group.parents]:
            if folder.is_relative_to(root / top):
                yield from _read_left(folder, limit, usage, reclaimable)


def _read_left(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    try:
        most, used = ((group / name).read_text(encoding="ascii").strip() for name in (limit, usage))
        statistics = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:  # no such group here, or one without limits
        return
    if most != "max":
        cached = sum(int(value) for name, value in map(str.split, statistics) if name == reclaimable)
        yield max(0, int(most) - int(used) + cached)
