"""What became of every thing that a prompt source holds: `prompts.csv`, a row each.

Before a run the sources are shown the dataset (`Surveys`); after it their inventories are joined
with the results, by image, `ref` and the prompt itself. Nothing is written after an interruption.
"""

from __future__ import annotations

import csv
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from ..config.config import Config
from ..dataset.dataset import Dataset
from ..errors import PromptError
from ..files import atomic_path
from ..masks import Mask
from ..output.ledger import Ledger
from ..plugins.roles import Item, PromptSource, Survey
from ..plugins.stage import digest
from ..prompts import Prompt
from ..results import ImageResult

NAME = "prompts.csv"
COLUMNS = ("source", "file", "place", "ref", "image", "label", "x1", "y1", "x2", "y2", "outcome", "mask", "reason")
MASK, DROPPED, FAILED, QUARANTINED = "mask", "dropped", "failed", "quarantined"
NO_IMAGE, SKIPPED, NOT_ASKED = "no image", "skipped", "not asked"
#: Outcome -> how the summary says it.
SAID = {
    MASK: "masks",
    DROPPED: "dropped",
    FAILED: "on images that failed",
    QUARANTINED: "on images in quarantine",
    NO_IMAGE: "without an image",
    SKIPPED: "skipped",
    NOT_ASKED: "not asked",
}
#: Images whose results are held; things of one image mostly follow each other.
HELD = 64


class Surveys:
    """What the prompt sources found when they were shown the dataset.

    Args:
        config: the pipeline; the dataset is listed once for each source that wants to see it.
    """

    def __init__(self, config: Config) -> None:
        self._names = [use.name for use in config.prompts]
        self.sources = [cast(PromptSource, use.stage) for use in config.prompts]
        self.found: list[Survey | None] = [
            source.survey(iter(Dataset(config.dataset, config.dataset_base)))
            if type(source).survey is not PromptSource.survey
            else None
            for source in self.sources
        ]

    @property
    def memories(self) -> list[Any]:
        """What each source has to recall in the workers."""
        return [survey and survey.memory for survey in self.found]

    def warnings(self) -> list[str]:
        """What the user should know, a line each."""
        return [f"warning: {line}" for survey in self.found if survey for line in survey.warnings]

    def about(self) -> list[dict[str, Any]]:
        """For `run.json`."""
        named = zip(self._names, self.found, strict=True)
        return [{"source": name, **survey.about} for name, survey in named if survey]

    def state(self) -> list[str]:
        """Changes when what they hold does."""
        return [survey.state if survey else "" for survey in self.found]


def account(config: Config, surveys: Surveys, ledger: Ledger, ran: int, stopped: Callable[[], bool]) -> str:
    """Bring `prompts.csv` up to date.

    Args:
        config: the pipeline, whose run has ended.
        surveys: of its sources.
        ledger: of its output.
        ran: how many images this run worked on.
        stopped: asked at every row whether to end at once.

    Returns:
        A line for the user, "" if no source has an inventory.

    Raises:
        OutputError: the result of a finished image is gone.
        KeyboardInterrupt: `stopped` said so; the file of before is left.
    """
    inventories = [
        (use.name, items)
        for use, source in zip(config.prompts, surveys.sources, strict=True)
        if (items := source.inventory()) is not None
    ]
    if not inventories:
        return ""
    state = digest([surveys.state(), ledger.digest()])
    known = ledger.meta("accounts")
    target = config.output / NAME
    if ran or known is None or known["state"] != state or not target.exists():
        counts = _write(target, inventories, _Outcomes(ledger), stopped)
        ledger.set_meta("accounts", {"state": state, "counts": dict(counts)})
        ledger.commit()
    else:
        counts = Counter(known["counts"])
    return _summary(counts)


def _summary(counts: Counter[str]) -> str:
    parts = [f"{counts[outcome]:,} {said}" for outcome, said in SAID.items() if counts[outcome]]
    return f"{counts.total():,} prompts in files: {', '.join(parts) or 'none'} ({NAME})"


def _write(
    target: Path,
    inventories: Sequence[tuple[str, Iterator[Item]]],
    outcomes: _Outcomes,
    stopped: Callable[[], bool],
) -> Counter[str]:
    """Write the file, row by row, under another name, then rename it."""
    counts: Counter[str] = Counter()
    with atomic_path(target) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for source, items in inventories:
            for item in items:
                if stopped():
                    raise KeyboardInterrupt
                outcome, mask, reason, prompt = outcomes.of(source, item)
                counts[outcome] += 1
                table.writerow([*_row(source, item, prompt), outcome, mask, _plain(reason)])
    return counts


def _row(source: str, item: Item, prompt: Prompt | None) -> list[Any]:
    """The first columns; the box in pixels where the image is known, else as the file has it."""
    box = prompt.box if prompt else None
    corners = [""] * 4 if box is None else [f"{value:.10g}" for value in box.xyxy]
    label = (prompt and prompt.label) or ""
    image = item.key if item.key is not None else item.image
    return [*map(_plain, (source, item.file, item.place, item.ref, image, label)), *corners]


def _plain(text: str) -> str:
    """Without halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode()


class _Outcomes:
    """What became of things, by the results of their images; those of the last images are held."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._held: OrderedDict[str, _Answers | None] = OrderedDict()

    def of(self, source: str, item: Item) -> tuple[str, str, str, Prompt | None]:
        """Outcome, number of the mask, reason, and the prompt as it was asked."""
        if item.prompt is None or item.problem:
            outcome = NO_IMAGE if item.prompt is not None and item.key is None and item.image else SKIPPED
            return outcome, "", item.problem, item.prompt
        if item.key is None:
            return NO_IMAGE, "", "no image of the dataset fits", item.prompt
        answers = self._answers(item.key)
        if answers is None:
            return NOT_ASKED, "", "its image was not run yet", item.prompt
        if answers.status in (FAILED, QUARANTINED):
            return answers.status, "", answers.failure, item.prompt
        return answers.to(source, item, item.prompt)

    def _answers(self, key: str) -> _Answers | None:
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        row = self._ledger.find_rows([key], listed=False).get(key)
        self._held[key] = answers = None if row is None else _Answers(self._ledger.result(row))
        if len(self._held) > HELD:
            self._held.popitem(last=False)
        return answers


class _Answers:
    """The masks of one image by their prompts."""

    def __init__(self, result: ImageResult) -> None:
        self.status: str = result.status
        self.failure = result.failure.message if result.failure else ""
        self._size = result.size or (0, 0)
        self._asked = set(result.prompts)
        self._masks: dict[Prompt, list[Mask]] = {}
        for mask in result.masks:
            if mask.prompt is not None:  # a filter may have given it another label
                self._masks.setdefault(replace(mask.prompt, label=None), []).append(mask)

    def to(self, source: str, item: Item, prompt: Prompt) -> tuple[str, str, str, Prompt | None]:
        """What became of a prompt of an image that ran well."""
        try:
            asked = prompt.to_pixels(*self._size) if item.relative else prompt
            asked = asked.fit(*self._size)
        except PromptError as error:
            return SKIPPED, "", str(error), prompt
        asked = asked if asked.source else replace(asked, source=source)
        if asked not in self._asked:
            return NOT_ASKED, "", self._why(asked), asked
        masks = self._masks.get(replace(asked, label=None), [])
        if kept := [mask for mask in masks if mask.kept]:
            return MASK, str(kept[0].index), "", asked
        if masks:
            return DROPPED, str(masks[0].index), _dropped(masks[0]), asked
        return DROPPED, "", "the backend found nothing", asked

    def _why(self, asked: Prompt) -> str:
        if any((prompt.source, prompt.ref) == (asked.source, asked.ref) for prompt in self._asked):
            return "it was changed after its image was run"
        others = sorted({str(prompt.source) for prompt in self._asked} - {str(asked.source)})
        return (
            f"its image was run with the prompts of {', '.join(others)}" if others else "its image was run without it"
        )


def _dropped(mask: Mask) -> str:
    return f"{mask.dropped_by}: {mask.reason}" if mask.reason else str(mask.dropped_by)
