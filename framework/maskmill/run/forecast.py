"""The cost of a run, as forecast by its stages, and the consent that it may need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Literal, cast

from ..config.config import Config, PluginUse
from ..errors import PipelineError
from ..images import ImageRef
from ..output.rebuild import open_for_reading
from ..plugins.optional import PaidStage, defines, has_answer
from .plan import Plan, RunRequest


def forecast_run(config: Config, request: RunRequest, images: Iterable[ImageRef]) -> list[str]:
    """The stages' forecasts for the images that remain to be processed, one line each."""
    return [
        f"{use.name}: {line}"
        for use, stage, refs in _list_uses(config, request, images, "forecast")
        for line in stage.forecast(refs, config.output)
    ]


def require_consent(config: Config, request: RunRequest, images: Iterable[ImageRef]) -> None:
    """Stop if a stage objects to the cost of the run and `--yes` was not given.

    Raises:
        PipelineError: the objections of the stages.
    """
    if request.yes:
        return
    problems = [
        config.problem(use.loc, f"{use.role} {use.name!r}: {text}", "to start anyway, add --yes")
        for use, stage, refs in _list_uses(config, request, images, "objection")
        if (text := stage.objection(refs, config.output))
    ]
    if problems:
        raise PipelineError(*problems)


def _list_uses(
    config: Config, request: RunRequest, images: Iterable[ImageRef], method: Literal["forecast", "objection"]
) -> Iterator[tuple[PluginUse, PaidStage, list[ImageRef]]]:
    """Each stage that defines this method, with the images that it would be given."""
    uses = [use for use in config.uses() if defines(use.stage, method)]
    if not uses:
        return
    refs = list(_list_due(config, request, images))
    for use in uses:
        earlier = config.prompts[: config.prompts.index(use)] if use in config.prompts else ()
        before = earlier if config.combine == "first" else ()
        unanswered = [ref for ref in refs if not any(has_answer(other.stage, ref) for other in before)]
        yield use, cast(PaidStage, use.stage), unanswered


def _list_due(config: Config, request: RunRequest, images: Iterable[ImageRef]) -> Iterator[ImageRef]:
    plan = Plan(config, request, config.fingerprints(config.stages().model_ids()), images)
    ledger = None if request.fresh else open_for_reading(config.output)[0]
    with ledger or nullcontext():
        every = (image for batch in plan.batches(ledger, listed=False) for image in batch if image.due)
        yield from (image.ref for image in every if not plan.is_decided(image.ref.key))
