"""Pascal VOC XML: a file an image, `<object>` with `<name>` and `<bndbox>`.

VOC counts pixels from 1 and includes the last one: xmin 1, xmax 10 are the first ten columns, which in
maskmill's coordinates, edges of pixels counted from 0, is x1 0, x2 10. So 1 is taken from xmin and
ymin. Tools that write VOC files with numbers from 0 are thereby moved by at most one pixel, outwards.

Reference: Everingham et al., The PASCAL VOC2012 Development Kit, section "Annotation".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from maskmill import PipelineError, Problem

from .model import AnnotatedImage, Annotation, AnnotationError, Corners, FileItem, parse_number, pixel_count
from .xml_tree import Node, read_xml

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Iterator[FileItem]:
    """The pieces of an XML file, or of all in a folder.

    Raises:
        PipelineError: a file is no XML, or not VOC's.
    """
    for file, folder in files_below(path, ".xml"):
        yield from _file(file, folder)


def files_below(path: Path, ending: str) -> Iterator[tuple[Path, str]]:
    """(file, its folder below the path) of the files with this ending, sorted; a file is itself."""
    if path.is_file():
        yield path, ""
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        below = Path(folder).relative_to(path).as_posix()
        for name in sorted(files):
            if name.lower().endswith(ending) and not name.startswith("."):
                yield Path(folder, name), "" if below == "." else f"{below}/"


def _file(file: Path, folder: str) -> Iterator[FileItem]:
    root = read_xml(file)
    if root.tag != "annotation":
        raise PipelineError(Problem(f"no VOC file: its root is <{root.tag}>, not <annotation>", str(file), root.line))
    written = root.value("filename").replace("\\", "/").rpartition("/")[2]
    name = f"{folder}{written or file.stem}"
    try:
        size = _size(root)
    except AnnotationError as fault:
        raise PipelineError(Problem(str(fault), str(file), (root.first("size") or root).line)) from None
    yield AnnotatedImage(str(file), name, size, "", str(file), root.line)
    for at, node in enumerate(root.all("object"), 1):
        label = node.value("name") or None
        place = f"object {at}" + (f" ({label})" if label else "")
        try:
            box = _box(node)
        except AnnotationError as fault:
            yield Annotation(str(file), f"object {at}", place, str(file), node.line, label=label, fault=str(fault))
        else:
            yield Annotation(str(file), f"object {at}", place, str(file), node.line, box, label=label)


def _size(root: Node) -> tuple[int, int] | None:
    """(height, width); None where it is missing or 0, as some tools write it."""
    node = root.first("size")
    texts = [] if node is None else [node.value(name) for name in ("height", "width")]
    if not any(texts):
        return None
    sides = [parse_number(text, f"the {name} in <size>") for name, text in zip(("height", "width"), texts, strict=True)]
    if sides == [0, 0]:
        return None
    return pixel_count(sides[0], "the height in <size>"), pixel_count(sides[1], "the width in <size>")


def _box(node: Node) -> Corners:
    around = node.first("bndbox")
    if around is None:
        raise AnnotationError("has no <bndbox>")
    if missing := [name for name in CORNERS if around.first(name) is None]:
        raise AnnotationError(f"its <bndbox> has no <{missing[0]}>")
    x1, y1, x2, y2 = (parse_number(around.value(name), f"<{name}>") for name in CORNERS)
    if x2 < x1 or y2 < y1:
        raise AnnotationError(f"its <bndbox> ends before it begins: {x1:g}, {y1:g}, {x2:g}, {y2:g}")
    return x1 - 1, y1 - 1, x2, y2
