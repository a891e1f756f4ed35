"""Ground truth in the formats of COCO (instances, panoptic), CVAT, Pascal VOC and in class maps."""

from __future__ import annotations

from pathlib import Path

from maskmill import PipelineError, Problem
from maskmill.errors import nearest_name
from maskmill.storage import restore_address

from .coco import read_coco_truth
from .cvat import NAME as CVAT_NAME, read_cvat_truth
from .image_table import Truth
from .panoptic import is_panoptic, read_panoptic_truth
from .png import OBJECTS, read_png_truth
from .semantic import find_class_maps, read_semantic_truth


def read_truth(path: Path) -> Truth:
    """Read ground truth from a file or folder, in the format that its content shows.

    Raises:
        PipelineError: it does not exist or is invalid; with file and position.
    """
    if path.is_dir():
        return _read_folder(path)
    if path.is_file():
        if path.suffix.lower() == ".xml":
            return read_cvat_truth(path)
        return read_panoptic_truth(path) if is_panoptic(path) else read_coco_truth(path)
    if (address := restore_address(path)) is not None:
        raise PipelineError(f"the ground truth '{address}' must be on this machine")
    there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest_name(path.name, there)
    raise PipelineError(
        Problem(f"the ground truth '{path}' does not exist", hint=f"did you mean {close!r}?" if close else "")
    )


def _read_folder(path: Path) -> Truth:
    if (path / CVAT_NAME).is_file():
        return read_cvat_truth(path / CVAT_NAME)
    if panoptic := sorted(path.glob("annotations/panoptic_*.json")):
        if len(panoptic) > 1:
            text = f"contains several panoptic files: {', '.join(file.name for file in panoptic)}"
            raise PipelineError(Problem(text, str(path), hint="give one of the files instead of the folder"))
        return read_panoptic_truth(panoptic[0])
    if not (path / OBJECTS).is_dir() and (maps := find_class_maps(path)) is not None:
        return read_semantic_truth(path, maps)
    return read_png_truth(path)
