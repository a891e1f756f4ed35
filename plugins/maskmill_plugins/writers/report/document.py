"""The HTML file: skeleton, data and program first, so that it can be used while the thumbnails still arrive."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import IO, Any

from .escaping import data_json, text
from .rows import Gallery
from .summary import Summary
from .thumbnails import thumbnail_path

#: Thumbnails in one block: what the browser takes out of the file at a time.
BLOCK = 48
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
    style, script = _part("report.css"), "\n".join(_part(name) for name in _SCRIPTS)
    head, tail = _part("report.html").split("<!-- data -->")
    values = {"title": text(about["name"]), "policy": _policy(style, script), "style": style}
    for name, value in values.items():
        head = head.replace("{{" + name + "}}", value)
    out.write(head.encode())
    _block(out, "strings", data_json(json.loads(_part("strings.json"))))
    _block(out, "summary", data_json({**data, "block": BLOCK}))
    out.write(b'<script type="application/json" id="rows">[')
    for number, (_, row) in enumerate(gallery.lines()):
        out.write(f"{',' if number else ''}\n{row}".encode("ascii"))
    out.write(f"]</script>\n<script>{script}</script>\n".encode())
    thumbnails, number = _thumbnails(folder, gallery), 0
    while lines := list(islice(thumbnails, BLOCK)):
        out.write(f'<script type="text/plain" id="t{number}">'.encode("ascii"))
        out.write(b"\n".join(lines) + b"</script>\n")
        number += 1
    out.write(tail.encode())


def _policy(style: str, script: str) -> str:
    """Nothing runs but this script, nothing is loaded but pictures that the page itself holds."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode('ascii')}"


def _block(out: IO[bytes], name: str, content: str) -> None:
    out.write(f'<script type="application/json" id="{name}">{content}</script>\n'.encode("ascii"))


def _thumbnails(folder: Path, gallery: Gallery) -> Iterator[bytes]:
    """The thumbnails of the gallery's images, empty where there is none."""
    for key, _ in gallery.lines():
        try:
            yield base64.b64encode(thumbnail_path(folder, key).read_bytes()) if key else b""
        except OSError:
            yield b""


def _part(name: str) -> str:
    """A part of the page, with the line ends that its hash is made of."""
    return (files(__package__) / "page" / name).read_text(encoding="utf-8").replace("\r\n", "\n")
