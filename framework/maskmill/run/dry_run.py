"""What a run would do, without doing it: how many images, how many workers, what it will cost."""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..chain.chain import Chain
from ..chain.plugin_call import Trace
from ..config.config import Config
from ..dataset.dataset import Dataset
from ..dataset.listing import SharedListing
from ..decoding.formats import describe_left_out
from ..errors import DatasetError, ImageReadError, Problem, StopRun, nearest_names
from ..images import Image, ImageRef, is_pattern
from ..output.folder import is_claimed
from ..output.rebuild import open_for_reading
from ..output.records import describe_work
from ..plugins.engine import Engine
from ..plugins.gpus import list_gpus
from ..plugins.optional import speed_advice
from ..work import NO_WORK, WORK, Work
from .forecast import forecast_run
from .plan import Plan, RunRequest, check_same_backend, check_same_shard, listing
from .prompts_csv import Surveys
from .resources import Resources, plan_remote_resources, plan_resources

#: Images listed before a run starts, to know whether there are any, and whether fewer than cores.
FIRST = 64
#: Images listed before a run starts, to name the files that it leaves out.
LISTED_AHEAD = 20_000
#: Images that `maskmill check` reads.
LOOKED_AT = 3


def rehearse(config: Config, options: RunRequest, probed: int = 0) -> str:
    """Describe what a run would do; changes nothing.

    Args:
        config: the pipeline.
        options: what would be asked of the run.
        probed: how many images to process and time, in a temporary folder.

    Raises:
        DatasetError: there are no images.
        OutputError: the run would be refused because of the masks in the output folder.
    """
    with SharedListing(Dataset(config.dataset, config.dataset_base)) as images:
        count_first_images(config, options, images)
        skipped = [line for line in [describe_skipped(images)] if line]
        surveys = Surveys(config, images)
        planned = plan_run(config, options, images)
        forecast = forecast_run(config, options, images)
        to_do = sum(count for work, count in planned.work.items() if work not in NO_WORK)
        timed = [_probe(config, options, images, to_do, probed)] if probed else []
    lines = [*skipped, *surveys.warnings(), *planned.notices, f"dry run: {describe_plan(planned.work)}"]
    return "\n".join([*lines, *forecast, *timed])


@dataclass(frozen=True)
class PlannedRun:
    """What a run would do.

    Attributes:
        work: images by what would be done for them, the keys of `WORK` in their order.
        notices: about the output folder, a line each.
    """

    work: Mapping[Work, int]
    notices: Sequence[str]


def plan_run(config: Config, options: RunRequest, images: Iterable[ImageRef]) -> PlannedRun:
    """Find out what a run would do, by the plan that it would have; changes nothing.

    Args:
        config: the pipeline.
        options: what would be asked of the run.
        images: of the whole dataset.

    Raises:
        OutputError: the run would be refused because of the masks in the output folder.
    """
    models = config.stages().model_ids()
    prints = config.fingerprints(models)
    plan = Plan(config, options, prints, images)
    notices = []
    if is_claimed(config.output):
        notices.append(f"warning: another run is using '{config.output}' now; until it ends, this run cannot start")
    if options.fresh:
        counts = plan.count(None)
    else:
        ledger, notice = open_for_reading(config.output)
        notices += [notice] if notice else []
        with ledger or nullcontext():
            if ledger is not None and models.backend:  # else it is known after a download
                check_same_backend(ledger, prints.masks, config)
                check_same_shard(ledger, options.shard, config)
            counts = plan.count(ledger)
    return PlannedRun({work: counts[work] for work in WORK if counts[work]}, notices)


def describe_plan(work: Mapping[Work, int]) -> str:
    """What a run would do, in words: "300 images: 20 new; 280 already done"."""
    total = sum(work.values())
    prompts = "whose prompts are looked up again (masks are reused where the prompts are the same)"
    return f"{total} image{'s' if total != 1 else ''}: {describe_work(work, prompts=prompts)}"


def choose_resources(config: Config, images: int, kept_threads: int | None = None) -> Resources:
    """Choose the workers and threads of a run.

    Args:
        config: the pipeline.
        images: how many there are; FIRST means that many or more.
        kept_threads: the threads per worker of the run that is resumed, which must not change.
    """
    wanted = config.run
    engine = cast(Engine, config.engine.stage)
    if engine.is_remote():
        return plan_remote_resources(wanted.jobs, wanted.threads, kept_threads)
    need = config.stages().memory_per_worker()
    if not engine.processes:
        return plan_resources(1, wanted.threads, need, kept_threads)
    gpus = list_gpus() if config.stages().uses_gpu() else ()
    few = images if images < FIRST else None
    return plan_resources(wanted.jobs, wanted.threads, need, kept_threads, few, gpus)


def count_first_images(config: Config, options: RunRequest, images: Iterable[ImageRef]) -> int:
    """Count the images, up to `FIRST`.

    Raises:
        DatasetError: there are none.
    """
    count = len(list(itertools.islice(listing(config, options, images), FIRST)))
    if not count:
        where = ", ".join(config.dataset)
        if options.shard is not None and next(iter(images), None) is not None:
            return 0  # a small dataset may have nothing for one of the shards
        if options.only is None:
            raise DatasetError(f"there are no images in {where}")
        text = f"--only: no image in {where} has the key {options.only!r}"
        if is_pattern(options.only):
            text += ", and none fits it as a pattern"
        close = nearest_names(options.only, (ref.key for ref in images))
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else "keys are paths below the dataset"
        raise DatasetError(Problem(text, hint=hint))
    return count


def describe_skipped(images: SharedListing) -> str:
    """A line about the files of the dataset that look like images and cannot be read; "" if there are none.

    Lists the dataset ahead, up to `LISTED_AHEAD` images.
    """
    for _ in itertools.islice(images, LISTED_AHEAD):
        pass
    return describe_left_out(images.left_out, images.is_complete)


def describe_first_images(config: Config, images: Iterable[ImageRef]) -> list[str]:
    """Lines about the first `LOOKED_AT` images that look nearly black, or cannot be read."""
    lines = []
    for ref in itertools.islice(images, LOOKED_AT):
        try:
            image = Image.load(ref, config.run.max_pixels, config.images.as_conversion())
        except ImageReadError as error:
            lines.append(f"warning: {error}")
        else:
            if image.value_range is not None and image.value_range.doubt:
                lines.append(f"warning: {ref.key}: {image.value_range.doubt}")
    return lines


#: What would make a run faster, by the stage that takes longest; a backend says it itself.
ADVICE: Mapping[str, str] = {
    "read": "smaller image files, or a faster disk",
    "prompts": "a faster source, or more requests at once if it waits on a network",
    "filters": "fewer masks before the filters",
    "writers": "fewer writers; more can be added later without running the backend again",
}


def _probe(config: Config, request: RunRequest, images: Iterable[ImageRef], to_do: int, count: int) -> str:
    """Time some images, spread over the dataset, and estimate the time of the run from them.

    Args:
        config: the pipeline.
        request: narrows the dataset.
        images: of the whole dataset.
        to_do: how many images the run would process.
        count: how many images to time.

    Raises:
        DatasetError: none of them could be processed.
        PluginError: a plugin cannot be opened.
    """
    total = sum(1 for _ in listing(config, request, images))
    chosen = {total * number // count for number in range(count)}
    refs = [ref for number, ref in enumerate(listing(config, request, images)) if number in chosen]
    resources = choose_resources(config, min(total, FIRST))
    os.environ.update(resources.environment())
    walls, stages, failed = _time_images(config, refs)
    if not walls:
        raise DatasetError(f"none of {len(refs)} images could be processed: {failed[0]}")
    seconds = statistics.median(walls)
    largest, share = stages.most_common(1)[0]
    lines = [
        f"{len(walls)} images timed: {seconds:.2f} s per image in one worker,"
        f" {share / sum(stages.values()):.0%} of it {largest}",
        f"{to_do:,} images to do: {_estimate(to_do * seconds, resources)}",
        f"To speed it up: {ADVICE.get(largest) or speed_advice(config.backend.stage)}",
    ]
    return "\n".join([*lines, *(f"failed: {text}" for text in failed)])


def _estimate(seconds: float, resources: Resources) -> str:
    """How long the images take that one worker needs so many seconds for."""
    if resources.remote:
        return f"{_format_duration(seconds)} of one worker like this machine, divided by their number"
    return f"{_format_duration(seconds / resources.jobs)} here, with {resources}"


def _time_images(config: Config, refs: Sequence[ImageRef]) -> tuple[list[float], Counter[str], list[str]]:
    """Seconds of each successful image, seconds by stage, and the failures."""
    walls: list[float] = []
    stages: Counter[str] = Counter()
    failed: list[str] = []
    opened = config.stages()
    opened.prepare(lambda line: print(line, file=sys.stderr, flush=True))
    prints = config.fingerprints(opened.model_ids())
    with (
        tempfile.TemporaryDirectory(prefix="maskmill-probe-") as folder,
        Chain(opened, max_pixels=config.run.max_pixels, conversion=config.images.as_conversion()) as chain,
    ):
        for number, ref in enumerate([*refs[:1], *refs]):  # the first image twice, to warm up
            chain.output = Path(folder, str(number))
            trace = Trace()
            started = time.perf_counter()
            try:
                result, _ = chain.process(ref, prints.of(ref), trace)
            except StopRun as stop:
                failed.append(f"{ref.key}: {stop}")
                break
            if result.failure is not None:
                failed.append(f"{ref.key}: {result.failure}")
                continue
            walls.append(time.perf_counter() - started)
            stages.update(trace.seconds)
    return walls[1:] or walls, stages, list(dict.fromkeys(failed))


def _format_duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"about {seconds / length:.0f} {unit}"
    return f"about {seconds:.0f} seconds"
