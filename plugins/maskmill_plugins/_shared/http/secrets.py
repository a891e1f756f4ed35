"""Masks keys and tokens in what is logged, shown and kept for people; never in what is read as data."""

from __future__ import annotations

import re

#: Shorter ones are no secrets: local servers take any key, and people write `1`, `x`, `EMPTY` or `ollama`.
SHORTEST = 8
MASKED = "***"
_INSIDE = "[A-Za-z0-9_-]"


def mask_secret(text: str, secret: str | None) -> str:
    """Return a text for people with the secret masked wherever it stands as a whole token.

    Mask before shortening a text: a cut secret is no whole token.

    Args:
        text: such as a server's message.
        secret: a key or token, None without one; shorter ones than `SHORTEST` are not masked.
    """
    return text if secret is None or len(secret) < SHORTEST else _compile(secret).sub(MASKED, text)


def contains_secret(text: str, secret: str | None) -> bool:
    """Return whether `mask_secret` would change the text."""
    return secret is not None and len(secret) >= SHORTEST and _compile(secret).search(text) is not None


def _compile(secret: str) -> re.Pattern[str]:
    return re.compile(f"(?<!{_INSIDE}){re.escape(secret)}(?!{_INSIDE})")
