"""Detection of the format of a file or folder by its content."""

from __future__ import annotations

import json
import os
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from maskmill import PipelineError, Problem, PromptError
from maskmill_plugins._shared.text_files import report_unreadable, split_row

from .coco import read_coco
from .json_stream import JsonStream
from .labelme import read_labelme
from .model import FileItem
from .voc import list_files, read_voc
from .yolo import is_unrelated, read_yolo
from .yolo_settings import YAML, find_data_yaml

#: Format -> its reader; formats that are read line by line are in `prompt_files.formats.READERS`.
FORMATS: Mapping[str, Callable[[Path], Iterator[FileItem]]] = {
    "coco": read_coco,
    "labelme": read_labelme,
    "voc": read_voc,
    "yolo": read_yolo,
}
#: Suffix -> format, where the content is ambiguous.
SUFFIX_FORMATS = {".jsonl": "jsonl", ".csv": "csv", ".xml": "voc", ".txt": "yolo", ".yaml": "yolo", ".yml": "yolo"}
#: Key of a JSON file -> format; the first key found decides.
KEYS = {"image": "jsonl", "prompts": "jsonl", "shapes": "labelme", "imagePath": "labelme", "imageData": "labelme"}
KEYS |= dict.fromkeys(("images", "annotations", "categories", "licenses"), "coco")
#: Byte order marks of UTF-16, which Windows editors call "Unicode".
UTF16 = (BOM_UTF16_LE, BOM_UTF16_BE)
#: The record of an export by an older version; today it is hidden.
OLD_RECORD = "export.jsonl"
#: Bytes of a file that are examined.
HEAD_SIZE = 1 << 16
#: Files of a folder that are examined.
MAX_FILES = 1000


def detect_format(path: Path) -> str:
    """The format of a file or folder.

    Raises:
        PipelineError: it cannot be detected, or the folder contains several formats.
    """
    return _detect_in_folder(path) if path.is_dir() else _detect_file(path)


def find_one_file(path: Path, name: str) -> Path:
    """The one file to read in a folder and its subfolders, for formats that consist of one file.

    Raises:
        PipelineError: the folder contains several or none.
    """
    if not path.is_dir():
        return path
    ending = {"coco": ".json"}.get(name, f".{name}")
    files = [file for file, _ in list_files(path, ending) if not is_unrelated(file.name)]
    if len(files) != 1:
        several = f"several {ending} files ({files[0].name}, {files[1].name}, ...)" if files else f"no {ending} file"
        raise PipelineError(Problem(f"contains {several}", str(path), hint="give the file instead of the folder"))
    return files[0]


def _read_head(path: Path) -> bytes:
    with report_unreadable(path), path.open("rb") as file:
        return file.read(HEAD_SIZE)


def _detect_file(path: Path) -> str:
    raw = _read_head(path)
    ending = path.suffix.lower()
    found = SUFFIX_FORMATS.get(ending)
    head = raw.removeprefix(BOM_UTF8).lstrip()
    if head[:1] == b"<":
        return "voc"
    if head[:1] in (b"{", b"["):
        return _detect_json(path, head, found)
    if ending in YAML:
        return "yolo"
    return _detect_lines(head) or found or _raise_unknown(path, raw)


def _detect_json(path: Path, head: bytes, found: str | None) -> str:
    if head[:1] == b"[":
        return "coco"  # read_coco reports what is wrong with it
    try:
        for key in JsonStream(path).keys():  # noqa: SIM118 - a generator, not a mapping
            if key in KEYS:
                return KEYS[key]
    except PipelineError:
        if found != "jsonl":
            raise
    return "jsonl" if found == "jsonl" else _raise_unknown(path, head)


def _detect_lines(head: bytes) -> str | None:
    """The format of a text file: CSV by its header, YOLO by a line of numbers."""
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


def _raise_unknown(path: Path, head: bytes) -> NoReturn:
    if not head.strip():
        raise PipelineError(Problem("is empty", str(path)))
    if head.startswith(UTF16) or b"\0" in head:  # UTF-8 text has no zero bytes
        raise PipelineError(Problem("not UTF-8 text; save the file as UTF-8", str(path)))
    raise PipelineError(Problem(f"the format of '{path}' cannot be detected", hint="set `format:`"))


def _detect_in_folder(path: Path) -> str:
    if find_data_yaml(path) is not None:
        return "yolo"
    found: dict[str, Path] = {}
    examined = 0
    for folder, _, files in os.walk(path):
        for name in files:
            ending = Path(name).suffix.lower()
            examined += 1
            if (
                (ending in SUFFIX_FORMATS or ending == ".json")
                and ending not in YAML
                and not _is_passed_over(folder, name)
            ):
                found.setdefault(ending, Path(folder, name))
        if examined > MAX_FILES:
            break
    if len(found) > 1 and ".txt" in found and not _is_label_file(found[".txt"]):
        del found[".txt"]  # such as the image lists that accompany VOC's XML files
    if len(found) > 1 and ".csv" in found and _detect_lines(_read_head(found[".csv"]).removeprefix(BOM_UTF8)) != "csv":
        del found[".csv"]  # such as the tables that accompany what our writers write
    if len(found) > 1:
        text = f"contains {' and '.join(sorted(found))} files"
        raise PipelineError(Problem(text, str(path), hint="give the file, or set `format:`"))
    if not found:
        raise PipelineError(Problem("contains no prompts or annotation files", str(path)))
    ((_, file),) = found.items()
    return _detect_file(file)


def _is_passed_over(folder: str, name: str) -> bool:
    """Whether a file cannot be one of annotations, by its name: hidden, a README, the record of an export."""
    return name.startswith(".") or is_unrelated(name) or (name == OLD_RECORD and _is_record(Path(folder, name)))


def _is_record(path: Path) -> bool:
    with suppress(ValueError):
        head = json.loads(_read_head(path).partition(b"\n")[0])
        return isinstance(head, dict) and {"schema", "maskmill", "writer"} <= head.keys()
    return False


def _is_label_file(path: Path) -> bool:
    """Whether a text file is a YOLO label file, which may be empty."""
    head = _read_head(path)
    return not head.strip() or _detect_lines(head) == "yolo"
