"""Pascal VOC XML: one file per image, `<object>` with `<name>` and `<bndbox>`.

VOC counts pixels from 1 and includes the last one: xmin 1, xmax 10 are the first ten columns. In maskmill's
coordinates (pixel edges, counted from 0) that is x1 0, x2 10, so 1 is subtracted from xmin and ymin. Boxes
of tools that count from 0 grow by one pixel to the left and to the top.

The pixels of the objects are in `SegmentationObject`, a PNG file for each image: the value is the object's number.

Reference: Everingham et al., The PASCAL VOC2012 Development Kit, section "Annotation".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from maskmill import PipelineError, Problem

from .model import AnnotatedImage, Annotation, AnnotationError, Corners, FileItem, parse_number, pixel_count
from .own_tables import read_own_labels, read_own_names
from .shapes import voc_shape
from .xml_tree import Node, read_xml

_XML_FOLDER, _MAP_FOLDER = "Annotations", "SegmentationObject"
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(path: Path) -> Iterator[FileItem]:
    """The items of an XML file, or of all XML files in a folder.

    Raises:
        PipelineError: a file is not XML, or not in VOC's format.
    """
    names, labels = read_own_names(path), read_own_labels(path)
    for file, folder in list_files(path, ".xml"):
        known = names.get(os.path.abspath(file))  # noqa: PTH100 - no links are resolved
        yield from _read_file(file, folder, known, labels)


def list_files(path: Path, suffix: str) -> Iterator[tuple[Path, str]]:
    """(file, its folder relative to the path) of the files with this suffix, sorted; of the path itself if a file."""
    if path.is_file():
        yield path, ""
        return
    for folder, folders, files in os.walk(path):
        folders.sort()
        below = Path(folder).relative_to(path).as_posix()
        for name in sorted(files):
            if name.lower().endswith(suffix) and not name.startswith("."):
                yield Path(folder, name), "" if below == "." else f"{below}/"


def _read_file(file: Path, folder: str, known: str | None, labels: Mapping[str, str]) -> Iterator[FileItem]:
    root = read_xml(file)
    if root.tag != "annotation":
        raise PipelineError(
            Problem(f"not a VOC file: its root is <{root.tag}>, not <annotation>", str(file), root.line)
        )
    written = root.value("filename").replace("\\", "/").rpartition("/")[2]
    name = known or f"{folder}{written or file.stem}"
    try:
        size = _image_size(root)
    except AnnotationError as error:
        raise PipelineError(Problem(str(error), str(file), (root.first("size") or root).line)) from None
    yield AnnotatedImage(str(file), name, size, "", str(file), root.line)
    numbers = find_object_map(file)
    for at, node in enumerate(root.all("object"), 1):
        label = node.value("name") or None
        label = labels.get(label, label) if label else None
        place = f"object {at}" + (f" ({label})" if label else "")
        try:
            box = _read_box(node)
        except AnnotationError as error:
            yield Annotation(str(file), f"object {at}", place, str(file), node.line, label=label, error=str(error))
        else:
            where = (str(file), f"object {at}", place, str(file), node.line)
            yield Annotation(*where, box, label=label, shape=voc_shape(numbers, at))


def find_object_map(file: Path) -> Path | None:
    """The PNG file with the numbers of an XML file's objects: in the folder that stands beside `Annotations`."""
    parts = list(file.parent.parts)
    if _XML_FOLDER not in parts:
        return None
    parts[len(parts) - 1 - parts[::-1].index(_XML_FOLDER)] = _MAP_FOLDER
    found = Path(*parts, f"{file.stem}.png")
    return found if found.is_file() else None


def _image_size(root: Node) -> tuple[int, int] | None:
    """(height, width); None if it is missing or 0, as some tools write it."""
    node = root.first("size")
    texts = [] if node is None else [node.value(name) for name in ("height", "width")]
    if not any(texts):
        return None
    sides = [parse_number(text, f"the {name} in <size>") for name, text in zip(("height", "width"), texts, strict=True)]
    if sides == [0, 0]:
        return None
    return pixel_count(sides[0], "the height in <size>"), pixel_count(sides[1], "the width in <size>")


def _read_box(node: Node) -> Corners:
    around = node.first("bndbox")
    if around is None:
        raise AnnotationError("<bndbox> is missing")
    if missing := [name for name in CORNERS if around.first(name) is None]:
        raise AnnotationError(f"<{missing[0]}> is missing in its <bndbox>")
    x1, y1, x2, y2 = (parse_number(around.value(name), f"<{name}>") for name in CORNERS)
    if x2 < x1 or y2 < y1:
        raise AnnotationError(f"its <bndbox> has a maximum below its minimum: {x1:g}, {y1:g}, {x2:g}, {y2:g}")
    return x1 - 1, y1 - 1, x2, y2
