"""Replies on disk: a reply that arrived once is never paid for again, whatever becomes of the run.

One SQLite file: replies are small and many, have to survive a kill the moment they arrive, and any number
of processes may ask at once; the standard library does all that. diskcache, the usual choice, has had no
release since 2023 and unpickles what it reads. Replies are kept raw, so that a better reader reads them
anew for nothing. Unreadable ones are kept too, for that reason, and for whoever wants to see them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from maskmill_plugins._shared.cache_folder import cache_folder

T = TypeVar("T")
NAME = "answers.sqlite"
#: Seconds to wait for another process that writes.
PATIENCE = 30.0

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
  question TEXT NOT NULL,
  number INTEGER NOT NULL,
  model TEXT NOT NULL,
  asked REAL NOT NULL,
  reply TEXT NOT NULL,
  PRIMARY KEY (question, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pictures (file TEXT PRIMARY KEY, sent TEXT NOT NULL) WITHOUT ROWID;
"""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered to one call.

    Attributes:
        text: the answer itself, raw, without thinking.
        finish: why it ended there: "stop", "length" (it was cut off), ...
        input_tokens: of the question with its picture.
        output_tokens: of the answer, thinking included.
    """

    text: str
    finish: str = ""
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Of question and answer."""
        return self.input_tokens + self.output_tokens


class Answers:
    """The replies in one folder, for any number of threads and processes.

    What goes wrong with the file costs money at worst, never a result: what cannot be read is asked
    again, what cannot be written is left out, with a warning the first time.

    Args:
        folder: made when first needed; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / NAME
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._warned = False

    def get(self, question: str) -> list[Reply]:
        """What was answered to a question (of `question_id`), in the order of asking."""

        def read(connection: sqlite3.Connection) -> list[Reply]:
            rows = connection.execute("SELECT reply FROM answers WHERE question = ? ORDER BY number", (question,))
            return [Reply(**json.loads(row[0])) for row in rows]

        return self._tried(read, [], create=False)

    def add(self, question: str, model: str, reply: Reply) -> None:
        """Keep one more reply to this question; it is on disk when this returns."""

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute(
                    "INSERT INTO answers SELECT ?, COALESCE(MAX(number) + 1, 0), ?, ?, ? FROM answers"
                    " WHERE question = ?",
                    (question, model, time.time(), json.dumps(asdict(reply)), question),
                )

        self._tried(write, None)

    def picture(self, file: str) -> str | None:
        """SHA-256 of what was sent of an image file in one way (of `picture_id`), None if nothing was."""

        def read(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT sent FROM pictures WHERE file = ?", (file,)).fetchone()
            return row and str(row[0])

        return self._tried(read, None, create=False)

    def add_picture(self, file: str, sent: str) -> None:
        """Remember what was sent of an image file, so that its questions are known without decoding it."""

        def write(connection: sqlite3.Connection) -> None:
            with connection:
                connection.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?)", (file, sent))

        self._tried(write, None)

    def models(self) -> list[tuple[str, int, float, float]]:
        """(model, number of replies, first and last asked in seconds since the epoch) of each model."""

        def read(connection: sqlite3.Connection) -> list[tuple[str, int, float, float]]:
            return connection.execute(
                "SELECT model, COUNT(*), MIN(asked), MAX(asked) FROM answers GROUP BY model ORDER BY model"
            ).fetchall()

        return self._tried(read, [], create=False)

    def latest(self, limit: int) -> list[tuple[str, str, float, Reply]]:
        """(question, model, when, reply) of the latest, the latest first."""

        def read(connection: sqlite3.Connection) -> Any:
            rows = connection.execute(
                "SELECT question, model, asked, reply FROM answers ORDER BY asked DESC LIMIT ?", (limit,)
            )
            return [(question, model, asked, Reply(**json.loads(reply))) for question, model, asked, reply in rows]

        found: list[tuple[str, str, float, Reply]] = self._tried(read, [], create=False)
        return found

    def size(self) -> int:
        """The room that all takes on disk."""
        if self.path is None:
            return 0
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{NAME}*"))

    def clear(self, model: str | None = None) -> int:
        """Remove the replies of one model, or all; returns how many.

        Raises:
            OSError, sqlite3.Error: they cannot be removed.
        """
        if self.path is None or not self.path.exists():
            return 0
        with self._lock:
            connection = self._open()
            with connection:
                count = connection.execute("DELETE FROM answers WHERE model = COALESCE(?, model)", (model,)).rowcount
                if model is None:
                    connection.execute("DELETE FROM pictures")
            connection.execute("VACUUM")
        return count

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _tried(self, work: Callable[[sqlite3.Connection], T], otherwise: T, create: bool = True) -> T:
        if self.path is None or not (create or self.path.exists()):
            return otherwise
        try:
            with self._lock:
                return work(self._open())
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:  # a full disk, a damaged file
            if not self._warned:
                _log.warning("the answers in %s cannot be used, and are asked for again: %s", self.path, error)
            self._warned = True
            return otherwise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=PATIENCE, check_same_thread=False)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_TABLES)
            self._connection = connection
        return self._connection


def question_id(endpoint: str, dialect: str, request: dict[str, Any], picture: str, size: tuple[int, int]) -> str:
    """What a question is known by: SHA-256 of all that decides its answer.

    Args:
        endpoint: base URL of the server.
        dialect: the provider.
        request: model, messages without the picture, parameters, version of the prompts.
        picture: SHA-256 of the bytes sent, "" if none are.
        size: (height, width) of the picture sent, or told.
    """
    text = json.dumps([endpoint, dialect, request, picture, size], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def picture_id(file: str, way: Any) -> str:
    """What a picture made of a file is known by.

    Args:
        file: SHA-256 of the image file.
        way: how it is resized and encoded, as JSON data.
    """
    return hashlib.sha256(json.dumps([file, way], sort_keys=True).encode()).hexdigest()


def answers_folder(chosen: Path | None = None) -> Path:
    """Where answers lie: below a folder of the user's choice, or where this system keeps caches.

    The variable `MASKMILL_CACHE` names another folder than the system's.
    """
    return (chosen or cache_folder()) / "qwen"
