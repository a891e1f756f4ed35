"""What people decided about the images of a run, and whether its results are what they decided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..corrections import NAME, VERDICTS, Corrections, digest_masks, load_corrections
from ..errors import PipelineError
from ..output.run import Run
from ..results import ImageResult

#: Keys listed of images that were reviewed on an older result.
MOST_KEYS = 1000
IN_RESULT, WAITING = "the result is as decided", "not in the result yet; the next run takes it"
OPEN, UNKNOWN = "undecided, so the pipeline decides", "its line is not in the corrections any more"


def find_review(pipeline: Mapping[str, Any], result: ImageResult) -> dict[str, Any] | None:
    """Who decided what about an image, and when, as JSON data; None if nobody did.

    Args:
        pipeline: that made the result, as `run.json` holds it; its file of corrections is read as it is now.
        result: of the image.
    """
    noted = result.notes.get(NAME)
    path = pipeline.get("corrections")
    try:
        correction = load_corrections(Path(path)).find(result.key) if isinstance(path, str) else None
    except PipelineError as error:
        return {**(noted or {}), "file": path, "state": str(error)}
    if correction is None:
        return None if noted is None else {**noted, "file": path, "state": UNKNOWN}
    state = OPEN if not correction.decides else IN_RESULT if correction.is_in(result) else WAITING
    older = state != IN_RESULT and correction.result not in ("", digest_masks(result))
    return {**correction.describe(), "file": path, "state": state, **({"on_older_result": True} if older else {})}


def count_reviews(run: Run) -> dict[str, Any] | None:
    """How many images of a run people decided about, as JSON data; None if its pipeline names no corrections.

    Results are read only where the ledger does not say that they are as decided.
    """
    paths = [path for one in run.pipelines() if isinstance(path := one.get("corrections"), str)]
    if not paths:
        return None
    counts: Counter[str] = Counter()
    older: list[str] = []
    problems = []
    for path in dict.fromkeys(paths):
        try:
            corrections = load_corrections(Path(path))
        except PipelineError as error:
            problems.append(str(error))
            continue
        for key in corrections:
            _count(run, corrections, key, counts, older)
    return {
        "files": list(dict.fromkeys(paths)),
        **{str(verdict): counts[verdict] for verdict in VERDICTS},
        "waiting": counts["waiting"],
        "on_older_result": counts["older"],
        "keys_on_older_result": older,
        "problems": problems,
    }


def _count(run: Run, corrections: Corrections, key: str, counts: Counter[str], older: list[str]) -> None:
    row = run.row(key)
    if row is None:
        return
    counts.update(corrections.count_verdicts([key]))
    digest = corrections.digest_of(key)
    if digest and row.fingerprint.startswith(f"{digest}/"):
        return
    correction, result = corrections.find(key), run.result(row)
    if correction is None or (correction.decides and correction.is_in(result)):
        return
    counts["waiting"] += correction.decides
    if correction.result not in ("", digest_masks(result)):
        counts["older"] += 1
        if len(older) < MOST_KEYS:
            older.append(key)
