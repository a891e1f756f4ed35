"""Where a report's figures come from: the pipeline as it ran, versions, the machine."""

from __future__ import annotations

from typing import Any

import yaml

from maskmill import Run

from .summary import Summary


def about(run: Run | None, summary: Summary) -> dict[str, Any]:
    """What `run.json` and the ledger say, as plain data; what results carry where there is no run.

    Secrets are masked in `run.json` already. Its outcome is left out: while the page is written the run
    has not ended yet.
    """
    told = dict(run.about) if run is not None else {}
    provenance = summary.provenance
    return {
        "name": run.name if run is not None else "maskmill",
        "command": told.get("command"),
        "backend": provenance.get("backend"),
        "model": told.get("fingerprint", {}).get("model") or provenance.get("model"),
        "versions": provenance.get("versions") or told.get("versions") or {},
        "maskmill": provenance.get("maskmill"),
        "machine": told.get("machine", {}),
        "jobs": told.get("jobs"),
        "drop_ins": told.get("drop_ins", {}),
        "pipeline": _yaml(told["pipeline"]) if "pipeline" in told else None,
        "stages": sorted(run.stage_seconds().items(), key=lambda item: -item[1]) if run is not None else [],
    }


def _yaml(pipeline: Any) -> str:
    return yaml.safe_dump(pipeline, allow_unicode=True, sort_keys=False, width=100)
