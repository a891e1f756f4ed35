"""Querying the prompt sources about one image: in order until one answers, or all of them.

Sources that wait on a network are queried ahead, in the process of the prompt lane (`run/prompt_lane.py`);
their answers arrive with the image as plain data and are not queried again here.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from ..errors import ImageError
from ..images import Image
from ..plugins.messages import Answers, LaneAnswers
from ..plugins.roles import PromptSource, Stages
from ..prompts import Prompt
from ..results import Failure
from ..wording import count_noun
from .contract import call_for_prompts
from .plugin_call import StepError, Trace


def find_prompts(stages: Stages, image: Image, trace: Trace, ahead: LaneAnswers | None = None) -> list[Prompt] | None:
    """The prompts of an image, None if no source has any.

    Args:
        stages: with `prompts` and `combine`.
        image: the image.
        trace: receives seconds, notes and lines.
        ahead: what the prompt lane found.

    Raises:
        StepError: a source failed, here or in the lane.
    """
    if ahead is not None:
        for name, notes in ahead.notes.items():
            trace.notes.setdefault(name, {}).update(notes)
        for doubt in ahead.doubts:
            trace.add_doubt(doubt)
        if ahead.failure is not None:
            raise StepError(ahead.failure)
        if ahead.sha256 and ahead.sha256 != image.sha256:
            raise StepError(Failure("read", "", ImageError.__name__, "the image file changed during processing"))
    answers = query_sources(stages, image, trace, {} if ahead is None else ahead.answers)
    found: list[Prompt] | None = None
    for index in sorted(answers):
        name, answer = stages.prompts[index][0], answers[index]
        if answer is None:
            continue
        trace.story(f"{image.ref.key}: {count_noun(len(answer), 'prompt')} from {name}")
        found = (found or []) + [prompt if prompt.source else replace(prompt, source=name) for prompt in answer]
        if stages.combine == "first":
            break
    return found


def query_sources(stages: Stages, image: Image, trace: Trace, known: Answers, ahead: bool = False) -> Answers:
    """The answers of the sources that are needed.

    Args:
        stages: with `prompts` and `combine`.
        image: the image.
        trace: receives seconds and notes.
        known: answers that are there already.
        ahead: only what the lane has to do: the sources that wait, and, where the first answer
            counts, those that come before one that waits.
    """
    answers = dict(known)
    in_lane = stages.list_ahead()
    for index, (name, source) in enumerate(stages.prompts):
        if ahead and index not in in_lane:
            continue
        if index not in answers:
            answers[index] = trace.step("prompts", name, partial(_query, source, image), image.sha256)
        if stages.combine == "first" and answers[index] is not None:
            break
    return answers


def _query(source: PromptSource, image: Image) -> list[Prompt] | None:
    answer = source.prompts(image)
    return None if answer is None else call_for_prompts(lambda: answer)
