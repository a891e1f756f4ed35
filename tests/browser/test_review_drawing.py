"""Mending masks on the review page with a real mouse: brush, eraser, clicks for the model; then the pipeline runs."""

import numpy as np
import pytest

pytest.importorskip("fastapi")
from pycocotools import mask as coco_mask
from review_kit import make_run, reviewing

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
    page = opened(tab, server)
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
