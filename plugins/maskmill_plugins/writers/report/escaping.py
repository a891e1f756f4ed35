"""Data inside HTML: nothing in it can end the element that it stands in."""

from __future__ import annotations

import html
import json
from typing import Any

_IN_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def data_json(value: Any) -> str:
    """Compact JSON for a `<script type="application/json">`: ASCII, without `<`, `>` and `&`.

    Lone surrogates, which labels from JSON and old file names may hold, come out as escapes.
    """
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(_IN_SCRIPT)


def text(value: str) -> str:
    """Text for HTML's elements and quoted attributes; lone surrogates become question marks."""
    return html.escape(value.encode("utf-8", "replace").decode("utf-8"))
