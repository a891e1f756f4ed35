"""voc: Pascal VOC's layout: class and object PNGs with its palette, and boxes in XML."""

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
from maskmill_plugins._shared.drawing.pixels import encode_png, load_cv2
from maskmill_plugins._shared.export.classes import UNLABELLED, choose_split, find_duplicates, order_labels
from maskmill_plugins._shared.export.file_names import NAMES_MEANING, Names, stem_path
from maskmill_plugins._shared.export.mask_map import make_mask_map, measure_kept, summarize_iou
from maskmill_plugins._shared.export.output_files import StemTable, remove_file, save_as, temporary_file

VOID = 255
SETS = "ImageSets/Segmentation"
_MOST = VOID - 1
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_LABELMAP = re.compile(r"^#|:")  # there a comment, and what parts the fields
_FILES = ("Annotations/{}.xml", "SegmentationObject/{}.png", "SegmentationClass/{}.png")


class Voc(Writer):
    """`SegmentationClass`, `SegmentationObject`, `Annotations` and `ImageSets`, in the layout of Pascal VOC 2012.

    A pixel's value in an object PNG is 1 + the number of its mask, in a class PNG the number of its
    class, as `labels.txt` lists them from 0 (background) on; 255 is void. Holes and parts are kept
    exactly. A pixel has one value: where masks overlap the smaller one wins, and what the other loses
    is noted as `iou`. Boxes in the XML count pixels from 1 and include the last one. Images are not copied.
    """

    needs_pixels: ClassVar[bool] = False

    classes: tuple[str, ...] = Field(
        (),
        description="all labels, in the order of their numbers, from 1; an image with another label fails. Workers"
        " then write the class PNGs. Empty: all labels there are, in alphabetical order, written at the end",
    )
    border: int = Field(0, ge=0, le=50, description="pixels on either side of an object's border that become void")
    val: float = Field(
        0.2, ge=0, lt=1, description="share of the images in `val.txt`, chosen by a hash of the key; the others train"
    )
    names: Names = Field("stem", description=NAMES_MEANING)

    def check(self) -> list[Problem]:
        """Each class is given once, and there are numbers for all."""
        problems = find_duplicates("classes", self.classes)
        if len(self.classes) > _MOST:
            problems.append(Problem(f"classes: the format numbers {_MOST} of them, not {len(self.classes)}"))
        return problems

    def open(self) -> None:
        """Find out early whether OpenCV works, which finds the borders."""
        if self.border:
            load_cv2()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the object PNG and the XML file, and the class PNG if the numbers are known already.

        Raises:
            ImageError: more masks than the format can number, or a label that is not in `classes`.
        """
        stem, size = stem_path(result.key, self.names), result.size or image.size
        if len(result.kept) > _MOST:
            raise ImageError(f"the format numbers {_MOST} objects, not {len(result.kept)}; drop some with a filter")
        numbers = make_mask_map(result.kept, size)
        if self.border:
            numbers[_borders(numbers, self.border)] = VOID
        if measured := summarize_iou(measure_kept(numbers, result.kept)):
            self.note("iou", measured)
        xml, objects, classes = (name.format(stem) for name in _FILES)
        artifacts = [
            save_as(folder, xml, _annotation(result, size)),
            save_as(folder, objects, _indexed(numbers)),
        ]
        if self.classes:
            known = {name: number for number, name in enumerate(self.classes, start=1)}
            if unknown := sorted({_label(mask) for mask in result.kept} - set(known)):
                raise ImageError(f"the label {unknown[0]!r} is not in classes: {', '.join(self.classes)}")
            of_class = _classes(numbers, [known[_label(mask)] for mask in result.kept])
            artifacts.append(save_as(folder, classes, _indexed(of_class)))
        return artifacts

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the lists of images and labels, and the class PNGs, unless workers did; remove what is out of date.

        Raises:
            OutputError: two images share a file, there are more classes than numbers, or an object PNG is gone.
        """
        folder.mkdir(parents=True, exist_ok=True)
        labels: dict[str, int] = {}
        with ExitStack() as stack:
            listing = stack.enter_context(StemTable())
            waiting = stack.enter_context(temporary_file(folder))
            sets = {name: stack.enter_context(temporary_file(folder)) for name in ("train", "val", "trainval")}
            for result in results:
                stem = stem_path(result.key, self.names)
                listing.add(stem, result.key)
                for name in (choose_split(result.key, self.val), "trainval"):
                    sets[name].write(f"{stem}\n")
                if not self.classes:
                    found = [labels.setdefault(_label(mask), len(labels)) for mask in result.kept]
                    waiting.write(json.dumps([stem, found]) + "\n")
            classes = list(self.classes) or order_labels((), labels)
            artifacts = _write_classes(folder, waiting, labels, classes)
            _remove_gone(folder, listing)
            for name, lines in sets.items():
                lines.seek(0)
                artifacts.append(save_as(folder, f"{SETS}/{name}.txt", lines.read().encode()))
        return [*artifacts, *_label_lists(folder, classes)]


def _label(mask: Mask) -> str:
    return mask.label or UNLABELLED


def _borders(numbers: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.bool_]:
    """Pixels with another number within `width` pixels."""
    cv2 = load_cv2()
    kernel = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    return np.asarray(cv2.dilate(numbers, kernel) != cv2.erode(numbers, kernel))


def _classes(numbers: npt.NDArray[np.uint8], of_object: Sequence[int]) -> npt.NDArray[np.uint8]:
    """An object map as a class map."""
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    table[1 : len(of_object) + 1] = of_object
    return np.asarray(table[numbers])


def _indexed(numbers: npt.NDArray[np.uint8]) -> bytes:
    picture = PIL.Image.fromarray(numbers)
    picture.putpalette(palette())
    return encode_png(picture, flat=True)


def palette() -> list[int]:
    """The 256 colours of the VOC development kit, [red, green, blue, ...]: the bits of a number, spread over all."""
    colors = []
    for number in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit) if 3 * bit + channel < 8 else 0
        colors += rgb
    return colors


def _annotation(result: ImageResult, size: tuple[int, int]) -> bytes:
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


def _write_classes(folder: Path, waiting: IO[str], labels: dict[str, int], classes: list[str]) -> list[Artifact]:
    """The class PNGs of the images that waited, from the object PNGs."""
    if len(classes) > _MOST:
        raise OutputError(f"the format numbers {_MOST} classes, not {len(classes)}; merge some with class_map")
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    by_number = [numbers[name] for name in labels]
    waiting.seek(0)
    artifacts = []
    for line in waiting:
        stem, found = json.loads(line)
        _, objects, target = (name.format(stem) for name in _FILES)
        try:
            data = (folder / objects).read_bytes()
            with PIL.Image.open(io.BytesIO(data)) as picture:
                of_object = np.asarray(picture)
        except OSError as error:
            text = f"{folder / objects}: {getattr(error, 'strerror', None) or error}"
            raise OutputError(Problem(text, hint="run again with --verify, which makes missing files anew")) from None
        of_class = _classes(of_object, [by_number[number] for number in found])
        artifacts.append(save_as(folder, target, _indexed(of_class)))
    return artifacts


def _remove_gone(folder: Path, listing: StemTable) -> None:
    before = folder / SETS / "trainval.txt"
    if before.is_file():
        with before.open(encoding="utf-8") as lines:
            for stem in listing.gone(line.rstrip("\n") for line in lines):
                for name in _FILES:
                    remove_file(folder, name.format(stem))


def _label_lists(folder: Path, classes: Sequence[str]) -> list[Artifact]:
    """`labels.txt`, one label a line from number 0 on, and `labelmap.txt`, as CVAT and Datumaro read it."""
    tones = palette()
    names = ["background", *(re.sub(r"[\r\n]", " ", name) for name in classes)]
    rows = [
        f"{name}:{','.join(map(str, tones[3 * number : 3 * number + 3]))}::\n"
        for number, name in enumerate(_labelmap_names(names))
    ]
    texts = {
        "labels.txt": "".join(f"{name}\n" for name in names),
        "labelmap.txt": "# label:color_rgb:parts:actions\n" + "".join(rows),
    }
    return [save_as(folder, name, text.encode("utf-8", "backslashreplace")) for name, text in texts.items()]


def _labelmap_names(names: Sequence[str]) -> Iterator[str]:
    """The names as `labelmap.txt` can hold them; each is there once, or its readers refuse the file."""
    seen: set[str] = set()
    for name in names:
        known = _NO_LABELMAP.sub("_", name.strip())
        while known in seen:
            known += "_"
        seen.add(known)
        yield known


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer `voc`."""
    register("voc", Voc)
