"""none: no model, for prompts that have their mask already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from maskmill import Backend, Image, Mask, Prompt, PromptError, hookimpl


class NoModel(Backend):
    """Loads no model: every prompt must have its mask, as `file` gives it with `masks: keep`."""

    def accepts(self) -> frozenset[str]:
        """Nothing: prompts with a mask are answered without a backend."""
        return frozenset()

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """Never called in a run, because it accepts no prompt.

        Raises:
            PromptError: always.
        """
        raise PromptError("the backend 'none' has no model")


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Register `none`."""
    register("none", NoModel)
