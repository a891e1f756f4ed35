"""The cost of a run, as forecast by its stages, and the consent that it may need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from ..config.config import Config, PluginUse
from ..errors import PipelineError
from ..images import ImageRef
from ..output.ledger import NAME, Ledger
from ..plugins.optional import defines, find_objection, forecast_lines, has_answer
from ..plugins.stage import Stage
from .plan import Plan, RunRequest


def forecast_run(config: Config, request: RunRequest) -> list[str]:
    """The stages' forecasts for the images that remain to be processed, one line each."""
    return [
        f"{use.name}: {line}"
        for use, refs in _list_uses(config, request, "forecast")
        for line in forecast_lines(use.stage, refs, config.output)
    ]


def require_consent(config: Config, request: RunRequest) -> None:
    """Stop if a stage objects to the cost of the run and `--yes` was not given.

    Raises:
        PipelineError: the objections of the stages.
    """
    if request.yes:
        return
    problems = [
        config.problem(use.loc, f"{use.role} {use.name!r}: {text}", "to start anyway, add --yes")
        for use, refs in _list_uses(config, request, "objection")
        if (text := find_objection(use.stage, refs, config.output))
    ]
    if problems:
        raise PipelineError(*problems)


def _list_uses(
    config: Config, request: RunRequest, method: Literal["forecast", "objection"]
) -> Iterator[tuple[PluginUse, list[ImageRef]]]:
    """Each stage that defines this method, with the images that it would be given."""
    uses = [use for use in config.uses() if defines(use.stage, method)]
    if not uses:
        return
    refs = list(_list_due(config, request))
    for use in uses:
        before: list[Stage] = []
        if use in config.prompts and config.combine == "first":
            earlier = config.prompts[: config.prompts.index(use)]
            before = [other.stage for other in earlier]
        yield use, [ref for ref in refs if not any(has_answer(source, ref) for source in before)]


def _list_due(config: Config, request: RunRequest) -> Iterator[ImageRef]:
    plan = Plan(config, request, config.fingerprints(config.stages().backend[1].model_id()))
    if request.fresh or not (config.output / NAME).exists():
        yield from (ref for batch in plan.batches(None) for ref, _, due in batch if due)
        return
    with Ledger.open_existing(config.output) as ledger:
        yield from (ref for batch in plan.batches(ledger, listed=False) for ref, _, due in batch if due)
