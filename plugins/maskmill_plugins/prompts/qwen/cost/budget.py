"""What may be spent, and what is: reserved before each call, settled after it.

The sums lie in the run's output folder, so that a run that is resumed, or whose process died, goes on
counting where it was: a budget bounds what this output costs, however often the run is started. A call
whose process was killed stays counted as it was reserved, since nobody knows what became of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from maskmill import StopRun

NAME = "qwen-spent.sqlite"
MILLION = 1_000_000
PATIENCE = 30.0


class Budget(BaseModel):
    """What stands under `budget:`; a run stops, resumably, before it spends more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calls: int | None = Field(None, ge=1, description="calls, those that fail or are asked again included")
    tokens: int | None = Field(None, ge=1, description="tokens of questions, pictures, thinking and answers")
    cost: float | None = Field(None, gt=0, allow_inf_nan=False, description="in the currency of the two prices")
    input_price: float | None = Field(None, ge=0, allow_inf_nan=False, description="of a million input tokens")
    output_price: float | None = Field(None, ge=0, allow_inf_nan=False, description="of a million output tokens")

    @model_validator(mode="after")
    def _cost_needs_prices(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("give both prices, `input_price` and `output_price`, of a million tokens each")
        if self.cost is not None and self.input_price is None:
            raise ValueError("a budget of `cost` needs `input_price` and `output_price`, of a million tokens each")
        return self

    @property
    def limits(self) -> bool:
        """Whether anything bounds the spending; prices alone do not."""
        return any(limit is not None for limit in (self.calls, self.tokens, self.cost))

    def price(self, spent: Spent) -> float | None:
        """The cost of that, None where no prices are known."""
        if self.input_price is None or self.output_price is None:
            return None
        return (spent.input_tokens * self.input_price + spent.output_tokens * self.output_price) / MILLION


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls and tokens."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Of both kinds."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )

    def __sub__(self, other: Spent) -> Spent:
        return self + Spent(-other.calls, -other.input_tokens, -other.output_tokens)


class Purse:
    """The sums of one output folder, for any number of threads.

    Args:
        budget: the limits.
        folder: the run's output folder; None, outside a run, counts in memory only.
    """

    def __init__(self, budget: Budget, folder: Path | None) -> None:
        self._budget = budget
        self._book = _Book(folder)
        self._changed = threading.Condition()
        self._under_way = 0

    @property
    def spent(self) -> Spent:
        """What was spent so far, calls under way included as they were reserved."""
        with self._changed:
            return self._book.read()

    @contextlib.contextmanager
    def reserved(self, most: Spent) -> Iterator[list[Spent]]:
        """Reserve the most that a call can take; at the end, what it really took is settled.

        Args:
            most: of one call.

        Yields:
            A list to put the real spending into; without it, all that was reserved counts as spent.

        Raises:
            StopRun: the budget does not suffice for one more call.
        """
        with self._changed:
            while over := self._over(self._book.read() + most):
                if not self._under_way:  # else one of those may turn out cheaper than reserved
                    raise StopRun(over)
                self._changed.wait(1.0)
            self._book.add(most)
            self._under_way += 1
        real: list[Spent] = []
        try:
            yield real
        finally:
            with self._changed:
                self._under_way -= 1
                try:
                    if real:
                        self._book.add(real[0] - most)
                finally:
                    self._changed.notify_all()

    def close(self) -> None:
        """Let go of the file."""
        self._book.close()

    def _over(self, then: Spent) -> str:
        """What would be overdrawn, in words, "" if nothing."""
        now = self._book.read()
        for name, limit, spent, wanted in (
            ("calls", self._budget.calls, now.calls, then.calls),
            ("tokens", self._budget.tokens, now.tokens, then.tokens),
            ("cost", self._budget.cost, self._budget.price(now), self._budget.price(then)),
        ):
            if limit is not None and wanted is not None and wanted > limit:
                return (
                    f"the budget is spent: {spent:,.6g} of {limit:,.6g} {name}, and the next call may need"
                    f" {wanted - (spent or 0):,.6g}; raise `budget: {{{name}: ...}}` and run it again to go on,"
                    " what was answered is not asked again"
                )
        return ""


class _Book:
    """One row of sums, in a file or in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / NAME
        self._connection: sqlite3.Connection | None = None

    def read(self) -> Spent:
        with self._opened() as connection:
            return Spent(*connection.execute("SELECT calls, input_tokens, output_tokens FROM spent").fetchone())

    def add(self, more: Spent) -> None:
        with self._opened() as connection, connection:
            connection.execute(
                "UPDATE spent SET calls = calls + ?, input_tokens = input_tokens + ?,"
                " output_tokens = output_tokens + ?",
                (more.calls, more.input_tokens, more.output_tokens),
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = self._connected()
            yield self._connection
        except sqlite3.Error as error:
            raise StopRun(f"what was spent so far cannot be kept in {self._path}: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path or ":memory:", timeout=PATIENCE, check_same_thread=False)
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY CHECK (id = 1), calls INTEGER NOT NULL,"
                " input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL)"
            )
            connection.execute("INSERT OR IGNORE INTO spent VALUES (1, 0, 0, 0)")
        return connection


def spent_in(folder: Path) -> Spent:
    """What a run into this folder spent so far; changes nothing."""
    if not (folder / NAME).exists():
        return Spent()
    book = _Book(folder)
    try:
        return book.read()
    finally:
        book.close()
