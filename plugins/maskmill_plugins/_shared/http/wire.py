"""What `maskmill serve` and the backend `remote` say to each other: version 1 of the HTTP interface.

Numbers travel as JSON with all their digits, masks as COCO run-length encoding: what comes
out on the other side is equal, bit for bit, to what a backend made here. A prompt is what
`Prompt.to_json` gives; a mask names the prompt it answers by number, so that the caller puts
its own prompt back. An error is a `Problem`, by RFC 9457, told apart by its `type`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from maskmill import Mask, Prompt

#: Environment variable of the bearer token, on both sides.
TOKEN_VARIABLE = "MASKMILL_TOKEN"  # noqa: S105 - a name, not a secret
PROBLEM_TYPE = "application/problem+json"
URN = "urn:maskmill:problem:"
MOST_PROMPTS = 256
MOST_POINTS = 64
#: Bytes of a request for masks: 256 prompts of 64 points with every digit fit.
MOST_REQUEST = 4_000_000
ID_PATTERN = r"^sha256-[0-9a-f]{64}$"

#: What goes wrong, by the last part of `Problem.type`, with its HTTP status. 422: the request has a wrong form;
#: 409: its form is right, but it does not go together with this image or this model.
PROBLEMS: Mapping[str, int] = {
    "invalid-request": 422,
    "unreadable-image": 422,
    "unsuitable-prompt": 409,
    "unsupported-prompt": 409,
    "unauthorized": 401,
    "forbidden": 403,
    "not-found": 404,
    "unknown-image": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "upload-timeout": 408,
    "too-large": 413,
    "unsupported-media-type": 415,
    "too-busy": 429,
    "image-failed": 409,
    "conflict": 409,
    "internal-error": 500,
    "loading": 503,
    "draining": 503,
    "out-of-memory": 503,
    "deadline-exceeded": 504,
    "not-saved": 507,
}

Finite = Annotated[float, Field(allow_inf_nan=False)]
#: JSON knows one kind of number: 1.0 is a whole one.
Whole = Annotated[int, BeforeValidator(lambda value: int(value) if _is_whole(value) else value)]
Multimask = Literal["auto", "all", "off"]
MaskFormat = Literal["coco_rle", "png"]


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


def image_id(sha256: str) -> str:
    """The id of an image whose file has this SHA-256, hexadecimal."""
    return f"sha256-{sha256}"


def token_fault(token: str) -> str:
    """What is wrong with a bearer token, which travels in a header; "" if nothing is."""
    if not token.isascii() or any(letter.isspace() or not letter.isprintable() for letter in token):
        return "made of ASCII letters, digits and signs, without spaces"
    return ""


class Wire(BaseModel):
    """Base of all that travels; unknown fields are refused where a request has them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class Answer(Wire):
    """Base of what a server says; a client passes over fields that it does not know yet."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class GridModel(Wire):
    """Everything mode: the parameters of `SamAutomaticMaskGenerator`, bounded in the work they ask for."""

    points_per_side: Whole = Field(32, ge=1, le=128)
    pred_iou_thresh: Finite = 0.88
    stability_score_thresh: Finite = 0.95
    stability_score_offset: Finite = 1.0
    box_nms_thresh: Finite = 0.7
    crop_n_layers: Whole = Field(0, ge=0, le=3)
    crop_nms_thresh: Finite = 0.7
    crop_overlap_ratio: Finite = Field(512 / 1500, ge=0, lt=1)
    crop_n_points_downscale_factor: Whole = Field(1, ge=1, le=128)
    min_mask_region_area: Whole = Field(0, ge=0, le=2**31)


class PromptModel(Wire):
    """What to segment, in pixels of the upright image: points and/or a box, or a text, or a grid."""

    points: list[Annotated[list[Finite], Field(min_length=2, max_length=3)]] | None = Field(
        None, max_length=MOST_POINTS, description="[x, y, label] each: label 1 on the object, 0 off it; [x, y] is on it"
    )
    box: Annotated[list[Finite], Field(min_length=4, max_length=4)] | None = Field(
        None, description="[x1, y1, x2, y2] with x1 < x2 and y1 < y2"
    )
    text: str | None = Field(None, min_length=1, max_length=2000)
    grid: GridModel | None = Field(None, description="everything mode")
    label: str | None = Field(None, max_length=2000, description="the class name; the server makes no use of it")
    source: str | None = Field(None, max_length=2000, description="where it comes from; no use is made of it")
    score: Finite | None = Field(None, description="the caller's confidence; no use is made of it")
    ref: str | None = Field(None, max_length=2000, description="the caller's id for it; no use is made of it")
    pick: Literal[0, 1, 2] | None = Field(None, description="which of the model's three candidate masks answers it")

    def prompt(self) -> Prompt:
        """The prompt.

        Raises:
            PromptError: it is not exactly one of points and/or box, text, grid; or a box has no area.
        """
        return Prompt.from_json(self.model_dump(exclude_none=True))


class MasksRequest(Wire):
    """Body of `POST /v1/images/{id}/masks`."""

    prompts: list[PromptModel] = Field(min_length=1, max_length=MOST_PROMPTS)
    multimask: Multimask | None = Field(
        None, description="instead of the option of this name of the server's backend, where it has one"
    )
    format: MaskFormat = "coco_rle"
    timeout: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="seconds that the caller waits; the server's own limit holds too"
    )


class MaskModel(Answer):
    """One mask, of the size of the image.

    Attributes:
        prompt: the number of the prompt it answers, from 0.
        size: (height, width) in pixels.
        counts: COCO compressed run-length counts, in the format `coco_rle`.
        png: base64 of a grey PNG, 255 on the object and 0 off it, in the format `png`.
        score: predicted IoU, None if the backend gives none.
        stability: stability score, None if the backend gives none.
        box: tight box [x1, y1, x2, y2], None if the mask is empty.
        area: pixels.
    """

    prompt: int = Field(ge=0)
    size: tuple[int, int]
    counts: str | None = None
    png: str | None = None
    score: float | None = None
    stability: float | None = None
    box: tuple[float, float, float, float] | None = None
    area: int | None = None

    def mask(self, prompts: Sequence[Prompt]) -> Mask:
        """The mask as the backend made it, with the caller's own prompt.

        Raises:
            ValueError: it came as PNG, or names a prompt that was not asked.
        """
        if self.counts is None or self.prompt >= len(prompts):
            raise ValueError("a mask without counts, or for a prompt that was not asked")
        return Mask(self.size, self.counts, self.score, self.stability, prompts[self.prompt])


class MasksReply(Answer):
    """Answer to a request for masks.

    Attributes:
        masks: in the backend's order.
        seconds: {"queue", "embed", "masks"}: what the server took; "embed" 0.0 if the embedding was there.
    """

    masks: list[MaskModel]
    seconds: dict[str, float] = Field(default_factory=dict)


class ImageInfo(Answer):
    """Answer to an upload.

    Attributes:
        id: `sha256-` and the SHA-256 of the file's bytes, computed by the server.
        height: rows of pixels, upright.
        width: columns of pixels, upright.
    """

    id: str = Field(pattern=ID_PATTERN)
    height: int
    width: int


class Limits(Answer):
    """What the server takes.

    Attributes:
        prompts: in one request.
        points: in one prompt.
        image_bytes: of an uploaded file.
        image_pixels: of an image.
        wait_seconds: in the queue; beyond it the answer is 429.
        deadline_seconds: from the request to its answer; beyond it the answer is 504.
    """

    prompts: int = MOST_PROMPTS
    points: int = MOST_POINTS
    image_bytes: int
    image_pixels: int
    wait_seconds: float
    deadline_seconds: float


class ModelInfo(Answer):
    """Answer to `GET /v1/model`.

    Attributes:
        backend: the plugin's name, such as `sam`.
        name: the model in words, such as `sam vit_b`.
        model_id: what computes; of `sam` the SHA-256 of the checkpoint.
        digest: 16 hexadecimal digits of the backend's class, version and all options that decide its masks.
        accepts: kinds of prompt, of "points", "box", "text", "everything".
        multimask: values that a request may have for `multimask`; empty if the backend has no such option.
        limits: what the server takes.
        versions: of maskmill and of the packages that compute.
        threads: of the processor that one job uses; masks are equal bit for bit at equal numbers.
    """

    backend: str
    name: str
    model_id: str
    digest: str
    accepts: list[str]
    multimask: list[Multimask] = Field(default_factory=list)
    limits: Limits
    versions: dict[str, str] = Field(default_factory=dict)
    threads: int | None = None


class ProblemModel(Answer):
    """An error, by RFC 9457, as `application/problem+json`.

    Attributes:
        type: `urn:maskmill:problem:` and a key of `PROBLEMS`; stable.
        title: its kind in words.
        status: the HTTP status.
        detail: what is wrong here and what to do.
        errors: where in the request, for `invalid-request`.
    """

    type: str
    title: str = ""
    status: int
    detail: str = ""
    errors: list[dict[str, Any]] | None = None

    @property
    def kind(self) -> str:
        """The last part of `type`, a key of `PROBLEMS`."""
        return self.type.removeprefix(URN)
