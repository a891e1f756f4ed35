"""Sends questions to a server, with retries, rate limits and the budget.

Every POST is counted and paced here and nowhere else: the retries of the SDKs are switched off.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from maskmill import ImageError, StopRun

from ..cost.budget import BudgetReservation, Usage
from .endpoint import Endpoint
from .errors import RetryableError, ServerError, make_exception
from .question import ModelReply, ProviderClient, Question
from .rate_limits import RateLimiter

#: Tries of one question, and the longest random pause between two of them, in seconds.
TRIES = 8
LONGEST_PAUSE = 60.0
#: The run stops, resumably, if a server asks for a longer pause than this, in seconds.
PATIENCE = 300.0
#: Failures that say nothing about other images, however many there are.
ABOUT_ONE_IMAGE = ("content inspection", "refusal")
#: The run stops if this many questions in a row fail (or as many as run at once, if that is more).
MOST_FAILURES = 3

_random = random.SystemRandom()  # the global generator is seeded per image: all retries would coincide


def create_client(endpoint: Endpoint, timeout: float, concurrency: int, ca: Path | None = None) -> ProviderClient:
    """Return the client for the endpoint's provider; imports its SDK.

    Args:
        endpoint: the server.
        timeout: seconds for one whole answer.
        concurrency: calls at the same time.
        ca: PEM file of the certificate authority, None for the usual ones.
    """
    if endpoint.provider == "openai":
        from .openai_client import OpenAIClient

        return OpenAIClient(endpoint, timeout, concurrency, ca)
    from .dashscope_client import DashScopeClient

    return DashScopeClient(endpoint, timeout, concurrency, ca)


class RetryingClient:
    """Sends questions to one server, from any number of threads.

    Args:
        client: the provider's client.
        endpoint: the server, for error messages.
        limiter: how many calls at once and how fast.
        reservation: what may be spent.
    """

    def __init__(
        self, client: ProviderClient, endpoint: Endpoint, limiter: RateLimiter, reservation: BudgetReservation
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._limiter = limiter
        self._reservation = reservation
        self._failed_in_a_row = 0
        self._unreached = 0
        self._reached = False
        self._refused = 0
        self._answered = False

    def ask(self, question: Question, expected: Usage, most: Usage, log: Callable[[str], None]) -> ModelReply:
        """Return the reply to a question.

        The loop is written out, because a pause must end as soon as another thread stops the run.

        Args:
            question: what to ask.
            expected: what the call will probably use; paces the calls.
            most: what it can use at most; reserved in the budget.
            log: receives a line for each failed try.

        Raises:
            ImageError: there is no reply for this image.
            StopRun: there can be no reply for any image now.
        """
        try:
            for attempt in itertools.count(1):
                try:
                    reply = self._post(question, expected, most)
                    break
                except RetryableError as error:
                    if attempt >= TRIES:
                        raise self._give_up(error) from None
                    pause = (error.retry_after or 0.0) + _random.uniform(0, min(LONGEST_PAUSE, 2.0 ** (attempt - 1)))
                    log(f"{error}; retrying in {pause:.1f} s")
                    self._limiter.wait(pause)
        except StopRun as stop:
            self._limiter.stop(str(stop))
            raise
        self._failed_in_a_row = 0
        return reply

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _post(self, question: Question, expected: Usage, most: Usage) -> ModelReply:
        """Send the question once, and settle what it cost."""
        with self._limiter.acquire(expected.tokens) as set_tokens, self._reservation.reserve(most) as actual:
            try:
                reply = self._client.post(question)
            except ServerError as error:
                if error.status or not error.sent:  # otherwise the cost is unknown and stays reserved
                    actual.append(Usage(int(error.sent), *error.tokens))
                    set_tokens(sum(error.tokens))
                raise self._classify(error, question) from None
            self._reached = self._answered = True
            actual.append(Usage(1, reply.input_tokens, reply.output_tokens))
            set_tokens(reply.tokens)
            text = reply.text.encode("utf-8", "replace").decode()  # lone surrogates cannot be stored
            return replace(reply, text=text)

    def _classify(self, failure: ServerError, question: Question) -> Exception:
        """Return the exception for a failed call, taking the calls before it into account."""
        self._reached |= failure.sent
        self._unreached += not failure.sent
        if not self._reached and self._unreached >= MOST_FAILURES:
            return StopRun(f"{failure}; {failure.advice}" if failure.advice else str(failure))
        error = make_exception(failure, question.model, question.image is not None, self._endpoint)
        self._refused += isinstance(error, ImageError) and failure.meaning.reason not in ABOUT_ONE_IMAGE
        if not self._answered and self._refused >= MOST_FAILURES:  # the images are not the cause
            return StopRun(f"{error}; the first {MOST_FAILURES} questions all failed like this")
        if isinstance(error, RetryableError) and error.retry_after and error.retry_after > PATIENCE:
            return StopRun(f"{error}; the server asks to retry in {error.retry_after:.0f} s: run again then")
        return error

    def _give_up(self, error: RetryableError) -> Exception:
        """Return the exception for a question whose tries all failed; several in a row mean a server outage."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= max(MOST_FAILURES, self._limiter.concurrency):
            return StopRun(
                f"{error}; {self._failed_in_a_row} questions in a row failed after {TRIES} tries each."
                f" Run again when the server {'gives answers' if error.answered else 'is back'}"
            )
        return ImageError(f"{error}; gave up after {TRIES} tries")
