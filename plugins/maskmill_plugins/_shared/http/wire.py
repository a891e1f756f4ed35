"""Messages between `maskmill serve` and the backend `remote`: version 1 of the HTTP interface.

Numbers are sent as JSON with all digits and masks as COCO run-length encoding, so that the
client gets masks bit for bit equal to those of a local backend. A prompt has the form of
`Prompt.to_json`; a mask refers to its prompt by number, and the client inserts its own prompt
object. An error is a problem document (RFC 9457), identified by its `type`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from maskmill import ImageError, Mask, Prompt
from maskmill.chain.contract import ANSWERED_ONE_BY_ONE, check_mask
from maskmill.wording import count_noun

#: Environment variable of the bearer token, on both sides.
TOKEN_VARIABLE = "MASKMILL_TOKEN"  # noqa: S105 - a name, not a secret
PROBLEM_TYPE = "application/problem+json"
URN = "urn:maskmill:problem:"
MOST_PROMPTS = 256
MOST_POINTS = 64
#: Bytes of a request for masks: 256 prompts of 64 points with every digit fit.
MOST_REQUEST = 4_000_000
ID_PATTERN = r"^sha256-[0-9a-f]{64}$"

#: Kinds of problem (the last part of `type`) and their HTTP status. 422: the request is malformed;
#: 409: it is well-formed, but does not fit this image or this model.
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
#: JSON has one number type: 1.0 is accepted as an integer.
Whole = Annotated[int, BeforeValidator(lambda value: int(value) if _is_whole(value) else value)]
Multimask = Literal["auto", "all", "off"]
MaskFormat = Literal["coco_rle", "png"]


def _is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


def image_id(sha256: str) -> str:
    """The id of an image whose file has this SHA-256, hexadecimal."""
    return f"sha256-{sha256}"


def token_fault(token: str) -> str:
    """Why a bearer token cannot be sent in a header; "" if it can."""
    if not token.isascii() or any(letter.isspace() or not letter.isprintable() for letter in token):
        return "not valid: use ASCII letters, digits and signs, without spaces"
    return ""


class WireModel(BaseModel):
    """Base of all messages; requests with unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class ResponseModel(WireModel):
    """Base of the server's responses; a client ignores fields of newer versions."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class GridModel(WireModel):
    """Everything mode: the parameters of `SamAutomaticMaskGenerator`, with limits on the amount of work."""

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


class PromptModel(WireModel):
    """What to segment, in pixels of the upright image: points and/or a box, or a text and/or exemplars, or a grid."""

    points: list[Annotated[list[Finite], Field(min_length=2, max_length=3)]] | None = Field(
        None, max_length=MOST_POINTS, description="[x, y, label] each: label 1 on the object, 0 off it; [x, y] is on it"
    )
    box: Annotated[list[Finite], Field(min_length=4, max_length=4)] | None = Field(
        None, description="[x1, y1, x2, y2] with x1 < x2 and y1 < y2"
    )
    text: str | None = Field(None, min_length=1, max_length=2000)
    exemplars: list[Annotated[list[Finite], Field(min_length=4, max_length=5)]] | None = Field(
        None,
        max_length=MOST_POINTS,
        description="[x1, y1, x2, y2, label] each: a box around an object of the kind (label 1) or of another (0)",
    )
    grid: GridModel | None = Field(None, description="everything mode")
    label: str | None = Field(None, max_length=2000, description="the class name; not used by the server")
    source: str | None = Field(None, max_length=2000, description="its origin; not used by the server")
    score: Finite | None = Field(None, description="the client's confidence; not used by the server")
    ref: str | None = Field(None, max_length=2000, description="the client's id for it; not used by the server")
    pick: Literal[0, 1, 2] | None = Field(None, description="which of the model's three candidate masks answers it")

    def to_prompt(self) -> Prompt:
        """The prompt as the core's class.

        Raises:
            PromptError: it is not exactly one of points and/or box, text and/or exemplars, grid; or a box has no area.
        """
        return Prompt.from_json(self.model_dump(exclude_none=True))


class MasksRequest(WireModel):
    """Body of `POST /v1/images/{id}/masks`."""

    prompts: list[PromptModel] = Field(min_length=1, max_length=MOST_PROMPTS)
    multimask: Multimask | None = Field(
        None, description="replaces the option of this name of the server's backend, if it has one"
    )
    format: MaskFormat = "coco_rle"
    timeout: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="seconds that the client waits; the server's own limit also applies",
    )


class MaskModel(ResponseModel):
    """One mask of the image's size.

    Attributes:
        prompt: the number of the prompt it answers, from 0.
        size: (height, width) in pixels.
        counts: COCO compressed run-length counts, in the format `coco_rle`.
        png: base64 of a grayscale PNG, 255 on the object and 0 off it, in the format `png`.
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

    def to_mask(self, prompts: Sequence[Prompt]) -> Mask:
        """The backend's mask with the client's own prompt.

        Raises:
            ValueError: it was sent as PNG, refers to a prompt that was not in the request, or is not valid.
        """
        if self.counts is None or self.prompt >= len(prompts):
            raise ValueError("a mask without counts, or for a prompt that was not in the request")
        try:
            return check_mask(Mask(self.size, self.counts, self.score, self.stability, prompts[self.prompt]), self.size)
        except ImageError as error:
            raise ValueError(str(error)) from None


class MasksReply(ResponseModel):
    """Response to a request for masks.

    Attributes:
        masks: in the backend's order.
        seconds: {"queue", "embed", "masks"}: the server's times; "embed" is 0.0 if the embedding was cached.
        image: the id of the image they are of; None from servers before it was added.
        prompts: how many prompts were answered, also those without a mask; None as above.
    """

    masks: list[MaskModel]
    seconds: dict[str, float] = Field(default_factory=dict)
    image: str | None = None
    prompts: int | None = None

    def find_doubt(self, image: str, prompts: Sequence[Prompt]) -> str:
        """Return why this cannot be the answer to a request, "" if it can.

        No mask for a text or a grid may mean that nothing is there, or that a part of the answer was lost: it is
        believed only from a server that says what it answers.

        Args:
            image: the id in the request.
            prompts: in the request.
        """
        if self.image not in (None, image):
            return f"the answer is about the image {self.image}, not {image}"
        if self.prompts not in (None, len(prompts)):
            return f"the answer is about {count_noun(self.prompts, 'prompt')}, not {len(prompts)}"
        answered = {mask.prompt for mask in self.masks}
        missing = [one for number, one in enumerate(prompts) if number not in answered]
        if None in (self.image, self.prompts) and any(not one.needs <= ANSWERED_ONE_BY_ONE for one in missing):
            return "no masks, and no word on which image and prompts they would be of (an older server, or a proxy?)"
        return ""


class ImageInfo(ResponseModel):
    """Response to an upload.

    Attributes:
        id: `sha256-` and the SHA-256 of the file's bytes, computed by the server.
        height: rows of pixels, upright.
        width: columns of pixels, upright.
    """

    id: str = Field(pattern=ID_PATTERN)
    height: int
    width: int


class ServerLimits(ResponseModel):
    """The server's limits.

    Attributes:
        prompts: prompts in one request.
        points: points in one prompt.
        image_bytes: bytes of an uploaded file.
        image_pixels: pixels of an image.
        wait_seconds: seconds in the queue; beyond it the status is 429.
        deadline_seconds: seconds from the request to its response; beyond it the status is 504.
    """

    prompts: int = MOST_PROMPTS
    points: int = MOST_POINTS
    image_bytes: int
    image_pixels: int
    wait_seconds: float
    deadline_seconds: float


class ModelInfo(ResponseModel):
    """Response to `GET /v1/model`.

    Attributes:
        backend: the plugin's name, such as `sam`.
        name: the model in words, such as `sam vit_b`.
        model_id: identifies the model; of `sam` the SHA-256 of the checkpoint.
        digest: 16 hexadecimal digits, a hash of the backend's class, version and all options that affect its masks.
        accepts: kinds of prompt, of "points", "box", "text", "exemplars", "everything".
        multimask: the values of `multimask` that a request may have; empty if the backend has no such option.
        limits: the server's limits.
        versions: of maskmill and of the packages that decode and compute.
        threads: CPU threads of one job; masks are bit for bit equal only with equal numbers.
        input_side: pixels of the longer side of the model's input, None if unknown.
    """

    backend: str
    name: str
    model_id: str
    digest: str
    accepts: list[str]
    multimask: list[Multimask] = Field(default_factory=list)
    limits: ServerLimits
    versions: dict[str, str] = Field(default_factory=dict)
    threads: int | None = None
    input_side: int | None = None


class ProblemModel(ResponseModel):
    """An error, by RFC 9457, as `application/problem+json`.

    Attributes:
        type: `urn:maskmill:problem:` and a key of `PROBLEMS`; stable.
        title: the kind in words.
        status: the HTTP status.
        detail: what is wrong in this case and what to do.
        errors: the invalid parts of the request, for `invalid-request`.
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
