"""What a run would do, found without doing it: how many images, how many workers, what it will cost."""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ..chain.chain import Chain
from ..chain.plugin_call import Trace
from ..config.config import Config
from ..errors import DatasetError, StopRun
from ..images import ImageRef
from ..output.ledger import NAME, Ledger
from ..plugins.engine import Engine
from .forecast import forecasts
from .plan import Plan, RunRequest, listing
from .prompts_csv import Surveys
from .resources import Resources, choose_resources

#: So many images are looked at before the run starts: is there one, and are there fewer than cores?
FIRST = 64


def rehearse(config: Config, options: RunRequest) -> str:
    """What a run would do, in words; changes nothing.

    Raises:
        DatasetError: there are no images.
    """
    first_images(config, options)
    surveys = Surveys(config)
    counts = planned(config, options)
    said = f"dry run: {counts['to do']} images to do, {counts['there already']} there already"
    return "\n".join([*surveys.warnings(), said, *forecasts(config, options)])


def planned(config: Config, options: RunRequest) -> Counter[str]:
    """How many images a run would have "to do", and how many are "there already"."""
    plan = Plan(config, options, config.fingerprints(config.stages().backend[1].model_id()))
    if options.fresh or not (config.output / NAME).exists():
        return plan.count(None)
    with Ledger.open_existing(config.output) as ledger:
        return plan.count(ledger)


def resources_for(config: Config, images: int, kept_threads: int | None = None) -> Resources:
    """Workers and threads of a run.

    Args:
        config: the pipeline.
        images: how many there are; FIRST stands for that many or more.
        kept_threads: of the run that is resumed.
    """
    wanted = config.run
    need = config.stages().backend[1].memory_per_worker()
    if not cast(Engine, config.engine.stage).processes:
        return choose_resources(1, wanted.threads, need, kept_threads)
    return choose_resources(wanted.jobs, wanted.threads, need, kept_threads, images if images < FIRST else None)


def first_images(config: Config, options: RunRequest) -> int:
    """How many images there are, at most `FIRST`.

    Raises:
        DatasetError: there is none.
    """
    images = len(list(itertools.islice(listing(config, options), FIRST)))
    if not images:
        where = ", ".join(config.dataset) + (f" matching {options.only!r}" if options.only else "")
        raise DatasetError(f"there are no images in {where}")
    return images


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
