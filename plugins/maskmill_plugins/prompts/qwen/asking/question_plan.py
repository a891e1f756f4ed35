"""What is the same for all images: the model's family, the questions, and how answers become prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from maskmill import Box, PipelineError, Point, Problem, Prompt

from ..calls.answer_store import Reply, question_id
from ..calls.question import Question
from ..calls.servers import Server
from ..coordinates.convert import Size, size_to_send, to_image
from ..coordinates.families import Convention, Family, family_of
from ..reply.labels import match
from ..reply.read import Found, Reading, Wanted, read
from . import questions as texts

#: Of a model that no row of the table fits, where the user says what its coordinates mean.
USUAL_GRID = 32
#: Tokens of a picture that every server takes as they are: fewer, and it is enlarged there; more, and it is reduced.
FEWEST_TOKENS, MOST_TOKENS = 4, 1280


@dataclass(frozen=True, slots=True)
class View:
    """An image as the model knows it; sizes are (height, width).

    Attributes:
        size: of the image.
        sent: of the picture sent; the same where none is.
    """

    size: Size
    sent: Size


@dataclass(frozen=True, slots=True)
class Ask:
    """One question about each image.

    Attributes:
        classes: asked for, each with its description or ""; a free sentence is the only name.
        sentence: it is one.
        kind: of the answer.
        template: the user's own wording, or None.
    """

    classes: Mapping[str, str]
    sentence: bool
    kind: texts.Kind
    template: str | None

    @property
    def subject(self) -> str:
        """What is asked for, for people."""
        return ", ".join(self.classes)

    def text(self, view: View) -> str:
        """The question."""
        return texts.question(self.kind, self.classes, view.size, sentence=self.sentence, template=self.template)


@dataclass(frozen=True, slots=True)
class Terms:
    """What is the same for all images.

    Attributes:
        server: who is asked.
        model: its name there.
        blind: no picture is sent.
        coords: what the model's numbers mean.
        grid: pixels of a side of a picture's token.
        multimodal: which of DashScope's endpoints serves it.
        wanted: boxes or points.
        classes: of all questions.
        asks: the questions.
        max_tokens: of one answer.
        thinking: whether the model may think first.
    """

    server: Server
    model: str
    blind: bool
    coords: Convention
    grid: int
    multimodal: bool
    wanted: Wanted
    classes: Mapping[str, str]
    asks: Sequence[Ask]
    max_tokens: int
    thinking: bool

    def view(self, size: Size) -> View:
        """How an image of this size (height, width) is shown."""
        if self.blind:
            return View(size, size)
        height, width = size_to_send(size, self.coords, self.grid, MOST_TOKENS * self.grid**2)
        times = math.ceil(math.sqrt(FEWEST_TOKENS * self.grid**2 / (height * width)))
        return View(size, (height * times, width * times))

    def question(self, text: str) -> Question:
        """One call, still without its picture."""
        return Question(
            self.model,
            text,
            max_tokens=self.max_tokens,
            thinking=self.thinking,
            multimodal=self.multimodal,
        )

    def again(self, text: str) -> str:
        """The question in other words, after an answer that could not be read."""
        return text + texts.AGAIN[texts.language_of(text)]

    def question_id(self, text: str, picture: str, view: View) -> str:
        """What the answers to a question are kept under.

        Args:
            text: of the question.
            picture: SHA-256 of what is sent, "" for nothing.
            view: of the image.
        """
        request = {**self.question(text).parameters(), "text": text, "prompts": texts.VERSION}
        return question_id(self.server.url, self.server.provider, request, picture, view.sent)

    def read(self, reply: Reply) -> Reading | None:
        """What a reply says; None if it cannot be read, or breaks off before it said anything."""
        reading = read(reply.text, self.wanted, self.blind)
        reading.truncated |= reply.finish == "length"
        return reading if reading.readable and (reading.found or not reading.truncated) else None

    def prompts(self, ask: Ask, view: View, reading: Reading) -> tuple[list[Prompt], Counter[str]]:
        """The prompts of an answer, in pixels of the image, and how much was put right or left out, by kind."""
        named, foreign = [], 0
        for one in reading.found:
            label = one.label if ask.sentence else self._class_of(one, ask)
            if label is None and not ask.sentence:
                foreign += 1
            else:  # before duplicates are looked for: "car" and "truck" on one place are one "vehicle"
                named.append(replace(one, names=() if label is None else (label,)))
        found, counts = to_image(named, self.coords, view.size, view.sent)
        counts["of no class asked for"] += foreign
        return [_prompt(one, one.label) for one in found], +(counts + reading.counts)

    def _class_of(self, one: Found, ask: Ask) -> str | None:
        alone = next(iter(ask.classes)) if len(ask.classes) == 1 else None
        return match(one.names, self.classes, alone)


def _prompt(one: Found, label: str | None) -> Prompt:
    if one.box is not None:
        return Prompt(box=Box(*one.box), label=label)
    return Prompt(points=tuple(Point(x, y, side) for x, y, side in one.points), label=label)


def asks_of(
    find: str | Sequence[str] | Mapping[str, str],
    wanted: Wanted,
    blind: bool,
    one_class_per_call: bool,
    template: str | None,
) -> tuple[Mapping[str, str], list[Ask]]:
    """All classes with their descriptions, and the questions about them.

    Raises:
        PipelineError: the template cannot be filled in.
    """
    if template is not None:
        texts.check_template(template)
    blind_kind: texts.Kind = "blind boxes" if wanted == "boxes" else "blind points"
    kind = blind_kind if blind else wanted
    if isinstance(find, str):
        return {find: ""}, [Ask({find: ""}, True, kind, template)]
    classes = dict(find) if isinstance(find, Mapping) else dict.fromkeys(find, "")
    groups = [{name: text} for name, text in classes.items()] if one_class_per_call else [classes]
    return classes, [Ask(group, False, kind, template) for group in groups]


def known_family(model: str, coords: Literal["auto"] | Convention, blind: bool) -> tuple[Family | None, Convention]:
    """The model's family, None if it is unknown, and what its coordinates mean.

    Raises:
        PipelineError: that is not known, or the model does not see.
    """
    family = family_of(model)
    if blind:  # it is told the image's own size
        return family, "abs_original" if coords == "auto" else coords
    if coords != "auto":
        return family, coords
    if family is None:
        text = f"nothing is known of the model {model!r}: neither what its coordinates mean nor how to send pictures"
        hint = f"`maskmill qwen calibrate --model {model}` finds out; `coords:` is for what it says"
        raise PipelineError(Problem(text, hint=hint))
    if family.coords is None:
        hint = "take one that does, or write `blind: true` to have it guess without the picture"
        raise PipelineError(Problem(f"the model {model!r} does not see pictures", hint=hint))
    return family, family.coords
