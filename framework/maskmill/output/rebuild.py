"""Making a ledger anew from the stored results, where it was deleted or damaged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import MaskmillError
from ..files import TEMPORARY_PREFIX, unused_name, walk_files
from ..results import DOUBTFUL, UNFINISHED, ImageResult, LedgerRow
from ..wording import count_noun
from .folder import claim, is_run
from .ledger import NAME, UNKNOWN, DamagedLedgerError, Ledger
from .records import read_about
from .store import RESULTS, read_result, result_path, stat_result


def rebuild_ledger(output: Path) -> str:
    """Put a damaged ledger aside and make a new one from the stored results; also if it was deleted.

    The images of the new ledger count as unverified: the next run compares their files with the results, and
    computes nothing again that fits.

    Args:
        output: the output folder of a run; may be missing.

    Returns:
        What was done, in a line for the user; "" if the ledger is usable, or nothing was stored.

    Raises:
        OutputError: another run holds the folder, or it cannot be written.
    """
    if not (damage := _find_damage(output)):
        return ""
    with claim(output):
        kept = ""
        if (output / NAME).exists():
            aside = unused_name(output / NAME, ".damaged-")
            (output / NAME).rename(aside)
            kept = f", is kept as {aside.name}"
        for rest in output.glob(f"{NAME}-*"):  # its journal must not be applied to the new one
            rest.rename(unused_name(rest, ".damaged-"))
        with Ledger.create(output) as ledger:
            count = _enter_results(output, ledger)
    return (
        f"warning: {NAME} {damage}{kept} and was made anew from {count_noun(count, 'stored result')}, to be checked now"
    )


def open_for_reading(output: Path) -> tuple[Ledger | None, str]:
    """Open the ledger as the next run would find it; one that is damaged or gone is made anew, in memory only.

    Args:
        output: the output folder of a run; may be missing.

    Returns:
        The ledger, None if there is nothing that a run could go on with; and what is wrong with it, a line for the
        user, or "".

    Raises:
        OutputError: it is from a newer maskmill, or cannot be used now.
    """
    path = output / NAME
    if damage := _find_damage(output):
        ledger = Ledger.in_memory(output)
        count = _enter_results(output, ledger)
        return ledger, f"warning: {NAME} {damage}; a run makes it anew from {count} stored results, and checks them"
    usable = path.is_file() and path.stat().st_size
    return (Ledger.open_existing(output) if usable else None), ""


def _find_damage(output: Path) -> str:
    """What happened to the ledger of a run, "" if nothing did."""
    if not is_run(output):
        return ""
    path = output / NAME
    if not path.exists() or path.stat().st_size == 0:
        return "was missing" if (output / RESULTS).is_dir() else ""
    try:
        with Ledger.open_existing(output) as ledger:
            ledger.check_content()
    except DamagedLedgerError as error:
        return f"was damaged ({error.damage})"
    except MaskmillError:
        return ""  # in use, or of a newer version: whoever opens it next reports that
    return ""


def _enter_results(output: Path, ledger: Ledger) -> int:
    """Enter every stored result that is where it belongs; returns how many."""
    about = read_about(output)
    if "merged" in about:
        ledger.set_meta("merged", True)
    if threads := about.get("machine", {}).get("threads_per_worker"):
        ledger.set_meta("threads", threads)
    ledger.set_meta("clean", False)
    made_with: Counter[str] = Counter()
    count = 0
    for result in _read_results(output):
        fingerprint = str(result.provenance.get("fingerprint", ""))
        stored = stat_result(output, result.key)
        failure = result.failure
        if stored is None or fingerprint.count("/") != 3 or (failure and failure.type == UNFINISHED):
            continue
        doubts = () if failure and failure.type != DOUBTFUL else {doubt.code for doubt in result.doubts}
        row = LedgerRow(result.key, result.status, fingerprint, UNKNOWN, UNKNOWN, 1, 0.0, ledger.listing)
        ledger.record(row, doubts, stored)
        made_with[fingerprint.split("/")[1]] += result.status in ("done", "empty")
        count += 1
    masks = about.get("fingerprint", {}).get("masks") or next((name for name, _ in made_with.most_common(1)), None)
    if masks is not None and "merged" not in about:
        ledger.set_meta("masks", masks)
    return count


def _read_results(output: Path) -> Iterator[ImageResult]:
    for path in walk_files(output / RESULTS):
        if path.name.startswith(TEMPORARY_PREFIX) or path.suffix != ".json":
            continue
        result = read_result(path)
        if result is not None and result_path(output, result.key) == path:
            yield result
