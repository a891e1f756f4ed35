"""One question put to a server, and put again where that is worth it.

Each POST is counted and paced here, and nowhere else: the SDKs are told to try nothing by themselves.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from maskmill import ImageError, StopRun

from ..cost.budget import Purse, Spent
from .answer_store import Reply
from .errors import Again, Trouble, inspected, judged
from .question import Question
from .rate_limits import Limits
from .servers import Server

#: How often one question is put at most, and the longest pause between two tries, in seconds.
TRIES = 8
LONGEST_PAUSE = 60.0
#: A server that wants a longer pause than this is left alone: the run stops, and can be resumed.
PATIENCE = 300.0
#: So many questions in a row without an answer, or as many as are under way at once, end the run.
LOST = 3

_random = random.SystemRandom()  # the global generator is seeded by image: all retries would fall together


class Client(Protocol):
    """One dialect."""

    def post(self, question: Question) -> Reply:
        """Put the question once, with exactly one POST.

        Raises:
            Trouble: there is no usable answer.
        """

    def close(self) -> None:
        """Let go of the connections."""


def client_for(server: Server, timeout: float, concurrency: int) -> Client:
    """The client of the server's dialect; imports its SDK."""
    if server.provider == "openai":
        from .openai_client import OpenAI

        return OpenAI(server, timeout, concurrency)
    from .dashscope_client import DashScope

    return DashScope(server, timeout, concurrency)


class Caller:
    """Puts questions to one server for all threads.

    Args:
        client: the dialect.
        server: for the texts of errors.
        limits: how many at once and how fast.
        purse: what may be spent.
    """

    def __init__(self, client: Client, server: Server, limits: Limits, purse: Purse) -> None:
        self._client = client
        self._server = server
        self._limits = limits
        self._purse = purse
        self._in_vain = 0
        self._unreached = 0
        self._reached = False
        self._refused = 0
        self._answered = False

    def ask(self, question: Question, expected: Spent, most: Spent, tell: Callable[[str], None]) -> Reply:
        """The answer.

        Args:
            question: what to ask.
            expected: what it will probably take; paces the calls.
            most: what it can take at most; reserved in the budget.
            tell: receives a line for each try that failed.

        Raises:
            ImageError: there will be none for this image.
            StopRun: there will be none for any image now.
        """
        from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

        def pause(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked_for = error.after if isinstance(error, Again) and error.after else 0.0
            return asked_for + _random.uniform(0, min(LONGEST_PAUSE, 2.0 ** (state.attempt_number - 1)))

        def said(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            tell(f"{error}; trying again in {state.next_action.sleep if state.next_action else 0:.1f} s")

        retrying = Retrying(
            retry=retry_if_exception_type(Again),
            stop=stop_after_attempt(TRIES),
            wait=pause,
            sleep=self._limits.wait,
            before_sleep=said,
            reraise=True,
        )
        try:
            reply = retrying(self._once, question, expected, most)
        except Again as error:
            raise self._given_up(error) from None
        except StopRun as stop:
            self._limits.stop(str(stop))
            raise
        self._in_vain = 0
        return reply

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _once(self, question: Question, expected: Spent, most: Spent) -> Reply:
        with self._limits.turn(expected.tokens) as took, self._purse.reserved(most) as real:
            try:
                reply = self._client.post(question)
            except Trouble as trouble:
                if trouble.status or not trouble.sent:  # else nobody knows what it cost
                    real.append(Spent(int(trouble.sent)))
                    took(0)
                raise self._judged(trouble, question) from None
            self._reached = self._answered = True
            real.append(Spent(1, reply.input_tokens, reply.output_tokens))
            took(reply.tokens)
            text = reply.text.encode("utf-8", "replace").decode()  # half a character could not be stored
            return replace(reply, text=self._server.without_key(text))

    def _judged(self, trouble: Trouble, question: Question) -> Exception:
        self._reached |= trouble.sent
        self._unreached += not trouble.sent
        if not self._reached and self._unreached >= LOST:
            return StopRun(f"{trouble}: is the server running, and is {self._server.url} its address?")
        error = judged(trouble, question.model, question.picture is not None, self._server)
        self._refused += isinstance(error, ImageError) and not inspected(trouble)
        if not self._answered and self._refused >= LOST:  # it is not the images
            return StopRun(f"{error}; so it went with the first {LOST} questions, and none was answered")
        if isinstance(error, Again) and error.after and error.after > PATIENCE:
            return StopRun(f"{error}; it asks to come back in {error.after:.0f} s, run it again then")
        return error

    def _given_up(self, error: Again) -> Exception:
        """One question failed to the end; several in a row say that the server is gone."""
        self._in_vain += 1
        if self._in_vain >= max(LOST, self._limits.concurrency):
            stop = StopRun(
                f"{error}; {self._in_vain} questions in a row were put {TRIES} times each without an answer."
                " Run it again when the server is back"
            )
            self._limits.stop(str(stop))
            return stop
        return ImageError(f"{error}; given up after {TRIES} tries")
