"""Asking the prompt sources about one image: in order, until one knows, or all of them.

Sources that wait on a network are asked ahead, in the prompt lane's process (`run/lane.py`);
their answers come along with the image as plain data, and are not asked for again here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from ..errors import ImageError
from ..images import Image
from ..plugins.roles import PromptSource, Stages
from ..prompts import Prompt
from ..results import Failure
from .plugin_call import StepError, Trace, several

Answers = dict[int, list[Prompt] | None]


@dataclass(frozen=True)
class LaneAnswers:
    """What the lane brought for one image.

    Attributes:
        sha256: of the image file that was asked about, "" if it was not read.
        answers: by the source's position; None: it knows nothing of this image.
        notes: what the sources noted, by plugin name.
        failure: why asking failed, or None.
    """

    sha256: str = ""
    answers: Answers = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    failure: Failure | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sha256": self.sha256,
            "answers": [
                [index, None if found is None else [prompt.to_json() for prompt in found]]
                for index, found in self.answers.items()
            ],
            "notes": dict(self.notes),
            "failure": None if self.failure is None else [*_fields(self.failure)],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LaneAnswers:
        """The inverse of `to_json`."""
        answers: Answers = {
            index: None if found is None else [Prompt.from_json(prompt) for prompt in found]
            for index, found in data["answers"]
        }
        failure = None if data["failure"] is None else Failure(*data["failure"])
        return cls(data["sha256"], answers, data["notes"], failure)


def _fields(failure: Failure) -> tuple[str, str, str, str, str]:
    return failure.stage, failure.plugin, failure.type, failure.message, failure.traceback


def ask(stages: Stages, image: Image, trace: Trace, asked: LaneAnswers | None = None) -> list[Prompt] | None:
    """The prompts of an image, None if no source knows it.

    Args:
        stages: with `prompts` and `combine`.
        image: the image.
        trace: receives seconds, notes and the story.
        asked: what the lane brought.

    Raises:
        StepError: a source failed, here or in the lane.
    """
    if asked is not None:
        for name, notes in asked.notes.items():
            trace.notes.setdefault(name, {}).update(notes)
        if asked.failure is not None:
            raise StepError(asked.failure)
        if asked.sha256 and asked.sha256 != image.sha256:
            raise StepError(Failure("read", "", ImageError.__name__, "the image file changed while it was in work"))
    answers = answers_of(stages, image, trace, {} if asked is None else asked.answers)
    found: list[Prompt] | None = None
    for index in sorted(answers):
        name, answer = stages.prompts[index][0], answers[index]
        if answer is None:
            continue
        trace.story(f"{image.ref.key}: {len(answer)} prompts from {name}")
        found = (found or []) + [prompt if prompt.source else replace(prompt, source=name) for prompt in answer]
        if stages.combine == "first":
            break
    return found


def answers_of(stages: Stages, image: Image, trace: Trace, known: Answers, ahead: bool = False) -> Answers:
    """Ask the sources that have to be asked.

    Args:
        stages: with `prompts` and `combine`.
        image: the image.
        trace: receives seconds and notes.
        known: answers that are there already.
        ahead: only what has to happen in the lane: the sources that wait, and, where the
            first answer counts, those that come before one that waits.
    """
    answers = dict(known)
    waiting = [index for index, (_, source) in enumerate(stages.prompts) if source.waits]
    for index, (name, source) in enumerate(stages.prompts):
        if ahead and (index > waiting[-1] if stages.combine == "first" else index not in waiting):
            continue
        if index not in answers:
            answers[index] = trace.step("prompts", name, partial(_answer, source, image), image.sha256)
        if stages.combine == "first" and answers[index] is not None:
            break
    return answers


def _answer(source: PromptSource, image: Image) -> list[Prompt] | None:
    answer = source.prompts(image)
    return None if answer is None else several(Prompt, lambda: answer)
