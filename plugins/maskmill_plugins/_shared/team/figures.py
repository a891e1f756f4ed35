"""Figures of a team: who decided what and how fast, and how far people agree with the run and with each other."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from maskmill.corrections import VERDICTS

from .records import DecisionRecord, fold_name
from .stopping import Judged, advise, describe_bands

#: Seconds without a decision after which a person counts as away.
AWAY = 600.0
#: Decisions below which no pace is given: the first ones say little.
LEAST_FOR_PACE = 5
#: Entries of a list, such as open questions; "more" counts the rest.
MOST = 200
Records = Sequence[DecisionRecord]


def describe_team(records: Records, images: int, undecided: Sequence[int]) -> dict[str, Any]:
    """The figures of a team as JSON data.

    Args:
        records: the lines of the corrections file about images of the run, in their order.
        images: number of images that can be reviewed.
        undecided: the number of images that nobody has decided about, by hundredth of doubt (100 numbers).

    Returns:
        images, decided, verdicts (number of images by the verdict that counts), people, days (number of images by
        day), questions, disagreements, rejections (number of images by reason), machine (agreement of the run with
        people), pairs (agreement of people with each other), bands and stop (see `stopping`).
    """
    by_image: dict[str, list[DecisionRecord]] = {}
    for record in records:
        by_image.setdefault(record.key, []).append(record)
    counting = [last for lines in by_image.values() if (last := _find_counting(lines)) is not None]
    verdicts = Counter(record.verdict for record in counting)
    bands = describe_bands([judged for lines in by_image.values() if (judged := _judge(lines))], undecided)
    return {
        "images": images,
        "decided": sum(verdicts.values()) - verdicts["question"],
        "verdicts": {verdict: verdicts[verdict] for verdict in VERDICTS},
        "people": describe_people(records),
        "days": _count_days(records),
        "questions": _limit(_describe_question(record) for record in counting if record.verdict == "question"),
        "disagreements": _limit(found for lines in by_image.values() if (found := find_disagreement(lines))),
        "rejections": _count_reasons(counting),
        "machine": _describe_machine([_find_change(lines) for lines in by_image.values()]),
        "pairs": describe_pairs(records),
        "bands": bands,
        "stop": advise(bands),
    }


def _find_counting(lines: Records) -> DecisionRecord | None:
    """The line of an image that counts for the run."""
    return next((line for line in reversed(lines) if line.second is None), None)


def _find_chain(lines: Records) -> list[DecisionRecord]:
    """The decisions about the newest result that a machine made of an image, and about what people made of that.

    A decision about a result that is neither the one looked at before nor what was then decided begins anew.
    """
    chain: list[DecisionRecord] = []
    for line in lines:
        known = {digest for one in chain for digest in (one.reviewed, one.makes)}
        if chain and line.reviewed and line.reviewed not in known:
            chain = []
        chain.append(line)
    return [line for line in chain if line.verdict != "question"]


def _judge(lines: Records) -> Judged | None:
    """Whether everybody who decided about an image accepted it unchanged; None without decisions, or with no doubt."""
    chain = _find_chain(lines)
    doubt = next((line.doubt for line in chain if line.doubt is not None), None)
    return None if doubt is None else Judged(doubt, all(line.verdict == "accepted" for line in chain))


def _find_change(lines: Records) -> DecisionRecord | None:
    """The last decision that counts about what the machine made of an image; None if nobody decided."""
    chain = [line for line in _find_chain(lines) if line.second is None]
    return next((line for line in reversed(chain) if line.reviewed == chain[0].reviewed), None)


def _describe_machine(lines: Iterable[DecisionRecord | None]) -> dict[str, Any]:
    """How far people agree with the run: mean IoU over images; rejected ones have none."""
    kept = [line for line in lines if line is not None and line.verdict != "rejected"]
    known = [line.change for line in kept if line.change is not None]
    return {
        "images": len(known),
        "not_known": len(kept) - len(known),
        "iou": statistics.fmean(change.iou for change in known) if known else None,
        "added": sum(change.added for change in known),
        "removed": sum(change.removed for change in known),
        "relabelled": sum(change.relabelled for change in known),
    }


def describe_people(records: Iterable[DecisionRecord]) -> list[dict[str, Any]]:
    """For each person, the one with most images first: decisions, pace, median seconds, agreement with the run."""
    by_name: dict[str, list[DecisionRecord]] = {}
    for record in records:
        by_name.setdefault(fold_name(record.reviewer), []).append(record)
    people = [_describe_person(lines) for lines in by_name.values()]
    return sorted(people, key=lambda person: (-person["images"], person["name"]))


def _describe_person(lines: Records) -> dict[str, Any]:
    last = {(line.key, line.second is None): line for line in lines}.values()  # who decides again means the last one
    verdicts = Counter(line.verdict for line in last if line.second is None)
    seconds = [line.seconds for line in lines if line.seconds is not None]
    changes = [line.change for line in last if line.change is not None]
    hours = measure_active_seconds(lines) / 3600
    times = [line.time for line in lines if line.time is not None]
    return {
        "name": lines[0].reviewer,
        "images": len({line.key for line in lines}),
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        "second": sum(line.second is not None for line in last),
        "hours": hours,
        "pace": len(lines) / hours if hours and len(lines) >= LEAST_FOR_PACE else None,
        "median_seconds": statistics.median(seconds) if seconds else None,
        "iou": statistics.fmean(change.iou for change in changes) if changes else None,
        "last": max(times, default=None),
    }


def measure_active_seconds(lines: Records) -> float:
    """The seconds that a person was at work: from decision to decision, unless more than `AWAY` lies between them.

    The first decision after a pause counts as long as it took itself.
    """
    timed = sorted((line for line in lines if line.time is not None), key=lambda line: line.time or 0.0)
    total = min(AWAY, timed[0].seconds or 0.0) if timed else 0.0
    for before, line in pairwise(timed):
        gap = (line.time or 0.0) - (before.time or 0.0)
        total += gap if gap <= AWAY else min(AWAY, line.seconds or 0.0)
    return total


def _count_days(records: Iterable[DecisionRecord]) -> list[dict[str, Any]]:
    """How many images each day saw decided, in this machine's time zone."""
    days: dict[str, set[str]] = {}
    for record in records:
        if record.time is not None:
            days.setdefault(datetime.fromtimestamp(record.time).astimezone().date().isoformat(), set()).add(record.key)
    return [{"day": day, "images": len(keys)} for day, keys in sorted(days.items())]


def _describe_question(record: DecisionRecord) -> dict[str, Any]:
    return {"key": record.key, "reviewer": record.reviewer, "comment": record.comment, "time": record.time}


def find_disagreement(lines: Records) -> dict[str, Any] | None:
    """The second opinion about an image that differs from the decision before it; None if nobody has to settle it.

    Args:
        lines: about one image, in their order.
    """
    second = next((line for line in reversed(lines) if line.second is not None), None)
    first = _find_counting(lines)
    if first is None or second is None or second.second is None or second.second.agrees:
        return None
    if lines.index(first) > lines.index(second):
        return None
    both = [{"reviewer": line.reviewer, "verdict": line.verdict, "comment": line.comment} for line in (first, second)]
    return {"key": first.key, "versions": both, "iou": second.second.iou}


def describe_pairs(records: Iterable[DecisionRecord]) -> list[dict[str, Any]]:
    """How far two people agree on the images that both decided about without knowing the other's decision."""
    names: dict[str, str] = {}
    last: dict[tuple[str, str], DecisionRecord] = {}
    for record in records:
        names.setdefault(fold_name(record.reviewer), record.reviewer)
        if record.second is not None:
            last[record.key, fold_name(record.reviewer)] = record
    pairs: dict[tuple[str, ...], list[DecisionRecord]] = {}
    for record in last.values():
        assert record.second is not None, "only second opinions are in it"
        both = tuple(sorted((fold_name(record.second.reviewer), fold_name(record.reviewer))))
        pairs.setdefault(both, []).append(record)
    described = []
    for both, lines in pairs.items():
        seconds = [line.second for line in lines if line.second is not None]
        known = [second.iou for second in seconds if second.iou is not None]
        described.append(
            {
                "names": [names.get(name, name) for name in both],
                "images": len(lines),
                "agree": sum(second.agrees for second in seconds),
                "iou": statistics.fmean(known) if known else None,
            }
        )
    return sorted(described, key=lambda pair: (-pair["images"], pair["names"]))


def _count_reasons(counting: Iterable[DecisionRecord]) -> list[dict[str, Any]]:
    """Why images were rejected; reasons that differ in case and spaces only are one."""
    counts: Counter[str] = Counter()
    shown: dict[str, str] = {}
    for record in counting:
        if record.verdict == "rejected":
            reason = " ".join(record.comment.split())
            counts[shown.setdefault(reason.casefold(), reason)] += 1
    return [{"reason": reason, "images": count} for reason, count in counts.most_common(MOST)]


def _limit(entries: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The first entries of a list, and how many more there are."""
    found = list(entries)
    return {"items": found[:MOST], "more": max(0, len(found) - MOST)}
