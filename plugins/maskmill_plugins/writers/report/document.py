"""The HTML file: skeleton, data and scripts first, so that it can be used while thumbnails are still loading."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, Any

import yaml

from maskmill import Run

from .gallery import Gallery, data_json, thumbnail_path
from .summary import Summary

#: Thumbnails per block; the browser decodes one block at a time.
BLOCK = 48
#: Backends whose scores are the IoU that the model predicts; those of others have a meaning of their own.
_SAM_BACKENDS = ("sam", "local")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCRIPTS = ("base.js", "charts.js", "overview.js", "gallery.js")


def write_page(out: IO[bytes], folder: Path, summary: Summary, gallery: Gallery, about: dict[str, Any]) -> None:
    """Write the page.

    Thumbnails are at the end as base64, one per line, in blocks that are decoded when one of their images
    comes into view. The page's Content-Security-Policy forbids any connection.

    Args:
        out: the file.
        folder: the writer's folder, which contains the thumbnails.
        summary: the counts.
        gallery: the images to show.
        about: the provenance, of `collect_provenance`.
    """
    data = {**summary.to_json(), "about": about, "gallery": {"shown": len(gallery), "total": gallery.total}}
    style, script = _read_part("report.css"), "\n".join(_read_part(name) for name in _SCRIPTS)
    head, tail = _read_part("report.html").split("<!-- data -->")
    title = html.escape(about["name"].encode("utf-8", "replace").decode("utf-8"))  # UTF-8 has no lone surrogates
    values = {"title": title, "policy": _content_policy(style, script), "style": style}
    for name, value in values.items():
        head = head.replace("{{" + name + "}}", value)
    out.write(head.encode())
    _write_block(out, "strings", data_json(json.loads(_read_part("strings.json"))))
    _write_block(out, "summary", data_json({**data, "block": BLOCK}))
    out.write(b'<script type="application/json" id="rows">[')
    for number, (_, row) in enumerate(gallery.lines()):
        out.write(f"{',' if number else ''}\n{row}".encode("ascii"))
    out.write(f"]</script>\n<script>{script}</script>\n".encode())
    thumbnails, number = _load_thumbnails(folder, gallery), 0
    while lines := list(islice(thumbnails, BLOCK)):
        out.write(f'<script type="text/plain" id="t{number}">'.encode("ascii"))
        out.write(b"\n".join(lines) + b"</script>\n")
        number += 1
    out.write(tail.encode())


def _content_policy(style: str, script: str) -> str:
    """A policy that allows only this script, this style, and pictures contained in the page."""
    return (
        f"default-src 'none'; script-src '{_csp_hash(script)}'; style-src '{_csp_hash(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _csp_hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode('ascii')}"


def _write_block(out: IO[bytes], name: str, content: str) -> None:
    out.write(f'<script type="application/json" id="{name}">{content}</script>\n'.encode("ascii"))


def _load_thumbnails(folder: Path, gallery: Gallery) -> Iterator[bytes]:
    """The thumbnails of the gallery's images, empty if there is none."""
    for key, _ in gallery.lines():
        try:
            yield base64.b64encode(thumbnail_path(folder, key).read_bytes()) if key else b""
        except OSError:
            yield b""


def _read_part(name: str) -> str:
    """A part of the page, with LF line endings, on which its hash is based."""
    return (files(__package__) / "page" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


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
