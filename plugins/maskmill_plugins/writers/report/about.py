"""Where a report's figures come from: the pipeline as it ran, versions, the machine."""

from __future__ import annotations

import re
from typing import Any

import yaml

from maskmill import Run

from .summary import Summary

_SHA256 = re.compile(r"[0-9a-f]{64}")


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
        "backend": _backend(provenance.get("backend"), told.get("pipeline")),
        "model": _model(told.get("fingerprint", {}).get("model") or provenance.get("model")),
        "versions": provenance.get("versions") or told.get("versions") or {},
        "maskmill": provenance.get("maskmill"),
        "machine": told.get("machine", {}),
        "jobs": told.get("jobs"),
        "drop_ins": told.get("drop_ins", {}),
        "pipeline": _yaml(told["pipeline"]) if "pipeline" in told else None,
        "stages": sorted(run.stage_seconds().items(), key=lambda item: -item[1]) if run is not None else [],
    }


def _backend(name: str | None, pipeline: Any) -> str | None:
    """The backend with the model that was chosen for it, such as "sam vit_b"."""
    options = pipeline.get("backend") if isinstance(pipeline, dict) else None
    model = options.get("model") if isinstance(options, dict) else None
    return f"{name} {model}" if name and isinstance(model, str) else name


def _model(model_id: str | None) -> str | None:
    """What computed, with the name of the hash where it is a checkpoint's."""
    return f"sha256 {model_id}" if model_id and _SHA256.fullmatch(model_id) else model_id


def _yaml(pipeline: Any) -> str:
    return yaml.safe_dump(pipeline, allow_unicode=True, sort_keys=False, width=100)
