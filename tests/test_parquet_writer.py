"""parquet: the table gives every mask back, with where it came from."""

import json
import tracemalloc

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from maskmill import Box, ImageResult, Mask, Prompt
from maskmill_plugins.writers.parquet import COLUMNS, Parquet

pq = pytest.importorskip("pyarrow.parquet")

NOISE = np.random.default_rng(0).random((30, 40)) > 0.5
RING = np.pad(np.pad(np.zeros((4, 4), bool), 3, constant_values=True), ((5, 15), (5, 25)))


def mask(array, label="猫", **more):
    prompt = Prompt(box=Box(1, 2, 3, 4), label=label, source="file", ref="17")
    return Mask.from_array(array, prompt=prompt, **more)


MADE_BY = {"model": "vit_b", "versions": {"torch": "2.9"}}
RESULTS = [
    ImageResult("a.jpg", "done", RING.shape, "ab", masks=(mask(RING, score=0.5), mask(RING, None, stability=0.9))),
    ImageResult("b.jpg", "empty", (7, 9), "cd"),
    ImageResult("照片/\udce9.jpg", "done", NOISE.shape, "ef", masks=(mask(NOISE),), provenance=MADE_BY),
]


def read(folder, results=RESULTS, **options):
    (artifact,) = Parquet(**options).finish(iter(results), folder)
    assert [path.name for path in folder.iterdir()] == [artifact.path] == ["masks.parquet"]
    return pq.read_table(folder / artifact.path)


def test_every_mask_comes_back_and_every_image_is_there(tmp_path):
    table = read(tmp_path)
    assert table.column_names == list(COLUMNS)
    first, second, empty, last = table.to_pylist()
    for row, array in ((first, RING), (second, RING), (last, NOISE)):
        rle = {"size": [row["height"], row["width"]], "counts": row["rle_counts"]}
        assert np.array_equal(coco_mask.decode(rle).astype(bool), array)
        assert row["area"] == array.sum()
    assert (first["label"], first["score"], first["stability"]) == ("猫", 0.5, None)
    assert (second["label"], second["score"], second["stability"]) == (None, None, 0.9)
    assert [first[name] for name in ("x1", "y1", "x2", "y2")] == [5, 5, 15, 15]
    assert (first["source"], first["ref"], json.loads(first["prompt"])["box"]) == ("file", "17", [1, 2, 3, 4])
    assert (empty["key"], empty["height"], empty["rle_counts"], empty["mask"]) == ("b.jpg", 7, None, None)
    assert (last["key"], last["model"], json.loads(last["versions"])) == ("照片/?.jpg", *MADE_BY.values())


def test_row_groups_are_of_the_size_asked_for_and_the_bytes_are_the_same_again(tmp_path):
    for name in ("one", "two"):
        read(tmp_path / name, RESULTS * 4, row_group=5)
    one, two = (tmp_path / name / "masks.parquet" for name in ("one", "two"))
    about = pq.ParquetFile(one).metadata
    assert [about.row_group(number).num_rows for number in range(about.num_row_groups)] == [5, 5, 5, 1]
    assert one.read_bytes() == two.read_bytes()


def test_a_run_without_results_is_a_table_without_rows(tmp_path):
    assert read(tmp_path, []).num_rows == 0


def test_memory_is_that_of_a_row_group(tmp_path):
    def peak(count):
        tracemalloc.start()
        Parquet(row_group=50).finish(iter(RESULTS * count), tmp_path)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(50)
    assert peak(500) - peak(50) < 300_000
