"""Before a long run: work on a few images in a temporary folder, and say how long all will take."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..chain import Chain
from ..errors import DatasetError, StopRun
from ..images import ImageRef
from ..spec import Config
from ..steps import Trace
from .plan import RunRequest, listing
from .rehearsal import FIRST, planned, resources_for

#: What would help, by the stage that takes longest.
ADVICE = {
    "read": "smaller image files, or a faster disk",
    "prompts": "a source that answers faster, or more requests at once where it waits on a network",
    "backend": "a smaller model, fewer prompts an image, or a machine with a GPU",
    "filters": "fewer masks before the filters",
    "writers": "fewer writers; they can be added later without running the backend again",
}


def probe(config: Config, request: RunRequest, count: int) -> str:
    """Time some images, spread over the dataset, and reckon from them, in words.

    Args:
        config: the pipeline.
        request: narrows the dataset; images that are done already are not counted.
        count: how many images to time.

    Raises:
        DatasetError: none of them could be worked on.
        PluginError: a plugin cannot be opened.
    """
    total = sum(1 for _ in listing(config, request))
    chosen = {total * number // count for number in range(count)}
    refs = [ref for number, ref in enumerate(listing(config, request)) if number in chosen]
    resources = resources_for(config, min(total, FIRST))
    os.environ.update(resources.environment())
    walls, stages, failed = _timed(config, refs)
    if not walls:
        raise DatasetError(f"none of {len(refs)} images could be worked on: {failed[0]}")
    to_do = planned(config, request)["to do"]
    seconds = statistics.median(walls)
    largest, share = stages.most_common(1)[0]
    lines = [
        f"{len(walls)} images timed: {seconds:.2f} s an image in one worker,"
        f" {share / sum(stages.values()):.0%} of it {largest}",
        f"{to_do:,} images to do: {_about(to_do * seconds / resources.jobs)} here, with {resources}",
        f"What would help: {ADVICE.get(largest, ADVICE['backend'])}",
    ]
    return "\n".join([*lines, *(f"failed: {text}" for text in failed)])


def _timed(config: Config, refs: Sequence[ImageRef]) -> tuple[list[float], Counter[str], list[str]]:
    """Seconds of each image that worked, seconds by stage, and what failed."""
    walls: list[float] = []
    stages: Counter[str] = Counter()
    failed: list[str] = []
    opened = config.stages()
    opened.prepare(lambda line: print(line, file=sys.stderr, flush=True))
    prints = config.fingerprints(opened.backend[1].model_id())
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-probe-") as folder,
        Chain(opened, max_pixels=config.run.max_pixels) as chain,
    ):
        for number, ref in enumerate([*refs[:1], *refs]):  # the first one twice: it also warms up
            chain.output = Path(folder, str(number))
            trace = Trace()
            started = time.perf_counter()
            try:
                result, _ = chain.process(ref, prints.of(ref), trace)
            except StopRun as stop:
                failed.append(f"{ref.key}: {stop}")
                break
            if result.failure is not None:
                failed.append(f"{ref.key}: {result.failure.message}")
                continue
            walls.append(time.perf_counter() - started)
            stages.update(trace.seconds)
    return walls[1:] or walls, stages, list(dict.fromkeys(failed))


def _about(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:.0f} {unit}"
    return f"about {seconds:.0f} seconds"
