"""png, cutout and overlay: the pixels of their files, and names that never collide."""

import io
import itertools
import re
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError

import maskmill_plugins
from maskmill import Box, Image, ImageResult, Mask, Pipeline, Point, Prompt, read_run, testing
from maskmill.plugins.registry import Registry
from maskmill.tables import read_table
from maskmill_plugins.writers.cutout import Cutout
from maskmill_plugins.writers.overlay import Overlay
from maskmill_plugins.writers.png import Png

HEIGHT, WIDTH = 30, 40
PIXELS = np.random.default_rng(0).integers(1, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
LONG = "长" * 83 + ".jpeg"  # 254 bytes
KEYS = ["a.jpg", "a.png", "sub/a.jpg", "照片/车辆 1.jpg", "with space.png", LONG, "con.png", "a.jpg/b.png"]
LABELS = ["车辆", "con", "a/b", "", None, "../up", "x" * 300, "a:b", "\udce9"]


def block(y1, y2, x1, x2):
    array = np.zeros((HEIGHT, WIDTH), bool)
    array[y1:y2, x1:x2] = True
    return array


def mask(array, label="cat", **prompt):
    prompt = prompt or {"points": (Point(1, 1),)}
    return Mask.from_array(array, score=0.9, prompt=Prompt(label=label, **prompt))


def image(key="a.jpg"):
    return Image.from_array(PIXELS, key)


def write(writer, folder, masks, key="a.jpg"):
    """The files written, opened, by their path below the folder."""
    status = "done" if masks else "empty"
    prompts = tuple(m.prompt for m in masks)
    result = ImageResult(key, status, (HEIGHT, WIDTH), prompts=prompts, masks=tuple(masks))
    artifacts = writer.write(image(key), result, folder)
    files = {artifact.path: (folder / artifact.path).read_bytes() for artifact in artifacts}
    assert [len(data) for data in files.values()] == [artifact.bytes for artifact in artifacts]
    return {path: PIL.Image.open(io.BytesIO(data)) for path, data in files.items()}


ONE_PIXEL = block(7, 8, 9, 10)
FULL = block(0, HEIGHT, 0, WIDTH)
EMPTY = block(0, 0, 0, 0)
LEFT, RIGHT = block(5, 20, 3, 18), block(10, 25, 12, 35)
SHAPES = {"one pixel": ONE_PIXEL, "full frame": FULL, "last pixel": block(29, 30, 39, 40), "block": LEFT}
ALL_WRITERS = {
    "png": Png(),
    "png-indexed": Png(layout="indexed"),
    "cutout": Cutout(),
    "cutout-image": Cutout(per="image"),
    "png-class": Png(by="class"),
    "overlay": Overlay(),
}
every_writer = pytest.mark.parametrize("writer", ALL_WRITERS.values(), ids=ALL_WRITERS.keys())
every_shape = pytest.mark.parametrize("array", SHAPES.values(), ids=SHAPES.keys())


@every_writer
def test_files_of_different_images_never_share_a_path(writer, tmp_path):
    paths = list(itertools.chain(*(write(writer, tmp_path, [mask(LEFT), mask(RIGHT)], key) for key in KEYS)))
    assert len({path.lower() for path in paths}) == len(paths)
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(tmp_path / path for path in paths)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a", "a/000_cat.png"),
        ("a.jpg", "a_jpg/000_cat.png"),
        ("a.jpg", "a_jpg"),
        ("a.jpg", "a.jpg.png/b.jpg"),
        ("photo", "photo_image"),
        ("photo", "photo_image/000_cat.png"),
        ("sub/a.jpg", "sub__a.jpg"),
        ("sub/a__b.jpg", "sub__a/b.jpg"),
    ],
)
@every_writer
def test_a_folder_called_like_an_images_output_does_not_clash_with_it(writer, one, other, tmp_path):
    first = write(writer, tmp_path, [mask(LEFT)], one)
    second = write(writer, tmp_path, [mask(LEFT)], other)
    assert not set(first) & set(second)


@pytest.mark.parametrize("writer", [Png(), Cutout()], ids=["png", "cutout"])
@pytest.mark.parametrize("key", ["照片/车辆 1.jpg", LONG], ids=["chinese", "long"])
def test_labels_make_file_names_that_every_system_accepts(writer, key, tmp_path):
    files = write(writer, tmp_path, [mask(LEFT, label) for label in LABELS], key)
    assert len(files) == len(LABELS)
    folder = f"{key[:-4]}_jpg" if key.endswith(".jpg") else f"{key[:-5]}_jpeg"
    for number, path in enumerate(sorted(files)):
        parent, _, name = path.rpartition("/")
        assert parent == folder
        assert name.startswith(f"{number:03d}")
        assert name.endswith(".png")
        assert not set(name) & set('\\:*?"<>|')
        assert len(name.encode()) <= 255
    assert {f"{folder}/{name}" for name in ("000_车辆.png", "001_con.png", "003.png")} <= set(files)


@pytest.mark.parametrize(
    ("writer", "folders"),
    [
        (Png(), ["a_jpg", "a_png", "sub/a_jpg"]),
        (Cutout(), ["a_jpg", "a_png", "sub/a_jpg"]),
        (Png(by="class"), ["a_b~", "car", "cat.png__~", "object"]),
        (Png(layout="indexed"), [".", "sub"]),
    ],
    ids=["masks", "cutout", "by class", "indexed"],
)
def test_a_table_says_which_object_is_in_which_file_and_no_folder_looks_like_a_picture(writer, folders, tmp_path):
    labels = ["car", "a:b", None, "cat.png"]
    results = []
    for key in ("a.jpg", "a.png", "sub/a.jpg"):
        write(writer, tmp_path, [mask(LEFT, label) for label in labels], key)
        results.append(ImageResult(key, "done", (HEIGHT, WIDTH), masks=tuple(mask(LEFT, label) for label in labels)))
    assert [artifact.path for artifact in writer.finish(iter(results), tmp_path)] == ["masks.csv"]
    rows = list(read_table(tmp_path / "masks.csv"))
    found = [(row["key"], row["index"], row["label"], row["score"]) for row in rows]
    assert found == [
        (each.key, str(number), label or "", "0.9") for each in results for number, label in enumerate(labels)
    ]
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    assert sorted({row["file"] for row in rows}) == files
    found = sorted({Path(file).parent.as_posix() for file in files})
    assert [re.sub("~[0-9a-f]{16}", "~", name) for name in found] == folders
    assert all((tmp_path / file).is_file() for file in files)


@every_shape
def test_a_mask_file_holds_the_mask(array, tmp_path):
    ((path, picture),) = write(Png(), tmp_path, [mask(array)]).items()
    assert path == "a_jpg/000_cat.png"
    assert picture.mode == "L"
    assert np.array_equal(np.asarray(picture), array * np.uint8(255))


def test_without_masks_there_are_no_mask_files_but_a_map_of_background(tmp_path):
    assert write(Png(), tmp_path, []) == {}
    (picture,) = write(Png(layout="indexed"), tmp_path, []).values()
    assert picture.mode == "P"
    assert not np.asarray(picture).any()


def test_the_smaller_mask_wins_in_an_indexed_map_whatever_the_order(tmp_path):
    for masks in ([mask(ONE_PIXEL), mask(FULL), mask(LEFT)], [mask(FULL), mask(LEFT), mask(ONE_PIXEL)]):
        (picture,) = write(Png(layout="indexed"), tmp_path, masks).values()
        small, full, left = (1 + [m.area for m in masks].index(a.sum()) for a in (ONE_PIXEL, FULL, LEFT))
        expected = np.where(LEFT, left, full)
        expected[ONE_PIXEL] = small
        assert np.array_equal(np.asarray(picture), expected)


def test_every_number_of_an_indexed_map_has_its_own_colour(tmp_path):
    (picture,) = write(Png(layout="indexed"), tmp_path, [mask(LEFT)]).values()
    palette = np.array(picture.getpalette()).reshape(-1, 3)
    assert palette[0].tolist() == [0, 0, 0]
    assert len(np.unique(palette, axis=0)) > 240


def test_more_than_255_masks_need_16_bits(tmp_path):
    masks = [mask(block(n // WIDTH, n // WIDTH + 1, n % WIDTH, n % WIDTH + 1)) for n in range(300)]
    (picture,) = write(Png(layout="indexed"), tmp_path, masks).values()
    assert picture.mode == "I;16"
    assert np.asarray(picture).reshape(-1)[:301].tolist() == [*range(1, 301), 0]


@pytest.mark.parametrize("writer", [Png(), Png(layout="indexed"), Cutout()], ids=["masks", "indexed", "cutout"])
def test_dropped_masks_are_not_written(writer, tmp_path):
    dropped = Mask.from_json({**mask(FULL).to_json(), "dropped_by": "score"})
    (picture,) = write(writer, tmp_path, [dropped, mask(ONE_PIXEL)]).values()
    assert np.count_nonzero(np.asarray(picture.convert("RGBA"))[:, :, :3].any(axis=2)) == 1


@every_shape
def test_a_cutout_is_the_object_in_the_images_colours_and_nothing_else(array, tmp_path):
    (picture,) = write(Cutout(crop="frame"), tmp_path, [mask(array)]).values()
    rgba = np.asarray(picture)
    assert picture.mode == "RGBA"
    assert np.array_equal(rgba[:, :, 3], array * np.uint8(255))
    assert np.array_equal(rgba[:, :, :3], PIXELS * array[:, :, None])


def test_a_tight_cutout_is_the_frame_cropped_to_the_object(tmp_path):
    (frame,) = write(Cutout(crop="frame"), tmp_path, [mask(LEFT)]).values()
    (tight,) = write(Cutout(), tmp_path, [mask(LEFT)]).values()
    assert np.array_equal(np.asarray(tight), np.asarray(frame)[5:20, 3:18])


def test_the_margin_stops_at_the_edge_of_the_image(tmp_path):
    (picture,) = write(Cutout(margin=7), tmp_path, [mask(LEFT)]).values()
    assert picture.size == (18 + 7, 20 + 7 - 0)
    assert np.count_nonzero(np.asarray(picture)[:, :, 3]) == LEFT.sum()
    assert np.asarray(picture)[5, 3, 3] == 255


def test_one_cutout_of_all_masks_of_an_image(tmp_path):
    ((path, picture),) = write(Cutout(per="image"), tmp_path, [mask(LEFT), mask(RIGHT)]).items()
    assert path == "a.jpg.png"
    assert np.array_equal(np.asarray(picture)[:, :, 3] > 0, (LEFT | RIGHT)[5:25, 3:35])


@pytest.mark.parametrize("text", ["white", "#ffffff", "rgb(255,255,255)"])
def test_a_cutout_on_a_colour_has_no_transparency(text, tmp_path):
    (picture,) = write(Cutout(crop="frame", background=text), tmp_path, [mask(LEFT)]).values()
    assert picture.mode == "RGB"
    assert np.array_equal(np.asarray(picture), np.where(LEFT[:, :, None], PIXELS, np.uint8(255)))


def test_a_blurred_background_has_the_colours_of_the_surroundings_and_none_of_the_object(tmp_path):
    picture = np.full((300, 400, 3), (40, 90, 200), np.uint8)
    inside = np.zeros((300, 400), bool)
    inside[100:200, 150:250] = True
    picture[inside] = (255, 0, 0)
    result = ImageResult("a.jpg", "done", (300, 400), masks=(Mask.from_array(inside),))
    writer = Cutout.from_options({"background": "blurred", "margin": 30, "square": True})
    (artifact,) = writer.write(Image.from_array(picture, "a.jpg"), result, tmp_path)
    shown = rgb(opened(tmp_path / artifact.path))
    assert shown.shape == (160, 160, 3)
    expected = np.where(inside[70:230, 120:280, None], (255, 0, 0), (40, 90, 200))
    assert np.abs(shown - expected).max() <= 1
    noise = np.random.default_rng(0).integers(0, 255, picture.shape, dtype=np.uint8)
    (artifact,) = writer.write(Image.from_array(noise, "a.jpg"), result, tmp_path)
    around = rgb(opened(tmp_path / artifact.path))[~inside[70:230, 120:280]]
    assert 0 < around.std() < noise.std() / 5, "out of focus"


def test_a_feathered_edge_rises_inwards_but_not_where_the_image_ends(tmp_path):
    array = block(10, HEIGHT, 5, 25)
    (picture,) = write(Cutout(crop="frame", feather=3), tmp_path, [mask(array)]).values()
    alpha = np.asarray(picture)[:, :, 3]
    assert not alpha[~array].any()
    assert alpha[20, 5:10].tolist() == [64, 128, 191, 255, 255], "from the left edge inwards"
    assert alpha[-1, 15] == 255, "the lower edge is that of the image"
    assert alpha[10, 15] == 64


@pytest.mark.parametrize("options", [{}, {"crop": "frame"}, {"margin": 4}, {"background": "white"}], ids=str)
def test_a_square_cutout_has_its_crop_in_the_middle(options, tmp_path):
    (plain,) = write(Cutout(**options), tmp_path, [mask(ONE_PIXEL | block(8, 12, 9, 22))]).values()
    (square,) = write(Cutout(square=True, **options), tmp_path, [mask(ONE_PIXEL | block(8, 12, 9, 22))]).values()
    side = max(plain.size)
    assert square.size == (side, side)
    left, top = (side - plain.width) // 2, (side - plain.height) // 2
    box = (left, top, left + plain.width, top + plain.height)
    assert np.array_equal(np.asarray(square.crop(box)), np.asarray(plain))


@pytest.mark.parametrize(
    ("options", "size"),
    [({"size": 64}, (64, 52)), ({"size": 5}, (5, 4)), ({"size": 32, "square": True}, (32, 32))],
    ids=str,
)
def test_a_cutout_of_a_given_size(options, size, tmp_path):
    (picture,) = write(Cutout(**options), tmp_path, [mask(block(3, 16, 4, 20))]).values()
    assert picture.size == size
    rgba = np.asarray(picture)
    assert not rgba[rgba[:, :, 3] == 0].any(), "nothing shows through"


def test_new_options_of_cutout_leave_earlier_files_valid():
    assert Cutout().digest() == Cutout(square=False, size=None, background="transparent", feather=0).digest()
    assert len({Cutout(**each).digest() for each in ({}, {"square": True}, {"size": 9}, {"feather": 1})}) == 4


@pytest.mark.parametrize("background", ["whit", "", "#12345678", "blured", 17])
def test_a_background_that_is_no_colour_is_refused(background):
    with pytest.raises(ValidationError, match="background"):
        Cutout.from_options({"background": background})


@pytest.mark.parametrize("writer", [Cutout(), Cutout(per="image")], ids=["object", "image"])
@pytest.mark.parametrize("masks", [[], [mask(EMPTY)]], ids=["no mask", "empty mask"])
def test_nothing_to_cut_out_makes_no_file(writer, masks, tmp_path):
    assert write(writer, tmp_path, masks) == {}


def rgb(picture):
    return np.asarray(picture.convert("RGB")).astype(int)


def opened(path):
    return PIL.Image.open(io.BytesIO(path.read_bytes()))


def overlay(tmp_path, masks, **options):
    options = {"format": "png", "min_side": 1, "labels": False, "prompts": False, **options}
    (picture,) = write(Overlay(**options), tmp_path, masks).values()
    return rgb(picture)


def test_an_overlay_changes_the_pixels_of_the_mask_and_no_others(tmp_path):
    changed = np.any(overlay(tmp_path, [mask(LEFT)], outline=False) != PIXELS, axis=2)
    assert changed[LEFT].mean() > 0.95
    assert not changed[block(4, 21, 2, 19) == 0].any()  # a smooth edge may reach one pixel out
    assert np.array_equal(overlay(tmp_path, [mask(EMPTY)]), PIXELS)


def test_alpha_0_leaves_the_inside_as_it_is(tmp_path):
    picture = overlay(tmp_path, [mask(LEFT)], alpha=0.0)
    inside, border = block(10, 15, 8, 13), block(5, 6, 8, 13)
    assert np.array_equal(picture[inside], PIXELS[inside])
    assert not np.array_equal(picture[border], PIXELS[border])


def test_a_hole_stays_clear(tmp_path):
    ring = FULL & ~block(8, 22, 10, 30)
    picture = overlay(tmp_path, [mask(ring)], outline=False)
    inside = block(10, 20, 12, 28)
    assert np.array_equal(picture[inside], PIXELS[inside])


def test_objects_have_different_colours_and_labels_can_share_one(tmp_path):
    masks = [mask(block(0, 10, 0, 10), "cat"), mask(block(15, 25, 0, 10), "cat"), mask(block(0, 10, 20, 30), "dog")]
    seen = {}
    for color_by in ("object", "label"):
        picture = overlay(tmp_path, masks, alpha=1.0, color_by=color_by, outline=False)
        seen[color_by] = [tuple(picture[y, x]) for y, x in ((5, 5), (20, 5), (5, 25))]
    assert len(set(seen["object"])) == 3
    assert seen["label"][0] == seen["label"][1] != seen["label"][2]
    alone = overlay(tmp_path, [masks[2]], alpha=1.0, color_by="label", outline=False)
    assert tuple(alone[5, 25]) == seen["label"][2]


def test_a_small_object_shows_on_top_of_a_large_one(tmp_path):
    small = block(10, 20, 10, 20)
    pictures = [
        overlay(tmp_path, masks, alpha=1.0, outline=False, color_by="label")
        for masks in ([mask(small, "s"), mask(FULL, "l")], [mask(FULL, "l"), mask(small, "s")])
    ]
    assert np.array_equal(*pictures)
    assert tuple(pictures[0][15, 15]) != tuple(pictures[0][2, 2])


@pytest.mark.parametrize("option", ["labels", "prompts", "scores"])
def test_names_scores_and_prompts_are_drawn_when_asked_for(option, tmp_path):
    masks = [mask(LEFT, "车辆", box=Box(3, 5, 18, 20), points=(Point(30, 25, 0), Point(6, 8)))]
    plain = overlay(tmp_path, masks, min_side=320)
    drawn = overlay(tmp_path, masks, min_side=320, **{option: True})
    assert np.any(plain != drawn)


def test_prompts_of_dropped_masks_are_drawn(tmp_path):
    prompt = Prompt(box=Box(20, 5, 35, 25))
    result = ImageResult("a.png", "empty", (HEIGHT, WIDTH), prompts=(prompt,), reason="all masks dropped: score 1")
    writer = Overlay(format="png", min_side=1, labels=False)
    (artifact,) = writer.write(image(), result, tmp_path)
    changed = np.any(rgb(opened(tmp_path / artifact.path)) != PIXELS, axis=2)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((4, 25, 19, 35), abs=3)


def test_an_image_without_masks_says_why(tmp_path):
    def written(reason):
        result = ImageResult("a.png", "empty", (HEIGHT, WIDTH), reason=reason)
        (artifact,) = Overlay(format="png").write(image(), result, tmp_path)
        return (tmp_path / artifact.path).read_bytes()

    assert len({written("no prompts"), written("all masks dropped"), written(None)}) == 3


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, (640, 480)), ({"min_side": 1}, (40, 30)), ({"max_side": 64}, (64, 48)), ({"min_side": 100}, (100, 75))],
    ids=["small is enlarged", "as it is", "no larger than asked", "no smaller than asked"],
)
def test_the_size_of_an_overlay(options, size, tmp_path):
    ((path, picture),) = write(Overlay(**options), tmp_path, [mask(LEFT)]).items()
    assert (path, picture.format, picture.size) == ("a.jpg.jpg", "JPEG", size)


def test_a_large_image_is_reduced(tmp_path):
    pixels = np.zeros((300, 4000, 3), np.uint8)
    result = ImageResult("a.png", "done", (300, 4000), masks=(Mask.from_array(pixels[:, :, 0] == 0),))
    (artifact,) = Overlay().write(Image.from_array(pixels), result, tmp_path)
    assert opened(tmp_path / artifact.path).size == (1600, 120)


@every_writer
def test_a_second_run_writes_the_same_bytes(writer, tmp_path):
    def run(folder):
        write(writer, folder, [mask(LEFT, "车辆", box=Box(3, 5, 18, 20)), mask(RIGHT, None)])
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()}

    assert run(tmp_path / "one") == run(tmp_path / "two")


@pytest.mark.parametrize(
    ("writer", "option"),
    [(Png, {"layout": "index"}), (Cutout, {"margin": -1}), (Overlay, {"alpha": 2}), (Overlay, {"labels": "no"})],
)
def test_wrong_options_are_refused(writer, option):
    with pytest.raises(ValidationError):
        writer.from_options(option)


@pytest.mark.parametrize("name", ["png", "cutout", "overlay", "coco"])
def test_a_copied_file_is_a_drop_in_once_it_has_another_name(name, tmp_path):
    source = Path(maskmill_plugins.__file__).parent / "writers" / f"{name}.py"
    copy = tmp_path / "mine.py"
    text = source.read_text(encoding="utf-8")
    copy.write_text(text.replace(f'register("{name}"', 'register("mine"'), encoding="utf-8")
    mine = Registry.load([copy]).build("writer", "mine")
    result = ImageResult("a.jpg", "done", (HEIGHT, WIDTH), masks=(mask(LEFT),))
    made = [*mine.write(image(), result, tmp_path / "out"), *mine.finish(iter([result]), tmp_path / "out")]
    assert all((tmp_path / "out" / artifact.path).is_file() for artifact in made) and made
    shutil.rmtree(tmp_path / "out")


def test_jpeg_quality_decides_the_size_of_the_file(tmp_path):
    sizes = []
    for quality in (30, 95):
        write(Overlay(quality=quality), tmp_path, [mask(LEFT)])
        sizes.append((tmp_path / "a.jpg.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


def test_an_overlay_notes_the_labels_that_it_shows_by_number(tmp_path):
    testing.write_picture(tmp_path / "photos" / "a.png")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "fakes.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
    (tmp_path / "p.yaml").write_text(
        "dataset: photos\nprompts: [{use: manual, box: [2, 2, 20, 20], label: 🔥 fire}]\nbackend: fake-backend\n"
        "writers: [overlay]\noutput: out\nrun: {engine: inline}\n",
        encoding="utf-8",
    )
    assert Pipeline.load(tmp_path / "p.yaml").run(quiet=True).exit_code == 0
    (result,) = read_run(tmp_path / "out")
    assert result.notes["overlay"] == {"labels shown by number": {"#1": "🔥"}}
