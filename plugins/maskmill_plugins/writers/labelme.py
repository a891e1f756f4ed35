"""labelme: one JSON file per image, to view and correct in LabelMe."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, Problem, Writer, hookimpl
from maskmill.files import path_from
from maskmill.plugins.entries import Entries
from maskmill_plugins._shared.drawing.pixels import check_cv2, crop_mask, encode_png
from maskmill_plugins._shared.drawing.polygons import OUTLINE_MEANING, Outline, polygon_iou, to_polygons
from maskmill_plugins._shared.export.classes import UNLABELLED
from maskmill_plugins._shared.export.file_names import (
    FOLDERS_MEANING,
    NAMES_MEANING,
    SHARED_HINT,
    Folders,
    Names,
    stem_path,
)
from maskmill_plugins._shared.export.image_files import IMAGES_MEANING, Images, image_suffix, save_image
from maskmill_plugins._shared.export.mask_map import summarize_iou
from maskmill_plugins._shared.export.output_files import LIST, ImageTable, describe_file, remove_file, save_as

VERSION = "5.5.0"  # of the format; mask shapes were added in 5.3
_OLD_LIST = "images.txt"


class Labelme(Writer):
    """`<name>.json`, which LabelMe opens with its image: `imagePath` is the path from the file to the image.

    `shapes: polygons` can be edited corner by corner. Several parts are several polygons with one
    `group_id`; holes are filled; the resulting `iou` is noted. `shapes: mask` keeps every pixel,
    including holes and parts. Overlapping masks stay separate. Images without masks get a file without
    shapes.

    `images.csv` maps files to keys; it is used to remove the files of images that left the dataset.
    """

    needs_pixels: ClassVar[bool] = False
    version: ClassVar[int] = 2

    shapes: Literal["polygons", "mask"] = Field(
        "polygons",
        description="`polygons` can be edited, but fill holes; `mask` keeps every pixel (LabelMe 5.3 and later)",
    )
    tolerance: float = Field(
        0.75,
        ge=0,
        le=100,
        description="maximum distance of a polygon from the mask's border, in pixels; 0 follows it exactly",
    )
    outline: Outline = Field("centres", description=OUTLINE_MEANING)
    images: Images = Field("none", description=f"what is put beside the JSON files. {IMAGES_MEANING}")
    names: Names = Field("stem", description=NAMES_MEANING)
    folders: Folders = Field("nested", description=FOLDERS_MEANING)

    def check(self) -> list[Problem]:
        """OpenCV must load if it draws polygons."""
        return check_cv2() if self.shapes == "polygons" else []

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the file of this image, and its image if asked for.

        Raises:
            ImageError: the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        path, picture = self._file(result.key), self._image_file(result.key)
        height, width = result.size or image.size
        ious: list[float] = []
        content: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [shape for group, mask in enumerate(result.kept) for shape in self._shapes(mask, group, ious)],
            "imagePath": picture.rpartition("/")[2] or _image_path(image, folder / path),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        if measured := summarize_iou(ious):
            self.note("iou", measured)
        text = json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False)
        # lone surrogates, as in a damaged label, become JSON escapes
        artifacts = [save_as(folder, path, text.encode("utf-8", "backslashreplace"))]
        return [*artifacts, save_image(image, result, folder, picture, self.images)] if picture else artifacts

    def _file(self, key: str) -> str:
        return f"{stem_path(key, self.names, self.folders)}.json"

    def _image_file(self, key: str) -> str:
        """The path of the image file, "" without one."""
        if self.images == "none":
            return ""
        return f"{stem_path(key, self.names, self.folders)}{image_suffix(key, self.images)}"

    def make_entry(self, result: ImageResult) -> bytes:
        """Nothing beside the key."""
        return b""

    def finish_entries(self, entries: Entries, folder: Path) -> list[Artifact]:
        """List the files, and remove those of images that left the dataset.

        Raises:
            OutputError: two images would share a file.
        """
        with ImageTable(folder, (), ("image", "annotation"), SHARED_HINT) as table:
            for entry in entries.read(LIST):
                table.add(entry.key, self._image_file(entry.key), self._file(entry.key))
        remove_file(folder, _OLD_LIST)
        return [describe_file(folder, LIST)]

    def _shapes(self, mask: Mask, group: int, ious: list[float]) -> Iterator[dict[str, Any]]:
        crop = crop_mask(mask)
        if crop is None:
            return
        common = {"label": mask.label or UNLABELLED, "group_id": group, "description": "", "flags": {}}
        if self.shapes == "mask":
            pixels, x, y = crop
            rows, columns = pixels.shape
            data = base64.b64encode(encode_png(pixels.astype("uint8") * 255, flat=True)).decode("ascii")
            corners = [[x, y], [x + columns - 1, y + rows - 1]]
            yield {**common, "shape_type": "mask", "points": corners, "mask": data}
            return
        parts = to_polygons(mask, self.tolerance, self.outline)
        ious.append(polygon_iou(mask, parts, self.outline))
        for part in parts:
            points = [[x, y] for x, y in zip(part[::2], part[1::2], strict=True)]
            yield {**common, "shape_type": "polygon", "points": points, "mask": None}


def _image_path(image: Image, file: Path) -> str:
    """The POSIX path from a file's folder to the image; absolute if they are on different drives."""
    if image.ref.is_remote:  # LabelMe opens files: the path that the image gets when the bucket is downloaded beside
        return image.ref.key
    source = image.ref.path
    try:
        return path_from(file.parent, source)
    except ValueError:
        return source.absolute().as_posix()


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `labelme`."""
    register("labelme", Labelme)
