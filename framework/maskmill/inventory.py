"""What a prompt source tells the driver beside its prompts: how it fits the dataset, and all that it holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .prompts import Prompt


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a prompt source holds; a run says in `prompts.csv` what became of each.

    Attributes:
        file: the file it stands in.
        place: where in the file: a line, an element.
        ref: the `ref` of its prompt.
        image: its image as the source names it.
        key: the key of that image in the dataset, None if none fits.
        prompt: what it asks for, None if it is wrong.
        relative: whether the prompt's coordinates are parts of the width and the height.
        problem: why it is not asked for, or why no image fits; "" if nothing is wrong.
    """

    file: str
    place: str
    ref: str
    image: str
    key: str | None
    prompt: Prompt | None
    relative: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a prompt source found when it was shown the dataset.

    Attributes:
        warnings: for the user, a line each.
        about: JSON, kept in `run.json`.
        memory: JSON that the same source is given in every worker, by `PromptSource.recall`.
        state: changes whenever what the source holds, or how it fits the dataset, does.
    """

    warnings: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    memory: Any = None
    state: str = ""
