"""How many workers, and how many threads each: dividing cores and memory."""

from __future__ import annotations

from dataclasses import dataclass

import loky

from ..plugins.gpus import VARIABLE
from ..plugins.threads import make_thread_environment
from ..wording import count_noun
from .memory import find_available_memory

GIB = 1024**3
#: Reserved for the system and the driver when `jobs: auto` divides the memory.
RESERVE = 2 * GIB
#: What a worker needs besides its backend: the interpreter, libraries, an image or two.
BASE = GIB // 2
#: Workers on other machines that one run uses at most.
MOST_REMOTE = 1024
#: Workers for each GPU with `jobs: auto`: while one reads an image or writes files, the other computes.
PER_GPU = 2


@dataclass(frozen=True, slots=True)
class Resources:
    """The choice, and why.

    Attributes:
        jobs: number of workers.
        threads: threads of each.
        why: one sentence for the user.
        warning: what will probably go wrong, or "".
        remote: whether the workers are on other machines, which may have fewer.
        gpus: what the workers compute on, as `list_gpus` gives it; () for a CPU.
    """

    jobs: int
    threads: int
    why: str
    warning: str = ""
    remote: bool = False
    gpus: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.remote and self.jobs == MOST_REMOTE:
            return f"workers of {count_noun(self.threads, 'thread')} ({self.why})"
        return f"{count_noun(self.jobs, 'worker')} × {count_noun(self.threads, 'thread')} ({self.why})"

    def environment(self) -> dict[str, str]:
        """Variables of the worker processes, read by the numeric libraries when they load."""
        return {
            **make_thread_environment(self.threads),
            # Otherwise loky replaces a worker whose memory has grown, and the model is loaded again.
            "LOKY_MAX_MEMORY_LEAK_SIZE": str(10**15),
            **({VARIABLE: ",".join(self.gpus)} if self.gpus else {}),
        }


def plan_remote_resources(jobs: int | str, threads: int | str, kept_threads: int | None = None) -> Resources:
    """Decide on workers and threads where the workers are on other machines.

    Args:
        jobs: at most so many workers; "auto", or a negative number: as many as there are.
        threads: per worker; "auto": one, since the other machines' cores are divided by those who run them.
        kept_threads: of the run that is being resumed.
    """
    most = int(jobs) if jobs != "auto" and int(jobs) > 0 else MOST_REMOTE
    why = "at most, as requested" if most != MOST_REMOTE else "as many as there are"
    return Resources(most, int(threads) if threads != "auto" else kept_threads or 1, why, remote=True)


def plan_resources(
    jobs: int | str,
    threads: int | str,
    need: int | None,
    kept_threads: int | None = None,
    images: int | None = None,
    gpus: tuple[str, ...] = (),
) -> Resources:
    """Decide on workers and threads.

    Args:
        jobs: "auto", or a number with joblib's meaning of `n_jobs` (-1: all cores).
        threads: "auto", or threads per worker.
        need: bytes one worker's backend needs, None if little.
        kept_threads: of the run that is being resumed; the last bits of results depend on it.
        images: number of images where it is known to be small; more workers would idle.
        gpus: what the workers compute on, () for a CPU.
    """
    cores = loky.cpu_count()
    available = find_available_memory()
    each = BASE + (need or 0)
    fitting = max(1, (available - RESERVE) // each)
    if jobs == "auto":
        on_gpus = PER_GPU * len(gpus) or cores
        workers = min(cores, fitting, on_gpus)
        if kept_threads and threads == "auto":
            workers = min(workers, max(1, cores // kept_threads))
        limits = {on_gpus: count_noun(len(gpus), "GPU"), fitting: "memory", cores: "cores"}
        limit = limits.get(workers, "the threads of the resumed run")
        if images is not None and images < workers:
            workers, limit = max(1, images), "images"
        why = f"{cores} cores, {available / GIB:.1f} GiB free, {each / GIB:.1f} GiB a worker: limited by {limit}"
    else:
        workers = int(jobs) if int(jobs) > 0 else max(1, cores + 1 + int(jobs))
        why = "as requested"
    per_worker = int(threads) if threads != "auto" else kept_threads or max(1, cores // workers)
    warning = ""
    if workers > fitting:
        warning = (
            f"{workers} workers need about {workers * each / GIB:.1f} GiB and only {available / GIB:.1f} GiB are free;"
            f" use jobs: {fitting}"
        )
    return Resources(workers, per_worker, why, warning, gpus=gpus)
