"""What the writers share: outlines and polygons, crops, colours, the canvas, tags, OpenCV."""

import io
import sys
import time

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from maskmill import Box, Mask, PluginError, Point, colors
from maskmill.plugins.registry import Registry
from maskmill_plugins._shared.drawing.canvas import Canvas
from maskmill_plugins._shared.drawing.legend import Legend
from maskmill_plugins._shared.drawing.name_tags import NameTags
from maskmill_plugins._shared.drawing.outlines import trace_outlines
from maskmill_plugins._shared.drawing.pixels import crop_mask, encode_jpeg, load_cv2
from maskmill_plugins._shared.drawing.polygons import join_rings, polygon_iou, to_polygons, to_rings
from maskmill_plugins._shared.drawing.ring_tree import join_many

ARRAYS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))
Y, X = np.mgrid[:120, :160]
OBJECTS = {
    "disc": (Y - 60) ** 2 + (X - 70) ** 2 <= 45**2,
    "ellipse": ((Y - 60) / 20) ** 2 + ((X - 80) / 70) ** 2 <= 1,
    "rectangle": (Y > 20) & (Y < 90) & (X > 30) & (X < 140),
    "touching the frame": (Y - 119) ** 2 + (X - 159) ** 2 <= 80**2,
    "two parts": ((Y - 60) ** 2 + (X - 40) ** 2 <= 30**2) | ((Y - 60) ** 2 + (X - 120) ** 2 <= 30**2),
}
THIN = {
    "one pixel": (Y == 50) & (X == 60),
    "last pixel": (Y == 119) & (X == 159),
    "full frame": Y >= 0,
    "row": (Y == 7) & (X > 10),
    "column": (X == 159) & (Y < 100),
    "diagonal": X == Y,
    "wave": np.abs(Y - 60 - 30 * np.sin(X / 12)) < 1.2,
    "checks": (X + Y) % 2 == 0,
}


def filled(array):
    """The mask without holes, by OpenCV's own fill."""
    out = np.zeros(array.shape, np.uint8)
    found, _ = cv2.findContours(array.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(out, found, -1, 1, -1).astype(bool)


def rasterised(parts, size):
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *size))).astype(bool)


def overlap(a, b):
    return (a & b).sum() / (a | b).sum()


@settings(deadline=None, max_examples=200)
@given(ARRAYS)
def test_polygons_without_tolerance_are_exact(array):
    parts = to_polygons(Mask.from_array(array), tolerance=0)
    if not array.any():
        assert parts == []
        return
    assert all(len(part) >= 6 and len(part) % 2 == 0 for part in parts)
    assert np.array_equal(rasterised(parts, array.shape), filled(array))


@pytest.mark.parametrize("tolerance", [0.3, 0.75, 1.0])
@pytest.mark.parametrize("name", OBJECTS)
def test_polygons_of_ordinary_objects_are_close_with_few_points(name, tolerance):
    array = OBJECTS[name]
    exact, simple = (to_polygons(Mask.from_array(array), tol) for tol in (0, tolerance))
    assert overlap(rasterised(simple, array.shape), array) > 0.98
    assert sum(map(len, simple)) <= sum(map(len, exact))
    if tolerance == 1.0 and name != "rectangle":
        assert sum(map(len, simple)) < sum(map(len, exact)) / 3


@pytest.mark.parametrize("name", THIN)
def test_thin_and_tiny_masks_survive_a_large_tolerance(name):
    array = THIN[name]
    parts = to_polygons(Mask.from_array(array), tolerance=5)
    assert overlap(rasterised(parts, array.shape), filled(array)) >= 0.95


def test_a_rectangle_has_four_corners_on_the_edges_of_its_pixels():
    (part,) = to_polygons(Mask.from_array(OBJECTS["rectangle"]))
    assert sorted(zip(part[::2], part[1::2], strict=True)) == [(31, 21), (31, 90), (140, 21), (140, 90)]


@settings(deadline=None, max_examples=200)
@given(ARRAYS)
def test_outlines_enclose_the_area_of_the_mask_and_holes_have_their_own(array):
    padded = np.pad(array, 1)
    labels, background = (
        cv2.connectedComponents(a.astype(np.uint8), connectivity=c)[0] - 1 for a, c in ((padded, 8), (~padded, 4))
    )
    assert len(trace_outlines(array)) <= labels
    assert len(trace_outlines(array, holes=True)) == labels + background - 1


@given(ARRAYS)
def test_a_crop_is_the_mask_and_nothing_around_it(array):
    crop = crop_mask(Mask.from_array(array))
    if crop is None:
        assert not array.any()
        return
    pixels, x, y = crop
    rows, columns = pixels.shape
    again = np.zeros_like(array)
    again[y : y + rows, x : x + columns] = pixels
    assert np.array_equal(again, array)
    assert pixels[0].any() and pixels[-1].any() and pixels[:, 0].any() and pixels[:, -1].any()


def test_the_first_colours_differ_much_and_all_differ():
    tones = np.array([colors.nth(number) for number in range(255)], int)
    assert len(np.unique(tones, axis=0)) > 240
    first = tones[:12]
    distances = np.abs(first[:, None] - first).sum(axis=2)[~np.eye(12, dtype=bool)]
    assert distances.min() > 60


def test_a_label_keeps_its_colour_and_many_labels_do_not_share():
    names = [f"label {number}" for number in range(100)]
    together = colors.by_label(names)
    assert len(set(together.values())) > 90
    assert colors.by_label(names[:1]) == {names[0]: together[names[0]]}
    assert colors.by_label([None, "车辆"]) == colors.by_label(["车辆", None])


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_text_is_readable_on_every_colour(color):
    def luminance(rgb):
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    low, high = sorted((luminance(color), luminance(colors.readable_on(color))))
    assert (high + 0.05) / (low + 0.05) >= 3.9  # WCAG asks 3 of large or bold text


GRAY = np.full((60, 80, 3), 128, np.uint8)


def changed(canvas, plain):
    rows, columns = np.nonzero(np.any(canvas.pixels != plain, axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("side", [40, 80, 320], ids=["reduced", "as it is", "enlarged"])
def test_coordinates_are_scaled_with_the_image(side):
    array = np.zeros((60, 80), bool)
    array[12:36, 20:52] = True
    canvas = Canvas(GRAY, min_side=side, max_side=side)
    canvas.draw_mask(Mask.from_array(array), (255, 0, 0), alpha=1.0, outline=False)
    scale = side / 80
    assert changed(canvas, 128) == pytest.approx((20 * scale, 12 * scale, 52 * scale, 36 * scale), abs=1)
    assert np.array_equal(canvas.pixels[round(24 * scale), round(36 * scale)], (255, 0, 0))
    assert np.all(GRAY == 128)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2)], ids=str)
def test_anything_can_be_drawn_on_the_smallest_picture(size):
    height, width = size
    canvas = Canvas(np.zeros((*size, 3), np.uint8))
    canvas.draw_mask(Mask.from_array(np.ones(size, bool)), (255, 255, 255))
    canvas.draw_mask(Mask.from_array(np.zeros(size, bool)), (255, 255, 255))
    canvas.draw_box(Box(0, 0, width, height))
    canvas.draw_point(Point(width, height))
    NameTags(canvas).add("车辆", (255, 255, 255), Mask.from_array(np.ones(size, bool)))
    assert canvas.pixels.shape == (*size, 3)
    assert canvas.pixels.any()


def test_foreground_and_background_points_look_different():
    pictures = []
    for label in (1, 0):
        canvas = Canvas(GRAY)
        canvas.draw_point(Point(40, 30, label))
        pictures.append(canvas.pixels)
        left, top, right, bottom = changed(canvas, 128)
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((40, 30), abs=1)
    assert not np.array_equal(*pictures)


def tag(text, mask=None, size=(200, 400)):
    canvas = Canvas(np.full((*size, 3), 128, np.uint8))
    NameTags(canvas).add(text, (20, 90, 200), mask)
    return canvas.pixels


def test_a_chinese_name_is_drawn_with_its_own_glyphs():
    assert not np.array_equal(tag("车辆"), tag("??"))
    assert not np.array_equal(tag("车辆"), tag("猫狗"))
    assert np.array_equal(tag("车辆"), tag(" 车辆\n"))


@pytest.mark.parametrize("text", ["", " \n", "\udce9", "\x00"], ids=["empty", "blank", "half a character", "control"])
def test_nothing_to_read_makes_no_tag(text):
    assert np.all(tag(text) == 128)


@pytest.mark.parametrize("text", ["x" * 5000, "车" * 300, "a b " * 40], ids=["latin", "chinese", "words"])
def test_a_long_name_is_cut_to_the_picture(text):
    pixels = tag(text)
    grey = np.all(pixels == 128, axis=2)
    assert not grey.all()
    assert grey[-1].all()
    assert not np.array_equal(pixels, tag(text[:10]))


@pytest.mark.parametrize(
    "corner", [(0, 0), (0, 380), (190, 0), (190, 380), (90, 190)], ids=["tl", "tr", "bl", "br", "middle"]
)
def test_a_tag_stays_whole_inside_the_frame(corner):
    y, x = corner
    array = np.zeros((200, 400), bool)
    array[y : y + 10, x : x + 20] = True
    ground = np.all(tag("车辆", Mask.from_array(array)) != 128, axis=2).sum()
    free = np.all(tag("车辆") != 128, axis=2).sum()
    assert ground == pytest.approx(free, rel=0.02)


LEGENDS = {
    "an emoji": ("🔥", "#1", ["#1: fire"]),
    "a sequence": ("👩 🚒", "#1", ["#1: woman, fire engine"]),
    "with letters": ("a 🔥 0.93", "a #1 0.93", ["#1: fire"]),
    "two": ("🔥猫🚗", "#1猫#2", ["#1: fire", "#2: automobile"]),
    "another script": (
        "ไทย",
        "#1",
        ["#1: thai character sara ai maimalai, thai character tho thahan, thai character yo yak"],
    ),
    "without a name": ("\ue000", "#1", ["#1: U+E000"]),
    "drawable": ("猫 é я α ₹ → ？", "猫 é я α ₹ → ？", []),
}


@pytest.mark.parametrize(("text", "shown", "lines"), LEGENDS.values(), ids=LEGENDS)
def test_letters_that_the_font_lacks_are_shown_by_number(text, shown, lines):
    legend = Legend()
    assert legend.replace_letters(text) == shown
    assert legend.replace_letters(text) == shown
    assert list(legend.lines()) == lines


def test_labels_of_emoji_look_different_and_have_a_legend():
    assert np.array_equal(tag("🔥"), tag("#1"))
    canvas = Canvas(np.full((200, 400, 3), 128, np.uint8))
    tags = NameTags(canvas)
    for label in ("🔥", "🚗", "🔥"):
        tags.add(label, (20, 90, 200))
    before = canvas.pixels.copy()
    tags.add_legend()
    rows = np.flatnonzero((canvas.pixels != before).any(axis=(1, 2)))
    assert rows.min() > 100 and rows.max() < 200
    assert tags.legend.to_json() == {"#1": "🔥", "#2": "🚗"}


def test_tags_of_the_same_place_do_not_cover_each_other():
    array = np.zeros((200, 400), bool)
    array[80:120, 150:250] = True
    tones = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
    canvas = Canvas(np.full((200, 400, 3), 128, np.uint8))
    tags = NameTags(canvas)
    alone = []
    for tone in tones:
        single = Canvas(np.full((200, 400, 3), 128, np.uint8))
        NameTags(single).add("cat", tone, Mask.from_array(array))
        alone.append(np.all(single.pixels == tone, axis=2).sum())
        tags.add("cat", tone, Mask.from_array(array))
    assert [np.all(canvas.pixels == tone, axis=2).sum() for tone in tones] == alone


def test_a_missing_system_library_is_said_with_the_line_that_helps(tmp_path, monkeypatch):
    text = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({text!r})\n", encoding="utf-8")
    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        PluginError, match=r"libGL\.so\.1.*\n.*apt install libgl1, or pip install opencv-python-headless"
    ):
        load_cv2()


@pytest.mark.parametrize(
    ("role", "spec"),
    [
        ("backend", "grabcut"),
        ("filter", {"use": "cleanup", "islands": 5}),
        ("writer", {"use": "coco", "format": "polygons"}),
        ("writer", "labelme"),
        ("writer", "overlay"),
        ("writer", "report"),
        ("writer", {"use": "voc", "border": 2}),
        ("writer", "yolo"),
    ],
    ids=str,
)
def test_every_stage_that_needs_opencv_says_so_before_the_run(monkeypatch, role, spec):
    stage = Registry.load().build(role, spec)
    assert stage.check() == []
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "pip install opencv-python-headless" in [problem.hint for problem in stage.check()]


def test_a_missing_opencv_is_said_with_the_line_that_helps(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(PluginError, match="pip install opencv-python-headless"):
        load_cv2()


def checkerboard(height, width):
    return np.indices((height, width)).sum(axis=0) % 2 == 0


def sieve(height, width):
    pixels = np.ones((height, width), bool)
    pixels[2:-2:5, 2:-2:5] = False
    return pixels


MANY_RINGS = {
    "checkerboard": checkerboard(120, 90),
    "sieve": sieve(200, 150),
    "noise": np.random.default_rng(0).random((90, 120)) < 0.6,
    "columns": np.tile([True, False], (3, 200)),
    "scattered": np.random.default_rng(1).random((300, 300)) < 0.01,
}


@pytest.mark.parametrize("name", MANY_RINGS)
def test_one_line_through_very_many_outlines_encloses_the_same_pixels_in_little_time(name):
    mask = Mask.from_array(MANY_RINGS[name])
    rings = to_rings(mask, 0)
    assert len(rings) > 64
    before = time.process_time()
    line = join_rings(rings)
    assert time.process_time() - before < 2  # 0.1 s; the checkerboard took 14 s pair by pair
    assert polygon_iou(mask, [line.ravel().tolist()]) == 1
    corners = np.concatenate(rings)
    assert {*map(tuple, line.tolist())} == {*map(tuple, corners.tolist())}
    assert len(line) == len(corners) + 2 * (len(rings) - 1)


def test_the_line_through_many_outlines_is_hardly_longer_than_the_one_made_pair_by_pair(monkeypatch):
    rings = to_rings(Mask.from_array(sieve(45, 45)), 0)
    one = join_many(rings)
    monkeypatch.setattr("maskmill_plugins._shared.drawing.polygons._MANY_RINGS", len(rings))
    lengths = [float(np.abs(np.diff(line, axis=0)).sum()) for line in (one, join_rings(rings))]
    assert len(rings) > 64
    assert lengths[0] <= 1.1 * lengths[1]


@pytest.mark.parametrize("quality", [75, 90, 100])
def test_a_jpeg_of_a_noisy_picture_larger_than_one_byte_per_pixel_is_encoded(quality, capfd):
    noise = np.random.default_rng(0).normal(128, 60, (480, 640, 3)).clip(0, 255).astype(np.uint8)
    with PIL.Image.open(io.BytesIO(encode_jpeg(noise, quality))) as decoded:
        assert np.abs(np.asarray(decoded).astype(int) - noise).mean() < 20
    assert capfd.readouterr().err == ""
