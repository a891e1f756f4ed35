"""The ledger: rows, listings, batches, and what a kill leaves of it."""

import os
import subprocess
import sys

import pytest

from maskmill import OutputError
from maskmill.output.ledger import NAME, Ledger
from maskmill.results import LedgerRow

ROW = LedgerRow("a.jpg", "done", "p/m/f/w", 10, 20, 1, 0.5, 0)


def test_rows_come_back_in_key_order(tmp_path):
    with Ledger.create(tmp_path) as ledger:
        for key in ("b.jpg", "a.jpg", "图/c.jpg", "B.jpg"):
            ledger.record(ROW._replace(key=key))
    with Ledger.open_existing(tmp_path) as ledger:
        assert [row.key for row in ledger.rows()] == ["B.jpg", "a.jpg", "b.jpg", "图/c.jpg"]
        assert ledger.find_rows(["a.jpg", "nothing"])["a.jpg"] == ROW._replace(key="a.jpg")


def test_counts_name_every_status(tmp_path):
    with Ledger.create(tmp_path) as ledger:
        ledger.record(ROW)
        ledger.record(ROW._replace(key="b", status="failed"))
        assert ledger.counts() == {"done": 1, "empty": 0, "rejected": 0, "failed": 1, "quarantined": 0}


def test_images_gone_from_a_complete_listing_do_not_count(tmp_path):
    with Ledger.create(tmp_path) as ledger:
        ledger.begin_listing()
        for key in ("a", "b"):
            ledger.record(ROW._replace(key=key, listing=ledger.listing))
        ledger.end_listing()
        ledger.begin_listing()
        ledger.find_rows(["b"])
        assert [row.key for row in ledger.rows()] == ["a", "b"], "an unfinished listing takes nothing away"
        ledger.end_listing()
        assert [row.key for row in ledger.rows()] == ["b"]


def test_losses_survive_and_end_with_a_record(tmp_path):
    with Ledger.create(tmp_path) as ledger:
        ledger.record_losses("a.jpg", 2)
    with Ledger.create(tmp_path) as ledger:
        assert ledger.count_losses("a.jpg") == 2
        ledger.record(ROW)
        assert ledger.count_losses("a.jpg") == 0


def test_a_kill_loses_at_most_the_last_batch(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from maskmill.output.ledger import Ledger; from maskmill.results import LedgerRow\n"
        "ledger = Ledger.create(Path(sys.argv[1]))\n"
        "for n in range(1000): ledger.record(LedgerRow(f'{n:04}', 'done', 'p/m/f/w', 1, 1, 1, 0.1, 0))\n"
        "os.kill(os.getpid(), 9)"
    )
    if os.name != "posix":
        pytest.skip("needs SIGKILL")
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with Ledger.create(tmp_path) as ledger:
        keys = [row.key for row in ledger.rows()]
        assert keys == [f"{n:04}" for n in range(len(keys))], "no hole"
        assert len(keys) >= 1000 - 64


def test_a_folder_without_run_is_refused(tmp_path):
    with pytest.raises(OutputError, match="not the output folder of a run"):
        Ledger.open_existing(tmp_path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / NAME).write_text("hello " * 1000, encoding="utf-8")
    with pytest.raises(OutputError, match="is damaged: file is not a database"):
        Ledger.create(tmp_path)


def test_several_doubts_of_one_code_count_as_one(tmp_path):
    with Ledger.create(tmp_path) as ledger:
        ledger.record(ROW, ("truncated", "conflict", "truncated"))
        assert ledger.doubts_of([ROW.key]) == {ROW.key: {"truncated", "conflict"}}
