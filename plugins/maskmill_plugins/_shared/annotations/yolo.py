"""YOLO txt: `class x y width height` (0..1, the centre) or `class x1 y1 x2 y2 ...` (a polygon) a line.

Where the labels of an image lie is Ultralytics' rule: in its path the last folder `images` becomes
`labels`, its ending `.txt`; without such a folder they lie beside it.

Reference: https://docs.ultralytics.com/datasets/detect, img2label_paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.text_files import read_lines, read_yaml

from .model import AnnotatedImage, Annotation, AnnotationError, FileItem, shorten
from .yolo_line import box_and_score, keypoints, label

YAML = (".yaml", ".yml")
#: Names of classes, a line each, as labelImg and as Darknet (and CVAT) call the file.
CLASSES = ("classes.txt", "obj.names")
#: Files that lie beside labels and are none; Label Studio writes `notes.json`. And any README.
OTHERS = frozenset({"classes.txt", "train.txt", "val.txt", "test.txt", "notes.txt", "notes.json"})
SPLITS = ("train", "val", "test")


def read_yolo(path: Path) -> Iterator[FileItem]:
    """The pieces of a label file, a folder of them, or what a `data.yaml` names.

    Raises:
        PipelineError: `data.yaml` is wrong, or names folders that do not exist.
    """
    about = settings_file(path)
    data = {} if about is None else _load(about)
    names = _classes_beside(_folder(path)) if about is None else _names(data.get("names"), about)
    shape = _shape(data.get("kpt_shape"), about)
    for file, image in _labelled(path, about, data):
        yield from _labels(file, image, names, shape)


def yolo_files(path: Path) -> Iterator[Path]:
    """Every file that `read_yolo` reads.

    Raises:
        PipelineError: as `read_yolo`.
    """
    about = settings_file(path)
    yield from (file for file in [about, *_class_files(_folder(path))] if file is not None and file.is_file())
    yield from (file for file, _ in _labelled(path, about, {} if about is None else _load(about)))


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _labelled(path: Path, about: Path | None, data: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """(label file, its image) of all."""
    if about is None:
        yield from ((file, _image_of(file, _folder(path))) for file in label_files(path))
    else:
        yield from _described(about, data)


def settings_file(path: Path) -> Path | None:
    """The `data.yaml` that a path means, None if there is none."""
    if path.suffix.lower() in YAML:
        return path
    return next((path / name for name in ("data.yaml", "data.yml", "dataset.yaml") if (path / name).is_file()), None)


def label_files(path: Path) -> Iterator[Path]:
    """The label files below a folder, or the one that the path is; sorted folder by folder."""
    if path.is_file():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(".txt") and not is_other(name) and not name.startswith("."):
                yield Path(folder, name)


def is_other(name: str) -> bool:
    """Whether a file of this name lies beside annotations and holds none."""
    return name.lower() in OTHERS or name.lower().startswith("readme.")


def _image_of(file: Path, folder: Path) -> str:
    """The path of a label file's image below the folder, without ending."""
    parts = list(file.relative_to(folder).with_suffix("").parts)
    return "/".join(_swapped(parts, "labels", "images"))


def _swapped(parts: Sequence[str], one: str, other: str) -> list[str]:
    """The path with the last folder called `one` called `other`."""
    last = next((at for at in range(len(parts) - 2, -1, -1) if parts[at] == one), None)
    return [other if at == last else part for at, part in enumerate(parts)]


def _class_files(folder: Path) -> list[Path]:
    return [place / name for place in (folder, folder.parent) for name in CLASSES]


def _classes_beside(folder: Path) -> dict[int, str] | None:
    """Class names from a file in the folder or the one above, a line each from 0 on; None if there is none."""
    for file in _class_files(folder):
        if file.is_file():
            return {line: name.strip() for line, name in enumerate(read_lines(file)) if name.strip()}
    return None


def _described(about: Path, data: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What the `data.yaml` of a dataset names, each label file once."""
    root = about.parent / Path(str(data.get("path") or "."))
    if not root.is_dir():
        root = about.parent  # made on another machine, as a rule
    done: set[Path] = set()
    listed = False
    for split in SPLITS:
        for entry in _entries(data, split, about):
            listed = True
            for file, image in _of_split(root, about, split, entry):
                if file not in done:
                    done.add(file)
                    yield file, image
    if listed:
        return
    for file in label_files(about.parent):  # as some tools write it: names of classes, and labels somewhere below
        done.add(file)
        yield file, _image_of(file, about.parent)
    if not done:
        raise PipelineError(Problem("names no images: expected `train`, `val` or `test`", str(about)))


def _entries(data: Mapping[str, Any], split: str, about: Path) -> list[str]:
    """What a split names: folders of images, or lists of them."""
    found = data.get(split) or []
    entries = [found] if isinstance(found, str) else found
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise PipelineError(Problem(f"`{split}` must be a path or a list of paths, not {shorten(found)}", str(about)))
    return [entry.replace("\\", "/") for entry in entries]


def _of_split(root: Path, about: Path, split: str, entry: str) -> Iterator[tuple[Path, str]]:
    """(label file, image) of one entry: a folder of images, or a list of them in a text file.

    What is named as `test` need not be there, and need not have labels.
    """
    place = next((base / entry for base in (root, about.parent) if (base / entry).exists()), None)
    if place is None and entry.startswith("../"):  # as Roboflow writes it, meant from one folder below
        place = next((base / entry[3:] for base in (root, about.parent) if (base / entry[3:]).exists()), None)
    if place is None:
        if split == "test":
            return
        raise PipelineError(Problem(f"{split}: '{root / entry}' does not exist", str(about)))
    if place.suffix.lower() == ".txt":
        yield from _listed(place, root)
        return
    place = Path(os.path.normpath(place))
    folder = Path(*_swapped([*place.parts, ""], "images", "labels")[:-1])
    if folder.is_dir():
        for file in label_files(folder):
            yield file, _below(place / file.relative_to(folder).with_suffix(""), root)
    elif split != "test":
        raise PipelineError(Problem(f"{split}: the folder of its labels '{folder}' does not exist", str(about)))


def _listed(place: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """(label file, image) of the images that a text file lists, those without a label file left out.

    Where a path leads nowhere, its end counts: lists are made on other machines, and CVAT writes `data/` before it.
    """
    for line in read_lines(place):
        parts = line.strip().replace("\\", "/").split("/")
        for first in range(len(parts) if parts[-1] else 0):
            image = Path(os.path.normpath(place.parent / "/".join(parts[first:])))
            file = Path(*_swapped(image.parts, "images", "labels")).with_suffix(".txt")
            if file.is_file() and not is_other(file.name):
                yield file, _below(image.with_suffix(""), root)
                break


def _below(path: Path, root: Path) -> str:
    root = Path(os.path.normpath(root))
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _load(about: Path) -> Mapping[str, Any]:
    data = read_yaml(about)
    if not isinstance(data, Mapping):
        raise PipelineError(Problem("expected `train:`, `val:` and `names:`", str(about)))
    return data


def _names(names: Any, about: Path) -> dict[int, str] | None:
    if not names and not isinstance(names, (list, Mapping)):
        return None
    items = names.items() if isinstance(names, Mapping) else enumerate(names) if isinstance(names, list) else [("", "")]
    found = {int(key) if str(key).isdecimal() else -1: name for key, name in items}
    if -1 in found or not all(isinstance(name, str) and name for name in found.values()):
        raise PipelineError(
            Problem(f"`names` must be a list of texts, or number: text, not {shorten(names)}", str(about))
        )
    return found


def _labels(file: Path, image: str, names: Mapping[int, str] | None, shape: tuple[int, int]) -> Iterator[FileItem]:
    yield AnnotatedImage(str(file), image, file=str(file), relative=True)
    for line, text in enumerate(read_lines(file), 1):
        if columns := text.split():
            try:
                points, columns = keypoints(columns, shape)
                box, score = box_and_score(columns)
                name = label(columns[0], names)
            except AnnotationError as fault:
                yield Annotation(str(file), f"line {line}", "", str(file), line, fault=str(fault))
            else:
                yield Annotation(str(file), f"line {line}", "", str(file), line, box, points, label=name, score=score)


def _shape(written: Any, about: Path | None) -> tuple[int, int]:
    """(number of keypoints in a line, numbers of each), (0, 0) if there are none."""
    if not written and not isinstance(written, (list, Mapping)):
        return 0, 0
    numbers = written if isinstance(written, list) and all(isinstance(value, str) for value in written) else []
    if len(numbers) != 2 or not numbers[0].isdecimal() or numbers[1] not in ("2", "3"):
        text = f"`kpt_shape` must be [number of keypoints, 2 or 3], not {shorten(written)}"
        raise PipelineError(Problem(text, str(about)))
    return int(numbers[0]), int(numbers[1])
