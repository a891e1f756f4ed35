"""Why an image has no result, and why a result may be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .display import brief
from .errors import RejectedError, suggest_name

#: `Failure.type` of an image that a person rejected.
REJECTED = RejectedError.__name__
#: `Failure.type` of an image whose process ended.
ENDED = ("Timeout", "WorkerLost")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an image has no result.

    Attributes:
        stage: "read", "prompts", "backend", "filters", "writers" or "worker".
        plugin: the registered name of the plugin, "" for the framework itself.
        type: class name of the exception.
        message: its text, for the user.
        traceback: for the plugin's author; "" if it adds nothing.
    """

    stage: str
    plugin: str
    type: str
    message: str
    traceback: str = ""

    def __repr__(self) -> str:
        return f"<Failure in {self.plugin or self.stage}: {self.type}: {brief(self.message)}>"

    def __str__(self) -> str:
        """For the user: the step and its plugin, then `text`."""
        return f"{self.stage} {self.plugin}".rstrip() + f": {self.text}"

    @property
    def text(self) -> str:
        """The message, after the type of an exception that was not raised on purpose."""
        is_expected = not self.traceback or self.type in ENDED
        return self.message if is_expected else f"{self.type}: {self.message}"


#: What can be doubtful about a result although no step failed: code -> meaning. docs/results.md has the same table.
DOUBTS: Mapping[str, str] = {
    "truncated": "an answer was cut off; only the objects before the cut are there",
    "out_of_range": "coordinates outside the range that the model uses were left out",
    "incomplete": "a part of the prompts could not be used",
    "conflict": "two nearly equal boxes have different labels",
    "clipped": "a prompt reached beyond the image and was clipped to it",
    "too_small": "an object is smaller than a few pixels of the model's input",
    "low_range": "a picture of high bit depth uses a small part of its range, so that it looks nearly black or flat",
    "annotation_skipped": "an annotation of the image was left out because it is invalid",
    "other": "a plugin reported something else",
}


def require_doubt(code: str) -> str:
    """The code itself.

    Raises:
        ValueError: it is not a key of `DOUBTS`; suggests the nearest one.
    """
    if code not in DOUBTS:
        raise ValueError(f"unknown doubt code {code!r}; {suggest_name(code, list(DOUBTS))}")
    return code


#: `Failure.type` of an image that failed because of a doubt.
DOUBTFUL = "Doubtful"


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something about a result that may be wrong although no step failed.

    Attributes:
        code: a key of `DOUBTS`.
        message: what is doubtful, for the user.
        stage: "read", "prompts", "backend", "filters" or "writers".
        plugin: the registered name of the plugin, "" for the framework itself.
    """

    code: str
    message: str
    stage: str = ""
    plugin: str = ""

    def __post_init__(self) -> None:
        require_doubt(self.code)

    def __repr__(self) -> str:
        return f"<Doubt {self.code}: {brief(self.message)}>"
