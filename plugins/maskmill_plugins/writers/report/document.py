"""The HTML file: skeleton, data and scripts first, so that it can be used while thumbnails are still loading."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, Any

import yaml

from maskmill import Run
from maskmill_plugins._shared.result_pages.document import PageFile
from maskmill_plugins._shared.team import WEB as TEAM_WEB

from .changes import Changes
from .gallery import Gallery, thumbnail_path
from .summary import Summary

#: Thumbnails per block; the browser decodes one block at a time.
BLOCK = 48
#: Backends whose scores are the IoU that the model predicts; those of others have a meaning of their own.
_SAM_BACKENDS = ("sam", "local")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCRIPTS = ("team.js", "changes.js", "overview.js", "picture.js", "gallery.js")


def write_page(
    out: IO[bytes], folder: Path, summary: Summary, gallery: Gallery, changes: Changes, about: dict[str, Any]
) -> None:
    """Write the page.

    Thumbnails are at the end as base64, one per line, each followed by what is drawn over the photo, in blocks that
    are decoded when one of their images comes into view.

    Args:
        out: the file.
        folder: the writer's folder, which contains the thumbnails.
        summary: the counts.
        gallery: the images to show.
        changes: since the last report.
        about: the provenance, of `collect_provenance`.
    """
    data = {**summary.to_json(), "about": about, "gallery": {"shown": len(gallery), "total": gallery.total}}
    web = files(__package__) / "page"
    page = PageFile(out, web, [TEAM_WEB / "team_view.js", *(web / name for name in _SCRIPTS)], [TEAM_WEB / "team.css"])
    page.begin(about["name"])
    page.write_json("summary", {**data, "block": BLOCK, "changes": changes.to_json()})
    out.write(b'<script type="application/json" id="rows">[')
    changed = {}
    for number, image in enumerate(gallery.images()):
        out.write(f"{',' if number else ''}\n{image.row}".encode("ascii"))
        if image.change is not None:
            changed[number] = image.change
    out.write(b"]</script>\n")
    page.write_json("changed", changed)
    page.write_script()
    thumbnails, number = _load_thumbnails(folder, gallery), 0
    while lines := list(islice(thumbnails, BLOCK)):
        out.write(f'<script type="text/plain" id="t{number}">'.encode("ascii"))
        out.write(b"\n".join(lines) + b"</script>\n")
        number += 1
    page.end()


def _load_thumbnails(folder: Path, gallery: Gallery) -> Iterator[bytes]:
    """The thumbnails of the gallery's images, empty if there is none, and their layers."""
    for image in gallery.images():
        try:
            data = base64.b64encode(thumbnail_path(folder, image.key).read_bytes()) if image.key else b""
        except OSError:
            data = b""
        yield data + b"\t" + image.layers.encode("ascii")


def collect_provenance(run: Run | None, summary: Summary) -> dict[str, Any]:
    """The pipeline, versions and machine from `run.json` and the ledger; without a run, from the results.

    Secrets are already masked in `run.json`. The outcome is omitted, because the run has not ended yet
    while the page is written.
    """
    info = dict(run.about) if run is not None else {}
    provenance = summary.provenance
    return {
        "name": run.name if run is not None else "maskmill",
        "command": info.get("command"),
        "written": None if run is None else datetime.now().astimezone().isoformat(timespec="seconds"),
        "dataset": _list_datasets(info.get("pipeline")),
        "scores_are_iou": provenance.get("backend") in _SAM_BACKENDS,
        "backend": _describe_backend(provenance.get("backend"), info.get("pipeline")),
        "model": _describe_model(info.get("fingerprint", {}).get("model") or provenance.get("model")),
        "versions": provenance.get("versions") or info.get("versions") or {},
        "maskmill": provenance.get("maskmill"),
        "machine": info.get("machine", {}),
        "hosts": _list_hosts(run),
        "jobs": info.get("jobs"),
        "drop_ins": info.get("drop_ins", {}),
        "pipeline": _dump_yaml(info["pipeline"]) if "pipeline" in info else None,
        "stages": sorted(run.stage_seconds().items(), key=lambda item: -item[1]) if run is not None else [],
    }


def _list_hosts(run: Run | None) -> list[tuple[str, int, bool]]:
    """Name and images of each machine, and whether it was lost; [] for a run on one machine."""
    hosts = {} if run is None else run.hosts()
    if len(hosts) < 2:
        return []
    return [(name, about["images"], bool(about["lost"] and not about["slots"])) for name, about in hosts.items()]


def _list_datasets(pipeline: Any) -> list[str]:
    """The folders and addresses of the images; a reader of a dataset by its path or, without one, its name."""
    parts = pipeline.get("dataset") if isinstance(pipeline, dict) else None
    return [str(part.get("path", part.get("use")) if isinstance(part, dict) else part) for part in parts or []]


def _describe_backend(name: str | None, pipeline: Any) -> str | None:
    """The backend with its configured model, such as "sam vit_b"."""
    options = pipeline.get("backend") if isinstance(pipeline, dict) else None
    model = options.get("model") if isinstance(options, dict) else None
    return f"{name} {model}" if name and isinstance(model, str) else name


def _describe_model(model_id: str | None) -> str | None:
    """The model id, with the name of the hash if it is the hash of a checkpoint."""
    return f"sha256 {model_id}" if model_id and _SHA256.fullmatch(model_id) else model_id


def _dump_yaml(pipeline: Any) -> str:
    return yaml.safe_dump(pipeline, allow_unicode=True, sort_keys=False, width=100)
