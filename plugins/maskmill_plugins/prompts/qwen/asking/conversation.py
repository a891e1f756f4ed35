"""Asks about one image: from an `Image` to its prompts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskmill import Image, ImageError, Prompt
from maskmill.wording import count_noun

from ..calls.answer_store import AnswerStore
from ..calls.client import RetryingClient
from ..calls.question import Question
from ..calls.single_flight import SingleFlight
from ..cost.token_estimate import TokenStats, estimate_usage, limit_usage
from ..reply.parse import FoundObject
from .answer import OTHER_CLASS, Answer, find_stored_answer, read_answer
from .question_plan import ImageView, QuestionPlan, QuestionTemplate
from .sent_image import SentImage

#: Times that a question is asked for a usable reply.
USABLE_TRIES = 2
#: Characters of an unusable reply that are stored with the image, and shown.
KEPT, SHOWN = 10_000, 300
#: Objects of a reply that are listed in the verbose log.
LISTED = 20


@dataclass(frozen=True, slots=True)
class Reporter:
    """Receives what is to be known about an image beside its prompts.

    Attributes:
        note: name and value of what is stored with the result.
        doubt: code and message of what may be wrong with it.
        log: lines of the verbose log.
    """

    note: Callable[[str, Any], None]
    doubt: Callable[[str, str], None]
    log: Callable[[str], None]


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

    def find_prompts(self, image: Image, report: Reporter) -> list[Prompt]:
        """Return the prompts for an image, in its pixels.

        Args:
            image: to ask about.
            report: receives notes, doubts and the verbose log.

        Raises:
            ImageError: there is no reply about this image, or no usable one.
            StopRun: there can be no reply about any image now.
        """
        view = self._plan.view_image(image.size)
        sent = None if self._plan.blind else SentImage(image, view.sent, self._answers)
        report.note("model", self._plan.model)
        if sent is None:
            report.note("blind", True)
        else:
            report.note("sent", {"size": list(view.sent), "coordinates": self._plan.coords})
        found: list[Prompt] = []
        notes: list[dict[str, Any]] = []
        misnamed: list[str] = []
        for template in self._plan.questions:
            image_id = sent.sha256 if sent else ""
            (question_id, _), *_ = self._plan.list_question_ids(template.write_text(view), image_id, view)
            with self._flights.hold(question_id):  # the same image may be asked about twice at once
                answer = self._get_answer(template, view, sent, report)
            tokens = f" in {count_noun(answer.reply.output_tokens, 'token')}"
            report.log(f"coordinates received: {describe_objects(answer.parsed.found)}{tokens}")
            for code, message in answer.doubts:
                report.doubt(code, message)
            notes.append(_make_note(template, answer, self._plan.count_other_names(template, answer.parsed)))
            found += answer.prompts
            if answer.counts[OTHER_CLASS]:
                misnamed.append(template.subject)
        report.note("answers", notes)
        if misnamed and not found:
            raise ImageError(f"the replies have no object of the class asked for: about {', '.join(misnamed)}")
        return found

    def _get_answer(
        self, template: QuestionTemplate, view: ImageView, sent: SentImage | None, report: Reporter
    ) -> Answer:
        """Return the first usable answer to a question, from disk or from the server."""
        plan = self._plan
        answer, useless = find_stored_answer(plan, self._answers, template, view, sent.sha256 if sent else "")
        if answer is not None:
            report.log(f"using the stored answer of {plan.model} for {template.subject}")
            return _compare_answers(answer, useless)
        how = " (blind: without the image)" if sent is None else ""
        report.log(f"asking {plan.model} for {template.subject}{how}")
        question = plan.make_question(template.write_text(view))
        if sent is not None:
            question = replace(question, image=sent.data)
        for _ in range(max(1, USABLE_TRIES - len(useless))):
            if useless:  # at temperature 0 the same question would get the same reply
                report.log(f"the reply {useless[-1].problem}; asking once more")
                question = replace(question, text=plan.reword(template.write_text(view)))
            answer = self._ask(question, template, view, report)
            if not answer.problem:
                return _compare_answers(answer, useless)
            useless.append(answer)
        texts = [plan.endpoint.mask_key(one.reply.text) for one in useless]
        report.note("unreadable", [text[:KEPT] for text in texts])
        raise ImageError(f"the reply about {template.subject} {useless[-1].problem}: {texts[-1][:SHOWN]!r}")

    def _ask(self, question: Question, template: QuestionTemplate, view: ImageView, report: Reporter) -> Answer:
        """Send a question, and store and read the reply."""
        plan = self._plan
        size = None if question.image is None else view.sent
        expected = estimate_usage(question.text, size, plan.grid, self._stats)
        most = limit_usage(question.text, size, plan.grid, plan.max_tokens, plan.thinking)
        reply = replace(self._client.ask(question, expected, most, report.log), max_tokens=plan.max_tokens)
        image = "" if question.image is None else hashlib.sha256(question.image).hexdigest()
        (question_id, _), *_ = plan.list_question_ids(template.write_text(view), image, view)
        if not plan.endpoint.shows_key(reply.text):
            self._answers.add(question_id, plan.model, reply)
        return read_answer(plan, template, view, reply)


def describe_objects(found: Sequence[FoundObject]) -> str:
    """Return how many boxes and points came, and their numbers as they came."""
    if not found:
        return "none"
    counts = Counter(box=sum(one.box is not None for one in found), point=sum(len(one.points) for one in found))
    plurals = {"box": "boxes", "point": "points"}
    text = ", ".join(f"{number} {plurals[kind] if number > 1 else kind}" for kind, number in counts.items() if number)
    listed = "; ".join(_format_object(one) for one in found[:LISTED])
    return f"{text}: {listed}" + (f"; and {len(found) - LISTED} more" if len(found) > LISTED else "")


def _format_object(one: FoundObject) -> str:
    places = [point[:2] for point in one.points] if one.box is None else [one.box]
    numbers = [", ".join(f"{number:g}" for number in place) for place in places]
    return " ".join([*one.names[:1], *(f"({text})" for text in numbers)])


def _compare_answers(answer: Answer, useless: Sequence[Answer]) -> Answer:
    """Return an answer, with a doubt if it says that there is nothing where an earlier reply had objects."""
    if answer.prompts or not any(one.parsed.found or one.parsed.refused for one in useless):
        return answer
    text = "an earlier reply had objects that could not be used, the last one says that there are none"
    return replace(answer, doubts=(*answer.doubts, ("incomplete", text)))


def _make_note(template: QuestionTemplate, answer: Answer, other_names: Counter[str]) -> dict[str, Any]:
    return (
        {"asked": template.subject, "found": len(answer.prompts), "reply_sha256": _hash_text(answer.reply.text)}
        | ({"put right or left out": dict(answer.counts)} if answer.counts else {})
        | ({"truncated": True} if answer.interruption else {})
        | ({"named otherwise": dict(other_names)} if other_names else {})
    )


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
