"""Labels beyond the nine with a key, and renaming one in all images."""

import json

from annotate_kit import annotating, folder_of
from annotate_page import entries
from serve_kit import Fake

NAMES = ["car", "bus", "cat", "dog", "sky", "road", "lamp", "sign", "bike", "truck", "tree", "train"]


def test_typing_completes_a_label_and_renaming_reaches_all_images(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 2, height=320, width=480)
    drawn = [{"box": [20 + 36 * n, 40, 50 + 36 * n, 90], "label": name} for n, name in enumerate(NAMES)]
    lines = [{"image": "000.png", "prompts": drawn}, {"image": "001.png", "prompts": drawn[-2:]}]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/#image=000.png", height=900)
        desk.objects(12)
        assert desk.text("#progress-text") == "0 / 2", "nobody has looked at lines without a status"
        swatches = [
            each.evaluate("one => getComputedStyle(one).backgroundColor") for each in desk.page.locator(".swatch").all()
        ]
        assert len(set(swatches)) == 12

        def worn():
            return desk.text("#objects [data-active=true] .name")

        desk.press("l")
        desk.page.keyboard.type("tr")
        assert desk.text("#label-next").startswith("Enter: truck")
        desk.press("ArrowDown", "Enter")
        assert worn() == "tree"
        desk.press("l")
        desk.page.keyboard.type("TRAIN")
        desk.press("Enter")
        assert worn() == "train", "in whatever letters"
        desk.press("l")
        desk.page.keyboard.type("ca")
        desk.press("Shift+Enter")
        assert worn() == "ca", "as typed"
        desk.press("z", "1")
        assert worn() == "car", "keys work again"
        desk.press("z")

        desk.page.click("#edit-labels")
        desk.page.get_by_label("New name of “tree”").fill("car")
        assert (
            "2 objects · 2 images" in desk.page.locator(".label-row", has=desk.page.get_by_label("“tree”")).inner_text()
        )
        desk.press("Enter")
        desk.says("There is a label “car” already", "#dialog")
        desk.press("Enter")
        desk.says("“tree” is now “car”: 2 objects in 2 images.")
        assert desk.objects(12)[10] == "car" and "tree" not in desk.text("#labels")
        found = {key: line["prompts"][-2]["label"] for key, line in entries(folder / "prompts.jsonl").items()}
        assert found == {"000.png": "car", "001.png": "car"}
        desk.page.click("#toast button")
        desk.says("The old name is back in 2 images.")
        assert desk.objects(12)[10] == "tree" and "tree" in desk.text("#labels")
