"""voc: the layout of Pascal VOC: class and object PNGs with its palette, and boxes in XML."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import PIL.Image
from pydantic import Field

from maskmill import Artifact, Image, ImageError, ImageResult, Mask, OutputError, Problem, Writer, hookimpl
from maskmill_plugins._shared.drawing.pixels import check_cv2, encode_png, load_cv2
from maskmill_plugins._shared.export.classes import UNLABELLED, choose_split, find_duplicates, order_labels
from maskmill_plugins._shared.export.file_names import NAMES_MEANING, Names, stem_path
from maskmill_plugins._shared.export.mask_map import make_mask_map, measure_kept, summarize_iou
from maskmill_plugins._shared.export.output_files import StemTable, save_as, save_lines, temporary_file

VOID = 255
SETS = "ImageSets/Segmentation"
_MAX_NUMBERS = VOID - 1
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_LABELMAP = re.compile(r"^#|:")  # a comment, and the separator of fields
_FILES = ("Annotations/{}.xml", "SegmentationObject/{}.png", "SegmentationClass/{}.png")


class Voc(Writer):
    """`SegmentationClass`, `SegmentationObject`, `Annotations` and `ImageSets`, in the layout of Pascal VOC 2012.

    A pixel's value is 1 + the number of its mask in an object PNG and the number of its class in a class
    PNG; `labels.txt` lists the classes, starting with 0 for the background; 255 is void. Holes and parts
    are kept exactly. A pixel has one value: where masks overlap, the smaller one wins, and the resulting
    `iou` is noted. Boxes in the XML count pixels from 1 and include the last one. Images are not copied.
    """

    needs_pixels: ClassVar[bool] = False

    classes: tuple[str, ...] = Field(
        (),
        description="all labels, in the order of their numbers, from 1; an image with another label fails, and workers"
        " write the class PNGs. Empty: all labels found, in alphabetical order, numbers by value; class PNGs"
        " are written at the end",
    )
    border: int = Field(
        0, ge=0, le=50, description="width of the void area on either side of an object's border, in pixels"
    )
    val: float = Field(
        0.2, ge=0, lt=1, description="share of the images in `val.txt`, chosen by a hash of the key; the others train"
    )
    names: Names = Field("stem", description=NAMES_MEANING)

    def check(self) -> list[Problem]:
        """OpenCV must load if it finds borders, each class be given once, and there must be enough numbers."""
        problems = [*(check_cv2() if self.border else []), *find_duplicates("classes", self.classes)]
        if len(self.classes) > _MAX_NUMBERS:
            problems.append(Problem(f"classes: the format allows at most {_MAX_NUMBERS}, not {len(self.classes)}"))
        return problems

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the object PNG and the XML file, and the class PNG if `classes` is given.

        Raises:
            ImageError: there are more masks than the format allows, or a label is not in `classes`.
        """
        stem, size = stem_path(result.key, self.names), result.size or image.size
        if len(result.kept) > _MAX_NUMBERS:
            raise ImageError(
                f"the format allows at most {_MAX_NUMBERS} objects, not {len(result.kept)}; drop some with a filter"
            )
        numbers = make_mask_map(result.kept, size)
        if self.border:
            numbers[_find_borders(numbers, self.border)] = VOID
        if measured := summarize_iou(measure_kept(numbers, result.kept)):
            self.note("iou", measured)
        xml, objects, classes = (name.format(stem) for name in _FILES)
        artifacts = [
            save_as(folder, xml, _make_annotation(result, size)),
            save_as(folder, objects, _encode_indexed(numbers)),
        ]
        if self.classes:
            known = {name: number for number, name in enumerate(self.classes, start=1)}
            if unknown := sorted({_label(mask) for mask in result.kept} - set(known)):
                raise ImageError(f"the label {unknown[0]!r} is not in classes: {', '.join(self.classes)}")
            of_class = _to_class_map(numbers, [known[_label(mask)] for mask in result.kept])
            artifacts.append(save_as(folder, classes, _encode_indexed(of_class)))
        return artifacts

    def finish(self, results: Iterator[ImageResult], folder: Path) -> Iterator[Artifact]:
        """Write the lists of images and labels, and the class PNGs unless workers did; remove outdated files.

        Raises:
            OutputError: two images would share a file, there are too many classes, or an object PNG is missing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        labels: dict[str, int] = {}
        with ExitStack() as stack:
            stems = stack.enter_context(StemTable())
            waiting = stack.enter_context(temporary_file(folder))
            sets = {name: stack.enter_context(temporary_file(folder)) for name in ("train", "val", "trainval")}
            for result in results:
                stem = stem_path(result.key, self.names)
                stems.add(stem, result.key)
                for name in (choose_split(result.key, self.val), "trainval"):
                    sets[name].write(f"{stem}\n")
                if not self.classes:
                    found = [labels.setdefault(_label(mask), len(labels)) for mask in result.kept]
                    waiting.write(json.dumps([stem, found]) + "\n")
            classes = list(self.classes) or order_labels((), labels)
            yield from _write_classes(folder, waiting, labels, classes)
            stems.remove_outdated(folder, folder / SETS / "trainval.txt", _FILES)
            for name, lines in sets.items():
                lines.seek(0)
                yield save_lines(folder, f"{SETS}/{name}.txt", lines)
        yield from _write_label_lists(folder, classes)


def _label(mask: Mask) -> str:
    return mask.label or UNLABELLED


def _find_borders(numbers: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.bool_]:
    """The pixels that have a different number within `width` pixels."""
    cv2 = load_cv2()
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(numbers, kernel) != cv2.erode(numbers, kernel))


def _to_class_map(numbers: npt.NDArray[np.uint8], of_object: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Convert an object map to a class map."""
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    table[1 : len(of_object) + 1] = of_object
    return np.asarray(table[numbers])


def _encode_indexed(numbers: npt.NDArray[np.uint8]) -> bytes:
    return encode_png(numbers, flat=True, palette=voc_palette())


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


def _make_annotation(result: ImageResult, size: tuple[int, int]) -> bytes:
    root = ElementTree.Element("annotation")
    *folders, name = result.key.split("/")
    _add(root, "folder", "/".join(folders))
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
        for tag, text in (("name", _label(mask)), ("pose", "Unspecified"), ("truncated", int(cut_off))):
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


def _write_classes(folder: Path, waiting: IO[str], labels: dict[str, int], classes: list[str]) -> Iterator[Artifact]:
    """Write the class PNGs of the waiting images from their object PNGs."""
    if len(classes) > _MAX_NUMBERS:
        raise OutputError(
            f"the format allows at most {_MAX_NUMBERS} classes, not {len(classes)}; merge some with class_map"
        )
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    by_number = [numbers[name] for name in labels]
    waiting.seek(0)
    for line in waiting:
        stem, found = json.loads(line)
        _, objects, target = (name.format(stem) for name in _FILES)
        try:
            data = (folder / objects).read_bytes()
            with PIL.Image.open(io.BytesIO(data)) as picture:
                of_object = np.asarray(picture)
        except OSError as error:
            text = f"{folder / objects}: {getattr(error, 'strerror', None) or error}"
            raise OutputError(Problem(text, hint="run again with --verify to recreate missing files")) from None
        of_class = _to_class_map(of_object, [by_number[number] for number in found])
        yield save_as(folder, target, _encode_indexed(of_class))


def _write_label_lists(folder: Path, classes: Sequence[str]) -> list[Artifact]:
    """Write `labels.txt`, one label per line starting with number 0, and `labelmap.txt` for CVAT and Datumaro."""
    tones = voc_palette()
    names = ["background", *(re.sub(r"[\r\n]", " ", name) for name in classes)]
    rows = [
        f"{name}:{','.join(map(str, tones[3 * number : 3 * number + 3]))}::\n"
        for number, name in enumerate(_make_labelmap_names(names))
    ]
    texts = {
        "labels.txt": "".join(f"{name}\n" for name in names),
        "labelmap.txt": "# label:color_rgb:parts:actions\n" + "".join(rows),
    }
    return [save_as(folder, name, text.encode("utf-8", "backslashreplace")) for name, text in texts.items()]


def _make_labelmap_names(names: Sequence[str]) -> Iterator[str]:
    """The names in a form valid in `labelmap.txt`, made unique because its readers require that."""
    seen: set[str] = set()
    for name in names:
        known = _NO_LABELMAP.sub("_", name.strip())
        while known in seen:
            known += "_"
        seen.add(known)
        yield known


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `voc`."""
    register("voc", Voc)
