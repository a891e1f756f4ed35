"""Messages between the annotation page and the server, in addition to version 1 of the HTTP interface."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from maskmill_plugins._shared.http.wire import (
    ID_PATTERN,
    MaskModel,
    ModelInfo,
    PromptModel,
    ResponseModel,
    WireModel,
)

from .prompts_file import Status

#: Prompts of one image; files made elsewhere may have many.
MOST_KEPT = 4096
Side = Annotated[int, Field(ge=1, le=10_000_000)]


class SessionInfo(ResponseModel):
    """The dataset being annotated, and the model.

    Attributes:
        name: of the dataset.
        count: number of images.
        prompts_file: name of the file in which prompts are saved.
        labels: those given at the start, then those in the file.
        model: as from `GET /v1/model`; None until it is loaded.
        state: of the model: loading, ready, failed or closed.
        reviewer: who annotates, unless the page sends another name.
        filters: names of the pipeline's filters, to be asked for what they make of the masks.
        version: of maskmill.
    """

    name: str
    count: int
    prompts_file: str
    filters: list[str]
    labels: list[str]
    model: ModelInfo | None
    state: str
    reviewer: str
    version: str


class ImageListEntry(ResponseModel):
    """An entry of the image list: key, number in the dataset, status, number of prompts."""

    key: str
    index: int
    status: str
    objects: int


class ImageListPage(ResponseModel):
    """Part of the image list.

    Attributes:
        total: number of matching images.
        counts: number of all images, by status.
        items: the requested part.
    """

    total: int
    counts: dict[str, int]
    items: list[ImageListEntry]


class EntryModel(ResponseModel):
    """The entry of an image in the prompts file; `todo` without prompts if there is none."""

    status: Status
    prompts: list[dict[str, object]]
    reviewer: str | None = None


class PreviewSize(ResponseModel):
    """Size of the usual preview in pixels."""

    width: int
    height: int


class Neighbours(ResponseModel):
    """Keys of the images before and after one; None at the ends."""

    previous: str | None
    next: str | None


class ImageModel(ResponseModel):
    """An image to annotate.

    Attributes:
        key: in the dataset; None for one dropped onto the page.
        index: its number in the dataset.
        id: for requests for masks.
        size: (height, width) in pixels; all coordinates refer to it.
        sha256: of its file.
        preview: size of the usual preview.
        entry: from the prompts file.
        revision: to be sent when saving.
        previous: key of the image before, if any.
        next: key of the image after, if any.
        changed: the prompts were drawn on another version of the image.
        model: digest of the model; None while it loads.
        name: of a file dropped onto the page.
    """

    key: str | None
    index: int | None
    id: str
    size: tuple[int, int]
    sha256: str
    preview: PreviewSize
    entry: EntryModel
    revision: str
    previous: str | None
    next: str | None
    changed: bool = False
    model: str | None = None
    name: str | None = None


class ImageVersion(WireModel):
    """A version of an image: SHA-256 of its file, (height, width) in pixels."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: list[Side] = Field(min_length=2, max_length=2)


class StoredPrompt(PromptModel):
    """A prompt as the prompts file has it: its mask may be known already."""

    mask: dict[str, Any] | None = None


class EntryRequest(WireModel):
    """Body of `PUT /v1/annotate/entry`: the prompts to save, and the revision that they replace.

    `seen` is the version that the prompts were drawn on; the current file by default.
    """

    revision: str = Field(max_length=100)
    seen: ImageVersion | None = None
    status: Status
    prompts: list[StoredPrompt] = Field(max_length=MOST_KEPT)
    reviewer: str | None = Field(None, max_length=200)


class SaveReply(ResponseModel):
    """The saved entry; `changed`: the image is no longer the version that was drawn on."""

    revision: str
    entry: EntryModel
    changed: bool = False


class PrefetchRequest(WireModel):
    """Body of `POST /v1/annotate/prefetch`: images to prepare, the next one first."""

    keys: list[str] = Field(max_length=100)


class PrefetchReply(ResponseModel):
    """How many of the images will be prepared."""

    accepted: int


FileFormat = Literal["mask", "cutout", "coco"]


class ResultRequest(WireModel):
    """Body of `POST /v1/annotate/result`: prompts for an image outside the dataset."""

    id: str = Field(pattern=ID_PATTERN)
    name: str = Field("image", max_length=255)
    prompts: list[StoredPrompt] = Field(max_length=MOST_KEPT)


class LabelCount(ResponseModel):
    """A label, the number of its objects, and the number of images that have some."""

    label: str
    objects: int
    images: int


class LabelList(ResponseModel):
    """The labels given at the start, then those in the prompts file."""

    labels: list[LabelCount]


class RenameRequest(WireModel):
    """Body of `POST /v1/annotate/labels/rename`; `merge` allows a name that another label has."""

    label: str = Field(max_length=2000)
    new: str = Field(max_length=200)
    merge: bool = False


class RenamedLabel(ResponseModel):
    """How many objects in how many images were renamed."""

    objects: int
    images: int


class UndoneRenaming(ResponseModel):
    """In how many images the label has its old name again, and how many were left because they were saved since."""

    images: int
    left: int


class SentMask(WireModel):
    """A mask as `POST /v1/images/{id}/masks` gave it."""

    prompt: Annotated[int, Field(ge=0)]
    counts: str
    score: float | None = Field(None, allow_inf_nan=False)
    stability: float | None = Field(None, allow_inf_nan=False)


class FilterRequest(WireModel):
    """Body of `POST /v1/annotate/filters`: all masks of an image, and the prompts that they answer.

    `key` is that of the image in the dataset, if it is in it.
    """

    id: str = Field(pattern=ID_PATTERN)
    key: str | None = Field(None, max_length=4096)
    prompts: list[StoredPrompt] = Field(max_length=MOST_KEPT)
    masks: list[SentMask] = Field(max_length=MOST_KEPT)


class FilteredMask(ResponseModel):
    """What the filters made of a mask.

    Attributes:
        dropped_by: the filter that drops it, None if it is kept.
        reason: why, in words.
        label: afterwards.
        mask: afterwards, None if its pixels did not change.
    """

    dropped_by: str | None = None
    reason: str | None = None
    label: str | None = None
    mask: MaskModel | None = None


class FilterReply(ResponseModel):
    """The masks in the order of the request; without any, `problem` says which filter failed and why."""

    masks: list[FilteredMask]
    problem: str | None = None
