"""parquet: one table of all masks and their origin, for DuckDB, Polars, Spark and pandas."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from maskmill import Artifact, ImageResult, Mask, Writer, hookimpl
from maskmill.files import atomic_path
from maskmill_plugins._shared.export.output_files import describe_file

if TYPE_CHECKING:
    import pyarrow

NAME = "masks.parquet"
_TEXT, _WHOLE, _NUMBER = "string", "int64", "double"
#: Columns and their Arrow types, in the order of the file.
COLUMNS = {
    "key": _TEXT,
    "image_sha256": _TEXT,
    "height": _WHOLE,
    "width": _WHOLE,
    "mask": _WHOLE,
    "label": _TEXT,
    "score": _NUMBER,
    "stability": _NUMBER,
    "area": _WHOLE,
    "x1": _NUMBER,
    "y1": _NUMBER,
    "x2": _NUMBER,
    "y2": _NUMBER,
    "rle_counts": _TEXT,
    "source": _TEXT,
    "ref": _TEXT,
    "prompt": _TEXT,
    "changed_by": _TEXT,
    "model": _TEXT,
    "backend": _TEXT,
    "maskmill": _TEXT,
    "versions": _TEXT,
}


class Parquet(Writer):
    """`masks.parquet`: a row per kept mask, in the order of the keys; images without masks have one row without a mask.

    `rle_counts` is COCO's compressed run-length encoding for an image of `height` and `width`; holes,
    parts and overlaps are kept exactly. `mask` is the index among the backend's masks, the box is xyxy in
    pixels, `prompt` and `versions` (of the software) are JSON, `changed_by` lists filters, separated by
    commas.
    """

    requires: ClassVar[tuple[str, ...]] = ("pyarrow",)
    extra: ClassVar[str] = "parquet"
    needs_pixels: ClassVar[bool] = False
    folder_is_read: ClassVar[bool] = True

    row_group: int = Field(10_000, ge=1, le=1_000_000, description="number of rows held in memory and written together")

    def finish(self, results: Iterator[ImageResult], folder: Path) -> list[Artifact]:
        """Write the file, one group of rows at a time."""
        import pyarrow
        from pyarrow import parquet

        schema = pyarrow.schema([(name, pyarrow.type_for_alias(kind)) for name, kind in COLUMNS.items()])
        with (
            atomic_path(folder / NAME) as unfinished,
            parquet.ParquetWriter(unfinished, schema, compression="zstd") as out,
        ):
            rows: list[dict[str, Any]] = []
            for result in results:
                rows += _image_rows(result)
                while len(rows) >= self.row_group:
                    out.write_table(_make_table(rows[: self.row_group], schema))
                    del rows[: self.row_group]
            if rows:
                out.write_table(_make_table(rows, schema))
        return [describe_file(folder, NAME)]


def _make_table(rows: list[dict[str, Any]], schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow

    return pyarrow.Table.from_pylist(rows, schema=schema)


def _image_rows(result: ImageResult) -> Iterator[dict[str, Any]]:
    height, width = result.size or (None, None)
    image = {"key": result.key, "image_sha256": result.sha256, "height": height, "width": width}
    made_by = {name: str(result.provenance.get(name, "")) for name in ("model", "backend", "maskmill")}
    made_by["versions"] = json.dumps(result.provenance.get("versions", {}))
    for row in map(_mask_fields, result.kept) if result.kept else ({},):
        yield {name: _replace_surrogates(value) for name, value in {**image, **row, **made_by}.items()}


def _mask_fields(mask: Mask) -> dict[str, Any]:
    prompt, box = mask.prompt, mask.box
    corners = dict(zip(("x1", "y1", "x2", "y2"), box.xyxy, strict=True)) if box else {}
    return {
        "mask": mask.index,
        "label": mask.label,
        "score": mask.score,
        "stability": mask.stability,
        "area": mask.area,
        **corners,
        "rle_counts": mask.counts,
        "source": prompt.source if prompt else None,
        "ref": prompt.ref if prompt else None,
        "prompt": json.dumps(prompt.to_json()) if prompt else None,
        "changed_by": ",".join(mask.changed_by),
    }


def _replace_surrogates(value: Any) -> Any:
    """The value, with lone surrogates replaced by question marks, because Arrow's strings are UTF-8."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else value


@hookimpl
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register `parquet`."""
    register("parquet", Parquet)
