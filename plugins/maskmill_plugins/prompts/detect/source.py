"""The prompt source `detect`: its options and checks, and from what a detector finds to prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from maskmill import NO_EFFECT, Box, Image, PipelineError, Point, Problem, Prompt, PromptSource, hookimpl
from maskmill.plugins.packages import is_installed
from maskmill.plugins.stage import Network
from maskmill_plugins._shared.hub.snapshot import ModelFiles, ModelName
from maskmill_plugins._shared.sam.device import Device, may_use_cuda

from .detectors import Detector, DetectorModel
from .hub_model import HubModel
from .merge import Candidates, Conflict, FloatArray, merge
from .onnx_model import OnnxModel
from .questions import check_classes, read_classes
from .tiles import Window, list_windows

Text = Annotated[str, Field(min_length=1)]
Score = Annotated[float, Field(ge=0, le=1)]
#: Pixels; a thinner box, such as one at the border of the picture, would have no extent once it is rounded.
THINNEST = 0.02
#: Examples in a message.
SHOWN = 3


class Detect(PromptSource):
    """Finds the objects that you name with a detector of transformers or an ONNX file, on this machine."""

    requires: ClassVar[tuple[str, ...]] = HubModel.requires
    extra: ClassVar[str] = HubModel.extra
    always_answers: ClassVar[bool] = True

    find: Annotated[list[Text], Field(min_length=1)] | Annotated[dict[Text, Text], Field(min_length=1)] = Field(
        description="what to look for: class names, or each label with what the model is asked for"
    )
    model: ModelName = Field(
        "IDEA-Research/grounding-dino-tiny",
        description="the detector: owner/name on the Hugging Face hub, a folder that save_pretrained() wrote, or"
        " an .onnx file that Ultralytics exported",
        json_schema_extra=NO_EFFECT,  # the content of the files counts, in model_id, not where they are
    )
    revision: Text | None = Field(
        None, description="branch, tag or commit on the hub; null: main", json_schema_extra=NO_EFFECT
    )
    device: Device = Field(
        "auto",
        description="where to compute; auto: the first of cuda, mps and cpu that is available",
        json_schema_extra=NO_EFFECT,
    )
    threshold: Score | dict[Text, Score] | None = Field(
        None,
        description="lowest score of a box, for all labels or for some; left out: what is usual for the model,"
        " 0.3 for Grounding DINO and OmDet-Turbo, 0.2 for OWL, 0.5 for DETR and its like, 0.25 for an .onnx file",
    )
    nms: Annotated[float, Field(gt=0, le=1)] | None = Field(
        0.7, description="of boxes whose IoU is above this, only the best is kept, whatever its label; null: all"
    )
    most: int = Field(100, ge=1, description="boxes of an image, the best ones")
    tiles: int | None = Field(
        None,
        ge=64,
        description="for small objects: also search overlapping tiles of so many pixels a side; null: the image only",
    )
    as_: Literal["boxes", "points"] = Field(
        "boxes", alias="as", description="the prompt for each object: its box, or the point in the middle of it"
    )

    _detector: Detector | None = PrivateAttr(None)
    _limits: list[float] = PrivateAttr(default_factory=list)

    def kinds(self) -> frozenset[str]:
        """Boxes or points."""
        return frozenset({"box" if self.as_ == "boxes" else "points"})

    def check(self) -> list[Problem]:
        """The options must fit each other and the model, as far as the model is on this machine."""
        problems = check_classes(self.find)
        if isinstance(self.threshold, dict) and (strange := [name for name in self.threshold if name not in self.find]):
            hint = f"the labels are: {', '.join(self.find)}"
            problems.append(Problem(f"threshold: {strange[0]!r} is no label of `find`", hint=hint))
        if self.tiles is not None and self.nms is None:
            text = "`tiles` needs `nms`: an object in two tiles would get two boxes"
            problems.append(Problem(text, hint="leave out `nms`"))
        problems += self._model.check_files()
        if not problems or all(problem.warning for problem in problems):
            try:
                problems += self._model.check_classes(read_classes(self.find))
            except PipelineError as error:
                problems += error.problems
        return problems

    def missing(self) -> list[Problem]:
        """A problem for each package that this kind of model needs and that is not installed."""
        hint = f'pip install "maskmill[{self._model.extra}]"'
        absent = [package for package in self._model.requires if not is_installed(package)]
        return [Problem(f"needs the package {package!r}, which is not installed", hint=hint) for package in absent]

    def reaches(self) -> Network:
        """The internet, if the model has to be downloaded."""
        return self._model.reaches()

    def prepare(self, say: Callable[[str], None]) -> None:
        """Download the model if it is not on this machine.

        Raises:
            PipelineError: it cannot be downloaded, or is no detector for these options.
        """
        if self._model.download(say) and (problems := self._model.check_classes(read_classes(self.find))):
            raise PipelineError(*problems)

    def model_id(self) -> str:
        """SHA-256 over the model's files; "" as long as it has to be downloaded.

        Raises:
            PipelineError: a folder lacks files of the model.
        """
        return self._model.compute_id()

    def memory_per_worker(self) -> int | None:
        """Peak memory of a process that works on one image, as measured on a CPU; None before the download."""
        return self._model.estimate_memory()

    def uses_gpu(self) -> bool:
        """On cuda, and with `device: auto` if PyTorch was built for it; never with an ONNX file."""
        return isinstance(self._model, HubModel) and may_use_cuda(self.device)

    @property
    def _model(self) -> DetectorModel:
        path = Path(self.model)
        return OnnxModel(path) if path.suffix.lower() == ".onnx" else HubModel(ModelFiles(self.model, self.revision))

    def open(self) -> None:
        """Load the model and hand it the questions.

        Raises:
            PipelineError: it cannot be loaded, or does not understand a question.
        """
        self._detector, usual = self._model.load(read_classes(self.find), self.device)
        self._limits = self._list_thresholds(usual)

    def close(self) -> None:
        """Release the model."""
        self._detector = None

    def prompts(self, image: Image) -> list[Prompt]:
        """A box or point for each object, the best score first; none if nothing reaches its threshold.

        A box that got several labels is kept once, under the best one, with the doubt `conflict`.
        """
        parts = []
        best = np.zeros(len(self.find))
        for window in list_windows(image.size, self.tiles):
            found, highest = self._search(image, window)
            parts.append(found)
            best = np.maximum(best, highest)
        kept = _join(parts)
        conflicts: list[Conflict] = []
        if self.nms is not None:
            kept, conflicts = merge(kept, image.size, self.nms)
        kept = self._limit(kept.best_first())
        self._report(kept, conflicts, best)
        labels = list(self.find)
        return [
            self._make_prompt(box, labels[number], score)
            for box, number, score in zip(kept.boxes.tolist(), kept.classes.tolist(), kept.scores.tolist(), strict=True)
        ]

    def _search(self, image: Image, window: Window) -> tuple[Candidates, FloatArray]:
        """What is found in a window, in pixels of the image, and the highest score of each class."""
        if self._detector is None:
            raise RuntimeError("open() must be called before the first image")
        left, top, right, bottom = window
        boxes, scores = self._detector.detect(np.array(image.pixels[top:bottom, left:right]))
        return choose(boxes, scores, self._limits, window), scores.max(axis=0, initial=0.0)

    def _list_thresholds(self, usual: float) -> list[float]:
        given = self.threshold if isinstance(self.threshold, dict) else dict.fromkeys(self.find, self.threshold)
        limits = [given.get(label) for label in self.find]
        return [usual if limit is None else limit for limit in limits]

    def _limit(self, kept: Candidates) -> Candidates:
        if (more := len(kept) - self.most) > 0:
            text = f"{more} of {len(kept)} boxes were left out, those with the lowest scores (most: {self.most})"
            self.doubt("incomplete", text)
        return kept.take(np.arange(min(len(kept), self.most)))

    def _report(self, kept: Candidates, conflicts: Sequence[Conflict], best: FloatArray) -> None:
        """Note what was found; doubt boxes with several labels; say why there is nothing."""
        labels = list(self.find)
        counts = np.bincount(kept.classes, minlength=len(labels)).tolist()
        self.note("found", {label: count for label, count in zip(labels, counts, strict=True) if count})
        if doubtful := select_conflicts(conflicts, kept):
            self.doubt("conflict", describe_conflicts(doubtful, labels))
        if not len(kept):
            first = np.argsort(-best, kind="stable")[:SHOWN].tolist()
            shown = [f"{labels[number]!r} {best[number]:.2f} of {self._limits[number]:g}" for number in first]
            rest = ", ..." if len(labels) > SHOWN else ""
            self.note("nothing", f"no box reaches the threshold; the best scores are: {', '.join(shown)}{rest}")

    def _make_prompt(self, box: Sequence[float], label: str, score: float) -> Prompt:
        # The digits beyond hold nothing but the order in which threads added up.
        left, top, right, bottom = (round(number, 2) for number in box)
        score = round(score, 4)
        if self.as_ == "points":
            return Prompt(points=(Point((left + right) / 2, (top + bottom) / 2),), label=label, score=score)
        return Prompt(box=Box(left, top, right, bottom), label=label, score=score)


def choose(boxes: FloatArray, scores: FloatArray, limits: Sequence[float], window: Window) -> Candidates:
    """The boxes that reach the threshold of a class, one for each such class.

    Args:
        boxes: (n, 4) float64 in pixels of the window.
        scores: (n, classes) float64.
        limits: the threshold of each class.
        window: its pixels in the image; boxes are clipped to it.
    """
    rows, classes = np.nonzero(scores >= np.array(limits))
    left, top, right, bottom = window
    corners = np.clip(boxes[rows] + [left, top, left, top], [left, top, left, top], [right, bottom, right, bottom])
    there = (corners[:, 2:] - corners[:, :2] > THINNEST).all(axis=1)
    windows = np.broadcast_to(np.array(window, dtype=np.float64), corners.shape)
    everything = Candidates(corners, scores[rows, classes], classes.astype(np.int64), windows)
    return everything.take(np.flatnonzero(there))


def select_conflicts(conflicts: Sequence[Conflict], kept: Candidates) -> list[Conflict]:
    """Those about the boxes that are kept, the best first; of each box and other class, the one with the best score."""
    shown = set(zip(kept.classes.tolist(), kept.scores.tolist(), strict=True))
    best: dict[tuple[tuple[int, float], int], Conflict] = {}
    for conflict in sorted(conflicts, key=lambda one: (-one.kept[1], -one.left_out[1])):
        if conflict.kept in shown:
            best.setdefault((conflict.kept, conflict.left_out[0]), conflict)
    return list(best.values())


def describe_conflicts(conflicts: Sequence[Conflict], labels: Sequence[str]) -> str:
    """Which boxes got a second label, for the user."""
    examples = []
    for conflict in conflicts[:SHOWN]:
        (kept, high), (other, low) = conflict.kept, conflict.left_out
        place = ", ".join(f"{number:.6g}" for number in conflict.box)
        texts = f"{labels[kept]!r} ({high:.2f}) and {labels[other]!r} ({low:.2f})"
        examples.append(f"{texts} at [{place}] (IoU {conflict.overlap:.2f})")
    more = f" and {len(conflicts) - SHOWN} more" if len(conflicts) > SHOWN else ""
    return f"{'; '.join(examples)}{more} name the same object; the first label is kept"


def _join(parts: Sequence[Candidates]) -> Candidates:
    names = ("boxes", "scores", "classes", "windows")
    return Candidates(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Register `detect`."""
    register("detect", Detect)
