"""Pascal VOC: its palette, the XML file of an image, and the lists of class names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from maskmill import Artifact, ImageResult

from .class_files import write_renamed
from .classes import BACKGROUND, NOT_IN_LINE, label_of, rename_class
from .output_files import save_as

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What XML, a line of text, or a field of `labelmap.txt` cannot hold, and its mark of a comment.
_FORBIDDEN = re.compile(f"{NOT_IN_LINE.pattern}|^\\s*#|:")


def name_class(label: str) -> str:
    """The name of a class in all files of the format."""
    return rename_class(label, _FORBIDDEN, {BACKGROUND})


def voc_palette() -> list[int]:
    """The 256 colours of the VOC development kit, [red, green, blue, ...], from the bits of each number."""
    colors = []
    for number in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit) if 3 * bit + channel < 8 else 0
        colors += rgb
    return colors


def make_annotation(result: ImageResult, size: tuple[int, int], folder: str, name: str) -> bytes:
    """The XML file of an image.

    Args:
        result: its masks become objects with boxes.
        size: height and width.
        folder: of the picture.
        name: of the picture, relative to the folder.
    """
    root = ElementTree.Element("annotation")
    _add(root, "folder", folder)
    _add(root, "filename", name)
    _add(_add(root, "source"), "database", "maskmill")
    about = _add(root, "size")
    for tag, number in (("width", size[1]), ("height", size[0]), ("depth", 3)):
        _add(about, tag, number)
    _add(root, "segmented", int(bool(result.kept)))
    for mask in result.kept:
        if (box := mask.box) is None:
            continue
        item = _add(root, "object")
        cut_off = box.x1 == 0 or box.y1 == 0 or box.x2 == size[1] or box.y2 == size[0]
        for tag, text in (("name", name_class(label_of(mask))), ("pose", "Unspecified"), ("truncated", int(cut_off))):
            _add(item, tag, text)
        _add(item, "difficult", 0)
        corners = _add(item, "bndbox")
        for tag, value in (("xmin", box.x1 + 1), ("ymin", box.y1 + 1), ("xmax", box.x2), ("ymax", box.y2)):
            _add(corners, tag, int(value))
    ElementTree.indent(root, "\t")
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _add(parent: ElementTree.Element, tag: str, value: Any = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    if value is not None:
        child.text = _NO_XML.sub("\ufffd", str(value))
    return child


def write_label_lists(folder: Path, classes: Sequence[str]) -> Iterator[Artifact]:
    """Write `labels.txt` (a name per line, from number 0), `labelmap.txt` (for CVAT and Datumaro) and `renamed.csv`."""
    tones = voc_palette()
    names = [BACKGROUND, *map(name_class, classes)]
    rows = [f"{name}:{','.join(map(str, tones[3 * at : 3 * at + 3]))}::\n" for at, name in enumerate(names)]
    texts = {
        "labels.txt": "".join(f"{name}\n" for name in names),
        "labelmap.txt": "# label:color_rgb:parts:actions\n" + "".join(rows),
    }
    for file, text in texts.items():
        yield save_as(folder, file, text.encode())
    yield from write_renamed(folder, classes, name_class)
