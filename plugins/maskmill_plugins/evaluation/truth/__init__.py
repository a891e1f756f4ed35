"""Reading a truth: which format a file or folder has."""

from __future__ import annotations

from pathlib import Path

from maskmill import PipelineError, Problem
from maskmill.output.run import nearest

from .coco import read_coco_truth
from .objects import Truth
from .png import read_png_truth


def read_truth(path: Path) -> Truth:
    """Read a truth: a COCO file, or a folder of indexed PNG files.

    Raises:
        PipelineError: it does not exist or is broken; names file and element.
    """
    if path.is_dir():
        return read_png_truth(path)
    if path.is_file():
        return read_coco_truth(path)
    there = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    close = nearest(path.name, there)
    raise PipelineError(Problem(f"there is no truth '{path}'", hint=f"did you mean {close[0]!r}?" if close else ""))
