"""huggingface: a folder that `datasets.load_dataset` reads: images, mask images, and a table of objects in splits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

import numpy as np
from pydantic import Field

from maskmill import Artifact, Image, ImageError, ImageResult, Mask, Problem, Writer, hookimpl
from maskmill.files import atomic_path
from maskmill_plugins._shared.drawing.pixels import encode_png
from maskmill_plugins._shared.export.classes import label_of, order_labels
from maskmill_plugins._shared.export.dataset_writer import DatasetWriter
from maskmill_plugins._shared.export.file_names import FOLDERS_MEANING, SHARED_HINT, Folders
from maskmill_plugins._shared.export.image_files import IMAGES_MEANING, Images
from maskmill_plugins._shared.export.mask_map import make_mask_map, measure_kept, summarize_iou
from maskmill_plugins._shared.export.output_files import (
    LIST,
    ImageTable,
    describe_file,
    remove_file,
    save_as,
    temporary_file,
)
from maskmill_plugins._shared.export.splits import SPLITS, Split

if TYPE_CHECKING:
    import pyarrow

_SPLITS = {"train": "train", "val": "validation", "test": "test"}
_MAX_MASKS = 65535
_ROWS = 1000


class HuggingFace(DatasetWriter):
    """`train/metadata.parquet`, `train/images/` and `train/masks/`, and so for `validation` and `test`.

    `datasets.load_dataset` gives for each image: `image`; `mask`, a grey picture in which a pixel's value is 1 +
    the number of its object, 0 for the background (where masks overlap, the smaller one wins, and the resulting
    `iou` is noted); `key`, `width`, `height`; and `objects`: lists of `category` (a `ClassLabel`), `bbox` (x, y,
    width, height), `area`, `score`, and `rle`, COCO's compressed counts, which keep holes, parts and overlaps.

    `datasets` finds splits by the names of folders, also of those below, so the images of folders such as `test` are in
    one folder with all others: `folders` is `flat`.
    """

    requires: ClassVar[tuple[str, ...]] = ("pyarrow",)
    extra: ClassVar[str] = "parquet"
    version: ClassVar[int] = 1

    images: Images = Field("copy", description=IMAGES_MEANING)
    folders: Folders = Field("flat", description=f"must be `flat`. {FOLDERS_MEANING}")

    def check(self) -> list[Problem]:
        """The format consists of images with their labels, and its folders are splits."""
        problems = super().check()
        if self.images == "none":
            problems.append(Problem("images: none: the data set needs the images; set copy, link or upright"))
        if self.folders == "nested":
            problems.append(Problem("folders: nested: a folder such as `test` would be taken for a split; set flat"))
        return problems

    def write(self, image: Image, result: ImageResult, folder: Path) -> list[Artifact]:
        """Write the mask image, and copy the image.

        Raises:
            ImageError: there are more than 65535 masks, or the image file changed during the run.
            ImageReadError: the image file cannot be read.
        """
        masks = _with_pixels(result)
        if len(masks) > _MAX_MASKS:
            raise ImageError(f"the mask image holds at most {_MAX_MASKS} masks, not {len(masks)}; use a filter")
        numbers = make_mask_map(masks, result.size or image.size, np.uint8 if len(masks) < 256 else np.uint16)
        if measured := summarize_iou(measure_kept(numbers, masks)):
            self.note("iou", measured)
        picture, mask = self._files(result.key)
        artifacts = [save_as(folder, mask, encode_png(numbers, flat=True))]
        return artifacts + self.save_picture(image, result, folder, picture)

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the tables, one group of rows at a time, and `images.csv`; remove outdated files.

        Raises:
            OutputError: two images would share a file.
        """
        labels: dict[str, int] = {}
        waiting: dict[Split, IO[str]] = {}
        with ExitStack() as stack:
            table = stack.enter_context(ImageTable(folder, ["split"], ["image", "mask"], SHARED_HINT))
            for result in results:
                split = self.find_split(result.key)
                table.add(result.key, split, *self._files(result.key))
                row = self._describe(result)
                objects = row["objects"]
                objects["category"] = [labels.setdefault(label, len(labels)) for label in objects["category"]]
                if split not in waiting:
                    waiting[split] = stack.enter_context(temporary_file(folder))
                waiting[split].write(json.dumps(row) + "\n")
            classes = order_labels((), labels)
            by_number = [classes.index(label) for label in labels]
            made = [_write_rows(folder, split, lines, by_number, classes) for split, lines in waiting.items()]
        for split in SPLITS:
            if split not in waiting:
                remove_file(folder, _table(split))
        return [*made, describe_file(folder, LIST)]

    def _files(self, key: str) -> tuple[str, str]:
        """The paths of the image and of the mask image."""
        split = _SPLITS[self.find_split(key)]
        return f"{split}/images/{self.name_picture(key)}", f"{split}/masks/{self.name_stem(key)}.png"

    def _describe(self, result: ImageResult) -> dict[str, Any]:
        """The row of an image, with labels in place of class numbers."""
        height, width = result.size or (0, 0)
        picture, mask = (path.partition("/")[2] for path in self._files(result.key))
        key = result.key.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        objects: dict[str, list[Any]] = {"category": [], "bbox": [], "area": [], "score": [], "rle": []}
        for each in _with_pixels(result):
            x1, y1, x2, y2 = each.box.xyxy if each.box else (0.0, 0.0, 0.0, 0.0)
            values = label_of(each), [x1, y1, x2 - x1, y2 - y1], each.area, each.score, each.counts
            for column, value in zip(objects.values(), values, strict=True):
                column.append(value)
        about = {"key": key, "width": width, "height": height}
        return {"file_name": picture, "mask_file_name": mask, **about, "objects": objects}


def _with_pixels(result: ImageResult) -> list[Mask]:
    return [mask for mask in result.kept if mask.area]


def _table(split: Split) -> str:
    return f"{_SPLITS[split]}/metadata.parquet"


def _write_rows(folder: Path, split: Split, lines: IO[str], by_number: list[int], classes: list[str]) -> Artifact:
    """Write the table of a split from its waiting rows."""
    from pyarrow import parquet

    schema = _make_schema(classes)
    lines.seek(0)
    with (
        atomic_path(folder / _table(split)) as unfinished,
        parquet.ParquetWriter(unfinished, schema, compression="zstd") as out,
    ):
        rows: list[dict[str, Any]] = []
        for line in lines:
            row = json.loads(line)
            row["objects"]["category"] = [by_number[number] for number in row["objects"]["category"]]
            rows.append(row)
            if len(rows) == _ROWS:
                out.write_table(_make_table(rows, schema))
                rows = []
        if rows:
            out.write_table(_make_table(rows, schema))
    return describe_file(folder, _table(split))


def _make_table(rows: list[dict[str, Any]], schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow

    return pyarrow.Table.from_pylist(rows, schema=schema)


def _make_schema(classes: list[str]) -> pyarrow.Schema:
    """Arrow's types, and in the metadata those of `datasets`, which Arrow does not have."""
    import pyarrow as pa

    number = pa.float64()
    objects = {
        "category": pa.list_(pa.int64()),
        "bbox": pa.list_(pa.list_(number, 4)),
        "area": pa.list_(pa.int64()),
        "score": pa.list_(number),
        "rle": pa.list_(pa.string()),
    }
    columns = {"file_name": pa.string(), "mask_file_name": pa.string(), "key": pa.string()}
    columns |= {"width": pa.int64(), "height": pa.int64(), "objects": pa.struct(list(objects.items()))}
    names = [name.encode("utf-8", "replace").decode() for name in classes]
    text, whole = {"dtype": "string", "_type": "Value"}, {"dtype": "int64", "_type": "Value"}
    real = {"dtype": "float64", "_type": "Value"}
    features = {
        **dict.fromkeys(("file_name", "mask_file_name", "key"), text),
        **dict.fromkeys(("width", "height"), whole),
        "objects": {
            "category": _list_of({"names": names, "_type": "ClassLabel"}),
            "bbox": _list_of(_list_of(real, 4)),
            "area": _list_of(whole),
            "score": _list_of(real),
            "rle": _list_of(text),
        },
    }
    return pa.schema(list(columns.items()), metadata={"huggingface": json.dumps({"info": {"features": features}})})


def _list_of(feature: dict[str, Any], length: int = -1) -> dict[str, Any]:
    return {"feature": feature, "length": length, "_type": "List"}


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `huggingface`."""
    register("huggingface", HuggingFace)
