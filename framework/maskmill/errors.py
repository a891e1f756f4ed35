"""Every error maskmill raises on purpose, in one tree.

::

    MaskmillError
    ├── UsageError            the run cannot start; exit code 2
    │   ├── PipelineError     the pipeline file, an option or a prompts file is wrong
    │   ├── PluginError       a plugin cannot be found, loaded or registered
    │   ├── DatasetError      the images cannot be listed
    │   └── OutputError       the output folder cannot be used
    │       └── OutputInUseError  another process is working in it; exit code 75
    ├── ImageError            only this image fails
    │   ├── ImageReadError    unreadable, truncated, too large, or not an image
    │   ├── PromptError       a prompt that is invalid for this image
    │   └── RejectedError     a person decided that the image must not be used: no failure
    ├── Transient             a temporary error: the image is retried after a pause
    └── StopRun               no image can succeed now: the run stops, and can be resumed

A plugin raises `ImageError` if only this image is affected, `Transient` for a temporary error, and
`StopRun` for a bad key or a spent budget. Any other exception fails its image and is recorded with
its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar


class MaskmillError(Exception):
    """Base of every error raised on purpose; its text is meant for the user."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong, where it is, and what to do about it.

    Attributes:
        message: what is wrong and what was expected, one sentence.
        file: the file that contains it, as the user wrote its name; "" if there is none.
        line: 1-based line, 0 when unknown.
        column: 1-based column, 0 when unknown.
        hint: what to do, or "".
        warning: True if the run can start anyway.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    hint: str = ""
    warning: bool = False

    @property
    def where(self) -> str:
        """`file:line:column`, as far as known."""
        numbers = [str(n) for n in (self.line, self.column) if n]
        return ":".join([self.file, *numbers]) if self.file else ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.file else self.message
        if self.warning:
            text = f"warning: {text}"
        return f"{text}\n  {self.hint}" if self.hint else text


class UsageError(MaskmillError):
    """The command cannot run as requested; exit code 2.

    Raised with a text, or with all problems found.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, *problems: Problem | str) -> None:
        self.problems: Sequence[Problem] = tuple(
            problem if isinstance(problem, Problem) else Problem(problem) for problem in problems
        )
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class PipelineError(UsageError):
    """The pipeline file, one of its options, or a file that it names is wrong."""


class PluginError(UsageError):
    """A plugin cannot be found, loaded or registered."""


class DatasetError(UsageError):
    """The images of the dataset cannot be listed."""


class OutputError(UsageError):
    """The output folder cannot be used for this run."""


class OutputInUseError(OutputError):
    """Another process is working in the output folder; the same command may succeed later. Exit code 75."""

    exit_code: ClassVar[int] = 75  # EX_TEMPFAIL of sysexits.h


class ImageError(MaskmillError):
    """This image fails; the run continues with the others."""


class ImageReadError(ImageError):
    """The file is unreadable, truncated, larger than allowed, or not an image."""


class PromptError(ImageError):
    """A prompt is invalid, for example a box outside the image."""


class RejectedError(ImageError):
    """A person rejected the image: it is left out, which is no failure, and is not tried again."""


class Transient(MaskmillError):  # noqa: N818 - a condition, not a mistake
    """A temporary error: the image is retried after a pause."""


class StopRun(MaskmillError):  # noqa: N818 - a request, not a mistake
    """No image can succeed now (bad key, unpaid account, spent budget): the run stops and can be resumed."""


def nearest_names(name: str, known: Iterable[str], most: int = 3, cutoff: float = 0.6) -> list[str]:
    """The known names most similar to a name, best first; names or paths with the same last part come first.

    Args:
        name: as the user wrote it; case, `-` or `_`, and the direction of slashes are ignored.
        known: read one by one, there may be a million.
        most: how many to return.
        cutoff: the least similarity, 0 to 1, as of `difflib`.
    """
    return [other for _, other in _rank_names(name, known, most, cutoff)]


def nearest_name(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most similar to a name; None if none is similar, or two are equally so."""
    ranked = _rank_names(name, known, 2, cutoff)
    is_tied = len(ranked) == 2 and ranked[0][0] == ranked[1][0]
    return ranked[0][1] if ranked and not is_tied else None


def suggest_name(name: str, known: Sequence[str]) -> str:
    """A hint for an unknown name: the nearest of the known ones, or all of them."""
    close = nearest_name(name, known)
    return f"did you mean {close!r}?" if close else f"available: {', '.join(known)}"


def _rank_names(name: str, known: Iterable[str], most: int, cutoff: float) -> list[tuple[float, str]]:
    wanted = _fold(name)
    matcher = difflib.SequenceMatcher(b=wanted)  # caches what it computes about `b`, so the known names go into `a`
    best: list[tuple[float, str]] = []
    for other in known:
        folded = _fold(other)
        matcher.set_seq1(folded)
        bonus = float(folded.rpartition("/")[2] == wanted.rpartition("/")[2])
        least = best[-1][0] if len(best) == most else cutoff
        if min(matcher.real_quick_ratio(), matcher.quick_ratio()) + bonus < least:
            continue
        if (score := matcher.ratio() + bonus) >= least:
            best = sorted([*best, (score, other)], key=lambda item: (-item[0], item[1]))[:most]
    return best


def _fold(name: str) -> str:
    return name.lower().replace("-", "_").replace("\\", "/")
