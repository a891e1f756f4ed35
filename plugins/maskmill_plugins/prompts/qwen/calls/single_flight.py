"""Lets one thread at a time ask a question, so that the others find its stored answer."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class SingleFlight:
    """A lock for each question that is being asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._users: Counter[str] = Counter()

    @contextmanager
    def hold(self, question: str) -> Iterator[None]:
        """Wait until no other thread holds this question (an id of `make_question_id`)."""
        with self._lock:
            own = self._asking.setdefault(question, threading.Lock())
            self._users[question] += 1
        try:
            with own:
                yield
        finally:
            with self._lock:
                self._users[question] -= 1
                if not self._users[question]:
                    del self._users[question], self._asking[question]
