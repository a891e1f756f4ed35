"""`prompts.csv`: the outcome of every annotation that a prompt source holds, one row each.

Before a run the sources compare their content with the dataset (`Surveys`); after it, each annotation
of their inventories is looked up in the results by its image and its prompt. After an interruption
nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..config.config import Config
from ..corrections import NAME as CORRECTIONS
from ..dataset.shard import Shard
from ..errors import PromptError
from ..files import atomic_path
from ..images import ImageRef
from ..masks import Mask
from ..output.ledger import Ledger
from ..plugins.optional import Item, Survey, list_inventory, survey_dataset
from ..plugins.stage import digest
from ..prompts import Prompt
from ..results import ImageResult
from ..tables import ACCOUNTS, OTHER_SHARD, PROMPTS_CSV, write_table
from ..wording import count_noun

MASK, DROPPED, FAILED, QUARANTINED = "mask", "dropped", "failed", "quarantined"
REJECTED = "rejected"
NO_IMAGE, SKIPPED, NOT_ASKED = "no image", "skipped", "not asked"
#: Outcome -> its words in the summary.
SUMMARY_WORDS = {
    MASK: "with a mask",
    DROPPED: "dropped",
    REJECTED: "on rejected images",
    FAILED: "on images that failed",
    QUARANTINED: "on quarantined images",
    NO_IMAGE: "without an image",
    SKIPPED: "skipped",
    NOT_ASKED: "not asked",
    OTHER_SHARD: "of other shards",
}
#: Images whose results are kept in memory; annotations of one image are usually adjacent.
CACHED = 64


class Surveys:
    """The results of comparing the prompt sources with the dataset.

    Args:
        config: the pipeline.
        images: of the whole dataset; iterated once for each source that has a `survey`.
    """

    def __init__(self, config: Config, images: Iterable[ImageRef]) -> None:
        self._names = [use.name for use in config.prompts]
        self.sources = [use.stage for use in config.prompts]
        self.found: list[Survey | None] = [survey_dataset(source, lambda: images) for source in self.sources]

    @property
    def memories(self) -> list[Any]:
        """The memory that each source recalls in the workers."""
        return [survey and survey.memory for survey in self.found]

    def warnings(self) -> list[str]:
        """Warnings for the user, one line each."""
        return [f"warning: {line}" for survey in self.found if survey for line in survey.warnings]

    def about(self) -> list[dict[str, Any]]:
        """For `run.json`."""
        named = zip(self._names, self.found, strict=True)
        return [{"source": name, **survey.about} for name, survey in named if survey]

    def doubts(self) -> dict[str, int]:
        """Doubts of the run that belong to no image, by code."""
        found: Counter[str] = Counter()
        for survey in self.found:
            found.update(survey.doubts if survey else {})
        return dict(found)

    def state(self) -> list[str]:
        """Changes when the content of a source changes."""
        return [survey.state if survey else "" for survey in self.found]


def update_prompts_csv(
    config: Config,
    surveys: Surveys,
    ledger: Ledger,
    ran: int,
    stopped: Callable[[], bool],
    shard: Shard | None = None,
) -> str:
    """Bring `prompts.csv` up to date.

    Args:
        config: the pipeline, whose run has ended.
        surveys: of its sources.
        ledger: of its output.
        ran: how many images this run processed.
        stopped: checked at every row; True ends the writing.
        shard: that the run is about, None if it is about all images.

    Returns:
        A line for the user, "" if no source has an inventory.

    Raises:
        OutputError: the result of a finished image is gone.
        KeyboardInterrupt: `stopped` returned True; the earlier file is kept.
    """
    inventories = [
        (use.name, items)
        for use, source in zip(config.prompts, surveys.sources, strict=True)
        if (items := list_inventory(source)) is not None
    ]
    if not inventories:
        return ""
    state = digest([surveys.state(), ledger.digest()])
    known = ledger.meta("accounts")
    target = config.output / ACCOUNTS
    if ran or known is None or known["state"] != state or not target.exists():
        finder = _OutcomeFinder(ledger, [name for name, _ in inventories], shard)
        counts = _write_rows(target, inventories, finder, stopped)
        ledger.set_meta("accounts", {"state": state, "counts": dict(counts)})
        ledger.commit()
    else:
        counts = Counter(known["counts"])
    return _summarize(counts)


def _summarize(counts: Counter[str]) -> str:
    parts = [f"{counts[outcome]:,} {words}" for outcome, words in SUMMARY_WORDS.items() if counts[outcome]]
    return f"{count_noun(counts.total(), 'prompt')} in files: {', '.join(parts) or 'none'} ({ACCOUNTS})"


def _write_rows(
    target: Path,
    inventories: Sequence[tuple[str, Iterator[Item]]],
    outcomes: _OutcomeFinder,
    stopped: Callable[[], bool],
) -> Counter[str]:
    """Write the file row by row under a temporary name, then rename it."""
    counts: Counter[str] = Counter()
    with atomic_path(target) as unfinished, write_table(unfinished, PROMPTS_CSV) as write:
        for source, items in inventories:
            for item in items:
                if stopped():
                    raise KeyboardInterrupt
                outcome, mask, reason, prompt = outcomes.find(source, item)
                counts[outcome] += 1
                write([*_format_row(source, item, prompt), outcome, mask, _replace_surrogates(reason)])
    return counts


def _format_row(source: str, item: Item, prompt: Prompt | None) -> list[Any]:
    """The first columns; the box is in pixels if the image is known, else as in the source's file."""
    box = prompt.box if prompt else None
    corners = [""] * 4 if box is None else [f"{value:.10g}" for value in box.xyxy]
    label = (prompt and prompt.label) or ""
    image = item.key if item.key is not None else item.image
    return [*map(_replace_surrogates, (source, item.file, item.place, item.ref, image, label)), *corners]


def _replace_surrogates(text: str) -> str:
    """The text without surrogates, which UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()


class _OutcomeFinder:
    """Looks up the outcome of annotations in the results of their images; caches the last images.

    Args:
        ledger: of the run.
        sources: the names of the sources that have annotations; their annotations are looked up in this order.
        shard: that the run is about, None if it is about all images.
    """

    def __init__(self, ledger: Ledger, sources: Sequence[str], shard: Shard | None) -> None:
        self._ledger = ledger
        self._shard = shard
        self._ambiguous = len(sources) > 1  # the prompts of one source differ in their refs
        self._before: Counter[int] = Counter()
        self._outcomes = lru_cache(CACHED)(self._read_outcomes)

    def find(self, source: str, item: Item) -> tuple[str, str, str, Prompt | None]:
        """Outcome, number of the mask, reason, and the prompt as given to the backend."""
        if item.prompt is None or item.problem:
            outcome = NO_IMAGE if item.prompt is not None and item.key is None and item.image else SKIPPED
            return outcome, "", item.problem, item.prompt
        if item.key is None:
            return NO_IMAGE, "", "no image of the dataset matches", item.prompt
        outcomes = self._outcomes(item.key)
        if outcomes is None and self._shard is not None and not self._shard.has(item.key):
            return OTHER_SHARD, "", "", item.prompt
        if outcomes is None:
            return NOT_ASKED, "", "its image has not been processed yet", item.prompt
        if outcomes.status in (REJECTED, FAILED, QUARANTINED):
            return outcomes.status, "", outcomes.failure, item.prompt
        return outcomes.find(source, item, item.prompt, lambda used: self._count(item.key, used))

    def _count(self, key: str | None, used: Prompt) -> int:
        """How many prompts equal to this one the image had before; only where there are several sources."""
        if not self._ambiguous:
            return 0
        mark = hash((key, used))
        self._before[mark] += 1
        return self._before[mark] - 1

    def _read_outcomes(self, key: str) -> _ImageOutcomes | None:
        row = self._ledger.find_rows([key], listed=False).get(key)
        return None if row is None else _ImageOutcomes(self._ledger.result(row))


class _ImageOutcomes:
    """The masks of one image by the number of their prompt."""

    def __init__(self, result: ImageResult) -> None:
        self.status: str = result.status
        self.failure = result.failure.message if result.failure else ""
        self._size = result.size or (0, 0)
        self._reviewed = CORRECTIONS in result.notes
        self._numbers: dict[Prompt, list[int]] = {}
        for number, prompt in enumerate(result.prompts):
            self._numbers.setdefault(prompt, []).append(number)
        numbers = result.prompt_numbers()
        self._masks: dict[int | None, list[Mask]] = {}
        for mask in result.masks:
            self._masks.setdefault(numbers[mask.index], []).append(mask)

    def find(
        self, source: str, item: Item, prompt: Prompt, count: Callable[[Prompt], int]
    ) -> tuple[str, str, str, Prompt | None]:
        """Outcome, mask, reason and prompt of an image that was processed without a failure.

        Args:
            source: that has the annotation.
            item: the annotation.
            prompt: its prompt.
            count: how many equal prompts of this image came before this one.
        """
        try:
            used = prompt.to_pixels(*self._size) if item.relative else prompt
            used = used.fit(*self._size)
        except PromptError as error:
            return SKIPPED, "", str(error), prompt
        used = used if used.source else replace(used, source=source)
        equal, place = self._numbers.get(used, []), count(used)
        if not equal and self._reviewed:
            return self._find_reviewed(used)
        if not equal:
            return NOT_ASKED, "", self._explain_unused(used), used
        if place >= len(equal):
            return NOT_ASKED, "", "an equal prompt of another source was used", used
        masks = self._masks.get(equal[place], [])
        if kept := [mask for mask in masks if mask.kept]:
            return MASK, str(kept[0].index), "", used
        if masks:
            return DROPPED, str(masks[0].index), _explain_dropped(masks[0]), used
        return DROPPED, "", "the backend found nothing", used

    def _find_reviewed(self, used: Prompt) -> tuple[str, str, str, Prompt | None]:
        """The outcome where a person decided on the image's objects, some of which they took from annotations."""
        for numbers in (self._numbers[prompt] for prompt in self._numbers if _is_same(prompt, used)):
            if masks := self._masks.get(numbers[0]):
                return MASK, str(masks[0].index), "", used
        return DROPPED, "", "removed in a review", used

    def _explain_unused(self, used: Prompt) -> str:
        if any((prompt.source, prompt.ref) == (used.source, used.ref) for prompt in self._numbers):
            return "it was changed after its image was processed"
        others = sorted({str(prompt.source) for prompt in self._numbers} - {str(used.source)})
        instead = f"with the prompts of {', '.join(others)}" if others else "without it"
        return f"its image was processed {instead}"


def _is_same(prompt: Prompt, used: Prompt) -> bool:
    """Whether a reviewed object was made from this annotation."""
    return (prompt.source, prompt.ref, prompt.box) == (used.source, used.ref, used.box)


def _explain_dropped(mask: Mask) -> str:
    return f"{mask.dropped_by}: {mask.reason}" if mask.reason else str(mask.dropped_by)
