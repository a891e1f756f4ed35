"""Which format a file or folder is of, told by what is in it."""

from __future__ import annotations

import os
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from maskmill import PipelineError, Problem, PromptError
from maskmill_plugins._shared.text_files import report_unreadable, split_row

from .coco import read_coco
from .json_stream import JsonStream
from .labelme import read_labelme
from .model import FileItem
from .voc import files_below, read_voc
from .yolo import YAML, is_other, read_yolo, settings_file

#: Format -> what reads its pieces; those that are read line by line are in `promptfiles.READERS`.
FORMATS: Mapping[str, Callable[[Path], Iterator[FileItem]]] = {
    "coco": read_coco,
    "labelme": read_labelme,
    "voc": read_voc,
    "yolo": read_yolo,
}
#: Ending -> format, where the content does not tell.
ENDINGS = {".jsonl": "jsonl", ".csv": "csv", ".xml": "voc", ".txt": "yolo", ".yaml": "yolo", ".yml": "yolo"}
#: The first of these keys that a JSON file has tells its format.
KEYS = {"image": "jsonl", "prompts": "jsonl", "shapes": "labelme", "imagePath": "labelme", "imageData": "labelme"}
KEYS |= dict.fromkeys(("images", "annotations", "categories", "licenses"), "coco")
#: How text begins that Windows editors write as "Unicode".
UTF16 = (BOM_UTF16_LE, BOM_UTF16_BE)
#: Bytes that are looked at.
HEAD = 1 << 16
#: Files of a folder that are looked at.
LOOKED_AT = 1000


def detect(path: Path) -> str:
    """The format of a file or folder.

    Raises:
        PipelineError: it cannot be told, or the folder holds several.
    """
    return _of_folder(path) if path.is_dir() else _of_file(path)


def one_file(path: Path, name: str) -> Path:
    """The file to read of a folder and all below it, for formats that are one file.

    Raises:
        PipelineError: the folder holds several or none.
    """
    if not path.is_dir():
        return path
    ending = {"coco": ".json"}.get(name, f".{name}")
    files = [file for file, _ in files_below(path, ending) if not is_other(file.name)]
    if len(files) != 1:
        several = f"several {ending} files ({files[0].name}, {files[1].name}, ...)" if files else f"no {ending} file"
        raise PipelineError(Problem(f"holds {several}", str(path), hint="name the file instead of the folder"))
    return files[0]


def _head(path: Path) -> bytes:
    with report_unreadable(path), path.open("rb") as file:
        return file.read(HEAD)


def _of_file(path: Path) -> str:
    raw = _head(path)
    ending = path.suffix.lower()
    found = ENDINGS.get(ending)
    head = raw.removeprefix(BOM_UTF8).lstrip()
    if head[:1] == b"<":
        return "voc"
    if head[:1] in (b"{", b"["):
        return _of_json(path, head, found)
    if ending in YAML:
        return "yolo"
    return _of_lines(head) or found or _unknown(path, raw)


def _of_json(path: Path, head: bytes, found: str | None) -> str:
    if head[:1] == b"[":
        return "coco"  # which is refused there, with the reason
    try:
        for key in JsonStream(path).keys():  # noqa: SIM118 - a generator, no mapping
            if key in KEYS:
                return KEYS[key]
    except PipelineError:
        if found != "jsonl":
            raise
    return "jsonl" if found == "jsonl" else _unknown(path, head)


def _of_lines(head: bytes) -> str | None:
    """CSV by its first line, YOLO by a line of numbers."""
    lines = head.decode("utf-8", "replace").splitlines()
    if not lines:
        return None
    with suppress(PromptError):
        if {"image", "x1", "y1", "x2", "y2"} <= {field.strip().lower() for field in split_row(lines[0])}:
            return "csv"
    words = lines[0].split()
    return "yolo" if len(words) >= 5 and all(_is_number(word) for word in words) else None


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _unknown(path: Path, head: bytes) -> str:
    if not head.strip():
        raise PipelineError(Problem("is empty", str(path)))
    if head.startswith(UTF16) or b"\0" in head:  # no text has a zero byte
        raise PipelineError(Problem("not UTF-8 text; save the file as UTF-8", str(path)))
    raise PipelineError(
        Problem(f"the content of '{path}' does not tell its format", hint="write `format:` and its name")
    )


def _of_folder(path: Path) -> str:
    if settings_file(path) is not None:
        return "yolo"
    found: dict[str, Path] = {}
    looked = 0
    for folder, _, files in os.walk(path):
        for name in files:
            ending = Path(name).suffix.lower()
            looked += 1
            if (ending in ENDINGS or ending == ".json") and ending not in YAML and not is_other(name):
                found.setdefault(ending, Path(folder, name))
        if looked > LOOKED_AT:
            break
    if len(found) > 1 and ".txt" in found and not _is_label_file(found[".txt"]):
        del found[".txt"]  # such as the lists of images beside VOC's XML files
    if len(found) > 1:
        text = f"holds {' and '.join(sorted(found))} files"
        raise PipelineError(Problem(text, str(path), hint="name the file, or write `format:`"))
    if not found:
        raise PipelineError(Problem("holds no file of prompts or annotations", str(path)))
    ((_, file),) = found.items()
    return _of_file(file)


def _is_label_file(path: Path) -> bool:
    """Whether a text file is one of YOLO's, which may be empty."""
    head = _head(path)
    return not head.strip() or _of_lines(head) == "yolo"
