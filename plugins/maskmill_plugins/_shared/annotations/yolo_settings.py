"""What a YOLO data set says about itself: class names, keypoints and task, from `data.yaml` or a list of names.

They lie in the folder of the labels or above it: `labels/`, `labels/train/` and `train/labels/` all belong to
the `data.yaml` in the folder that contains them. The nearest one counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.text_files import read_lines, read_yaml

from .model import shorten

YAML = (".yaml", ".yml")
SETTINGS = ("data.yaml", "data.yml", "dataset.yaml")
#: Files with one class name per line, as labelImg and Darknet (and CVAT) call them.
CLASSES = ("classes.txt", "obj.names")
TASKS = ("detect", "segment", "pose", "obb")
#: How far above the labels `data.yaml` may lie: `train/labels/` is two folders below it.
LEVELS = 2


@dataclass(frozen=True, slots=True)
class YoloSettings:
    """What is known of all label files.

    Attributes:
        names: class number -> name, None if no names are given.
        keypoints: (number of keypoints in a line, numbers of each), (0, 0) if there are none.
        task: of `TASKS`, "" if not given.
    """

    names: Mapping[int, str] | None = None
    keypoints: tuple[int, int] = (0, 0)
    task: str = ""


def find_data_yaml(path: Path) -> Path | None:
    """The `data.yaml` that is this file or lies in this folder, None if there is none."""
    if path.suffix.lower() in YAML:
        return path
    return next((path / name for name in SETTINGS if (path / name).is_file()), None)


def settings_files(path: Path) -> Iterator[Path]:
    """The files that may hold the settings of a file or folder of labels, nearest first; only those that exist."""
    if path.suffix.lower() in YAML:
        yield path
    for place in _places(path if path.is_dir() else path.parent):
        files = (place / name for name in (*SETTINGS, *CLASSES))
        yield from (file for file in files if file != path and file.is_file())


def read_settings(path: Path) -> YoloSettings:
    """The settings of a label file, a folder of label files, or a `data.yaml`.

    A `data.yaml` without names leaves them to the next file.

    Raises:
        PipelineError: a file that holds them is invalid.
    """
    own = find_data_yaml(path)
    found = YoloSettings()
    for file in settings_files(path):
        if file.suffix.lower() not in YAML:
            lines = enumerate(read_lines(file))
            return replace(found, names={line: name.strip() for line, name in lines if name.strip()})
        data = read_data_yaml(file)
        names = _read_names(data.get("names"), file)
        if file == own or names is not None:
            found = YoloSettings(names, _keypoint_shape(data.get("kpt_shape"), file), _task(data, file))
        if names is not None:
            break
    return found


def read_data_yaml(file: Path) -> Mapping[str, Any]:
    """The content of a `data.yaml`.

    Raises:
        PipelineError: it is not YAML, or no mapping.
    """
    data = read_yaml(file)
    if not isinstance(data, Mapping):
        raise PipelineError(Problem("expected `train:`, `val:` and `names:`", str(file)))
    return data


def _places(folder: Path) -> Iterator[Path]:
    """The folder, those above it up to the last one called `labels`, and `LEVELS` above that."""
    places = [folder, *folder.parents]
    labels = next((at for at, place in enumerate(places) if place.name == "labels"), 0)
    yield from places[: labels + LEVELS + 1]


def _read_names(names: Any, about: Path) -> dict[int, str] | None:
    if not names and not isinstance(names, (list, Mapping)):
        return None
    items = names.items() if isinstance(names, Mapping) else enumerate(names) if isinstance(names, list) else [("", "")]
    found: dict[int, str] = {}
    for key, name in items:
        number = int(key) if str(key).isascii() and str(key).isdecimal() else -1
        if number < 0 or not isinstance(name, str) or not name:
            text = f"`names` must be a list of texts, or number: text, not {shorten(names)}"
            raise PipelineError(Problem(text, str(about)))
        if number in found:
            text = f"`names` has two names for class {number}: {found[number]!r} and {name!r}"
            raise PipelineError(Problem(text, str(about)))
        found[number] = name
    return found


def _keypoint_shape(written: Any, about: Path) -> tuple[int, int]:
    if not written and not isinstance(written, (list, Mapping)):
        return 0, 0
    numbers = written if isinstance(written, list) and all(isinstance(value, str) for value in written) else []
    if len(numbers) != 2 or not numbers[0].isdecimal() or numbers[1] not in ("2", "3"):
        text = f"`kpt_shape` must be [number of keypoints, 2 or 3], not {shorten(written)}"
        raise PipelineError(Problem(text, str(about)))
    return int(numbers[0]), int(numbers[1])


def _task(data: Mapping[str, Any], about: Path) -> str:
    task = data.get("task") or ""
    if task and task not in TASKS:
        raise PipelineError(Problem(f"`task` must be one of {', '.join(TASKS)}, not {shorten(task)}", str(about)))
    return str(task)
