"""The HTML file: skeleton, data and program first, so that it can be used while the thumbnails still arrive."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, Any

import yaml

from maskmill import Run

from .gallery import Gallery, data_json, thumbnail_path
from .summary import Summary

#: Thumbnails in one block: what the browser takes out of the file at a time.
BLOCK = 48
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCRIPTS = ("base.js", "charts.js", "overview.js", "gallery.js")


def write_page(out: IO[bytes], folder: Path, summary: Summary, gallery: Gallery, about: dict[str, Any]) -> None:
    """Write the page.

    Thumbnails stand at the end as base64, one a line, in blocks that the browser keeps as they are until an
    image of theirs comes into view. The page forbids itself any connection (Content-Security-Policy).

    Args:
        out: the file.
        folder: the writer's, where the thumbnails lie.
        summary: the counts.
        gallery: the images to show.
        about: where they come from.
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
    """Nothing runs but this script, nothing is loaded but pictures that the page itself holds."""
    return (
        f"default-src 'none'; script-src '{_csp_hash(script)}'; style-src '{_csp_hash(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _csp_hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode('ascii')}"


def _write_block(out: IO[bytes], name: str, content: str) -> None:
    out.write(f'<script type="application/json" id="{name}">{content}</script>\n'.encode("ascii"))


def _load_thumbnails(folder: Path, gallery: Gallery) -> Iterator[bytes]:
    """The thumbnails of the gallery's images, empty where there is none."""
    for key, _ in gallery.lines():
        try:
            yield base64.b64encode(thumbnail_path(folder, key).read_bytes()) if key else b""
        except OSError:
            yield b""


def _read_part(name: str) -> str:
    """A part of the page, with the line ends that its hash is made of."""
    return (files(__package__) / "page" / name).read_text(encoding="utf-8").replace("\r\n", "\n")


def collect_provenance(run: Run | None, summary: Summary) -> dict[str, Any]:
    """What `run.json` and the ledger say, as plain data; what results carry where there is no run.

    Secrets are masked in `run.json` already. Its outcome is left out: while the page is written the run
    has not ended yet.
    """
    told = dict(run.about) if run is not None else {}
    provenance = summary.provenance
    return {
        "name": run.name if run is not None else "maskmill",
        "command": told.get("command"),
        "backend": _describe_backend(provenance.get("backend"), told.get("pipeline")),
        "model": _describe_model(told.get("fingerprint", {}).get("model") or provenance.get("model")),
        "versions": provenance.get("versions") or told.get("versions") or {},
        "maskmill": provenance.get("maskmill"),
        "machine": told.get("machine", {}),
        "jobs": told.get("jobs"),
        "drop_ins": told.get("drop_ins", {}),
        "pipeline": _dump_yaml(told["pipeline"]) if "pipeline" in told else None,
        "stages": sorted(run.stage_seconds().items(), key=lambda item: -item[1]) if run is not None else [],
    }


def _describe_backend(name: str | None, pipeline: Any) -> str | None:
    """The backend with the model that was chosen for it, such as "sam vit_b"."""
    options = pipeline.get("backend") if isinstance(pipeline, dict) else None
    model = options.get("model") if isinstance(options, dict) else None
    return f"{name} {model}" if name and isinstance(model, str) else name


def _describe_model(model_id: str | None) -> str | None:
    """What computed, with the name of the hash where it is a checkpoint's."""
    return f"sha256 {model_id}" if model_id and _SHA256.fullmatch(model_id) else model_id


def _dump_yaml(pipeline: Any) -> str:
    return yaml.safe_dump(pipeline, allow_unicode=True, sort_keys=False, width=100)
