"""`Predictor` and `segment`: which images and prompts they take, that an image is encoded once and a model kept."""

import io
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import maskmill
from maskmill import Box, ImageReadError, PipelineError, Point, PromptError, UsageError, testing
from maskmill.inputs import make_prompts, to_image

ROOT = Path(__file__).parent.parent
BOX = [10, 5, 70, 55]
#: A backend that counts what happens to it, and draws its masks at random.
COUNTING = '''
import numpy as np
from maskmill import Backend, ImageError, Mask, hookimpl

EVENTS = []


class Counting(Backend):
    """Noise inside the box."""

    name: str = "a"

    def accepts(self):
        return frozenset({"points", "box"})

    def open(self):
        EVENTS.append(f"open {self.name}")

    def close(self):
        EVENTS.append(f"close {self.name}")

    def embed(self, image):
        EVENTS.append("embed")
        return np.random.random(image.size)

    def masks(self, image, prompts, embedding=None):
        if self.name == "broken":
            raise ImageError("no idea")
        embedding = self.embed(image) if embedding is None else embedding
        return [Mask.from_array(embedding + np.random.random(image.size) > 1, prompt=prompt) for prompt in prompts]


@hookimpl
def register_backends(register):
    register("counting", Counting)
'''


@pytest.fixture
def plugin(tmp_path):
    """The file of the backend `counting`."""
    file = tmp_path / "counting.py"
    file.write_text(COUNTING, encoding="utf-8")
    return file


@pytest.fixture
def photo(tmp_path):
    """A file of 60×80 pixels; PNG, so that all forms have the same pixels."""
    return testing.write_picture(tmp_path / "照片.png", 60, 80).path


def events(predictor):
    return __import__(type(predictor.backend).__module__).EVENTS


FORMS = {
    "text": str,
    "path": Path,
    "bytes": Path.read_bytes,
    "reference": lambda path: maskmill.ImageRef(str(path), "a"),
    "Pillow": PIL.Image.open,
    "array": lambda path: np.asarray(PIL.Image.open(path)),
    "lists": lambda path: np.asarray(PIL.Image.open(path)).tolist(),
    "an array with transparency": lambda path: np.asarray(PIL.Image.open(path).convert("RGBA")),
    "an Image": lambda path: to_image(path),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_images_in_every_form_are_the_same_image(photo, form):
    assert np.array_equal(to_image(form(photo)).pixels, testing.pixels(60, 80))


def test_gray_becomes_rgb_and_transparent_becomes_white():
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(to_image(gray).pixels[:, :, 1], gray)
    clear = np.zeros((3, 4, 4), np.uint8)
    assert (to_image(clear).pixels == 255).all()
    assert to_image(PIL.Image.fromarray(gray), key="k").ref.key == "k"


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "TIFF"])
def test_a_pillow_picture_is_turned_as_its_file_is(tmp_path, suffix):
    exif = PIL.Image.Exif()
    exif[274] = 6
    file = tmp_path / f"turned.{suffix.lower()}"
    PIL.Image.fromarray(testing.pixels(20, 40)).save(file, suffix, exif=exif)
    expected = to_image(file)
    assert expected.size == (40, 20)
    with PIL.Image.open(file) as opened:
        assert np.array_equal(to_image(opened).pixels, expected.pixels)
    with PIL.Image.open(file) as opened:
        opened.load()
        assert np.array_equal(to_image(opened).pixels, expected.pixels)


NO_IMAGES = {
    "nothing": (None, "expected a path, a Pillow picture, .*; got NoneType"),
    "a missing file": ("no/such.png", "cannot read no/such.png: No such file"),
    "channels first": (np.zeros((3, 40, 50), np.uint8), r"channels come last: write array.transpose\(1, 2, 0\)"),
    "floats": (np.zeros((4, 5, 3)), r"expected pixels uint8, 0 to 255; got float64 \(4, 5, 3\); write \(array \* 255"),
    "booleans": (np.zeros((4, 5), bool), r"write array.astype\('uint8'\) \* 255"),
    "16 bits": (np.zeros((4, 5), np.uint16), "got uint16"),
    "numbers beyond 255": ([[300, 1]], r"expected pixels uint8, 0 to 255"),
    "a batch": (np.zeros((2, 4, 5, 3), np.uint8), "for several images call it for each of them"),
    "two channels": (np.zeros((4, 5, 2), np.uint8), r"expected pixels of shape \(height, width, 3\)"),
    "no pixels": (np.zeros((0, 5, 3), np.uint8), r"got uint8 \(0, 5, 3\)"),
    "a list of paths": (["a.png", "b.png"], "expected one image, not a list of images"),
    "an empty list": ([], "an empty list"),
    "rows of different lengths": ([[1, 2], [3]], "the array cannot be read"),
    "a Pillow picture of 16 bits": (PIL.Image.new("I;16", (4, 5)), "mode I;16 has no fixed range of values"),
    "bytes that are no image": (b"hello", "bytes: not a JPEG, PNG"),
}


@pytest.mark.parametrize(("given", "says"), NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_explained(given, says):
    with pytest.raises(ImageReadError, match=says):
        to_image(given)


PROMPTS = {
    "a flat box": ({"boxes": BOX}, ["box"]),
    "a flat array": ({"boxes": np.array(BOX, np.float32)}, ["box"]),
    "a Box": ({"boxes": Box(*BOX)}, ["box"]),
    "a box alone": ({"box": BOX}, ["box"]),
    "several": ({"boxes": [BOX, [0, 0, 5, 5]], "points": [[1, 2], [3, 4, 0]]}, ["box", "box", "points"]),
    "a flat point": ({"points": (40, 30)}, ["points"]),
    "a Point": ({"points": Point(40, 30)}, ["points"]),
    "one prompt": ({"box": BOX, "points": [40, 30]}, ["box points"]),
    "prompts": ({"boxes": BOX, "prompts": maskmill.Prompt(text="cat")}, ["box", "text"]),
}


@pytest.mark.parametrize(("asked", "kinds"), PROMPTS.values(), ids=PROMPTS)
def test_boxes_and_points_in_every_form(asked, kinds):
    made = make_prompts(**asked)
    assert [" ".join(sorted(prompt.needs)) for prompt in made] == kinds
    assert all(prompt.box in (None, Box(*BOX), Box(0, 0, 5, 5)) for prompt in made)


def test_a_table_of_boxes():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame([BOX, BOX], columns=["x1", "y1", "x2", "y2"])
    assert [prompt.box for prompt in make_prompts(boxes=table)] == [Box(*BOX)] * 2


def test_labels_name_classes_or_sort_points():
    made = make_prompts(boxes=[BOX, BOX], points=[1, 2], labels=["cup", None, "猫"])
    assert [prompt.label for prompt in made] == ["cup", None, "猫"]
    assert {prompt.label for prompt in make_prompts(boxes=[BOX, BOX], labels="cup")} == {"cup"}
    (made,) = make_prompts(box=BOX, points=[[1, 2], [3, 4]], labels=np.array([1, 0]))
    assert made.points == (Point(1, 2, 1), Point(3, 4, 0))


NO_PROMPTS = {
    "nothing": ({}, "give boxes or points, or prompts"),
    "three numbers": ({"boxes": [1, 2, 3]}, r"a box is \[x1, y1, x2, y2\], not \[1, 2, 3\]"),
    "a mapping": ({"boxes": {"x": 1}}, "boxes must be a list"),
    "a text": ({"points": "40,30"}, "points must be a list"),
    "box and boxes": ({"boxes": BOX, "box": BOX}, "give either boxes .* or box"),
    "too many labels": ({"boxes": BOX, "labels": ["a", "b"]}, "expected 1 label, one for each mask"),
    "numbers for boxes": ({"boxes": BOX, "labels": [1]}, "points has 0; class names are texts"),
    "class numbers": ({"boxes": BOX, "labels": [7]}, "labels are texts .class names., or 0 and 1"),
    "no prompt": ({"prompts": ["cat"]}, "prompts is a list of maskmill.Prompt, and has 'cat'"),
}


@pytest.mark.parametrize(("asked", "says"), NO_PROMPTS.values(), ids=NO_PROMPTS)
def test_what_is_no_prompt_is_explained(asked, says):
    with pytest.raises(PromptError, match=says):
        make_prompts(**asked)


def test_an_image_is_encoded_once(plugin, photo):
    with maskmill.Predictor("counting", plugins=plugin) as predictor:
        with predictor.image(photo) as view:
            with pytest.raises(PromptError, match="outside"):
                view.masks(boxes=[500, 500, 600, 600])
            assert events(predictor) == ["open a"], "a wrong prompt costs nothing"
            first = view.masks(boxes=BOX)
            assert view.masks(boxes=[BOX, BOX])[0] == first[0]
        predictor.image(photo).masks(points=[40, 30])
        assert events(predictor) == ["open a", "embed"]
        predictor.image(testing.pixels(8, 9)).masks(points=[4, 3])
        predictor.image(testing.pixels(9, 8)).masks(points=[4, 3])
        assert events(predictor) == ["open a", *["embed"] * 3]
    assert events(predictor)[-1] == "close a"


def test_black_images_of_other_shapes_are_told_apart(plugin):
    with maskmill.Predictor("counting", plugins=plugin) as predictor:
        for shape in ((6, 8, 3), (8, 6, 3)):
            (mask,) = predictor.image(np.zeros(shape, np.uint8)).masks(points=[2, 3])
            assert mask.size == shape[:2]


def test_masks_do_not_depend_on_what_was_computed_before_or_in_which_thread(plugin, photo):
    with maskmill.Predictor("counting", plugins=[plugin]) as predictor:
        expected = predictor.image(photo).masks(boxes=BOX)
    found = []
    with maskmill.Predictor("counting", plugins=plugin) as predictor:
        predictor.image(testing.pixels(30, 30)).masks(points=[2, 3])
        threads = [
            threading.Thread(target=lambda: found.append(predictor.image(photo).masks(boxes=BOX))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [expected] * 8
        assert events(predictor) == ["open a", "embed", "embed"]


def test_a_closed_predictor_says_so(photo):
    predictor = maskmill.Predictor("grabcut", iterations=2)
    assert repr(predictor) == "<Predictor 'grabcut, iterations=2': open>"
    view = predictor.image(photo)
    predictor.close()
    predictor.close()
    assert repr(predictor) == "<Predictor 'grabcut, iterations=2': closed>"
    for use in (lambda: predictor.image(photo), lambda: view.masks(boxes=BOX)):
        with pytest.raises(UsageError, match="the predictor is closed"):
            use()


@pytest.mark.parametrize(
    ("backend", "options", "says"),
    [
        ("grabcat", {}, "did you mean 'grabcut'"),
        ("grabcut", {"iteration": 3}, "the backend 'grabcut' has no option 'iteration'\n  did you mean 'iterations'"),
        ("grabcut", {"iterations": 0}, "grabcut: iterations: expected a whole number from 1 to 20, not 0"),
        ("grabcut", {"iterations": object()}, "iterations: expected plain data"),
        ({"model": "vit_b"}, {}, "a backend is a name or a mapping with `use`"),
        ("sam", {"checkpoint": Path("nowhere.pth")}, "nowhere.pth' does not exist|needs the package"),
    ],
    ids=["name", "option", "value", "object", "no name", "file"],
)
def test_a_backend_that_cannot_be_is_explained(backend, options, says):
    with pytest.raises(UsageError, match=says):
        maskmill.Predictor(backend, **options)


def test_doubts_and_failures_are_told(plugin, photo):
    with maskmill.Predictor("grabcut", iterations=np.int64(1)) as predictor, predictor.image(photo) as view:
        view.masks(boxes=[10, 5, 500, 55])
        assert [doubt.code for doubt in view.doubts] == ["clipped"]
        view.masks(boxes=BOX)
        assert view.doubts == ()
    broken = {"use": "counting", "name": "broken"}
    said = pytest.raises(maskmill.ImageError, match=r"照片.png: counting: no idea")
    with maskmill.Predictor(broken, plugins=plugin) as predictor, said:
        predictor.image(photo).masks(boxes=BOX)


def test_a_view_draws_the_masks_of_the_last_call(photo):
    with maskmill.Predictor("grabcut") as predictor, predictor.image(photo) as view:
        assert np.array_equal(np.asarray(view.draw()), view.image.pixels)
        (mask,) = view.masks(boxes=BOX)
        changed = (np.asarray(view.draw()) != view.image.pixels).any(axis=2)
        assert np.array_equal(changed, mask.array)
        with pytest.raises(PromptError):
            view.masks(boxes=[500, 500, 600, 600])
        assert np.array_equal(np.asarray(view.draw()), view.image.pixels), "nothing of an earlier call"
        view.masks(boxes=BOX)
        assert PIL.Image.open(io.BytesIO(view._repr_png_())).size == (80, 60)


def test_segment_keeps_two_models(plugin, photo, monkeypatch):
    from maskmill.plugins.registry import Registry

    maskmill.free_models()
    registry = Registry.load([plugin])
    monkeypatch.setattr(Registry, "load", lambda *_: registry)
    seen = __import__(registry.get("backend", "counting").cls.__module__).EVENTS
    spec = {name: {"use": "counting", "name": name} for name in "abc"}
    first = maskmill.segment(photo, boxes=BOX, backend=spec["a"])
    assert maskmill.segment(photo, boxes=BOX, backend=spec["a"]) == first
    assert seen == ["open a", "embed"]
    for name in "bab":
        maskmill.segment(photo, boxes=BOX, backend=spec[name])
    assert seen == ["open a", "embed", "open b", "embed"]
    with pytest.raises(PromptError):
        maskmill.segment(photo, boxes=[500, 500, 600, 600], backend=spec["c"])
    assert seen[4:] == [], "no model is closed or opened for a wrong prompt"
    maskmill.segment(photo, boxes=BOX, backend=spec["c"])
    assert seen[4:] == ["close a", "open c", "embed"]
    maskmill.free_models()
    assert sorted(seen[-2:]) == ["close b", "close c"]
    assert maskmill.segment(photo, boxes=BOX, backend=spec["a"]) == first
    maskmill.free_models()


def test_segment_takes_box_and_points_as_one_prompt(photo):
    (mask,) = maskmill.segment(photo, box=BOX, points=[[40, 30], [2, 2]], labels=[1, 0], backend="grabcut")
    assert mask.prompt == maskmill.Prompt(points=[[40, 30], [2, 2, 0]], box=BOX)
    maskmill.free_models()


@pytest.mark.torch
def test_sam_encodes_once_and_gives_the_masks_of_a_run():
    weights, picture = ROOT / "tests/data/scene_sam/scene_sam.pth", ROOT / "datasets/scenes/images/000.jpg"
    prompts = {"boxes": [186, 17, 293, 137], "points": [[240, 80]]}
    with maskmill.Predictor("sam", checkpoint=weights) as predictor:
        passes = []
        encoder = predictor.backend._segmenter.sam.image_encoder
        encoder.patch_embed.proj.register_forward_hook(lambda *_: passes.append(1))
        expected = predictor.backend.masks(to_image(picture), make_prompts(**prompts))
        passes.clear()
        with predictor.image(picture) as view:
            found = view.masks(**prompts)
            view.masks(points=[140, 120])
        assert len(passes) == 1
        assert [mask.counts for mask in found] == [mask.counts for mask in expected]


def test_options_may_not_be_lost(photo):
    with pytest.raises(PipelineError, match="a backend is a name or a mapping"):
        maskmill.segment(photo, boxes=BOX, backend=["grabcut"])
