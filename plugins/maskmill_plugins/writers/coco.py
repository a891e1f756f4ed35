"""coco: COCO instance annotations, in one file for the whole dataset or one for each split."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from maskmill import Artifact, Image, ImageResult, Mask, PipelineError, Problem, Writer, hookimpl
from maskmill.files import sha256_of
from maskmill.plugins.entries import Entries
from maskmill.plugins.stage import digest
from maskmill_plugins._shared.annotations.coco_reference import CocoReference, ReferenceImage
from maskmill_plugins._shared.drawing.pixels import check_cv2
from maskmill_plugins._shared.drawing.polygons import OUTLINE_MEANING, Outline, join_rings, polygon_iou, to_parts
from maskmill_plugins._shared.export.classes import UNLABELLED, find_duplicates, order_labels
from maskmill_plugins._shared.export.coco_file import CocoFile, dump_json
from maskmill_plugins._shared.export.file_names import FOLDERS_MEANING, Folders
from maskmill_plugins._shared.export.image_files import IMAGES_MEANING, Images, picture_path, save_image
from maskmill_plugins._shared.export.mask_map import summarize_iou
from maskmill_plugins._shared.export.output_files import LIST, ImageTable, describe_file, remove_file
from maskmill_plugins._shared.export.splits import (
    LIST_MEANING,
    SPLITS,
    TEST_MEANING,
    VAL_MEANING,
    Split,
    Splitter,
    check_splits,
    state_of,
)

#: By layout, with the split for `{}`.
_FILES = {"one": "instances.json", "splits": "annotations/instances_{}.json", "roboflow": "{}/_annotations.coco.json"}
_IMAGE_FOLDERS = {"one": "images/", "splits": "images/{}/", "roboflow": "{}/"}


class Coco(Writer):
    """Images, instance annotations and categories in COCO's format, by default in one file, `instances.json`.

    All images are listed, including those without masks; ids count from 1 in the order of the keys, also
    over several files. Masks without a label get the category `object`. In addition to COCO's fields, an
    annotation has the mask's `score`, if there is one, and under `maskmill` the source of its prompt and its
    stability; an image has the `sha256` of its file.

    With `rle` every mask is stored exactly, including holes, parts and overlaps. With `polygons` each
    part is a polygon; `holes` says what becomes of holes. The resulting `iou` is noted for each image.

    With `like`, the images, annotations and categories of that COCO file keep their ids and other
    fields, as do info and licences; new entries get ids above the largest. Crowd regions that were not
    used as prompts are kept unchanged. Images without a result are omitted.

    The files are ASCII and contain no dates: the same results always give the same bytes.
    """

    needs_pixels: ClassVar[bool] = False
    version: ClassVar[int] = 2

    format: Literal["rle", "polygons"] = Field(
        "rle",
        description="`rle` keeps every pixel; `polygons` is read by more tools, but rounds borders",
    )
    holes: Literal["bridge", "rle", "fill"] = Field(
        "bridge",
        description="for `polygons`: what becomes of masks with holes. `bridge`: a hole is joined with the outline by a"
        " line of zero width; `rle`: these masks are stored as RLE; `fill`: holes are filled",
    )
    tolerance: float = Field(
        0.75,
        ge=0,
        le=100,
        description="maximum distance of a polygon from the mask's border, in pixels; 0 follows it exactly",
    )
    outline: Outline = Field("edges", description=OUTLINE_MEANING)
    layout: Literal["one", "splits", "roboflow"] = Field(
        "one",
        description="`one`: `instances.json`, images in `images/`; `splits`: `annotations/instances_train.json`,"
        " `instances_val.json` and `instances_test.json`, images in `images/train/` ...; `roboflow`:"
        " `train/_annotations.coco.json`, `valid/` and `test/`, images beside it",
    )
    val: float = Field(0.2, ge=0, lt=1, description=f"for `splits` and `roboflow`: {VAL_MEANING}")
    test: float = Field(0.0, ge=0, lt=1, description=f"for `splits` and `roboflow`: {TEST_MEANING}")
    splits: Path | None = Field(None, description=f"for `splits` and `roboflow`: {LIST_MEANING}")
    images: Images = Field("none", description=IMAGES_MEANING)
    folders: Folders = Field("nested", description=f"{FOLDERS_MEANING} (here with its suffix, `sub__a.jpg`)")
    categories: tuple[str, ...] = Field(
        (),
        description="labels in the order of their ids, from 1; other labels follow in alphabetical order, numbers by"
        " value (empty: all in alphabetical order)",
    )

    like: Path | None = Field(
        None,
        description="a COCO file, usually that of the prompts, whose ids, info, licences and other fields are kept",
    )

    _splitter: Splitter | None = PrivateAttr(None)
    _known: dict[int, tuple[Mask, Any]] = PrivateAttr(default_factory=dict)

    def check(self) -> list[Problem]:
        """OpenCV must load if it draws polygons, each category be given once, `like` and `splits` be readable."""
        problems = [
            *(check_cv2() if self.format == "polygons" else []),
            *find_duplicates("categories", self.categories),
            *check_splits(self.val, self.test, self.splits),
        ]
        if self.splits is not None and self.layout == "one":
            problems.append(Problem("splits: has no effect on one file; set layout: splits or roboflow"))
        if self.like is not None:
            try:
                CocoReference(self.like)
            except PipelineError as error:
                problems += error.problems
        return problems

    def digest(self) -> str:
        """The digest includes the content of `like` and `splits`."""
        read = [sha256_of(self.like)] if self.like is not None and self.like.is_file() else []
        read += [state_of(self.splits)] if self.splits is not None else []
        return digest([super().digest(), *read]) if read else super().digest()

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Measure the IoU of this image's polygons, and copy the image if asked for; `finish` writes the rest.

        Raises:
            ImageError: the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        self._known.clear()
        ious = [self._measure(mask) for mask in result.kept if mask.area] if self.format == "polygons" else []
        if measured := summarize_iou(ious):
            self.note("iou", measured)
        if self.images == "none":
            return []
        return [save_image(image, result, folder, self._image_file(result.key), self.images)]

    def make_entry(self, result: ImageResult) -> bytes:
        """A line with the image, without ids; then two for each annotation: its label, and itself.

        With `like`, the label is followed by the `ref` of the prompt and the mask's RLE.
        """
        name = picture_path(result.key, self.folders, self.images)
        height, width = result.size or (0, 0)
        lines: list[Any] = [{"file_name": name, "width": width, "height": height, "sha256": result.sha256}]
        for mask in result.kept:
            if (found := self._annotation(mask)) is not None:
                about: list[Any] = [mask.label or UNLABELLED]
                if self.like is not None:
                    about += [mask.label, mask.prompt.ref if mask.prompt else None, mask.rle]
                lines += [about, found]
        return "\n".join(map(dump_json, lines)).encode()

    def finish_entries(self, entries: Entries, folder: Path) -> list[Artifact]:
        """Write the files incrementally, so that memory use is independent of the size of the dataset.

        Raises:
            OutputError: two images would share a file.
        """
        reference = None if self.like is None else CocoReference(self.like)
        numbers = _Numbers()
        files: dict[str, CocoFile] = {}
        with ExitStack() as stack:
            table = stack.enter_context(ImageTable(folder, ["split"], ["image"])) if self.images != "none" else None
            if self.layout == "one":
                self._open_file("train", folder, files, reference, stack)
            for entry in entries.read(_FILES[self.layout].format("*")):
                split = "train" if table is None and self.layout == "one" else self._split(entry.key)
                file = self._open_file(split, folder, files, reference, stack)
                if reference is None:
                    numbers.add(file, entry.data)
                else:
                    numbers.add_known(file, entry.data, reference.image(entry.key))
                if table is not None:
                    table.add(entry.key, split, self._image_file(entry.key))
            categories = _number_categories(order_labels(self.categories, numbers.labels), reference)
            ids: dict[str, int] = {category["name"]: category["id"] for category in reversed(categories)}
            for name, file in files.items():
                file.write_end(
                    [ids[label] for label in numbers.labels], categories, track=partial(entries.track, what=name)
                )
        for name in (_place(file, layout, split) for layout, file in _FILES.items() for split in SPLITS):
            if name not in files:
                remove_file(folder, name)
        made = [file.describe() for file in files.values()]
        return made if table is None else [*made, describe_file(folder, LIST)]

    def _make_splitter(self) -> Splitter:
        if self._splitter is None:
            self._splitter = Splitter(self.val, self.test, self.splits)
        return self._splitter

    def _split(self, key: str) -> Split:
        return self._make_splitter().choose(key)

    def _image_file(self, key: str) -> str:
        """The path of the image file."""
        folder = _place(_IMAGE_FOLDERS[self.layout], self.layout, self._split(key))
        return f"{folder}{picture_path(key, self.folders, self.images)}"

    def _open_file(
        self, split: Split, folder: Path, files: dict[str, CocoFile], reference: CocoReference | None, stack: ExitStack
    ) -> CocoFile:
        """The file of a split, opened when it is first needed."""
        name = _place(_FILES[self.layout], self.layout, split)
        if name not in files:
            info = {"description": "Instance masks made with maskmill"} if reference is None else reference.info
            head = {"info": info, "licenses": reference.licenses if reference else []}
            files[name] = CocoFile(folder, name, head, stack)
        return files[name]

    def _annotation(self, mask: Mask) -> dict[str, Any] | None:
        """An annotation without its ids, None for a mask without pixels."""
        box = mask.box
        if box is None:
            return None
        entry: dict[str, Any] = {
            "bbox": [box.x1, box.y1, box.x2 - box.x1, box.y2 - box.y1],
            "area": float(mask.area),
            "iscrowd": 0,
            "segmentation": self._segmentation(mask),
        }
        if (score := _finite_or_none(mask.score)) is not None:
            entry["score"] = score
        known = {"source": mask.prompt.source if mask.prompt else None, "stability": _finite_or_none(mask.stability)}
        if extras := {name: value for name, value in known.items() if value is not None}:
            entry["maskmill"] = extras
        return entry

    def _segmentation(self, mask: Mask) -> Any:
        """Polygons, or COCO's RLE; that of a mask that `write` has measured is known."""
        if self.format == "rle":
            return mask.rle
        known, found = self._known.get(id(mask), (None, None))
        return found if known is mask else self._make_polygons(mask)

    def _make_polygons(self, mask: Mask) -> Any:
        parts = to_parts(mask, self.tolerance, self.outline, holes=self.holes != "fill")
        if self.holes == "rle" and any(len(part) > 1 for part in parts):
            return mask.rle
        return [join_rings(part).reshape(-1).astype(float).tolist() for part in parts]

    def _measure(self, mask: Mask) -> float:
        """IoU of a mask with what a reader gets back."""
        found = self._make_polygons(mask)
        self._known[id(mask)] = mask, found
        return polygon_iou(mask, found, self.outline) if isinstance(found, list) else 1.0


class _Numbers:
    """The ids over all files of a dataset.

    Attributes:
        labels: each label with the number by which its annotations wait.
    """

    def __init__(self) -> None:
        self.labels: dict[str, int] = {}
        self._images = self._annotations = 0

    def add(self, file: CocoFile, entry: bytes) -> None:
        """Write what an image adds to a file, with the next ids.

        Args:
            file: where to.
            entry: as `Coco.make_entry` makes it.
        """
        image, *annotations = entry.decode("ascii").split("\n")
        self._images += 1
        file.add_image(f'{{"id":{self._images},{image[1:]}')
        for about, found in zip(annotations[::2], annotations[1::2], strict=True):
            self._annotations += 1
            line = f'{{"id":{self._annotations},"image_id":{self._images},{found[1:]}'
            file.add_annotation(self._number(json.loads(about)[0]), line)

    def _number(self, label: str) -> int:
        return self.labels.setdefault(label, len(self.labels))

    def add_known(self, file: CocoFile, entry: bytes, known: ReferenceImage) -> None:
        """Write what an image adds to a file, with the ids and other fields of the reference."""
        image, *annotations = map(json.loads, entry.decode("ascii").split("\n"))
        file.add_image(dump_json({**known.entry, **{name: image[name] for name in ("width", "height", "sha256")}}))
        for (label, given, ref, rle), found in zip(annotations[::2], annotations[1::2], strict=True):
            ids = known.annotation(given, ref)
            if ids.get("iscrowd"):
                found["segmentation"] = rle  # COCO requires RLE for crowd regions, regardless of `format`
            number = -1 if "category_id" in ids else self._number(label)
            file.add_annotation(number, dump_json({**found, **ids}))
        for crowd in known.crowds():
            file.add_annotation(-1, dump_json(crowd))


def _place(pattern: str, layout: str, split: Split) -> str:
    return pattern.format("valid" if layout == "roboflow" and split == "val" else split)


def _number_categories(names: Sequence[str], reference: CocoReference | None) -> list[dict[str, Any]]:
    """The categories, with the ids of the reference or from 1."""
    if reference is not None:
        return reference.categories(names)
    return [{"id": number, "name": name, "supercategory": ""} for number, name in enumerate(names, start=1)]


def _finite_or_none(value: float | None) -> float | None:
    """The value, None for NaN and infinity, which JSON does not allow."""
    return value if value is not None and math.isfinite(value) else None


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `coco`."""
    register("coco", Coco)
