"""What a reply is worth: its prompts and what is doubtful about them, or why none of it can be used.

This is the one place that decides whether a reply is an answer. A reply is `empty` only if it says that there
are no such objects; one from whose objects nothing remains has failed. One that has only objects of other
classes of the user's leaves that to their questions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from maskmill import Prompt
from maskmill.wording import count_noun

from ..calls.answer_store import AnswerStore
from ..calls.question import ModelReply
from ..coordinates.convert import find_wrong_unit
from ..reply.none_sentence import says_none
from ..reply.parse import ParsedReply, parse_reply
from ..reply.tags import remove_thinking
from .question_plan import ImageView, QuestionPlan, QuestionTemplate

#: Counts of objects that were dropped, by the doubt that follows; duplicates and other classes are none.
DROPPED = {
    "outside": "out_of_range",
    "between 0 and 1": "out_of_range",
    "no box": "incomplete",
    "no point": "incomplete",
    "width and height": "incomplete",
    "another order": "incomplete",
    "not two-dimensional": "incomplete",
    "sliver": "incomplete",
    "of no class asked for": "incomplete",
    "under an unknown key": "incomplete",
}
#: Count of objects of a class that has a question of its own.
OTHER_CLASS = "of another class"


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply, read.

    Attributes:
        reply: as it came.
        parsed: the objects in it.
        prompts: in pixels of the image.
        counts: of corrected and dropped objects, by kind.
        problem: why nothing of it can be used, to follow "the reply"; "" if it can be used.
        interruption: what cut it off; "" if it is complete.
        doubts: code and message of what may be wrong with it all the same.
    """

    reply: ModelReply
    parsed: ParsedReply
    prompts: tuple[Prompt, ...]
    counts: Counter[str]
    problem: str
    interruption: str
    doubts: tuple[tuple[str, str], ...]


def read_answer(plan: QuestionPlan, question: QuestionTemplate, view: ImageView, reply: ModelReply) -> Answer:
    """Read a reply to a question; never fails.

    Args:
        plan: what is the same for all images.
        question: the one that was asked.
        view: of the image.
        reply: to the question.
    """
    parsed = parse_reply(reply.text, plan.wanted, plan.blind)
    interruption = reply.interruption or ("it ends inside a value" if parsed.truncated else "")
    none = not (parsed.found or parsed.refused) and (
        parsed.readable or says_none(remove_thinking(reply.text), question.classes, question.sentence)
    )
    prompts, counts = plan.make_prompts(question, view, parsed)
    problem = ""
    if interruption and not parsed.found:
        problem = f"was cut off before its first object: {interruption}"
    elif not none and not parsed.found:
        problem = "cannot be parsed" + _list_counts(counts, " and has no coordinates that can be used: ")
    elif wrong := find_wrong_unit(parsed.found, plan.coords, plan.calibration):
        problem, prompts = wrong, []
    elif not none and not prompts and set(counts) != {OTHER_CLASS}:  # those are found by their own question
        problem = "has no object that can be used" + _list_counts(counts, ": ")
    doubts = () if problem else tuple(_find_doubts(question.subject, interruption, len(prompts), counts))
    return Answer(reply, parsed, tuple(prompts), counts, problem, interruption, doubts)


def find_stored_answer(
    plan: QuestionPlan, answers: AnswerStore, question: QuestionTemplate, view: ImageView, image: str
) -> tuple[Answer | None, list[Answer]]:
    """Return the stored answer to a question, None if it has to be asked, and the stored replies that are of no use.

    A reply that was cut off counts only if it had at least as many tokens as it would have now.

    Args:
        plan: what is the same for all images.
        answers: the stored replies.
        question: to ask.
        view: of the image.
        image: SHA-256 of the image as sent, "" if none is sent.
    """
    usable: list[Answer] = []
    useless: list[Answer] = []
    for question_id, limit in plan.list_question_ids(question.write_text(view), image, view):
        for reply in answers.get(question_id):
            answer = read_answer(plan, question, view, reply)
            if answer.interruption and (reply.max_tokens or limit) < plan.max_tokens:
                continue
            (useless if answer.problem else usable).append(answer)
    complete = [answer for answer in usable if not answer.interruption]
    return next(iter([*complete, *usable]), None), useless


def _list_counts(counts: Counter[str], lead: str) -> str:
    dropped = [f"{number} {kind}" for kind, number in counts.items() if kind in DROPPED or kind == OTHER_CLASS]
    return lead + ", ".join(dropped) if dropped else ""


def _find_doubts(subject: str, interruption: str, kept: int, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    """Yield code and message of each doubt about an answer that is used."""
    if interruption:
        yield "truncated", f"the answer about {subject} was cut off after {count_noun(kept, 'object')}: {interruption}"
    for code in dict.fromkeys(DROPPED.values()):
        dropped = [f"{counts[kind]} {kind}" for kind in DROPPED if DROPPED[kind] == code and counts[kind]]
        if dropped:
            yield code, f"objects of the answer about {subject} were left out: {', '.join(dropped)}"
    if counts[OTHER_CLASS] and not kept:
        yield "incomplete", f"the answer about {subject} has only objects of other classes: {counts[OTHER_CLASS]}"
    if counts["clipped"]:
        objects = count_noun(counts["clipped"], "object")
        yield "clipped", f"{objects} of the answer about {subject} reached beyond the image"
    if counts["inverted"]:
        yield (
            "other",
            f"{count_noun(counts['inverted'], 'box', 'boxes')} of the answer about {subject} had swapped corners",
        )
