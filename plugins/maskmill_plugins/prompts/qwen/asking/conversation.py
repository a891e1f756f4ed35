"""Asks about one image: from an `Image` to its prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from maskmill import Image, ImageError, Prompt

from ..calls.answer_store import AnswerStore
from ..calls.client import RetryingClient
from ..calls.question import ModelReply
from ..calls.single_flight import SingleFlight
from ..cost.token_estimate import TokenStats, estimate_usage, limit_usage
from ..reply.parse import ParsedReply, Wanted
from .question_plan import ImageView, QuestionPlan, QuestionTemplate
from .sent_image import SentImage

#: Times that a question is asked for a readable reply.
READABLE_TRIES = 2
#: Characters of an unreadable reply that are stored with the image, and shown.
KEPT, SHOWN = 10_000, 300


class Conversation:
    """Asks about one image after the other, from any number of threads.

    Args:
        plan: what is the same for all images.
        client: sends the questions.
        answers: stores the replies.
        stats: what the model's answers use on average.
    """

    def __init__(self, plan: QuestionPlan, client: RetryingClient, answers: AnswerStore, stats: TokenStats) -> None:
        self._plan = plan
        self._client = client
        self._answers = answers
        self._stats = stats
        self._flights = SingleFlight()

    def find_prompts(self, image: Image, note: Callable[[str, Any], None], log: Callable[[str], None]) -> list[Prompt]:
        """Return the prompts for an image, in its pixels.

        Args:
            image: to ask about.
            note: receives what is stored with the result.
            log: receives lines of the verbose log.

        Raises:
            ImageError: there is no reply about this image, or no readable one.
            StopRun: there can be no reply about any image now.
        """
        view = self._plan.view_image(image.size)
        sent = None if self._plan.blind else SentImage(image, view.sent, self._answers)
        note("model", self._plan.model)
        if sent is None:
            note("blind", True)
        else:
            note("sent", {"size": list(view.sent), "coordinates": self._plan.coords})
        found: list[Prompt] = []
        notes: list[dict[str, Any]] = []
        for template in self._plan.questions:
            question = self._plan.make_question_id(template.write_text(view), sent.sha256 if sent else "", view)
            with self._flights.hold(question):  # the same image may be asked about twice at once
                parsed, reply = self._get_answer(template, view, sent, note, log)
            prompts, counts = self._plan.make_prompts(template, view, parsed)
            others = self._plan.count_other_names(template, parsed)
            log(f"coordinates received: {_format_count(prompts, self._plan.wanted)} in {reply.output_tokens} tokens")
            notes.append(
                {"asked": template.subject, "found": len(prompts), "reply_sha256": _hash_text(reply.text)}
                | ({"put right or left out": dict(counts)} if counts else {})
                | ({"truncated": True} if parsed.truncated else {})
                | ({"named otherwise": dict(others)} if others else {})
            )
            found += prompts
        note("answers", notes)
        return found

    def _get_answer(
        self,
        template: QuestionTemplate,
        view: ImageView,
        sent: SentImage | None,
        note: Callable[[str, Any], None],
        log: Callable[[str], None],
    ) -> tuple[ParsedReply, ModelReply]:
        """Return the first readable reply to a question, from disk or from the server."""
        plan = self._plan
        text = template.write_text(view)
        question_id = plan.make_question_id(text, sent.sha256 if sent else "", view)
        unreadable = self._answers.get(question_id)
        for reply in unreadable:
            if (parsed := plan.parse(reply)) is not None:
                log(f"using the stored answer of {plan.model} for {template.subject}")
                return parsed, reply
        log(f"asking {plan.model} for {template.subject}" + ("" if sent else ", without the image"))
        question = plan.make_question(text)
        if sent is not None:
            question = replace(question, image=sent.data)
        for _ in range(max(1, READABLE_TRIES - len(unreadable))):
            if unreadable:  # at temperature 0 the same question would get the same reply
                question = replace(question, text=plan.reword(text))
                log("the reply cannot be parsed; asking once more")
            size = None if sent is None else view.sent
            expected = estimate_usage(question.text, size, plan.grid, self._stats)
            most = limit_usage(question.text, size, plan.grid, plan.max_tokens, plan.thinking)
            reply = self._client.ask(question, expected, most, log)
            if not plan.endpoint.shows_key(reply.text):
                self._answers.add(question_id, plan.model, reply)
            if (parsed := plan.parse(reply)) is not None:
                return parsed, reply
            unreadable.append(reply)
        texts = [plan.endpoint.mask_key(reply.text) for reply in unreadable]
        note("unreadable", [text[:KEPT] for text in texts])
        raise ImageError(f"the reply about {template.subject} cannot be parsed: {texts[-1][:SHOWN]!r}")


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _format_count(prompts: Sequence[Prompt], wanted: Wanted) -> str:
    one = {"boxes": "box", "points": "point"}[wanted]
    return f"{len(prompts)} {one if len(prompts) == 1 else wanted}"
