"""Which machine made the result of an image, in tables of the ledger, and the machines of a run in words.

It is no part of a result: those are the same wherever they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..wording import count_noun
from .file_table import Database

TABLES = """
CREATE TABLE IF NOT EXISTS hosts (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS made_on (key TEXT PRIMARY KEY, host INTEGER NOT NULL) WITHOUT ROWID;
"""
#: Machines that a line names.
MOST_NAMED = 8


class HostTable:
    """The tables `hosts` and `made_on` of a ledger; what is changed is durable at the ledger's next commit."""

    def __init__(self, ledger: Database) -> None:
        self._ledger = ledger
        self._numbers: dict[str, int] | None = None

    def record(self, key: str, host: str) -> None:
        """Note where an image was processed last; "" if machines are not told apart."""
        if self._numbers is None:
            found = self._ledger.read("SELECT name, number FROM hosts")
            self._numbers = {str(name): int(number) for name, number in found}
        if not host:
            if self._numbers:  # else there is nothing to forget
                self._ledger.write("DELETE FROM made_on WHERE key=?", (key,))
            return
        if host not in self._numbers:
            self._numbers[host] = len(self._numbers)
            self._ledger.write("INSERT INTO hosts VALUES (?, ?)", (self._numbers[host], host))
        self._ledger.write("INSERT OR REPLACE INTO made_on VALUES (?, ?)", (key, self._numbers[host]))

    def find(self, key: str) -> str:
        """Where an image was processed last, "" if that is not known."""
        if not self._ledger.has_table("made_on"):
            return ""
        found = self._ledger.read("SELECT name FROM made_on JOIN hosts ON number = host WHERE key=?", (key,))
        return str(found[0][0]) if found else ""

    def counts(self) -> dict[str, int]:
        """Images by the machine that processed them last, without those gone from the dataset; ordered by name."""
        if not self._ledger.has_table("made_on"):
            return {}
        sql = (
            "SELECT name, COUNT(*) FROM made_on JOIN hosts ON number = host JOIN images USING (key)"
            " WHERE listing >= ? GROUP BY name ORDER BY name"
        )
        complete = (int(self._ledger.meta("complete_listing", 0)),)
        return {str(name): int(count) for name, count in self._ledger.read(sql, complete)}


def join_hosts(parts: Iterable[Mapping[str, Any]], images: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """The machines of a run, or of several that were merged, by name, in their order.

    Args:
        parts: the content of each `run.json`.
        images: by machine, as `HostTable.counts`; {} if that is not known.

    Returns:
        Of each machine `slots` that it had last, slots that were `lost`, `images` and, if known, `processor`.
    """
    joined: dict[str, dict[str, Any]] = {}
    for part in parts:
        for name, about in (part.get("hosts") or {}).items():
            known = joined.setdefault(name, {"slots": 0, "lost": 0, "images": 0})
            for number in ("slots", "lost", "images"):
                known[number] += about.get(number, 0)
            known |= {"processor": about["processor"]} if "processor" in about else {}
    for name, count in images.items():
        joined.setdefault(name, {"slots": 0, "lost": 0, "images": 0})["images"] = count
    return dict(sorted(joined.items()))


def format_hosts(hosts: Mapping[str, Mapping[str, Any]], most: int = MOST_NAMED) -> str:
    """Several machines with their slots and images in a line; "" if there is only one, or they are not told apart."""
    if len(hosts) < 2:
        return ""
    named = [f"{name} ({_describe_host(about)})" for name, about in list(hosts.items())[:most]]
    if len(hosts) > most:
        slots = sum(about["slots"] for about in hosts.values())
        named.append(f"{len(hosts) - most} more; {count_noun(slots, 'slot')} in all")
    return ", ".join(named)


def _describe_host(about: Mapping[str, Any]) -> str:
    slots, lost = about["slots"], about.get("lost", 0)
    parts = [count_noun(slots, "slot")] if slots else []
    parts += [f"{lost} lost" if slots else "lost"] if lost else []
    return ", ".join([*parts, count_noun(about["images"], "image")])
