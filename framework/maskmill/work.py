"""What a run has to do for an image, in a word each: the plan, the summary and `--dry-run` speak of the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

#: The first step that a chain does again for an image, whose stored result holds up to there. "prompts": the sources
#: gave the same prompts as before, so the masks hold. "nothing": all is up to date.
FirstStep = Literal["segment", "prompts", "filters", "writers", "nothing"]
#: What a run has to do for an image, or did; docs/pipelines.md has the same table.
Work = Literal[
    "new", "changed", "retried", "doubtful", "lost", "corrected", "other_prompts",
    "prompts", "filters", "writers", "checked", "done", "failed",
]  # fmt: skip
#: Each in words, after a number.
WORK: Mapping[Work, str] = {
    "new": "new",
    "changed": "with a changed image file",
    "retried": "tried again after a failure",
    "doubtful": "made again because of a doubt",
    "lost": "without a usable stored result",
    "corrected": "with what a person decided (`corrections:`)",
    "other_prompts": "segmented again because of changed prompts or a changed `images:`",
    "prompts": "with masks reused (the prompts are the same; filters and writers run again)",
    "filters": "with masks reused (filters and writers run again)",
    "writers": "with masks reused (only new or changed writers run)",
    "checked": "checked and up to date",
    "done": "already done",
    "failed": "failed before and not tried again",
}
#: The work that computes no masks.
REUSES_MASKS: frozenset[Work] = frozenset({"prompts", "filters", "writers"})
#: What needs no work.
NO_WORK: frozenset[Work] = frozenset({"done", "failed"})


def name_work(expected: Work, first: FirstStep) -> Work:
    """What is done for an image, from why the plan expects it to be due and the first step that is done again."""
    if expected == "retried":
        return expected  # whether its masks are there or not
    if first == "nothing":
        return "checked"
    if first != "segment":
        return first
    if expected in REUSES_MASKS:
        return "other_prompts" if expected == "prompts" else "changed"
    return "changed" if expected == "checked" else expected
