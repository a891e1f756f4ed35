"""How long a server asks to be left alone."""

from __future__ import annotations

import email.utils
import re
import time
from typing import Any


def retry_after(headers: Any) -> float | None:
    """Seconds that the header Retry-After names, as a number or a date; None without it.

    Args:
        headers: a mapping, of any case.
    """
    text = next((str(value) for name, value in dict(headers or {}).items() if name.lower() == "retry-after"), "")
    if re.fullmatch(r"-?\d+(\.\d*)?", text):
        return max(0.0, float(text))
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
