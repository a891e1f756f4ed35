"""What people look at: texts of one line, pictures of masks, tables."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import maskmill
from maskmill import Box, Failure, ImageError, ImageRef, ImageResult, Mask, Point, Prompt, UsageError, display, testing
from maskmill.dataset.dataset import Dataset
from maskmill.plugins.registry import Registry
from maskmill.results import Doubt, RunInfo, RunReport

LONG = "a/very/long/path/" * 20 + "照片.jpg"
IMAGE = testing.image(40, 60)
MASK = Mask.from_array(
    np.ones((40, 60), bool), score=0.123456789, prompt=Prompt(box=Box(0, 0, 1 / 3, 2 / 3), label=LONG)
)
RESULT = testing.result(IMAGE, testing.masks(IMAGE))
NOUNS = {
    "ImageRef": ImageRef(f"/{LONG}", LONG),
    "Image": testing.image(40, 60, key=LONG),
    "Point": Point(1 / 3, 2 / 3),
    "Box": Box(1 / 3, 2 / 3, 1e6 / 3, 1e6),
    "Prompt": Prompt(
        points=[[1 / 3, 2 / 3]] * 50, box=Box(1 / 3, 2 / 3, 1000 / 3, 1000), label=LONG, source=LONG, ref=LONG
    ),
    "Grid": maskmill.Grid(points_per_side=16),
    "Mask": replace(MASK, index=7, dropped_by="score", changed_by=("cleanup",) * 20),
    "a mask that is damaged": Mask((40, 60), "no run lengths"),
    "ImageResult": replace(RESULT, key=LONG),
    "a failed result": ImageResult.failed(LONG, Failure("backend", "sam", "ValueError", LONG, LONG)),
    "Failure": Failure("backend", "sam", "ValueError", LONG, LONG),
    "Doubt": Doubt("clipped", LONG),
    "Artifact": maskmill.Artifact(LONG, "f" * 64, 1),
    "RunReport": RunReport(Path(LONG), "finished", {"done": 2, "failed": 0}, 2, 1.25, {}, 2.0, warnings=(LONG,) * 9),
    "Dataset": Dataset((LONG,) * 1000, Path()),
    "a stage": Registry.load().build("backend", {"use": "sam", "model": "vit_l"}),
    "RunInfo": RunInfo(LONG, Path(LONG), {}),
}


@pytest.mark.parametrize("noun", NOUNS.values(), ids=NOUNS)
def test_a_noun_fits_a_line(noun):
    assert "\n" not in repr(noun)
    assert 10 < len(repr(noun)) <= 125


def test_what_the_line_says():
    assert repr(MASK).startswith("<Mask: 2400 of 60×40 pixels, 'a/very")
    assert repr(RESULT) == "<ImageResult 'test.png': done, 4 of 4 masks kept>"
    assert repr(NOUNS["RunReport"]).startswith("<RunReport finished: 2 done, 1.2 s, in 'a/very")
    assert repr(Prompt(box=Box(1, 2, 3, 4), label="cup")) == "Prompt(Box(1, 2, 3, 4), label='cup')"
    assert repr(NOUNS["Grid"]) == "Grid(points_per_side=16)"
    assert repr(NOUNS["a stage"]) == "Sam(model='vit_l')"
    assert "damaged" in repr(NOUNS["a mask that is damaged"])


def test_a_mask_is_drawn_on_a_photo_or_a_dark_ground():
    array = np.zeros((40, 60), bool)
    array[10:30, 20:50] = True
    mask = Mask.from_array(array)
    on_photo = np.asarray(mask.draw(IMAGE.pixels))
    assert np.array_equal((on_photo != IMAGE.pixels).any(axis=2), array)
    alone = np.asarray(mask.draw())
    assert np.array_equal((alone != alone[0, 0]).any(axis=2), array)
    with pytest.raises(ImageError, match="the photo has 64×48 pixels, the image of the masks 60×40"):
        mask.draw(testing.pixels())


def test_small_masks_stay_visible_on_large_ones_and_dropped_ones_are_left_out():
    small = np.zeros((40, 60), bool)
    small[10:14, 10:14] = True
    masks = [replace(Mask.from_array(small), index=0), replace(Mask.from_array(np.ones((40, 60), bool)), index=1)]
    picture = np.asarray(testing.result(IMAGE, masks).draw())
    assert (picture[11, 11] != picture[30, 30]).any()
    dropped = [masks[0], replace(masks[1], dropped_by="score")]
    assert (np.asarray(testing.result(IMAGE, dropped).draw())[30, 30] == (40, 40, 40)).all()


def test_a_large_image_is_drawn_small():
    mask = Mask.from_array(np.ones((3000, 1000), bool))
    assert mask.draw().size == (267, 800)
    assert PIL.Image.open(io.BytesIO(mask._repr_png_())).size == (267, 800)


def test_a_result_without_a_size_is_not_drawn():
    failed = NOUNS["a failed result"]
    assert failed._repr_png_() is None
    with pytest.raises(ImageError, match="there is nothing to draw: <ImageResult"):
        failed.show()


def test_show_opens_the_viewer_of_the_system_or_names_a_way_out(monkeypatch):
    shown = []

    class Viewer(PIL.ImageShow.Viewer):
        def show_image(self, image, **options):
            shown.append(image.size)
            return True

    monkeypatch.setattr(PIL.ImageShow, "_viewers", [])
    with pytest.raises(maskmill.MaskmillError, match=r"write draw\(\).save"):
        MASK.show()
    PIL.ImageShow.register(Viewer())
    MASK.show()
    assert shown == [(60, 40)]


@pytest.fixture
def output(project):
    """A run with a finished, an empty and a failed image."""
    project.photos("done.png", "empty.png", "raise.png")
    maskmill.Pipeline.load(project.file).run(quiet=True)
    return project.output


def test_results_can_be_read_again_and_again(output):
    results = maskmill.read_run(output)
    assert len(results) == 3
    assert (
        [result.key for result in results]
        == [result.key for result in results]
        == ["done.png", "empty.png", "raise.png"]
    )
    assert [next(results).key, next(results).key] == ["done.png", "empty.png"]
    assert repr(results).startswith("<RunResults 'p': 3 images, in '")
    with maskmill.Run(output) as run:
        assert repr(run).startswith("<Run 'p' in '")


def test_a_folder_without_a_run_is_refused_at_once(tmp_path):
    with pytest.raises(maskmill.OutputError, match="is not the output folder of a run"):
        maskmill.read_run(tmp_path)


def test_a_run_as_a_table(output):
    pytest.importorskip("pandas")
    table = maskmill.read_run(output).to_dataframe()
    assert list(table.key) == ["done.png", "empty.png", "raise.png"]
    assert list(table.status) == ["done", "empty", "failed"]
    assert table[table.kept].area.tolist() == [32 * 24]
    assert table.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [16, 12, 48, 36]
    assert table.loc[1, ["kept", "dropped_by", "label", "source"]].tolist() == [False, "chaos", "thing", "middle"]
    assert table.isna().loc[2, ["mask", "kept", "area", "label"]].all()
    assert table.reason[2] == "RuntimeError: as told"


@pytest.mark.parametrize("package", ["pandas", "supervision"])
def test_a_package_that_is_missing_is_named(output, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    results = maskmill.read_run(output)
    with pytest.raises(
        UsageError, match=f"needs the package '{package}', which is not installed\n  pip install {package}"
    ):
        results.to_dataframe() if package == "pandas" else next(results).to_supervision()


def test_a_terminal_is_no_notebook():
    assert not display.in_notebook()
