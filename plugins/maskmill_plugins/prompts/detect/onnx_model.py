"""A detector with fixed classes in one ONNX file, as Ultralytics exports its YOLO models."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from maskmill import PipelineError, Problem
from maskmill.files import hash_once
from maskmill.plugins.packages import is_installed
from maskmill.plugins.stage import Network
from maskmill.plugins.threads import worker_threads

from .detectors import Detector
from .fixed_classes import check_names
from .merge import FloatArray

#: Ultralytics' own.
THRESHOLD = 0.25
_PADDING = 114
#: Beside the file: onnxruntime, and the arrays between the layers of a picture of 640 pixels.
_MEMORY = 400_000_000


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """See `DetectorModel`."""

    requires: ClassVar[tuple[str, ...]] = ("onnxruntime",)
    extra: ClassVar[str] = "onnx"

    path: Path

    def check_files(self) -> list[Problem]:
        """Whether the file exists."""
        return [] if self.path.is_file() else [Problem(f"the model file '{self.path}' does not exist")]

    def check_classes(self, classes: Mapping[str, str]) -> list[Problem]:
        """Whether the file can be read and has these classes."""
        if not all(is_installed(package) for package in self.requires):
            return []
        return check_names(read_names(self._open(optimise=False), self.path), classes)

    def reaches(self) -> Network:
        """Nothing."""
        return "none"

    def download(self, say: Callable[[str], None]) -> bool:
        """Nothing to do."""
        return False

    def compute_id(self) -> str:
        """SHA-256 of the file."""
        return hash_once(self.path)

    def estimate_memory(self) -> int | None:
        """Peak memory of a worker."""
        return _MEMORY + 2 * self.path.stat().st_size if self.path.is_file() else None

    def load(self, classes: Mapping[str, str], device: str) -> tuple[Detector, float]:
        """The detector and its usual threshold."""
        if device not in ("auto", "cpu"):
            raise PipelineError(Problem(f"an ONNX file is computed on the CPU, not on {device!r}", hint="device: auto"))
        session = self._open(optimise=True)
        names = read_names(session, self.path)
        if problems := check_names(names, classes):
            raise PipelineError(*problems)
        columns = [names[question.lower()] for question in classes.values()]
        return OnnxDetector(session, columns, max(names.values()) + 1, self.path), THRESHOLD

    def _open(self, optimise: bool) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = worker_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions have no common class of their own
            text = f"the model file '{self.path}' cannot be loaded: {str(error).splitlines()[0]}"
            raise PipelineError(Problem(text)) from None


def read_names(session: Any, path: Path) -> dict[str, int]:
    """The number of each class by its name in small letters, from the metadata that Ultralytics writes.

    Raises:
        PipelineError: the file has none, or holds another kind of model.
    """
    about = session.get_modelmeta().custom_metadata_map
    hint = "export a detection model with Ultralytics: yolo export format=onnx model=..."
    try:
        names = ast.literal_eval(about["names"])
        names = {str(name).lower(): int(number) for number, name in dict(names).items()}
    except (KeyError, ValueError, SyntaxError, TypeError):
        text = f"the model file '{path}' has no `names` in its metadata, so its classes have no names"
        raise PipelineError(Problem(text, hint=hint)) from None
    task = about.get("task", "detect")
    if task != "detect" or "rtdetr" in about.get("description", "").lower() or not names:
        what = f"for the task {task!r}" if task != "detect" else "an RT-DETR, whose output differs"
        raise PipelineError(Problem(f"the model file '{path}' is {what}, which is not supported", hint=hint))
    return names


class OnnxDetector:
    """Computes like Ultralytics' `predict`, up to its non-maximum suppression."""

    def __init__(self, session: Any, columns: list[int], classes: int, path: Path) -> None:
        self._session = session
        self._columns = columns
        self._classes = classes
        self._path = path
        self._input = session.get_inputs()[0]
        side = ast.literal_eval(session.get_modelmeta().custom_metadata_map.get("imgsz", "[640, 640]"))
        fixed = self._input.shape[2:]
        self._size = tuple(fixed) if all(isinstance(number, int) for number in fixed) else (int(side[0]), int(side[1]))

    def detect(self, pixels: npt.NDArray[np.uint8]) -> tuple[FloatArray, FloatArray]:
        """See `Detector.detect`."""
        batch, scales, corner = letterbox(pixels, self._size)
        batch = batch.astype(np.float16 if "float16" in self._input.type else np.float32)
        output = self._session.run(None, {self._input.name: batch})[0][0].astype(np.float64)
        boxes, scores, numbers = self._read(output)
        wanted = np.flatnonzero(np.isin(numbers, self._columns))
        found = np.zeros((len(wanted), len(self._columns)))
        found[range(len(wanted)), [self._columns.index(number) for number in numbers[wanted].tolist()]] = scores[wanted]
        return (boxes[wanted] - np.tile(corner, 2)) / np.tile(scales, 2), found.clip(0, 1)

    def _read(self, output: FloatArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
        """Corners in pixels of the input, scores, and the best class of each box."""
        if output.ndim == 2 and output.shape[1] == 6:  # with NMS in the model, or none needed
            rows = output[output[:, 4] > 0]
            return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64)
        if output.ndim == 2 and output.shape[0] == 4 + self._classes:
            center, half, scores = output[:2].T, output[2:4].T / 2, output[4:]
            boxes = np.concatenate([center - half, center + half], axis=1)
            return boxes, scores.max(axis=0), scores.argmax(axis=0)
        wanted = f"({4 + self._classes}, n) or (n, 6)"
        text = f"the model file '{self._path}' gives an array of {output.shape}, where {wanted} was expected"
        raise PipelineError(Problem(text, hint="export a detection model with Ultralytics"))


def letterbox(pixels: npt.NDArray[np.uint8], size: tuple[int, ...]) -> tuple[FloatArray, FloatArray, tuple[int, int]]:
    """A picture scaled to fit into the input of a model, grey around it.

    Args:
        pixels: uint8 (H, W, 3) RGB.
        size: (height, width) of the input.

    Returns:
        (1, 3, height, width) from 0 to 1, the scales of width and height, and (left, top) of the picture in it.
    """
    import cv2

    (high, wide), (height, width) = size, pixels.shape[:2]
    whole = min(high / height, wide / width)
    inner = max(1, round(width * whole)), max(1, round(height * whole))
    left, top = round((wide - inner[0]) / 2 - 0.1), round((high - inner[1]) / 2 - 0.1)
    frame = np.full((high, wide, 3), _PADDING, np.uint8)
    frame[top : top + inner[1], left : left + inner[0]] = cv2.resize(pixels, inner, interpolation=cv2.INTER_LINEAR)
    scales = np.array(inner) / (width, height)
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None]) / 255.0, scales, (left, top)
