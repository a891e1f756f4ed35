"""Second opinions: a share of the images is decided about by two people who do not see each other's decision."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from maskmill import ImageResult, Mask
from maskmill.corrections import digest_entry, digest_masks, freeze_mask
from maskmill.results import FINISHED
from maskmill_plugins._shared.team.agreement import Agreement, compare_objects
from maskmill_plugins._shared.team.records import is_same_person

from ..server.errors import ApiError
from .corrections_file import Decision
from .edits import read_prompts
from .review_queue import QueueRow

Entry = dict[str, Any]


def choose_overlap(keys: Iterable[str], share: float) -> frozenset[str]:
    """The images that are given to two people: this share of them, rounded up, the same ones at every start.

    Args:
        keys: of all images.
        share: 0 to 1.
    """
    ordered = sorted(keys, key=lambda key: hashlib.sha256(b"overlap" + key.encode("utf-8", "surrogatepass")).digest())
    return frozenset(ordered[: math.ceil(round(share * len(ordered), 9))])


def wants_second(row: QueueRow, decision: Decision, reviewer: str) -> bool:
    """Whether a reviewer may give a second opinion about an image that is given to two people.

    Somebody else has decided, by name, about the result as it is or as the line has kept it; nobody has given a second
    opinion, or this reviewer has and may change it as long as the two agree and nobody has decided again.
    """
    if (
        decision.had_second
        or decision.verdict == "question"
        or not decision.reviewer.strip()
        or is_same_person(decision.reviewer, reviewer)
    ):
        return False
    second = decision.second
    if second is not None and not (second.agrees and is_same_person(second.reviewer, reviewer)):
        return False
    if row.rating is None or row.state(decision) == "older":
        return False
    return decision.keeps_reviewed or row.rating.digest == decision.reviewed


def restore_reviewed(result: ImageResult, line: Mapping[str, Any]) -> ImageResult:
    """The result that was looked at when a line was saved: the stored one, or what the line kept of it.

    Raises:
        ApiError: it is neither.
    """
    if digest_masks(result) == line["result"]:
        return result
    assert result.size is not None, "the session sees to it"
    prompts = read_prompts(line.get("before", line.get("prompts")))
    masks = [replace(Mask.from_prompt(prompt), index=index) for index, prompt in enumerate(prompts)]
    restored = ImageResult.done_or_empty(result.key, result.size, result.sha256, prompts, masks)
    if digest_masks(restored) != line["result"]:
        raise ApiError("conflict", f"the result of {result.key} has changed since the first decision about it")
    return restored


def keep_reviewed(result: ImageResult, entry: Mapping[str, Any]) -> Entry:
    """The masks that the first of two people looked at, so that the second can look at them after another run."""
    if digest_entry(entry) == digest_masks(result):
        return {}
    return {"before": [freeze_mask(mask).to_json() for mask in result.kept]}


def describe_change(result: ImageResult, entry: Mapping[str, Any]) -> Entry:
    """How a decision changes the masks that were looked at; {} where it says nothing about them."""
    if entry["verdict"] not in ("accepted", "fixed") or result.status not in FINISHED:
        return {}
    return {"change": _compare(result.kept, entry).to_json()}


def describe_second(first: Mapping[str, Any], entry: Mapping[str, Any]) -> Entry:
    """How a second opinion differs from the first decision."""
    verdicts = first["verdict"], entry["verdict"]
    about: Entry = {"reviewer": str(first.get("reviewer") or ""), "verdict": verdicts[0]}
    if "rejected" in verdicts or "question" in verdicts:
        return {"second": {**about, "agrees": verdicts[0] == verdicts[1]}}
    found = _compare([Mask.from_prompt(prompt) for prompt in read_prompts(first["prompts"])], entry)
    return {"second": {**about, "iou": round(found.iou, 4), "agrees": found.agrees}}


def _compare(masks: list[Mask] | tuple[Mask, ...], entry: Mapping[str, Any]) -> Agreement:
    return compare_objects(masks, [Mask.from_prompt(prompt) for prompt in read_prompts(entry["prompts"])])
