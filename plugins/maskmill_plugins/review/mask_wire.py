"""Messages about masks that a reviewer mends: prompts for the model, its answers, and what is saved."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from maskmill_plugins._shared.http.wire import MOST_POINTS, Finite, ResponseModel, WireModel

#: Letters of the run lengths of one mask.
MOST_COUNTS = 50_000_000
Name = Annotated[str, Field(max_length=200)]
PointModel = Annotated[list[Finite], Field(min_length=3, max_length=3)]
BoxModel = Annotated[list[Finite], Field(min_length=4, max_length=4)]


class PromptRequest(WireModel):
    """Body of `POST /v1/review/mask`: what the model is asked, in pixels of the image."""

    points: list[PointModel] = Field([], max_length=MOST_POINTS)
    box: BoxModel | None = None


class ProposedMask(ResponseModel):
    """The model's mask: COCO's compressed run lengths, its scores, the tight box, the number of pixels."""

    counts: str
    score: float | None
    stability: float | None
    box: tuple[float, float, float, float] | None
    area: int


class ProposalReply(ResponseModel):
    """The answer to a prompt.

    Attributes:
        state: of the model: "loading" (ask again), "ready", or "failed".
        reason: why there is no mask; "" if the model is loading, or found nothing.
        mask: None if there is none.
    """

    state: Literal["loading", "ready", "failed"]
    reason: str = ""
    mask: ProposedMask | None = None


class EditedMask(PromptRequest):
    """Pixels that the reviewer painted, or that the model made anew.

    Attributes:
        size: (height, width) in pixels of the image.
        counts: COCO's compressed run lengths.
        area: number of pixels, which must be that of the run lengths.
        score: the model's; None if a person painted the mask.
        stability: as `score`.
        points: of the prompt that the model answered, with `box`; neither if there was none.
    """

    size: list[int] = Field(min_length=2, max_length=2)
    counts: str = Field(max_length=MOST_COUNTS)
    area: int = Field(ge=1)
    score: float | None = Field(None, allow_inf_nan=False)
    stability: float | None = Field(None, allow_inf_nan=False)


class EditedObject(WireModel):
    """An object that the result is to have, its label, and its pixels if they are other ones.

    The id of an object that the image did not have begins with `n`.
    """

    id: Name
    label: str | None = Field(None, max_length=1000)
    mask: EditedMask | None = None
