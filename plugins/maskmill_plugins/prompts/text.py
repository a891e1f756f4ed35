"""text: the same texts for every image, for backends that find objects by words, such as SAM 3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from maskmill import Image, Problem, Prompt, PromptSource, hookimpl

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class TextSource(PromptSource):
    """Asks the backend for all objects of each text; needs a backend that takes texts, such as `hf` with SAM 3."""

    always_answers: ClassVar[bool] = True

    find: Annotated[list[Text], Field(min_length=1)] | Annotated[dict[Text, Text], Field(min_length=1)] = Field(
        description="what to look for, which is also the class name; or a mapping from the class name to what to look"
        " for: {vehicle: a car or a truck}"
    )

    def check(self) -> list[Problem]:
        """No text may occur twice."""
        labels = list(self.find)
        twice = next((label for label in labels if labels.count(label) > 1), None)
        return [] if twice is None else [Problem(f"find: {twice!r} occurs twice")]

    def kinds(self) -> frozenset[str]:
        """Texts."""
        return frozenset({"text"})

    def prompts(self, image: Image) -> list[Prompt]:
        """The same prompts for every image, in the order of `find`."""
        pairs = self.find.items() if isinstance(self.find, Mapping) else ((text, text) for text in self.find)
        return [Prompt(text=text, label=label) for label, text in pairs]


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Register `text`."""
    register("text", TextSource)
