"""cvat: annotations to import into a CVAT task, in its format "CVAT for images 1.1"."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, colors, hookimpl
from maskmill.files import atomic_path
from maskmill_plugins._shared.drawing.pixels import check_cv2, crop_mask
from maskmill_plugins._shared.drawing.polygons import OUTLINE_MEANING, Outline, polygon_iou, to_polygons
from maskmill_plugins._shared.export.class_files import find_renamed_masks, summarize_renamed, write_renamed
from maskmill_plugins._shared.export.classes import NOT_IN_LINE, label_of, order_labels, rename_class
from maskmill_plugins._shared.export.file_names import FOLDERS_MEANING, Folders
from maskmill_plugins._shared.export.image_files import IMAGES_MEANING, Images, picture_path, save_image
from maskmill_plugins._shared.export.mask_map import summarize_iou
from maskmill_plugins._shared.export.output_files import LIST, ImageTable, describe_file, save_as, temporary_file

NAME = "annotations.xml"
LABELS = "labels.json"
_IMAGES = "images"


def name_class(label: str) -> str:
    """The name of a class in the XML file."""
    return rename_class(label, NOT_IN_LINE)


class Cvat(Writer):
    """`annotations.xml` in the format "CVAT for images 1.1", and `labels.json`, the labels for a new CVAT project.

    `shapes: mask` keeps every pixel, with holes, parts and overlaps. `shapes: polygons` can be edited corner by
    corner: the parts of an object are polygons of one `group_id`, a hole is joined with the outline by a
    bridge of zero width, and the resulting `iou` is noted. `z_order` puts small objects on top of large ones.
    The mask's score is the attribute `score`. All images are listed, including those without masks.
    """

    needs_pixels: ClassVar[bool] = False
    version: ClassVar[int] = 1

    shapes: Literal["mask", "polygons"] = Field(
        "mask", description="`mask` keeps every pixel (CVAT 2.3 and later); `polygons` can be edited corner by corner"
    )
    tolerance: float = Field(
        0.75,
        ge=0,
        le=100,
        description="maximum distance of a polygon from the mask's border, in pixels; 0 follows it exactly",
    )
    outline: Outline = Field("edges", description=OUTLINE_MEANING)
    images: Images = Field("none", description=f"what is put into `images`. {IMAGES_MEANING}")
    folders: Folders = Field("nested", description=f"{FOLDERS_MEANING} (here with its suffix, `sub__a.jpg`)")

    def check(self) -> list[Problem]:
        """OpenCV, which draws the polygons, must load."""
        return check_cv2() if self.shapes == "polygons" else []

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Measure the polygons, and copy the image if asked for; `finish` writes the rest.

        Raises:
            ImageError: the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        if self.shapes == "polygons":
            ious = [polygon_iou(mask, self._polygons(mask), self.outline) for mask in result.kept if mask.area]
            if measured := summarize_iou(ious):
                self.note("iou", measured)
        if renamed := find_renamed_masks(result.kept, name_class):
            self.note("renamed", dict(renamed))
        path = self._image_file(result.key)
        return [save_image(image, result, folder, path, self.images)] if path else []

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the files incrementally, so that memory use is independent of the size of the dataset.

        Raises:
            OutputError: two images would share a file.
        """
        labels: set[str] = set()
        with ExitStack() as stack:
            table = stack.enter_context(ImageTable(folder, (), ["image"]))
            waiting = stack.enter_context(temporary_file(folder))
            for number, result in enumerate(results):
                table.add(result.key, self._image_file(result.key))
                labels.update(label_of(mask) for mask in result.kept)
                entry = self._describe(result)
                entry.set("id", str(number))
                waiting.write(_to_text(entry))
            classes = order_labels((), labels)
            path = stack.enter_context(atomic_path(folder / NAME))
            out = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            out.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
            out.write(_to_text(_describe_labels(classes)))
            waiting.seek(0)
            out.writelines(waiting)
            out.write("</annotations>\n")
        for text in summarize_renamed("cvat", classes, name_class):
            self.tell(text)
        made = [
            describe_file(folder, NAME),
            describe_file(folder, LIST),
            save_as(folder, LABELS, _list_labels(classes)),
        ]
        return [*made, *write_renamed(folder, classes, name_class)]

    def _name(self, key: str) -> str:
        """The image's name in the file."""
        return picture_path(key, self.folders, self.images)

    def _image_file(self, key: str) -> str:
        """The path of the image file, "" without one."""
        return "" if self.images == "none" else f"{_IMAGES}/{self._name(key)}"

    def _polygons(self, mask: Mask) -> list[list[float]]:
        return to_polygons(mask, self.tolerance, self.outline, holes="bridge")

    def _describe(self, result: ImageResult) -> ElementTree.Element:
        """What an image adds to the file, without its number."""
        height, width = result.size or (0, 0)
        name = self._name(result.key).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        entry = ElementTree.Element("image", {"id": "", "name": name, "width": str(width), "height": str(height)})
        order = sorted(range(len(result.kept)), key=lambda number: -result.kept[number].area)
        depths = {number: depth for depth, number in enumerate(order)}
        for number, mask in enumerate(result.kept):
            common = {"label": name_class(label_of(mask)), "source": "auto", "occluded": "0"}
            for tag, attributes in self._shapes(mask, number + 1):
                shape = ElementTree.SubElement(entry, tag, {**common, **attributes, "z_order": str(depths[number])})
                if mask.score is not None and math.isfinite(mask.score):
                    ElementTree.SubElement(shape, "attribute", {"name": "score"}).text = f"{mask.score:.6g}"
        return entry

    def _shapes(self, mask: Mask, group: int) -> Iterator[tuple[str, dict[str, str]]]:
        """(tag, attributes) of each shape of a mask; several polygons get the number `group`."""
        crop = crop_mask(mask)
        if crop is None:
            return
        if self.shapes == "polygons":
            parts = self._polygons(mask)
            for part in parts:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in zip(part[::2], part[1::2], strict=True))
                yield "polygon", {"points": points, **({"group_id": str(group)} if len(parts) > 1 else {})}
            return
        pixels, left, top = crop
        height, width = pixels.shape
        place = {"left": left, "top": top, "width": width, "height": height}
        yield "mask", {"rle": _encode_rows(pixels), **{name: str(value) for name, value in place.items()}}


def _encode_rows(pixels: np.ndarray[Any, np.dtype[np.bool_]]) -> str:
    """The lengths of the runs of a mask (H, W), row by row; the first run, maybe of length 0, is outside the mask."""
    flat = np.concatenate([[False], pixels.ravel(), [not pixels.ravel()[-1]]])
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return ", ".join(map(str, np.diff(ends, prepend=0).tolist()))


def _describe_labels(classes: list[str]) -> ElementTree.Element:
    meta = ElementTree.Element("meta")
    labels = ElementTree.SubElement(ElementTree.SubElement(meta, "task"), "labels")
    for number, label in enumerate(classes):
        entry = ElementTree.SubElement(labels, "label")
        for tag, text in (("name", name_class(label)), ("color", _hex(number)), ("type", "any")):
            ElementTree.SubElement(entry, tag).text = text
        attribute = ElementTree.SubElement(ElementTree.SubElement(entry, "attributes"), "attribute")
        about = {"name": "score", "mutable": "False", "input_type": "text", "default_value": "", "values": ""}
        for tag, text in about.items():
            ElementTree.SubElement(attribute, tag).text = text
    return meta


def _list_labels(classes: list[str]) -> bytes:
    """The labels as CVAT's constructor takes them in its tab "Raw"."""
    score = {"name": "score", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    labels = [
        {"name": name_class(label), "color": _hex(number), "type": "any", "attributes": [score]}
        for number, label in enumerate(classes)
    ]
    return (json.dumps(labels, ensure_ascii=False, indent=1) + "\n").encode()


def _hex(number: int) -> str:
    return "#" + "".join(f"{tone:02x}" for tone in colors.nth(number))


def _to_text(entry: ElementTree.Element) -> str:
    ElementTree.indent(entry, "  ", level=1)
    return f"  {ElementTree.tostring(entry, encoding='unicode')}\n"


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `cvat`."""
    register("cvat", Cvat)
