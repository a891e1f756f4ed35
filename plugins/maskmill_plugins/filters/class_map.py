"""class_map: renames labels, and drops masks by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from maskmill import Filter, Image, Mask, Prompt, hookimpl


class ClassMap(Filter):
    """Gives masks other labels, such as `vehicle` to every `car` and `truck`."""

    map: dict[str, str | None] = Field(
        description="label → new label, or null to drop its masks; masks without a label have the label ''"
    )
    others: Literal["keep", "drop"] = Field("keep", description="what to do with labels that are not in the map")

    def apply(self, image: Image, masks: Sequence[Mask]) -> list[Mask]:
        """The masks, relabelled."""
        return [self._relabel(mask) for mask in masks]

    def _relabel(self, mask: Mask) -> Mask:
        label = mask.label or ""
        if label not in self.map:
            return mask if self.others == "keep" else mask.drop(f"label {label!r} is not in the map")
        new = self.map[label]
        if new is None:
            return mask.drop(f"label {label!r} is mapped to null")
        # Without a prompt, which few backends omit, a mask cannot have a label.
        prompt: Prompt | None = mask.prompt and replace(mask.prompt, label=new or None)
        return replace(mask, prompt=prompt)


@hookimpl
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer `class_map`."""
    register("class_map", ClassMap)
