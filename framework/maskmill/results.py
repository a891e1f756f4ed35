"""What a run produces: the results of images, the files written, the report of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .artifacts import Artifact, removing_saved_on_error, save
from .colors import Rgb
from .decoding.bit_depth import ValueRange
from .detections import to_supervision
from .display import brief
from .drawable import Drawable
from .failures import DOUBTFUL, DOUBTS, ENDED, REJECTED, Doubt, Failure, require_doubt
from .masks import BoolArray, Mask, color_masks, match_prompts
from .prompts import Prompt
from .work import Work

# Plugins import files and failures from here, too.
__all__ = [
    "DOUBTFUL",
    "DOUBTS",
    "EMPTY_MASK",
    "ENDED",
    "FINISHED",
    "STATUSES",
    "UNFINISHED",
    "Artifact",
    "Doubt",
    "Failure",
    "ImageResult",
    "LedgerRow",
    "Outdated",
    "RunInfo",
    "RunReport",
    "Status",
    "removing_saved_on_error",
    "require_doubt",
    "save",
]

Status = Literal["done", "empty", "rejected", "failed", "quarantined"]
STATUSES: tuple[Status, ...] = ("done", "empty", "rejected", "failed", "quarantined")
#: Statuses of images that have a result.
FINISHED: tuple[Status, ...] = ("done", "empty")
#: `Failure.type` of an image at work; it stays in its stored result if the process is killed.
UNFINISHED = "Unfinished"


#: `Mask.reason` of a mask that the backend left empty.
EMPTY_MASK = "empty mask"


def _explain_empty(masks: Sequence[Mask]) -> str:
    """Why no mask of an image is left, in words."""
    count = len(masks)
    if all(mask.reason == EMPTY_MASK for mask in masks):
        return f"the backend found nothing: {f'all {count} masks are' if count > 1 else 'its mask is'} empty"
    if count == 1:
        return f"{masks[0].dropped_by} dropped the only mask" + (f": {masks[0].reason}" if masks[0].reason else "")
    empty = sum(mask.reason == EMPTY_MASK for mask in masks)
    dropped = Counter(str(mask.dropped_by) for mask in masks if mask.reason != EMPTY_MASK)
    parts = [f"{name} dropped {number}" for name, number in sorted(dropped.items())]
    parts += [f"{empty} of the backend {'was' if empty == 1 else 'were'} empty"] if empty else []
    return f"none of {count} masks is left: {', '.join(parts)}"


@dataclass(frozen=True, slots=True, repr=False)
class ImageResult(Drawable):
    """Everything known about one image after its chain.

    An image whose filters or writers failed is `failed` and keeps the masks and files that were made.

    Attributes:
        key: the image's key in the dataset.
        status: done, empty, rejected, failed or quarantined.
        size: (height, width) in pixels, None if it could not be read.
        sha256: of the image file's bytes, "" if it could not be read.
        prompts: given to the backend.
        masks: final masks and dropped ones (`mask.kept` tells them apart), in the backend's order.
        raw: the masks as the backend made them, before filters, only those that filters changed; all of them,
            with `masks` empty, if a filter failed.
        artifacts: the files written, paths below the output folder.
        provenance: what made it: fingerprint, model, versions.
        notes: of the stages, by plugin name.
        reason: for an empty result, why.
        failure: for a rejected, failed or quarantined one, why.
        doubts: what may be wrong with it all the same, in the order of the work.
        value_range: of the values in the file if they have more than 8 bits, else None.
    """

    key: str
    status: Status
    size: tuple[int, int] | None = None
    sha256: str = ""
    prompts: tuple[Prompt, ...] = ()
    masks: tuple[Mask, ...] = ()
    raw: tuple[Mask, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    failure: Failure | None = None
    doubts: tuple[Doubt, ...] = ()
    value_range: ValueRange | None = None

    def prompt_numbers(self) -> dict[int, int | None]:
        """Which of `prompts` each mask answers, by the mask's index; filters may have changed its label since."""
        made = {mask.index: mask for mask in self.raw}
        masks = [made.get(mask.index, mask) for mask in self.masks]
        return {mask.index: number for mask, number in zip(masks, match_prompts(masks, self.prompts), strict=True)}

    @classmethod
    def done_or_empty(
        cls,
        key: str,
        size: tuple[int, int],
        sha256: str,
        prompts: Sequence[Prompt] = (),
        masks: Sequence[Mask] = (),
        raw: Sequence[Mask] = (),
        reason: str | None = None,
        provenance: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
        doubts: Sequence[Doubt] = (),
    ) -> ImageResult:
        """The result of an image whose chain ran to its end: `done` if a mask is kept, else `empty`.

        Args:
            key: the image's key.
            size: (height, width) in pixels.
            sha256: of the image file's bytes.
            prompts: given to the backend.
            masks: kept and dropped ones.
            raw: of the masks that filters changed, as the backend made them.
            reason: why there are no masks; ignored if masks were kept or dropped by filters.
            provenance: what made it.
            notes: by plugin name.
            doubts: what may be wrong all the same.
        """
        kept = any(mask.kept for mask in masks)
        if masks and not kept:
            reason = _explain_empty(masks)
        return cls(
            key=key,
            status="done" if kept else "empty",
            size=size,
            sha256=sha256,
            prompts=tuple(prompts),
            masks=tuple(masks),
            raw=tuple(raw),
            provenance=provenance or {},
            notes=notes or {},
            reason=None if kept else reason or "the backend found nothing",
            doubts=tuple(doubts),
        )

    @classmethod
    def failed(
        cls,
        key: str,
        failure: Failure,
        size: tuple[int, int] | None = None,
        sha256: str = "",
        provenance: Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
        doubts: Sequence[Doubt] = (),
    ) -> ImageResult:
        """The result of an image on which a step failed, or that a person rejected."""
        return cls(
            key,
            "rejected" if failure.type == REJECTED else "failed",
            size,
            sha256,
            provenance=provenance or {},
            notes=notes or {},
            failure=failure,
            doubts=tuple(doubts),
        )

    @classmethod
    def quarantined(cls, key: str, failure: Failure, provenance: Mapping[str, Any] | None = None) -> ImageResult:
        """The result of an image that ended its worker process too often."""
        return cls(key, "quarantined", provenance=provenance or {}, failure=failure)

    @property
    def kept(self) -> tuple[Mask, ...]:
        """The masks that survived the filters."""
        return tuple(mask for mask in self.masks if mask.kept)

    def hide_unfinished(self) -> ImageResult:
        """The result as `Writer.finish` gets it: that of an image that failed without its masks and files."""
        if self.status in FINISHED:
            return self
        return replace(self, prompts=(), masks=(), raw=(), artifacts=(), reason=None)

    def __repr__(self) -> str:
        about = f"{len(self.kept)} of {len(self.masks)} masks kept" if self.masks else brief(self.reason or "no masks")
        if self.failure is not None:
            about = f"{self.failure.type}: {brief(self.failure.message)}"
        return f"<ImageResult {brief(self.key)}: {self.status}, {about}>"

    def _drawn_size(self) -> tuple[int, int] | None:
        return self.size

    def _drawn_masks(self) -> Iterator[tuple[BoolArray, Rgb]]:
        return color_masks(self.kept)

    def to_supervision(self, classes: Sequence[str] | None = None) -> Any:
        """The kept masks as `supervision.Detections`; see `maskmill.to_supervision`."""
        return to_supervision(self.kept, classes, self.size)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the content of `results/<key>.json`; it holds no times."""
        return {
            "schema": 1,
            "key": self.key,
            "status": self.status,
            "size": None if self.size is None else list(self.size),
            "sha256": self.sha256,
            "prompts": [prompt.to_json() for prompt in self.prompts],
            "masks": [mask.to_json() for mask in self.masks],
            "raw": [mask.to_json() for mask in self.raw],
            "artifacts": [asdict(artifact) for artifact in self.artifacts],
            "provenance": dict(self.provenance),
            "notes": dict(self.notes),
            "reason": self.reason,
            "failure": None if self.failure is None else asdict(self.failure),
            **({"doubts": [asdict(doubt) for doubt in self.doubts]} if self.doubts else {}),
            **({"value_range": asdict(self.value_range)} if self.value_range else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImageResult:
        """The inverse of `to_json`."""
        size = data["size"]
        failure = data["failure"]
        return cls(
            key=data["key"],
            status=data["status"],
            size=None if size is None else (size[0], size[1]),
            sha256=data["sha256"],
            prompts=tuple(Prompt.from_json(item) for item in data["prompts"]),
            masks=tuple(Mask.from_json(item) for item in data["masks"]),
            raw=tuple(Mask.from_json(item) for item in data["raw"]),
            artifacts=tuple(Artifact(**item) for item in data["artifacts"]),
            provenance=data["provenance"],
            notes=data["notes"],
            reason=data["reason"],
            failure=None if failure is None else Failure(**failure),
            doubts=tuple(Doubt(**doubt) for doubt in data.get("doubts", ())),
            value_range=None if (found := data.get("value_range")) is None else ValueRange(**found),
        )


class LedgerRow(NamedTuple):
    """What the ledger records of one image.

    Attributes:
        key: the image's key.
        status: done, empty, rejected, failed or quarantined.
        fingerprint: text of the `Fingerprint` that its result was made with.
        bytes: size of the image file when it was read.
        mtime: its modification time in nanoseconds.
        attempts: how often it was tried.
        seconds: duration of the last attempt.
        listing: number of the last listing of the dataset that contained it.
    """

    key: str
    status: Status
    fingerprint: str
    bytes: int
    mtime: int
    attempts: int
    seconds: float
    listing: int


@dataclass(frozen=True)
class RunInfo:
    """What observers (hooks `run_started`, `image_finished`, `run_finished`) get of a run.

    Attributes:
        name: the pipeline's name.
        output: the output folder.
        options: the resolved pipeline, secrets masked.
        jobs: number of workers.
        threads: threads per worker.
    """

    name: str
    output: Path
    options: dict[str, Any] = field(repr=False)
    jobs: int = 1
    threads: int = 1

    def __repr__(self) -> str:
        return f"<RunInfo {brief(self.name)}: {self.jobs} workers, in {brief(str(self.output))}>"


@dataclass(frozen=True, slots=True)
class Outdated:
    """Files of earlier runs that the last run would not make; `maskmill prune` removes them.

    Attributes:
        files: how many there are, the stored results of `images` included.
        bytes: their size in all.
        images: images that left the dataset and still have files.
        writers: folders with files about the whole dataset that the pipeline no longer makes.
    """

    files: int = 0
    bytes: int = 0
    images: int = 0
    writers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReport:
    """One finished or stopped run, as `run.json` holds it.

    Attributes:
        output: the output folder.
        outcome: "finished", "interrupted", "stopped" (a plugin or max_failures stopped it).
        counts: images by status, over all in the output folder that the dataset still lists.
        ran: images that this run processed (the others were already there).
        seconds: wall time of this run.
        stage_seconds: seconds spent by stage, summed over the images of this run.
        images_per_second: over the images this run processed.
        files: how many files about the whole dataset each writer has; `Run.files` lists them.
        message: why it stopped, or "".
        doubtful: finished images with at least one doubt, counted as `counts`.
        doubts: images by the code of their doubts; an image may have several.
        left_out: files of the dataset that look like images and cannot be read, by ending.
        remaining: images that an interrupted or stopped run did not get to; else those beyond the limit of this
            run that have no result. Counted up to a number.
        warnings: about prompts that fit no image of the dataset and the like, a line each.
        run_doubts: what is doubtful and belongs to no image, by code, such as annotations of unknown images.
        outdated: files of earlier runs that are not part of this one.
        pruned: how many of these were removed at the end, as `prune` asks.
        refused_doubts: those of `run_doubts` that `fail_on` names; the run counts as failed.
        work: images by what this run did for them, the keys of `WORK` in their order.
    """

    output: Path
    outcome: Literal["finished", "interrupted", "stopped"]
    counts: Mapping[str, int]
    ran: int
    seconds: float
    stage_seconds: Mapping[str, float]
    images_per_second: float
    files: Mapping[str, int] = field(default_factory=dict)
    message: str = ""
    doubtful: int = 0
    doubts: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    remaining: int = 0
    warnings: tuple[str, ...] = ()
    run_doubts: Mapping[str, int] = field(default_factory=dict)
    refused_doubts: tuple[str, ...] = ()
    outdated: Outdated = Outdated()
    pruned: int = 0
    work: Mapping[Work, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count) or "no images"
        return f"<RunReport {self.outcome}: {counts}, {self.seconds:.1f} s, in {brief(str(self.output))}>"

    @property
    def exit_code(self) -> int:
        """0 success, 1 images failed, the run was stopped or `fail_on` refuses it, 130 interrupted."""
        if self.outcome == "interrupted":
            return 130
        bad = self.counts.get("failed", 0) + self.counts.get("quarantined", 0)
        return 1 if bad or self.outcome == "stopped" or self.refused_doubts else 0
