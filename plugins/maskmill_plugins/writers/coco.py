"""coco: one file of COCO instance annotations for the whole dataset."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, ClassVar, Literal

from pydantic import Field

from maskmill import Artifact, Image, ImageResult, Mask, PipelineError, Problem, Writer, hookimpl
from maskmill.files import atomic_path, sha256_of
from maskmill.plugins.stage import digest
from maskmill_plugins._shared.annotations.coco_reference import CocoReference
from maskmill_plugins._shared.drawing.pixels import check_cv2
from maskmill_plugins._shared.drawing.polygons import polygon_iou, to_polygons
from maskmill_plugins._shared.export.classes import UNLABELLED, find_duplicates, order_labels
from maskmill_plugins._shared.export.mask_map import summarize_iou
from maskmill_plugins._shared.export.output_files import describe_file, temporary_file

NAME = "instances.json"


class Coco(Writer):
    """`instances.json`: images, instance annotations and categories in COCO's format.

    All images are listed, including those without masks; ids count from 1 in the order of the keys.
    Masks without a label get the category `object`. In addition to COCO's fields, an annotation has
    the mask's `score`, if there is one, and under `maskmill` the source of its prompt and its
    stability; an image has the `sha256` of its file.

    With `rle` every mask is stored exactly, including holes, parts and overlaps. With `polygons` each
    part is a polygon and holes are filled; the resulting `iou` is noted for each image.

    With `like`, the images, annotations and categories of that COCO file keep their ids and other
    fields, as do info and licences; new entries get ids above the largest. Crowd regions that were not
    used as prompts are kept unchanged. Images without a result are omitted.

    The file is ASCII and contains no dates: the same results always give the same bytes.
    """

    needs_pixels: ClassVar[bool] = False

    format: Literal["rle", "polygons"] = Field(
        "rle",
        description="`rle` keeps every pixel; `polygons` is read by more tools, but fills holes and rounds borders",
    )
    tolerance: float = Field(
        0.75,
        ge=0,
        le=100,
        description="maximum distance of a polygon from the mask's border, in pixels; 0 follows it exactly",
    )
    categories: tuple[str, ...] = Field(
        (),
        description="labels in the order of their ids, from 1; other labels follow in alphabetical order, numbers by"
        " value (empty: all in alphabetical order)",
    )

    like: Path | None = Field(
        None,
        description="a COCO file, usually that of the prompts, whose ids, info, licences and other fields are kept",
    )

    def check(self) -> list[Problem]:
        """OpenCV must load if it draws polygons, each category be given once, and `like` be readable."""
        problems = [
            *(check_cv2() if self.format == "polygons" else []),
            *find_duplicates("categories", self.categories),
        ]
        if self.like is not None:
            try:
                CocoReference(self.like)
            except PipelineError as error:
                problems += error.problems
        return problems

    def digest(self) -> str:
        """The digest includes the content of `like`."""
        if self.like is None or not self.like.is_file():
            return super().digest()
        return digest([super().digest(), sha256_of(self.like)])

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Measure the IoU of this image's polygons; the file itself is written by `finish`."""
        if self.format == "polygons":
            ious = [polygon_iou(mask, to_polygons(mask, self.tolerance)) for mask in result.kept if mask.area]
            if measured := summarize_iou(ious):
                self.note("iou", measured)
        return []

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the file incrementally, so that memory use is independent of the size of the dataset.

        Category ids are known only after all labels have been seen. Until then annotations are kept
        in a second, temporary file.
        """
        with (
            atomic_path(folder / NAME) as unfinished,
            temporary_file(folder) as waiting,
            unfinished.open("w", encoding="ascii", newline="\n") as out,
        ):
            self._write(results, out, waiting)
        return [describe_file(folder, NAME)]

    def _write(self, results: Iterator[ImageResult], out: IO[str], waiting: IO[str]) -> None:
        labels: dict[str, int] = {}
        reference = None if self.like is None else CocoReference(self.like)
        info = {"description": "Instance masks made with maskmill"} if reference is None else reference.info
        out.write(
            f'{{"info":{_dump_json(info)},"licenses":{_dump_json(reference.licenses if reference else [])},\n"images":'
        )
        _write_list(out, self._images(results, labels, waiting, reference))
        names = order_labels(self.categories, labels)
        categories: list[dict[str, Any]] = [
            {"id": number, "name": name, "supercategory": ""} for number, name in enumerate(names, start=1)
        ]
        categories = categories if reference is None else reference.categories(names)
        ids: dict[str, int] = {category["name"]: category["id"] for category in reversed(categories)}
        by_number = [ids[name] for name in labels]
        waiting.seek(0)
        out.write(',\n"annotations":')
        _write_list(out, (_add_category(line, by_number) for line in waiting))
        out.write(',\n"categories":')
        _write_list(out, map(_dump_json, categories))
        out.write("}\n")

    def _images(
        self, results: Iterator[ImageResult], labels: dict[str, int], waiting: IO[str], reference: CocoReference | None
    ) -> Iterator[str]:
        """Yield the image entries and write annotations to `waiting`, each preceded by the number of its label."""
        count = 0
        for image_id, result in enumerate(results, start=1):
            height, width = result.size or (0, 0)
            known = None if reference is None else reference.image(result)
            entry: dict[str, Any] = {"id": image_id, "file_name": result.key} if known is None else known.entry
            yield _dump_json({**entry, "width": width, "height": height, "sha256": result.sha256})
            for mask in result.kept:
                if (found := self._annotation(mask)) is None:
                    continue
                count += 1
                ids = {"id": count, "image_id": image_id} if known is None else known.annotation(mask)
                if ids.get("iscrowd"):
                    found["segmentation"] = mask.rle  # COCO requires RLE for crowd regions, regardless of `format`
                number = -1 if "category_id" in ids else labels.setdefault(mask.label or UNLABELLED, len(labels))
                waiting.write(f"{number} {_dump_json({**found, **ids} if known else {**ids, **found})}\n")
            for crowd in known.crowds() if known else ():
                waiting.write(f"-1 {_dump_json(crowd)}\n")

    def _annotation(self, mask: Mask) -> dict[str, Any] | None:
        """An annotation without its ids, None for a mask without pixels."""
        box = mask.box
        if box is None:
            return None
        entry: dict[str, Any] = {
            "bbox": [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1],
            "area": float(mask.area),
            "iscrowd": 0,
            "segmentation": mask.rle if self.format == "rle" else to_polygons(mask, self.tolerance),
        }
        if (score := _finite_or_none(mask.score)) is not None:
            entry["score"] = score
        known = {"source": mask.prompt.source if mask.prompt else None, "stability": _finite_or_none(mask.stability)}
        if extras := {name: value for name, value in known.items() if value is not None}:
            entry["maskmill"] = extras
        return entry


def _finite_or_none(value: float | None) -> float | None:
    """The value, None for NaN and infinity, which JSON does not allow."""
    return value if value is not None and math.isfinite(value) else None


def _add_category(line: str, by_number: list[int]) -> str:
    number, _, entry = line.rstrip("\n").partition(" ")
    if number == "-1":  # it already has a category
        return entry
    return f'{entry[:-1]},"category_id":{by_number[int(number)]}}}'


def _write_list(out: IO[str], items: Iterable[str]) -> None:
    """Write a JSON list with one item per line."""
    out.write("[")
    for number, item in enumerate(items):
        out.write(f"{',' if number else ''}\n{item}")
    out.write("]")


def _dump_json(value: Any) -> str:
    """Compact JSON in ASCII, which is also read correctly in the system's default encoding."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `coco`."""
    register("coco", Coco)
