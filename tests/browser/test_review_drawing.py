"""Mending masks on the review page with a real mouse: brush, eraser, clicks for the model; then the pipeline runs."""

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("fastapi")
from pycocotools import mask as coco_mask
from review_kit import lines, make_run, rerun, reviewing

from maskmill import Run
from maskmill.testing import write_picture

SPANS = """async ([url, shape, counts, strokes]) => {
    const { SpanMask } = await import(`${url}/review/spans.js`);
    const mask = new SpanMask(shape, counts);
    for (const [from, to, radius, on] of strokes) mask.line(from, to, radius, on);
    const { area, box } = mask;
    return { area, box, counts: mask.counts };
}"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    write_picture(tmp_path / "photos" / "-1.png", 80, 2600, 7)  # wider than its preview, and last in the queue
    make_run(tmp_path)
    return tmp_path


@pytest.fixture
def server(folder):
    with reviewing(folder) as running:
        yield running


def opened(tab, server, key="05.png"):
    page = tab(f"{server.url}/review/")
    page.page.wait_for_selector(f'body[data-shown="{key}"]')
    return page


def decoded(prompt):
    return coco_mask.decode({"size": prompt["mask"]["size"], "counts": prompt["mask"]["counts"]}).astype(bool)


def near(shape, start, end, radius):
    """Pixels whose centres lie within a radius of the line between two places (x, y)."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    (x1, y1), (x2, y2) = start, end
    length = (x2 - x1) ** 2 + (y2 - y1) ** 2
    part = np.clip(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / (length or 1), 0, 1)
    return np.hypot(x - x1 - part * (x2 - x1), y - y1 - part * (y2 - y1)) <= radius + 1e-9


def test_strokes_change_the_pixels_along_them_and_nothing_else(server, tab):
    page = tab(f"{server.url}/review/icon.svg", wait=False)
    generator = np.random.default_rng(4)
    mask = generator.random((61, 83)) < 0.5
    mask[:, 20:60] = True
    strokes = [((-5, 10), (30.5, 70), 6.5, True), ((40, 40), (40, 40), 9, False), ((80, 3), (81, 59), 3.5, False)]
    strokes += [((10.5, 60.5), (82.5, 60.5), 0.5, True), ((0, 0), (0, 60), 4, True)]
    counts = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()
    for number in range(len(strokes) + 1):
        done = strokes[:number]
        if done:
            start, end, radius, on = done[-1]
            mask = np.where(near(mask.shape, start, end, radius), on, mask)
        found = page.page.evaluate(SPANS, [server.url, mask.shape, counts, done])
        expected = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert found["counts"] == expected["counts"].decode()
        x, y, width, height = coco_mask.toBbox(expected)
        assert (found["area"], found["box"]) == (mask.sum(), [x, y, x + width, y + height])


def labels(page):
    return page.page.locator("#objects .name").all_inner_texts()


def test_a_person_paints_and_every_later_run_has_these_pixels(server, folder, tab):
    page = opened(tab, server)
    page.page.wait_for_function("""() => [...document.querySelectorAll(".thumbnail")].every(
        (canvas) => canvas.getContext("2d").getImageData(48, 48, 1, 1).data[3] === 255)""")
    with PIL.Image.open(folder / "photos" / "05.png") as picture:
        below = np.array(picture.getpixel((20, 60)))
    grey = 150 * 190 / 255 + below * 65 / 255  # the left edge of the tree that a filter dropped
    assert np.abs(page.color(20.5, 60.5) - grey).max() < 3
    page.click(20, 20)  # the cat
    page.press("b")
    page.says("3 px", "#brush-width")
    page.drag(10.5, 45.5, 60.5, 45.5)
    page.drag(20.5, 20.5, 20.5, 20.5, button="right")  # a dot, erased
    page.press("z", "x")
    page.page.keyboard.down("Shift")  # the eraser paints
    page.drag(30.5, 70.5, 30.5, 75.5)
    page.page.keyboard.up("Shift")
    for _ in range(20):
        page.press("]")
    page.drag(24, 24, 45, 60)
    page.says("press Delete")  # it would have erased everything
    page.press("Escape", "b")
    page.says("57 px", "#brush-width")
    page.press("[")
    page.click(75, 65)
    assert labels(page) == ["dog", "cat\npainted", "no label\npainted"]
    page.press("2", "n")
    page.says("not saved yet")
    page.page.wait_for_selector('body[data-shown="04.png"]')
    page.press("p")
    page.page.wait_for_selector('body[data-shown="05.png"]')
    page.press("Enter")
    page.page.wait_for_selector('body[data-shown="04.png"]')
    (line,) = lines(folder)
    cat, dog, new = line["prompts"]
    assert (cat["label"], dog["label"], new["label"], line["verdict"]) == ("cat", "dog", "dog", "fixed")
    before = np.zeros((80, 100), bool)
    before[8:40, 8:40] = True
    strokes = near(before.shape, (10.5, 45.5), (60.5, 45.5), 1.5) | near(before.shape, (30.5, 70.5), (30.5, 75.5), 1.5)
    assert np.array_equal(decoded(cat), before | strokes)
    assert "score" not in cat["mask"] and cat["box"] == [8, 8, 40, 40]
    assert decoded(new)[65, 75] and decoded(new).sum() > 500
    rerun(folder, ["backend.shift=3", "output=out2"])
    kept = Run(folder / "out2").result(Run(folder / "out2").find("05.png")).kept
    assert [mask.counts for mask in kept] == [one["mask"]["counts"] for one in line["prompts"]]


def test_clicks_get_masks_from_the_runs_model(server, folder, tab):
    page = opened(tab, server)
    page.press("g")
    page.click(5, 5)
    page.says("Select the object")
    page.click(20, 20, key="Control")  # selects whatever the tool
    page.click(45, 45)
    page.page.wait_for_selector("#objects .object[data-id=m0] .reason")
    page.press("Escape", "d")
    page.drag(60, 50, 90, 70)
    page.page.wait_for_selector("#objects .object[data-id=n1] .reason")
    page.press("1", "Escape", "f")
    page.click(5, 75)
    page.page.wait_for_selector("#objects .object[data-id=n2] .reason")
    page.press("z", "Enter")
    page.page.wait_for_selector('body[data-shown="04.png"]')
    (line,) = lines(folder)
    cat, _, new = line["prompts"]
    assert (cat["box"], [round(number) for number in cat["points"][0]]) == ([8, 8, 40, 40], [45, 45, 0])
    assert [round(number) for number in new["box"]] == [60, 50, 90, 70]
    assert decoded(new)[52:68, 62:88].all() and decoded(new).sum() < 700
    assert new["mask"]["score"] == cat["mask"]["score"] == 0.85
    page.page.locator('.entry[data-key="-1.png"]').click()
    page.page.wait_for_selector('body[data-shown="-1.png"]')
    with page.page.expect_response(lambda response: "crop=" in response.url) as part:
        page.press("+", "+", "+", "+")
    assert part.value.status == 200
    server.session.model.close()
    page.press("0")
    page.press("d")
    page.drag(60, 50, 90, 70)
    page.says("No mask")
    assert page.page.locator("#objects .object").count() == 2
