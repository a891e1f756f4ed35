"""Ground truth from a COCO file or a folder of indexed PNG files."""

from __future__ import annotations

from pathlib import Path

from maskmill import PipelineError, Problem
from maskmill.errors import nearest_name

from .coco import read_coco_truth
from .image_table import Truth
from .png import read_png_truth


def read_truth(path: Path) -> Truth:
    """Read ground truth from a COCO file or a folder of indexed PNG files.

    Raises:
        PipelineError: it does not exist or is invalid; with file and position.
    """
    if path.is_dir():
        return read_png_truth(path)
    if path.is_file():
        return read_coco_truth(path)
    there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest_name(path.name, there)
    raise PipelineError(
        Problem(f"the ground truth '{path}' does not exist", hint=f"did you mean {close!r}?" if close else "")
    )
