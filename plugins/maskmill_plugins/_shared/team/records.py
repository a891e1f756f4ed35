"""The decisions in a corrections file as far as figures need them: without masks, and with earlier lines."""

from __future__ import annotations

import contextlib
import json
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from maskmill.corrections import VERDICTS, Verdict, digest_entry

from ..doubt_rating import finite_number
from .agreement import Agreement


class SecondOpinion(NamedTuple):
    """What a second opinion was compared with.

    Attributes:
        reviewer: who decided first.
        iou: mean IoU of the two, None if one of them rejected the image.
        agrees: whether they decided the same.
    """

    reviewer: str
    iou: float | None
    agrees: bool


class DecisionRecord(NamedTuple):
    """A line of a corrections file.

    Attributes:
        key: of the image.
        verdict: what was decided.
        reviewer: who decided, "" if unknown.
        time: when, in seconds since 1970; None if unknown.
        seconds: how long it took, None if unknown.
        comment: of the reviewer.
        reviewed: `digest_masks` of the result that was looked at, "" if unknown.
        makes: `digest_masks` of the result that the line makes.
        doubt: of that result, 0 to 1; None if unknown.
        change: how the reviewer changed its masks; None if unknown, and if the image was rejected.
        second: set for a second opinion.
    """

    key: str
    verdict: Verdict
    reviewer: str
    time: float | None
    seconds: float | None
    comment: str
    reviewed: str
    makes: str
    doubt: float | None
    change: Agreement | None
    second: SecondOpinion | None

    @classmethod
    def of(cls, data: Mapping[str, Any], makes: str | None = None) -> DecisionRecord:
        """The record of a line's content.

        Args:
            data: the line.
            makes: as the attribute, if it is known already.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not valid.
        """
        if data["verdict"] not in VERDICTS:
            raise ValueError("no verdict")
        return cls(
            key=str(data["image"]),
            verdict=data["verdict"],
            reviewer=str(data.get("reviewer") or "").strip(),
            time=_read_time(data.get("time")),
            seconds=finite_number(data.get("seconds")),
            comment=str(data.get("comment") or ""),
            reviewed=str(data.get("result") or ""),
            makes=digest_entry(data) if makes is None else makes,
            doubt=finite_number(data.get("doubt")),
            change=Agreement.from_json(data.get("change")),
            second=_read_second(data.get("second")),
        )


def _read_time(text: object) -> float | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _read_second(data: object) -> SecondOpinion | None:
    if not data:
        return None
    if not isinstance(data, Mapping):
        return SecondOpinion("", None, True)
    return SecondOpinion(
        str(data.get("reviewer") or ""), finite_number(data.get("iou")), data.get("agrees") is not False
    )


def read_records(path: Path) -> Iterator[DecisionRecord]:
    """The lines of a corrections file in their order; none of one that does not exist.

    A line that is not valid is left out: a server may be writing it.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
        except FileNotFoundError:
            return
        for raw in file:
            with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
                yield DecisionRecord.of(json.loads(raw.removeprefix(BOM_UTF8)))


def is_same_person(one: str, other: str) -> bool:
    """Whether two names are of one reviewer: case and spaces around them do not count."""
    return fold_name(one) == fold_name(other)


def fold_name(name: str) -> str:
    """What is equal for all spellings of a reviewer's name."""
    return name.strip().casefold()
