"""The HTML file of a page about results: a skeleton, blocks of data, one script, nothing from another host."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import IO, Any

_WEB = files(__package__) / "web"
_IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
#: The scripts and style sheets of every page, before its own.
_SCRIPTS, _STYLES = ("base.js", "charts.js", "sortable.js", "lightbox.js"), ("style.css", "lightbox.css")


class PageFile:
    """Writes a page: `begin`, its data with `write_json`, `write_script`, more data, `end`.

    The page's Content-Security-Policy forbids any connection. Pictures may be files beside the page, because a
    browser reads the photos from there.

    Args:
        out: the file.
        web: the folder with the page's own `main.html` and `strings.json`.
        scripts: its scripts, in their order; `export` before a function, which modules have, is removed.
        styles: style sheets beside those of all pages.
    """

    def __init__(
        self, out: IO[bytes], web: Traversable, scripts: Sequence[Traversable], styles: Sequence[Traversable] = ()
    ) -> None:
        self._out, self._web = out, web
        parts = [_read(part) for part in (*(_WEB / name for name in _SCRIPTS), *scripts)]
        self._script = "\n".join(parts).replace("export function", "function")
        self._style = "".join(_read(part) for part in (*(_WEB / name for name in _STYLES), *styles))
        self._tail = ""

    def begin(self, title: str) -> None:
        """Write what stands before the data."""
        head, self._tail = _read(_WEB / "page.html").split("<!-- data -->")
        values = {
            "policy": _content_policy(self._style, self._script),
            "style": self._style,
            "main": _read(self._web / "main.html"),
            "title": html.escape(title.encode("utf-8", "replace").decode("utf-8")),  # UTF-8 has no lone surrogates
        }
        for name, value in values.items():
            head = head.replace("{{" + name + "}}", value)
        self._out.write(head.encode())
        shared, own = (json.loads(_read(folder / "strings.json")) for folder in (_WEB, self._web))
        self.write_json("strings", {language: {**shared[language], **own[language]} for language in shared})

    def write_json(self, name: str, value: Any) -> None:
        """Write a block of data with this id."""
        self._out.write(f'<script type="application/json" id="{name}">{data_json(value)}</script>\n'.encode("ascii"))

    def write_script(self) -> None:
        """Write the script; the page can be used from here on."""
        self._out.write(f"<script>{self._script}</script>\n".encode())

    def end(self) -> None:
        """Write what stands after the data."""
        self._out.write(self._tail.encode())


def data_json(value: Any) -> str:
    """Compact JSON for a `<script type="application/json">`: ASCII, without `<`, `>` and `&`.

    Lone surrogates, which labels from JSON and old file names may contain, become escapes.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_IN_SCRIPT)


def _content_policy(style: str, script: str) -> str:
    """A policy that allows only this script, this style, and pictures in the page or in files."""
    return (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: file: 'self';"
        " base-uri 'none'; form-action 'none'"
    )


def _hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode('ascii')}"


def _read(part: Traversable) -> str:
    """A part of the page, with LF line endings, on which its hash is based."""
    return part.read_text(encoding="utf-8").replace("\r\n", "\n")
