"""The figures of a team: of a run and its file of decisions, and as lines for the terminal."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Any

from maskmill import Run
from maskmill.corrections import load_corrections
from maskmill.wording import count_noun
from maskmill_plugins._shared.team.figures import describe_team
from maskmill_plugins._shared.team.records import DecisionRecord

from .corrections_file import CorrectionsFile
from .ratings import RatingCache
from .review_queue import ReviewQueue, list_reviewable

#: Entries of each list on the terminal; the page and `--json` have more.
SHOWN = 10


def describe_session(queue: ReviewQueue, file: CorrectionsFile) -> dict[str, Any]:
    """The figures of a review that is open, as JSON data; see `describe_team`."""
    return describe_team(_select(file.records(), queue), len(queue), queue.count_undecided(file.lines()))


def describe_run(run: Run, corrections: Path) -> dict[str, Any]:
    """The figures of a run and its file of decisions, which a server may be writing; see `describe_team`.

    Raises:
        PipelineError: a line of the file is wrong.
    """
    load_corrections(corrections)  # names what is wrong
    file = CorrectionsFile(corrections)  # read without its lock
    with RatingCache(run.folder) as cache:
        queue = ReviewQueue(run.folder, list_reviewable(run, file.lines()), cache)
        queue.rate_all()
        return describe_session(queue, file)


def _select(records: Sequence[DecisionRecord], keys: Container[str]) -> list[DecisionRecord]:
    return [record for record in records if record.key in keys]


def format_team(team: dict[str, Any]) -> Iterator[str]:
    """The figures in words."""
    images, decided = team["images"], team["decided"]
    counts = {**team["verdicts"], "in question": team["verdicts"]["question"], "question": 0}
    verdicts = ", ".join(f"{count:,} {verdict}" for verdict, count in counts.items() if count)
    yield f"{decided:,} of {count_noun(images, 'image')} decided" + (f": {verdicts}" if verdicts else "")
    yield f"  {_format_advice(team['stop'])}"
    for person in team["people"]:
        yield _format_person(person)
    yield from _format_agreement(team)
    for band in team["bands"]:
        if band["images"]:
            share = f"{band['share']:.0%} of {count_noun(band['images'], 'image')} accepted unchanged"
            sure = f"95% sure: at least {band['low']:.0%}"
            yield f"doubt {band['from']} to {band['to']}: {share} ({sure}), {band['left']:,} left"
    yield from _format_lists(team)


def _format_person(person: dict[str, Any]) -> str:
    parts = [f"{person[verdict]:,} {verdict}" for verdict in ("accepted", "fixed", "rejected") if person[verdict]]
    parts += [count_noun(person["question"], "question")] if person["question"] else []
    parts += [count_noun(person["second"], "second opinion")] if person["second"] else []
    parts += [f"{person['pace']:.0f} an hour"] if person["pace"] is not None else []
    parts += [f"median {person['median_seconds']:.1f} s"] if person["median_seconds"] is not None else []
    parts += [f"IoU with the run {person['iou']:.3f}"] if person["iou"] is not None else []
    return f"{person['name'] or '(no name)'}: {count_noun(person['images'], 'image')}: {', '.join(parts)}"


def _format_advice(stop: dict[str, Any]) -> str:
    if stop["advice"] == "done":
        return "every image is decided"
    if stop["advice"] == "stop":
        first = f"look at the {count_noun(stop['above'], 'image')} with a higher doubt; then " if stop["above"] else ""
        found = (
            f"below doubt {stop['below']}, {stop['share']:.0%} of {count_noun(stop['images'], 'image')} were accepted"
        )
        rest = f"of the {stop['left']:,} left below it, at most {stop['wrong']:,} are likely to need a change"
        return f"{found} unchanged (95% sure: at least {stop['low']:.0%}): {first}you may stop here; {rest}"
    if stop["advice"] == "go_on":
        return "go on: in no band of doubt were enough images accepted unchanged"
    needed = count_noun(stop["needed"], "decided image")
    return f"too early to say when to stop: it takes {needed} in one band of doubt, best a random sample"


def _format_agreement(team: dict[str, Any]) -> Iterator[str]:
    machine = team["machine"]
    if machine["images"]:
        change = ", ".join(f"{machine[name]:,} {name}" for name in ("added", "removed", "relabelled"))
        unknown = f"; not known of {machine['not_known']:,}" if machine["not_known"] else ""
        count = count_noun(machine["images"], "image")
        yield f"the run and people: IoU {machine['iou']:.3f} over {count}; {change}{unknown}"
    for pair in team["pairs"]:
        iou = "" if pair["iou"] is None else f", IoU {pair['iou']:.3f}"
        agree = f"{pair['agree']:,} of {count_noun(pair['images'], 'image')} the same"
        yield f"{' and '.join(name or '(no name)' for name in pair['names'])}: {agree}{iou}"


def _format_lists(team: dict[str, Any]) -> Iterator[str]:
    yield from _list(
        "reject reason", [f"{one['images']:,} × {one['reason'] or '(none)'}" for one in team["rejections"]], 0
    )
    questions, disputed = team["questions"], team["disagreements"]
    lines = [
        f"{one['key']}: {one['reviewer'] or '?'}: {one['comment'] or '(no comment)'}" for one in questions["items"]
    ]
    yield from _list("open question", lines, questions["more"])
    lines = [
        f"{one['key']}: " + ", ".join(f"{each['verdict']} by {each['reviewer']}" for each in one["versions"])
        for one in disputed["items"]
    ]
    yield from _list("disagreement", lines, disputed["more"])


def _list(what: str, lines: Sequence[str], more: int) -> Iterator[str]:
    if lines:
        yield f"{count_noun(len(lines) + more, what)}:"
        yield from (f"  {line}" for line in lines[:SHOWN])
    if len(lines) + more > SHOWN:
        yield f"  and {len(lines) + more - SHOWN:,} more"
