"""The budget: what a call may use is reserved before it, and settled after it.

The totals are stored in the run's output folder, so that a resumed run continues counting: a budget limits
what this output costs, however often the run is started. A call whose process was killed stays counted as
it was reserved, since its real cost is unknown.
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
    """The option `budget:`; a run stops, resumably, before it exceeds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    calls: int | None = Field(None, ge=1, description="calls, including failed calls and retries")
    tokens: int | None = Field(None, ge=1, description="tokens of questions, images, thinking and answers")
    cost: float | None = Field(None, gt=0, allow_inf_nan=False, description="in the currency of the two prices")
    input_price: float | None = Field(None, ge=0, allow_inf_nan=False, description="per million input tokens")
    output_price: float | None = Field(None, ge=0, allow_inf_nan=False, description="per million output tokens")

    @model_validator(mode="after")
    def _cost_needs_prices(self) -> Self:
        if (self.input_price is None) != (self.output_price is None):
            raise ValueError("set both prices, `input_price` and `output_price`, per million tokens")
        if self.cost is not None and self.input_price is None:
            raise ValueError("a budget of `cost` needs `input_price` and `output_price`, per million tokens")
        return self

    @property
    def has_limits(self) -> bool:
        """Whether there is any limit; prices alone are none."""
        return any(limit is not None for limit in (self.calls, self.tokens, self.cost))

    def compute_cost(self, usage: Usage) -> float | None:
        """Return the cost of this usage, None without prices."""
        if self.input_price is None or self.output_price is None:
            return None
        return (usage.input_tokens * self.input_price + usage.output_tokens * self.output_price) / MILLION


@dataclass(frozen=True, slots=True)
class Usage:
    """Calls and tokens."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Input and output tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )

    def __sub__(self, other: Usage) -> Usage:
        return self + Usage(-other.calls, -other.input_tokens, -other.output_tokens)


class BudgetReservation:
    """Reserves and settles the usage of one output folder, for any number of threads.

    Args:
        budget: the limits.
        folder: the run's output folder; None (outside a run) counts in memory only.
    """

    def __init__(self, budget: Budget, folder: Path | None) -> None:
        self._budget = budget
        self._table = _UsageTable(folder)
        self._changed = threading.Condition()
        self._running = 0

    @contextlib.contextmanager
    def reserve(self, most: Usage) -> Iterator[list[Usage]]:
        """Reserve the most that a call can use, and settle the actual usage at the end.

        Args:
            most: the most that one call can use.

        Yields:
            A list to append the actual usage to; if it stays empty, the whole reservation counts as used.

        Raises:
            StopRun: the budget is too small for one more call.
        """
        with self._changed:
            while message := self._describe_overrun(self._table.read() + most):
                if not self._running:  # otherwise a running call may use less than it reserved
                    raise StopRun(message)
                self._changed.wait(1.0)
            self._table.add(most)
            self._running += 1
        actual: list[Usage] = []
        try:
            yield actual
        finally:
            with self._changed:
                self._running -= 1
                try:
                    if actual:
                        self._table.add(actual[0] - most)
                finally:
                    self._changed.notify_all()

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def _describe_overrun(self, then: Usage) -> str:
        """Return a message on the limit that this usage would exceed, "" if none."""
        now = self._table.read()
        for name, limit, used, needed in (
            ("calls", self._budget.calls, now.calls, then.calls),
            ("tokens", self._budget.tokens, now.tokens, then.tokens),
            ("cost", self._budget.cost, self._budget.compute_cost(now), self._budget.compute_cost(then)),
        ):
            if limit is not None and needed is not None and needed > limit:
                return (
                    f"the budget is spent: {used:,.6g} of {limit:,.6g} {name}, and the next call may need"
                    f" {needed - (used or 0):,.6g}; to continue, raise `budget: {{{name}: ...}}` and run again:"
                    " stored answers are not paid for again"
                )
        return ""


class _UsageTable:
    """One row of totals, in a file or in memory."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / NAME
        self._connection: sqlite3.Connection | None = None

    def read(self) -> Usage:
        with self._use() as connection:
            return Usage(*connection.execute("SELECT calls, input_tokens, output_tokens FROM spent").fetchone())

    def add(self, more: Usage) -> None:
        with self._use() as connection, connection:
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
    def _use(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection
        except sqlite3.Error as error:
            raise StopRun(f"the budget's totals in {self._path} cannot be read or written: {error}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path or ":memory:", timeout=PATIENCE, check_same_thread=False)
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY CHECK (id = 1), calls INTEGER NOT NULL,"
                " input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL)"
            )
            connection.execute("INSERT OR IGNORE INTO spent VALUES (1, 0, 0, 0)")
        return connection


def read_usage(folder: Path) -> Usage:
    """Return what the runs into this output folder have used so far, without changing anything."""
    if not (folder / NAME).exists():
        return Usage()
    with contextlib.closing(_UsageTable(folder)) as table:
        return table.read()
