"""File."""

from __future__ import annotations

from collections.abc import Callable

from maskmill import PromptSource, hookimpl


class File(PromptSource):
    """TODO."""


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Offer `file`."""
    register("file", File)
