"""Messages between the review page and the server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from maskmill.corrections import Verdict
from maskmill_plugins._shared.http.wire import ResponseModel, WireModel

from .mask_wire import EditedObject, Name

#: Objects of one image.
MOST_OBJECTS = 4096
Key = Annotated[str, Field(max_length=4096)]
Digest = Annotated[str, Field(max_length=100)]
State = Literal["", "open", "unseen", "older", "disputed", "question", "accepted", "fixed", "rejected"]
RunStatus = Literal["", "done", "empty", "rejected", "failed"]


class ReviewInfo(ResponseModel):
    """The run being reviewed.

    Attributes:
        name: of the run.
        count: images that can be reviewed.
        pending: images whose results have not been read yet, so that their place in the queue is not known.
        counts: images by state.
        corrections: name of the file of decisions.
        labels: of all objects, the most frequent first, then those of the file.
        reviewer: who reviews, unless the page sends another name.
        ask: whether the page asks for the name.
        notice: what the user has to do so that runs respect the decisions; "" if nothing.
        version: of maskmill.
    """

    name: str
    count: int
    pending: int
    counts: dict[str, int]
    corrections: str
    labels: list[str]
    reviewer: str
    ask: bool
    notice: str
    version: str


class QueueItem(ResponseModel):
    """An image of the queue.

    Attributes:
        key: the image.
        state: what became of it.
        status: of its result.
        doubt: 0 to 1, None if its result has not been read yet.
        why: the reason of the doubt.
        figure: the number behind the reason.
        objects: number of kept masks.
        dropped: number of dropped masks.
        reviewer: who decided last.
        open_by: who has it open on another page.
    """

    key: str
    state: str
    status: str
    doubt: float | None
    why: str
    figure: float | None
    objects: int
    dropped: int
    reviewer: str
    open_by: str | None


class QueuePage(ResponseModel):
    """Part of the queue: the number of matching images, that of all images by state, and the requested part."""

    total: int
    pending: int
    counts: dict[str, int]
    items: list[QueueItem]


class ReviewObject(ResponseModel):
    """An object of an image.

    Attributes:
        id: in requests about this image.
        label: None if it has none.
        score: as the backend gave it.
        kept: whether it is part of the result.
        reason: for one that is not, why.
        size: (height, width) in pixels of the image.
        counts: COCO's compressed run lengths.
        box: around its pixels, None if it has none.
        area: number of its pixels.
        points: of its prompt, [x, y, label] each.
        drawn: the box of its prompt, None if it has none.
    """

    id: str
    label: str | None
    score: float | None
    kept: bool
    reason: str
    size: tuple[int, int]
    counts: str
    box: tuple[float, float, float, float] | None
    area: int
    points: list[tuple[float, float, int]]
    drawn: tuple[float, float, float, float] | None


class ReviewVersion(ResponseModel):
    """What one of two people who disagree made of an image; `revision` is to be sent to take it."""

    revision: str
    reviewer: str
    verdict: Verdict
    comment: str
    objects: list[ReviewObject]


class ReviewImage(ResponseModel):
    """An image to review.

    Attributes:
        item: its row in the queue.
        size: (height, width) in pixels; all coordinates refer to it.
        preview: (height, width) of the usual preview.
        result: digest of the stored result; to be sent with a decision.
        revision: of its line in the corrections file; to be sent with a decision.
        objects: kept ones, then the others.
        reason: of an empty or failed result.
        doubts: what the run itself reported.
        comment: of the last decision.
        time: of the last decision.
        versions: if two people disagree, what each of them made of it; else none.
    """

    item: QueueItem
    size: tuple[int, int]
    preview: tuple[int, int]
    result: str
    revision: str
    objects: list[ReviewObject]
    reason: str
    doubts: list[str]
    comment: str
    time: str
    versions: list[ReviewVersion]


class Filters(WireModel):
    """Which images; see `QueueFilter`."""

    search: str = Field("", max_length=1000)
    label: str | None = Field(None, max_length=1000)
    status: RunStatus = ""
    state: State = "open"
    dropped: bool = False
    sample: int = Field(0, ge=0, le=1_000_000)
    score: float | None = Field(None, ge=0, le=1)


class NextRequest(WireModel):
    """Body of `POST /v1/review/next`: the first image of the queue that is open on no other page.

    Attributes:
        holder: the page.
        reviewer: who asks.
        filters: which images.
        keep: images that this page goes on to have open; the answer is none of them. Its others are released.
        skip: images that the reviewer has passed over.
    """

    holder: Name
    reviewer: Name = ""
    filters: Filters = Filters()
    keep: list[Key] = Field([], max_length=10)
    skip: list[Key] = Field([], max_length=10_000)


class ReleaseRequest(WireModel):
    """Body of `POST /v1/review/release`: the page that is closed."""

    holder: Name


class NextReply(ResponseModel):
    """The image, None if none is left."""

    image: ReviewImage | None


class DecisionRequest(WireModel):
    """Body of `PUT /v1/review/decision`.

    Attributes:
        revision: of the line that this one replaces.
        result: digest of the stored result that was looked at.
        verdict: "accepted" also where objects were changed: the line then says "fixed".
        objects: as the reviewer leaves them.
        comment: why it is rejected, or what is asked.
        reviewer: who decided.
        seconds: how long it took.
        take: the revision of a version of `ReviewImage.versions` that is to count; the verdict, the objects and the
            comment are then those of that version.
    """

    revision: Digest
    result: Digest
    verdict: Literal["accepted", "rejected", "question"]
    objects: list[EditedObject] = Field(max_length=MOST_OBJECTS)
    comment: str = Field("", max_length=2000)
    reviewer: Name = ""
    seconds: float | None = Field(None, ge=0, le=1e7, allow_inf_nan=False)
    take: Digest = ""


class DecisionReply(ResponseModel):
    """What was saved: the verdict and the new revision."""

    verdict: Verdict
    revision: str
    item: QueueItem


class SheetCrop(ResponseModel):
    """An object on the contact sheet: its image, its number in the result, its score; `result` is to be sent back."""

    key: str
    index: int
    score: float | None
    result: str


class SheetPage(ResponseModel):
    """Objects of a label in images that nobody has decided about, the lowest score first; `left` is their number."""

    left: int
    items: list[SheetCrop]


class SheetObject(WireModel):
    """An object that was looked at on the contact sheet, and whether it is wrong."""

    key: Key
    index: int
    result: Digest
    wrong: bool = False


class SheetRequest(WireModel):
    """Body of `POST /v1/review/sheet`: what was looked at."""

    objects: list[SheetObject] = Field(max_length=200)
    reviewer: Name = ""


class SheetReply(ResponseModel):
    """How many images were accepted, how many have a question now, and how many wait for their other objects.

    `not_saved` are images that somebody else has decided about, or whose result has changed.
    """

    accepted: int
    questions: int
    waiting: int
    not_saved: list[str]
