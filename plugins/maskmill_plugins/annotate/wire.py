"""What the annotation page and the server say to each other, beside version 1 of the HTTP interface."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from maskmill_plugins._shared.http.wire import ID_PATTERN, Answer, ModelInfo, PromptModel, Wire

from .prompts_file import Status

#: Prompts of an image that are kept; files made elsewhere may hold many.
MOST_KEPT = 4096
Side = Annotated[int, Field(ge=1, le=10_000_000)]


class Session(Answer):
    """What is being annotated, and with what.

    Attributes:
        name: of the dataset.
        count: its images.
        prompts_file: the name of the file that is written.
        labels: named at the start, then those in the file.
        model: as `GET /v1/model`; None until it is loaded.
        state: of the model: loading, ready, failed or closed.
        reviewer: who annotates, unless the page says otherwise.
        version: of maskmill.
    """

    name: str
    count: int
    prompts_file: str
    labels: list[str]
    model: ModelInfo | None
    state: str
    reviewer: str
    version: str


class Item(Answer):
    """A line of the image list: its key, number in the dataset, status, number of prompts."""

    key: str
    index: int
    status: str
    objects: int


class Items(Answer):
    """Part of the image list: how many fit, how many there are by status, and the part asked for."""

    total: int
    counts: dict[str, int]
    items: list[Item]


class EntryModel(Answer):
    """What the prompts file says of an image; `todo` without prompts where it says nothing."""

    status: Status
    prompts: list[dict[str, object]]
    reviewer: str | None = None


class Preview(Answer):
    """Size of the usual preview."""

    width: int
    height: int


class Neighbours(Answer):
    """Keys of the images before and after one, None at the ends."""

    previous: str | None
    next: str | None


class ImageModel(Answer):
    """An image to annotate.

    Attributes:
        key: in the dataset; None for one that was dropped onto the page.
        index: its number in the dataset.
        id: under which masks are asked for.
        size: (height, width) in pixels, to which all coordinates refer.
        sha256: of its file.
        preview: size of the usual preview.
        entry: what the prompts file says.
        revision: to be given when saving.
        previous: key of the image before, if any.
        next: key of the image after, if any.
        changed: the prompts were made on another version of the picture.
        model: digest of what computes the masks; None while it loads.
        name: of a file that was dropped onto the page.
    """

    key: str | None
    index: int | None
    id: str
    size: tuple[int, int]
    sha256: str
    preview: Preview
    entry: EntryModel
    revision: str
    previous: str | None
    next: str | None
    changed: bool = False
    model: str | None = None
    name: str | None = None


class Seen(Wire):
    """The picture that was drawn on: SHA-256 of its file, (height, width) in pixels."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: list[Side] = Field(min_length=2, max_length=2)


class EntryRequest(Wire):
    """Body of `PUT /v1/annotate/entry`: what is to be kept of an image, and the revision that it replaces.

    `seen` is the picture that the prompts were drawn on; the file as it is now, if left out.
    """

    revision: str = Field(max_length=100)
    seen: Seen | None = None
    status: Status
    prompts: list[PromptModel] = Field(max_length=MOST_KEPT)
    reviewer: str | None = Field(None, max_length=200)


class Saved(Answer):
    """What is on disk now; `changed`: the picture is not any more the one that was drawn on."""

    revision: str
    entry: EntryModel
    changed: bool = False


class Wanted(Wire):
    """Body of `POST /v1/annotate/prefetch`: images to make ready, the next one first."""

    keys: list[str] = Field(max_length=100)


class Accepted(Answer):
    """How many of the images are made ready."""

    accepted: int


Format = Literal["mask", "cutout", "coco"]


class ResultRequest(Wire):
    """Body of `POST /v1/annotate/result`: prompts for an image that is not of the dataset."""

    id: str = Field(pattern=ID_PATTERN)
    name: str = Field("image", max_length=255)
    prompts: list[PromptModel] = Field(max_length=MOST_KEPT)
