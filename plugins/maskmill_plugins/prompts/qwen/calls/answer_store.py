"""Replies on disk: a reply that arrived once is never paid for again, even if the run is killed.

One SQLite file: replies are small and many, must survive a kill as soon as they arrive, and several processes
may use them at once. diskcache, the usual choice, has had no release since 2023 and unpickles what it reads.
Replies are stored raw, so that an improved parser can read them again at no cost; unreadable ones are stored,
too, for that reason and for debugging.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maskmill_plugins._shared.cache_folder import cache_folder

from .question import ModelReply

SqlRow = tuple[Any, ...]
NAME = "answers.sqlite"
#: Seconds to wait while another process writes.
PATIENCE = 30.0

#: Questions whose replies are remembered where nothing is stored: the same image may come twice.
REMEMBERED = 1000

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


class AnswerStore:
    """The replies in one folder, for any number of threads and processes.

    A fault of the file costs money at worst, never a result: what cannot be read is queried again, what
    cannot be written is skipped, with a warning the first time.

    Args:
        folder: created when first needed; None stores nothing, and remembers the latest replies.
    """

    def __init__(self, folder: Path | None) -> None:
        self.path = None if folder is None else folder / NAME
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._warned = False
        self._memory: OrderedDict[str, list[ModelReply]] = OrderedDict()

    def get(self, question: str) -> list[ModelReply]:
        """Return the replies to a question (an id of `make_question_id`), oldest first."""
        if self.path is None:
            return list(self._memory.get(question, ()))
        select = "SELECT reply FROM answers WHERE question = ? ORDER BY number"
        return self._query(select, (question,), lambda row: ModelReply(**json.loads(row[0])))

    def add(self, question: str, model: str, reply: ModelReply) -> None:
        """Store one more reply to this question; it is on disk when this returns."""
        if self.path is None:
            self._remember(question, reply)
            return
        insert = "INSERT INTO answers SELECT ?, COALESCE(MAX(number) + 1, 0), ?, ?, ? FROM answers WHERE question = ?"
        self._query(insert, (question, model, time.time(), json.dumps(asdict(reply)), question), create=True)

    def get_sent_hash(self, image: str) -> str | None:
        """Return the SHA-256 of the bytes sent for an image (an id of `make_image_id`), None if none were."""
        return next(iter(self._query("SELECT sent FROM pictures WHERE file = ?", (image,), lambda row: row[0])), None)

    def add_sent_hash(self, image: str, sent: str) -> None:
        """Store the SHA-256 of the bytes sent, so that the question's id is known without decoding the image."""
        self._query("INSERT OR REPLACE INTO pictures VALUES (?, ?)", (image, sent), create=True)

    def list_models(self) -> list[tuple[str, int, float, float]]:
        """Return (model, number of replies, first and last time in seconds since the epoch) for each model."""
        return self._query("SELECT model, COUNT(*), MIN(asked), MAX(asked) FROM answers GROUP BY model ORDER BY model")

    def list_latest(self, limit: int) -> list[tuple[str, str, float, ModelReply]]:
        """Return (question id, model, time, reply) of the latest replies, newest first."""
        select = "SELECT question, model, asked, reply FROM answers ORDER BY asked DESC LIMIT ?"
        return self._query(select, (limit,), lambda row: (*row[:3], ModelReply(**json.loads(row[3]))))

    def measure_size(self) -> int:
        """Return the bytes used on disk."""
        if self.path is None:
            return 0
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{NAME}*"))

    def clear(self, model: str | None = None) -> int:
        """Remove the replies of one model, or all; return how many.

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
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _remember(self, question: str, reply: ModelReply) -> None:
        with self._lock:
            self._memory[question] = [*self._memory.pop(question, ()), reply]
            if len(self._memory) > REMEMBERED:
                self._memory.popitem(last=False)

    def _query(
        self, sql: str, parameters: SqlRow = (), convert: Callable[[SqlRow], Any] = tuple, create: bool = False
    ) -> list[Any]:
        """Execute one statement; return its rows, or [] if the file cannot be used."""
        if self.path is None or not (create or self.path.exists()):
            return []
        try:
            with self._lock, self._open() as connection:
                return [convert(row) for row in connection.execute(sql, parameters)]
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:  # a full disk, a damaged file
            if not self._warned:
                _log.warning("the stored answers in %s cannot be used and are queried again: %s", self.path, error)
            self._warned = True
            return []

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            assert self.path is not None
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=PATIENCE, check_same_thread=False)
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_TABLES)
            self._connection = connection
        return self._connection


def make_question_id(endpoint: str, provider: str, request: dict[str, Any], image: str, size: tuple[int, int]) -> str:
    """Return the id of a question: the SHA-256 of everything that decides its answer.

    Args:
        endpoint: base URL of the server.
        provider: whose API is used.
        request: model, text, parameters, version of the wordings.
        image: SHA-256 of the image bytes sent, "" if none are.
        size: (height, width) of the image sent, or named in the text.
    """
    text = json.dumps([endpoint, provider, request, image, size], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def make_image_id(file: str, encoding: Any) -> str:
    """Return the id of an image as it is sent.

    Args:
        file: SHA-256 of the image file.
        encoding: how it is resized and encoded, as JSON data.
    """
    return hashlib.sha256(json.dumps([file, encoding], sort_keys=True).encode()).hexdigest()


def find_answers_folder(chosen: Path | None = None) -> Path:
    """Return where replies are stored: below the chosen folder, or in the cache folder.

    The environment variable `MASKMILL_CACHE` overrides the system's cache folder.
    """
    return (chosen or cache_folder()) / "qwen"
