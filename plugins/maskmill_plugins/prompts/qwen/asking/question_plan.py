"""The plan of a run's questions: what is the same for all images, and how replies become prompts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from maskmill import Box, PipelineError, Point, Problem, Prompt

from ..calls.answer_store import make_question_id
from ..calls.endpoint import Endpoint
from ..calls.question import ModelReply, Question
from ..coordinates.convert import Size, choose_send_size, convert_to_image
from ..coordinates.families import Convention, Family, find_family
from ..reply.labels import find_other_name, match_class
from ..reply.parse import FoundObject, ParsedReply, Wanted, parse_reply
from . import questions as texts

#: Grid of a model of no known family, whose coordinates the user has set.
USUAL_GRID = 32
#: `max_tokens` in the id of every question. It was the option's default when ids still depended on it.
ID_MAX_TOKENS = 4096
#: Servers enlarge images of fewer tokens, and reduce images of more.
FEWEST_TOKENS, MOST_TOKENS = 4, 1280


@dataclass(frozen=True, slots=True)
class ImageView:
    """The sizes of an image, (height, width).

    Attributes:
        size: of the image itself.
        sent: of the image as sent; the same as `size` if it is not sent.
    """

    size: Size
    sent: Size


@dataclass(frozen=True, slots=True)
class QuestionTemplate:
    """One question that is asked about each image.

    Attributes:
        classes: to ask for, each with its description or ""; a free sentence is the only name.
        sentence: whether it is a free sentence.
        kind: what to ask for.
        template: the user's own wording, or None.
        wording: version of the built-in wordings.
        thousandths: whether the model answers in thousandths of the image, otherwise in pixels.
    """

    classes: Mapping[str, str]
    sentence: bool
    kind: texts.Kind
    template: str | None
    wording: texts.Wording = texts.LATEST
    thousandths: bool = True

    @property
    def subject(self) -> str:
        """The classes, for messages."""
        return ", ".join(self.classes)

    def write_text(self, view: ImageView) -> str:
        """Return the text of the question for an image."""
        return texts.write_question(
            self.kind,
            self.classes,
            view.size,
            sentence=self.sentence,
            template=self.template,
            wording=self.wording,
            thousandths=self.thousandths,
        )


@dataclass(frozen=True, slots=True)
class QuestionPlan:
    """What is the same for all images of a run.

    Attributes:
        endpoint: the server.
        model: its name on the server.
        blind: whether no image is sent.
        coords: what the model's coordinates mean.
        grid: side of an image token in pixels.
        multimodal: which of DashScope's two APIs serves the model.
        wanted: boxes or points.
        classes: of all questions.
        questions: the questions about each image.
        max_tokens: limit of one reply.
        thinking: whether the model may think first.
        wording: version of the questions, which enters their ids.
        max_pixels: of an image as sent; None for the usual number of tokens.
        schema: JSON schema that the server holds the reply to, None without.
        calibration: the command that finds out what the model's coordinates mean.
    """

    endpoint: Endpoint
    model: str
    blind: bool
    coords: Convention
    grid: int
    multimodal: bool
    wanted: Wanted
    classes: Mapping[str, str]
    questions: Sequence[QuestionTemplate]
    max_tokens: int
    thinking: bool
    wording: texts.Wording = texts.LATEST
    max_pixels: int | None = None
    schema: Mapping[str, Any] | None = None
    calibration: str = "maskmill qwen calibrate"

    def view_image(self, size: Size) -> ImageView:
        """Return the sizes of an image of this size (height, width)."""
        if self.blind:
            return ImageView(size, size)
        most = self.max_pixels or MOST_TOKENS * self.grid**2
        height, width = choose_send_size(size, self.coords, self.grid, most)
        times = math.ceil(math.sqrt(FEWEST_TOKENS * self.grid**2 / (height * width)))
        return ImageView(size, (height * times, width * times))

    def make_question(self, text: str) -> Question:
        """Return the question, still without its image."""
        return Question(
            self.model,
            text,
            max_tokens=self.max_tokens,
            thinking=self.thinking,
            multimodal=self.multimodal,
            max_pixels=self.max_pixels,
            schema=self.schema,
        )

    def reword(self, text: str) -> str:
        """Return the question in other words, after a reply that could not be parsed."""
        return text + texts.AGAIN[texts.detect_language(text)]

    def list_question_ids(self, text: str, image: str, view: ImageView) -> list[tuple[str, int]]:
        """Return the ids that a question's replies are stored under, with the `max_tokens` of old replies there.

        New replies go under the first id, whatever `max_tokens` is: it does not change a complete answer.

        Args:
            text: of the question.
            image: SHA-256 of the image as sent, "" if none is sent.
            view: of the image.
        """
        request = {**self.make_question(text).parameters, "text": text, "prompts": self.wording}
        return [
            (
                make_question_id(
                    self.endpoint.url, self.endpoint.provider, {**request, "max_tokens": limit}, image, view.sent
                ),
                limit,
            )
            for limit in dict.fromkeys((ID_MAX_TOKENS, self.max_tokens))
        ]

    def parse(self, reply: ModelReply) -> ParsedReply | None:
        """Return the objects of a reply; None if it cannot be parsed, or was cut off before its first object."""
        parsed = parse_reply(reply.text, self.wanted, self.blind)
        parsed.truncated |= bool(reply.interruption)
        return parsed if parsed.readable and (parsed.found or not parsed.truncated) else None

    def make_prompts(
        self, question: QuestionTemplate, view: ImageView, parsed: ParsedReply
    ) -> tuple[list[Prompt], Counter[str]]:
        """Return the prompts of a reply, in pixels of the image, and the counts of corrected and dropped objects."""
        named, foreign = [], 0
        for one in parsed.found:
            label = one.label if question.sentence else self._match_class(one, question)
            if label is None and not question.sentence:
                foreign += 1
            else:  # before duplicates are dropped: a "car" and a "truck" in one place are one "vehicle"
                named.append(replace(one, names=() if label is None else (label,)))
        found, counts = convert_to_image(named, self.coords, view.size, view.sent)
        # in a question about one class only the names of other classes are refused: they have their own question
        counts["of another class" if len(question.classes) == 1 else "of no class asked for"] += foreign
        return [_make_prompt(one, one.label) for one in found], +(counts + parsed.counts)

    def count_other_names(self, question: QuestionTemplate, parsed: ParsedReply) -> Counter[str]:
        """Return the names under which objects came that are taken for the only class of a question."""
        alone = None if question.sentence else _get_only_class(question)
        if alone is None:
            return Counter()
        taken = (one for one in parsed.found if self._match_class(one, question) == alone)
        return Counter(name for one in taken if (name := find_other_name(one.names, alone)))

    def _match_class(self, one: FoundObject, question: QuestionTemplate) -> str | None:
        return match_class(one.names, self.classes, _get_only_class(question))


def _get_only_class(question: QuestionTemplate) -> str | None:
    return next(iter(question.classes)) if len(question.classes) == 1 else None


def _make_prompt(one: FoundObject, label: str | None) -> Prompt:
    if one.box is not None:
        return Prompt(box=Box(*one.box), label=label)
    return Prompt(points=tuple(Point(x, y, side) for x, y, side in one.points), label=label)


def plan_questions(
    find: str | Sequence[str] | Mapping[str, str],
    wanted: Wanted,
    blind: bool,
    one_class_per_call: bool,
    template: str | None,
    wording: texts.Wording = texts.LATEST,
    thousandths: bool = True,
) -> tuple[Mapping[str, str], list[QuestionTemplate]]:
    """Return all classes with their descriptions, and the questions about them.

    Raises:
        PipelineError: the template cannot be filled in.
    """
    if template is not None:
        texts.check_template(template)
    blind_kind: texts.Kind = "blind boxes" if wanted == "boxes" else "blind points"
    kind = blind_kind if blind else wanted
    if isinstance(find, str):
        return {find: ""}, [QuestionTemplate({find: ""}, True, kind, template, wording, thousandths)]
    classes = dict(find) if isinstance(find, Mapping) else dict.fromkeys(find, "")
    groups = [{name: text} for name, text in classes.items()] if one_class_per_call else [classes]
    return classes, [QuestionTemplate(group, False, kind, template, wording, thousandths) for group in groups]


def resolve_coordinates(
    model: str, coords: Literal["auto"] | Convention, blind: bool, calibration: str
) -> tuple[Family | None, Convention]:
    """Return the model's family, None if it is unknown, and what its coordinates mean.

    Args:
        model: its name on the server.
        coords: as in the pipeline file.
        blind: whether no image is sent.
        calibration: the command that finds out what they mean.

    Raises:
        PipelineError: the meaning is not known, or the model takes no images.
    """
    family = find_family(model)
    if blind:  # the question names the image's own size
        return family, "abs_original" if coords == "auto" else coords
    if coords != "auto":
        return family, coords
    if family is None:
        text = f"unknown model {model!r}: set `coords:` to what its coordinates mean"
        hint = f"to find the right value, run: {calibration}"
        raise PipelineError(Problem(text, hint=hint))
    if family.coords is None:
        hint = "choose a vision model, or set `blind: true` to let it guess without the image"
        raise PipelineError(Problem(f"the model {model!r} does not accept images", hint=hint))
    return family, family.coords


def make_schema(wanted: Wanted, classes: Sequence[str] | None) -> dict[str, Any]:
    """Return the JSON schema of the answer that the built-in questions ask for.

    Args:
        wanted: boxes or points.
        classes: the only labels allowed; None for any.
    """
    key, count = ("bbox_2d", 4) if wanted == "boxes" else ("point_2d", 2)
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": count, "maxItems": count}
    label = {"type": "string"} if classes is None else {"type": "string", "enum": list(classes)}
    item = {"type": "object", "properties": {key: numbers, "label": label}, "required": [key, "label"]}
    return {"type": "array", "items": {**item, "additionalProperties": False}}
