"""YOLO txt: each line is `class x y width height` (0..1, centre) or `class x1 y1 x2 y2 ...` (a polygon).

Ultralytics' rule for the label file of an image: the last folder `images` of its path becomes `labels`
and its suffix `.txt`; without such a folder the label file is next to the image.

Reference: https://docs.ultralytics.com/datasets/detect, img2label_paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.text_files import read_lines

from .model import CLASS_NUMBERS, AnnotatedImage, Annotation, AnnotationError, FileItem, FileProperty, shorten
from .own_tables import read_own_names
from .shapes import yolo_shape
from .yolo_form import DatasetForm
from .yolo_line import parse_box, parse_class, parse_keypoints
from .yolo_settings import YoloSettings, find_data_yaml, read_data_yaml, read_settings, settings_files

#: Files next to labels that contain no labels, besides any README; Label Studio writes `notes.json`.
UNRELATED = frozenset({"classes.txt", "train.txt", "val.txt", "test.txt", "notes.txt", "notes.json"})
SPLITS = ("train", "val", "test")


def read_yolo(path: Path) -> Iterator[FileItem]:
    """The items of a label file, of a folder of them, or of the files that a `data.yaml` lists.

    Raises:
        PipelineError: `data.yaml` is invalid, or lists folders that do not exist.
    """
    settings = read_settings(path)
    if settings.names is None:
        yield FileProperty(CLASS_NUMBERS, "no `names` in data.yaml and no classes.txt, beside the labels or above them")
    files = lambda: (_split_rows(file) for file, _ in _list_labels(path))  # noqa: E731
    whole = DatasetForm(files, settings.task, bool(settings.keypoints[0]))
    names = read_own_names(path)
    for file, image in _list_labels(path):
        name = names.get(os.path.abspath(file), image)  # noqa: PTH100 - no links are resolved
        yield from _read_labels(file, name, settings, whole)


def yolo_files(path: Path) -> Iterator[Path]:
    """Every file that `read_yolo` reads; raises what `read_yolo` raises."""
    yield from settings_files(path)
    yield from (file for file, _ in _list_labels(path))


def _list_labels(path: Path) -> Iterator[tuple[Path, str]]:
    """(label file, path of its image) of all label files."""
    about = find_data_yaml(path)
    if about is None:
        folder = path if path.is_dir() else path.parent
        yield from ((file, _image_of(file, folder)) for file in list_label_files(path))
    else:
        yield from _list_described(about, read_data_yaml(about))


def list_label_files(path: Path) -> Iterator[Path]:
    """The label files below a folder, sorted folder by folder; the path itself if it is a file."""
    if path.is_file():
        yield path
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(".txt") and not is_unrelated(name) and not name.startswith("."):
                yield Path(folder, name)


def is_unrelated(name: str) -> bool:
    """Whether a file of this name accompanies annotations but contains none."""
    return name.lower() in UNRELATED or name.lower().startswith("readme.")


def _image_of(file: Path, folder: Path) -> str:
    """The path of a label file's image relative to the folder, without suffix."""
    parts = list(file.relative_to(folder).with_suffix("").parts)
    return "/".join(_swap_folder(parts, "labels", "images"))


def _swap_folder(parts: Sequence[str], one: str, other: str) -> list[str]:
    """The path with the last folder named `one` renamed to `other`."""
    last = next((at for at in range(len(parts) - 2, -1, -1) if parts[at] == one), None)
    return [other if at == last else part for at, part in enumerate(parts)]


def _list_described(about: Path, data: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """(label file, path of its image) of what a `data.yaml` lists, each label file once."""
    root = about.parent / Path(str(data.get("path") or "."))
    if not root.is_dir():
        root = about.parent  # usually written on another machine
    done: set[Path] = set()
    has_splits = False
    for split in SPLITS:
        for entry in _split_entries(data, split, about):
            has_splits = True
            for file, image in _list_split(root, about, split, entry):
                if file not in done:
                    done.add(file)
                    yield file, image
    if has_splits:
        return
    for file in list_label_files(about.parent):  # some tools write class names only, with labels in subfolders
        done.add(file)
        yield file, _image_of(file, about.parent)
    if not done:
        raise PipelineError(Problem("lists no images: expected `train`, `val` or `test`", str(about)))


def _split_entries(data: Mapping[str, Any], split: str, about: Path) -> list[str]:
    """The entries of a split: folders of images, or text files that list images."""
    found = data.get(split) or []
    entries = [found] if isinstance(found, str) else found
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise PipelineError(Problem(f"`{split}` must be a path or a list of paths, not {shorten(found)}", str(about)))
    return [entry.replace("\\", "/") for entry in entries]


def _list_split(root: Path, about: Path, split: str, entry: str) -> Iterator[tuple[Path, str]]:
    """(label file, path of its image) of one entry: a folder of images, or a text file that lists images.

    `test` may be missing, or have no labels.
    """
    entries = [entry, entry[3:]] if entry.startswith("../") else [entry]  # Roboflow's are relative to a subfolder
    places = [base / path for path in entries for base in (root, about.parent)]
    place = next((path for path in places if path.exists()), None)
    if place is None:  # labels without images
        place = next((path for path in places if _label_folder(path).is_dir() and _label_folder(path) != path), None)
    if place is None:
        if split == "test":
            return
        raise PipelineError(Problem(f"{split}: '{root / entry}' does not exist", str(about)))
    if place.suffix.lower() == ".txt":
        yield from _list_from_text(place, root)
        return
    place = Path(os.path.normpath(place))
    folder = _label_folder(place)
    if folder.is_dir():
        for file in list_label_files(folder):
            yield file, _relative_path(place / file.relative_to(folder).with_suffix(""), root)
    elif split != "test":
        raise PipelineError(Problem(f"{split}: its label folder '{folder}' does not exist", str(about)))


def _label_folder(place: Path) -> Path:
    """The folder of the labels for a folder of images."""
    return Path(*_swap_folder([*place.parts, ""], "images", "labels")[:-1])


def _list_from_text(place: Path, root: Path) -> Iterator[tuple[Path, str]]:
    """(label file, path of its image) of the images that a text file lists and that have a label file.

    Leading folders of a path that does not exist are dropped: lists are written on other machines, and CVAT
    adds `data/`.
    """
    for line in read_lines(place):
        parts = line.strip().replace("\\", "/").split("/")
        for first in range(len(parts) if parts[-1] else 0):
            image = Path(os.path.normpath(place.parent / "/".join(parts[first:])))
            file = Path(*_swap_folder(image.parts, "images", "labels")).with_suffix(".txt")
            if file.is_file() and not is_unrelated(file.name):
                yield file, _relative_path(image.with_suffix(""), root)
                break


def _relative_path(path: Path, root: Path) -> str:
    root = Path(os.path.normpath(root))
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _split_rows(file: Path) -> list[list[str]]:
    """The columns of each line of a label file."""
    return [text.split() for text in read_lines(file)]


def _read_labels(file: Path, image: str, settings: YoloSettings, whole: DatasetForm) -> Iterator[FileItem]:
    yield AnnotatedImage(str(file), image, file=str(file), relative=True)
    rows = _split_rows(file)
    form = whole.of_file(rows)
    for line, columns in enumerate(rows, 1):
        if not columns:
            continue
        try:
            points, others = parse_keypoints(columns, settings.keypoints)
            box, score, polygon = parse_box(others, form)
            name = parse_class(columns[0], settings.names)
        except AnnotationError as error:
            yield Annotation(str(file), f"line {line}", "", str(file), line, error=str(error))
        else:
            # oriented boxes are boxes
            shape = yolo_shape(polygon) if polygon and settings.task != "obb" else ()
            where = (str(file), f"line {line}", "", str(file), line)
            yield Annotation(*where, box, points, label=name, score=score, shape=shape)
