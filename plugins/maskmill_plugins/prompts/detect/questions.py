"""What a detector is asked for each label, cut into as many passes as its text encoder needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from maskmill import PipelineError, Problem


def read_classes(find: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Each label with what the model is asked for, white space put right."""
    pairs = find.items() if isinstance(find, Mapping) else ((label, label) for label in find)
    return {label: " ".join(question.split()) for label, question in pairs}


def check_classes(find: Sequence[str] | Mapping[str, str]) -> list[Problem]:
    """Labels that are empty or occur twice, and questions without a word."""
    labels = list(find)
    problems = [Problem(f"find: {label!r} occurs twice") for label in dict.fromkeys(labels) if labels.count(label) > 1]
    for label, question in read_classes(find).items():
        if not label.strip():
            problems.append(Problem("find: a label is empty"))
        elif not any(sign.isalnum() for sign in question):
            hint = "write what to look for: {" + label + ": ...}"
            problems.append(Problem(f"find: there is no word to look for in {question!r}", hint=hint))
    return problems


def split_passes(lengths: Mapping[str, int], room: int) -> list[list[str]]:
    """The labels in as few consecutive passes as have room for their texts.

    Args:
        lengths: tokens of each label's question, with what separates it from the next one.
        room: tokens of one pass.

    Raises:
        PipelineError: a question does not fit even alone.
    """
    passes: list[list[str]] = []
    used = room + 1
    for label, length in lengths.items():
        if length > room:
            raise PipelineError(describe_too_long(label, length, room))
        if used + length > room:
            passes.append([])
            used = 0
        passes[-1].append(label)
        used += length
    return passes


def describe_too_long(label: str, length: int, room: int) -> Problem:
    """The problem of a question that has more tokens than the model takes."""
    text = f"find: what is asked for {label!r} is too long: {length} tokens, and this model takes {room}"
    return Problem(text, hint="use fewer words")


def check_known(labels: Sequence[str], count_unknown: Callable[[str], tuple[int, int]]) -> None:
    """Refuse questions that have no token which the model knows, such as one in a script that it was not trained on.

    Args:
        labels: to look at.
        count_unknown: (unknown tokens, all tokens) of a label's question.

    Raises:
        PipelineError: names these labels.
    """
    unknown = [label for label in labels if (counts := count_unknown(label))[0] == counts[1]]
    if unknown:
        text = f"find: the model's vocabulary has no word of {', '.join(map(repr, unknown))}"
        hint = f"ask in English, and keep your label: find: {{{unknown[0]}: what to look for}}"
        raise PipelineError(Problem(text, hint=hint))
