"""What is asked about one image, and what becomes of the answers: the way from an `Image` to its prompts."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from maskmill import Image, ImageError, Prompt

from ..calls.answer_store import Answers, Reply, picture_id
from ..calls.client import Caller
from ..cost.token_estimate import Habits, expected, most
from ..reply.read import Reading, Wanted
from .picture import ENCODING, Picture, picture
from .question_plan import Ask, Terms, View

#: A question is put so often for an answer that can be read.
READABLE_TRIES = 2
#: Characters of an unreadable reply that are kept with the image, and shown.
KEPT, SHOWN = 10_000, 300


class _Sent:
    """The picture of one image as it is sent, made when it is needed, once.

    Args:
        image: to be sent.
        size: (height, width) to send it at.
        answers: knows what was sent of this file before.
    """

    def __init__(self, image: Image, size: tuple[int, int], answers: Answers) -> None:
        self._image = image
        self._size = size
        self._answers = answers
        self._id = picture_id(image.sha256, [ENCODING, image.size, size])
        self._made: Picture | None = None

    @property
    def sha256(self) -> str:
        """Of the bytes sent; known without making them if they were sent before."""
        return self._answers.picture(self._id) or self.made.sha256

    @property
    def made(self) -> Picture:
        """The encoded picture."""
        if self._made is None:
            self._made = picture(self._image, self._size)
            self._answers.add_picture(self._id, self._made.sha256)
        return self._made


class Conversation:
    """Asks about one image after the other, for any number of threads.

    Args:
        terms: what is the same for all images.
        caller: puts the questions.
        answers: keeps what comes back.
        habits: what the model's answers usually take.
    """

    def __init__(self, terms: Terms, caller: Caller, answers: Answers, habits: Habits) -> None:
        self._terms = terms
        self._caller = caller
        self._answers = answers
        self._habits = habits

    def prompts(self, image: Image, note: Callable[[str, Any], None], tell: Callable[[str], None]) -> list[Prompt]:
        """What is to be segmented in an image, in pixels of it.

        Args:
            image: to ask about.
            note: receives what the result should say of the answers.
            tell: receives lines of the image's story.

        Raises:
            ImageError: there is no answer about this image, or none that can be read.
            StopRun: there is none about any image now.
        """
        view = self._terms.view(image.size)
        sent = None if self._terms.blind else _Sent(image, view.sent, self._answers)
        note("model", self._terms.model)
        if sent is None:
            note("blind", True)
        else:
            note("sent", {"size": list(view.sent), "coordinates": self._terms.coords})
        found: list[Prompt] = []
        told: list[dict[str, Any]] = []
        for ask in self._terms.asks:
            reading, reply = self._answer(ask, view, sent, note, tell)
            prompts, counted = self._terms.prompts(ask, view, reading)
            tell(f"coordinates received: {_counted(prompts, self._terms.wanted)} in {reply.output_tokens} tokens")
            told.append(
                {"asked": ask.subject, "found": len(prompts), "reply_sha256": sha256_of(reply.text)}
                | ({"put right or left out": dict(counted)} if counted else {})
                | ({"truncated": True} if reading.truncated else {})
            )
            found += prompts
        note("answers", told)
        return found

    def _answer(
        self, ask: Ask, view: View, sent: _Sent | None, note: Callable[[str, Any], None], tell: Callable[[str], None]
    ) -> tuple[Reading, Reply]:
        """The first answer to a question that can be read, from disk or from the server."""
        terms = self._terms
        text = ask.text(view)
        name = terms.question_id(text, sent.sha256 if sent else "", view)
        unreadable = self._answers.get(name)
        for reply in unreadable:
            if (reading := terms.read(reply)) is not None:
                tell(f"{terms.model} was asked for {ask.subject} before")
                return reading, reply
        tell(f"asking {terms.model} for {ask.subject}" + ("" if sent else ", blind"))
        question = terms.question(text)
        if sent is not None:
            question = replace(question, picture=sent.made.data, media=sent.made.media)
        for _ in range(max(1, READABLE_TRIES - len(unreadable))):
            if unreadable:  # at temperature 0 the very same question would get the very same answer
                question = replace(question, text=terms.again(text))
                tell("the reply cannot be read; asking once more")
            size = None if sent is None else view.sent
            likely = expected(question.text, size, terms.grid, self._habits)
            limit = most(question.text, size, terms.grid, terms.max_tokens, terms.thinking)
            reply = self._caller.ask(question, likely, limit, tell)
            self._answers.add(name, terms.model, reply)
            if (reading := terms.read(reply)) is not None:
                return reading, reply
            unreadable.append(reply)
        note("unreadable", [reply.text[:KEPT] for reply in unreadable])
        raise ImageError(f"the reply about {ask.subject} cannot be read: {unreadable[-1].text[:SHOWN]!r}")


def sha256_of(text: str) -> str:
    """What a reply is known by: the SHA-256 of its raw text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _counted(prompts: Sequence[Prompt], wanted: Wanted) -> str:
    one = {"boxes": "box", "points": "point"}[wanted]
    return f"{len(prompts)} {one if len(prompts) == 1 else wanted}"
