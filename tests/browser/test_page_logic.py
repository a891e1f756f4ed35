"""The page's modules by themselves, in the browser: run lengths, views, steps, prompts."""

import json

import numpy as np
import pytest
from annotate_kit import annotating, folder_of
from annotate_page import entries
from pycocotools import mask as coco_mask

from maskmill import Pipeline, read_run


@pytest.fixture(scope="module")
def module(chromium, tmp_path_factory):
    """`module(file, script, argument)`: the result of a function in one of the page's modules."""
    folder = folder_of(tmp_path_factory.mktemp("logic") / "photos", 1)
    with annotating(folder) as server:
        page = chromium.new_page()
        page.goto(f"{server.url}/annotate/icon.svg")

        def call(file, script, argument=None):
            return page.evaluate(
                f"async (argument) => ({script})(await import('{server.url}/annotate/{file}'), argument)", argument
            )

        yield call
        page.close()


def encoded(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


SCRIPT = """({ raster }, { rle, region, width, height }) => {
    const [x, y, w, h] = region;
    return [...raster(rle, { x, y, width: w, height: h }, width, height)];
}"""


@pytest.mark.parametrize("kind", ["noise", "ellipse", "empty", "full", "last pixel"])
def test_run_lengths_are_those_of_pycocotools(module, kind):
    y, x = np.mgrid[0:61, 0:83]
    masks = {
        "noise": np.random.default_rng(1).random((61, 83)) < 0.5,
        "ellipse": ((x - 40) / 30) ** 2 + ((y - 33) / 20) ** 2 < 1,
        "empty": np.zeros((61, 83), bool),
        "full": np.ones((61, 83), bool),
        "last pixel": (x == 82) & (y == 60),
    }
    mask = masks[kind]
    argument = {"rle": encoded(mask), "region": [0, 0, 83, 61], "width": 83, "height": 61}
    assert np.array_equal(np.reshape(module("rle.js", SCRIPT, argument), (61, 83)), mask)
    part = {**argument, "region": [10, 7, 50, 40], "width": 50, "height": 40}
    assert np.array_equal(np.reshape(module("rle.js", SCRIPT, part), (40, 50)), mask[7:47, 10:60])


def test_a_large_mask_is_scaled_by_its_nearest_pixels(module):
    y, x = np.mgrid[0:900, 0:1200]
    mask = ((x - 600) / 500) ** 2 + ((y - 400) / 300) ** 2 < 1
    argument = {"rle": encoded(mask), "region": [0, 0, 1200, 900], "width": 300, "height": 225}
    assert np.array_equal(np.reshape(module("rle.js", SCRIPT, argument), (225, 300)), mask[2::4, 2::4])


def test_long_runs_keep_all_their_bits(module):
    rle = coco_mask.frPyObjects([[1.0, 1.0, 11_998.0, 1.0, 11_998.0, 8_998.0, 1.0, 8_998.0]], 9_000, 12_000)[0]
    lengths = module("rle.js", "({ runLengths }, counts) => [...runLengths(counts)]", rle["counts"].decode())
    assert sum(lengths) == 9_000 * 12_000
    assert sum(lengths[1::2]) == coco_mask.area(rle)


def test_zooming_keeps_the_point_below_the_pointer(module):
    view = module("view.js", "({ zoomed }) => zoomed({ scale: 0.5, x: 30, y: -20 }, 1.7, 200, 100, 0.01)")
    assert view["scale"] == pytest.approx(0.85)
    assert (200 - view["x"]) / view["scale"] == pytest.approx((200 - 30) / 0.5)
    assert (100 - view["y"]) / view["scale"] == pytest.approx((100 + 20) / 0.5)


def test_steps_are_undone_in_order_and_a_new_one_discards_undone_ones(module):
    script = """({ History }) => {
        const history = new History(0);
        for (let step = 1; step <= 300; step++) history.push(step);
        history.undo(); history.undo();
        history.push("new");
        const redo = history.redo();
        let undone = 0;
        while (history.undo()) undone++;
        return [redo, undone, history.state > 0];
    }"""
    redo, undone, bounded = module("history.js", script)
    assert redo is False and 150 < undone < 210 and bounded


def test_one_picture_is_saved_by_one_request_at_a_time(module):
    script = """async ({ Saver }) => {
        let open = 0, most = 0, last = null;
        const save = async (key, body) => {
            most = Math.max(most, ++open);
            await new Promise((resolve) => setTimeout(resolve, 20));
            open--;
            last = body.prompts;
            return { revision: `after ${body.prompts}` };
        };
        const saver = new Saver({ save }, { put: () => true, drop: () => {} }, "");
        saver.opened("a", "none");
        const waiting = [];
        for (let step = 1; step <= 3; step++) {
            saver.changed("a", { status: "todo", prompts: [step] }, 0);
            waiting.push(saver.flush(), saver.flush());
        }
        await Promise.all(waiting);
        return [most, last, saver.state];
    }"""
    assert module("saving.js", script) == [1, [3], "saved"]


def test_a_prompt_of_another_program_keeps_fields_unknown_to_the_page(module):
    prompt = {"box": [1, 2, 30, 40], "points": [[5, 6, 0]], "label": "猫", "ref": "17", "score": 0.5, "source": "qwen"}
    script = "({ fromPrompt, toPrompt }, prompt) => toPrompt(fromPrompt(prompt))"
    assert module("prompts.js", script, prompt) == prompt
    text = {"text": "a cat", "label": "cat"}
    assert module("prompts.js", script, text) == text


def test_a_copy_for_a_smaller_image_is_clipped(module):
    script = """({ fromPrompt, copied, toPrompt }, prompt) => {
        const copy = copied(fromPrompt(prompt), { width: 50, height: 40 });
        return copy && toPrompt(copy);
    }"""
    prompt = {"box": [10, 10, 90, 90], "points": [[20, 20, 1], [80, 20, 0]], "label": "cup", "ref": "1"}
    assert module("prompts.js", script, prompt) == {"box": [10, 10, 50, 40], "points": [[20, 20, 1]], "label": "cup"}
    assert module("prompts.js", script, {"box": [60, 10, 90, 30]}) is None


def test_a_batch_gives_the_masks_of_the_page(tmp_path, tab):
    from maskmill_plugins.backends.grabcut import GrabCut

    folder = folder_of(tmp_path / "photos", 1, height=240, width=320)
    asked = []
    with annotating(folder, GrabCut()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.page.on("requestfinished", lambda request: request.url.endswith("/masks") and asked.append(request))
        desk.drag(60, 40, 260, 200)
        desk.objects(1)
        desk.drag(40, 28, 285, 215)
        desk.objects(2)
        desk.press("Enter")
        desk.saved()
        shown = {}
        for request in asked:
            prompts = request.post_data_json["prompts"]
            for mask in request.response().json()["masks"]:
                shown[str(prompts[mask["prompt"]]["box"])] = mask["counts"]
        (tmp_path / "p.yaml").write_text(
            "dataset: photos\nprompts: [{use: file, path: photos/prompts.jsonl}]\nbackend: {use: grabcut}\n"
            "writers: [{use: coco}]\noutput: out\nrun: {engine: inline}\n",
            encoding="utf-8",
        )
        report = Pipeline.load(tmp_path / "p.yaml").run()
    (result,) = read_run(report.output)
    boxes = [mask.prompt.to_json()["box"] for mask in result.kept]
    assert boxes == [prompt["box"] for prompt in entries(folder / "prompts.jsonl")["000.png"]["prompts"]]
    shown = {str([float(number) for number in json.loads(box)]): counts for box, counts in shown.items()}
    assert [mask.counts for mask in result.kept] == [shown[str(box)] for box in boxes]
