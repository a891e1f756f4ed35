"""What a run would do, found without doing it: how many images, how many workers, what it will cost."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import cast

from ..errors import DatasetError
from ..spec import Config
from .accounts import Surveys
from .engine import Engine
from .forecast import forecasts
from .ledger import NAME, Ledger
from .plan import Plan, RunRequest, listing
from .resources import Resources, share_out

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
        return share_out(1, wanted.threads, need, kept_threads)
    return share_out(wanted.jobs, wanted.threads, need, kept_threads, images if images < FIRST else None)


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
