"""Joining the ledgers of several runs image by image, where their keys may be spelled in other letters."""

from __future__ import annotations

import heapq
import itertools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from operator import itemgetter

from ..images import fold_key
from ..results import LedgerRow
from .run import Run

#: (key, number of the run, row)
NumberedRow = tuple[str, int, LedgerRow]


def join_runs(runs: Sequence[Run]) -> Iterator[list[NumberedRow]]:
    """The rows of each image, at most one a run, by the number of the run; images are in the order of their first key.

    Keys of the same text are one image; so are those with the same `fold_key`, unless a run has several of them
    and thus tells them apart. Memory does not grow with the runs: keys that are not their own `fold_key` are
    noted in a temporary file.
    """
    with closing(sqlite3.connect("", check_same_thread=False)) as spelled:
        spelled.execute("CREATE TABLE spelled (form TEXT, number INTEGER, key TEXT)")
        for number, run in enumerate(runs):
            odd = ((form, number, row.key) for row in run.rows() if (form := fold_key(row.key)) != row.key)
            spelled.executemany("INSERT INTO spelled VALUES (?, ?, ?)", odd)
        spelled.execute("CREATE INDEX by_form ON spelled (form)")
        listed = [_number_rows(number, run) for number, run in enumerate(runs)]
        for key, group in itertools.groupby(heapq.merge(*listed, key=itemgetter(0, 1)), key=itemgetter(0)):
            same = _find_other_spellings(spelled, runs, fold_key(key)) or list(group)
            if same[0][0] == key:  # with other spellings, once
                yield same


def _number_rows(number: int, run: Run) -> Iterator[NumberedRow]:
    return ((row.key, number, row) for row in run.rows())


def _find_other_spellings(spelled: sqlite3.Connection, runs: Sequence[Run], form: str) -> list[NumberedRow]:
    """The rows of all keys with this `fold_key`, if it is not the only one and no run has several."""
    keys = spelled.execute("SELECT DISTINCT key FROM spelled WHERE form = ? ORDER BY key", (form,)).fetchall()
    found: list[NumberedRow] = []
    for number, run in enumerate(runs):
        rows = [row for key in (form, *(key for (key,) in keys)) if keys and (row := run.row(key)) is not None]
        if len(rows) > 1:
            return []
        found += [(row.key, number, row) for row in rows]
    return found
