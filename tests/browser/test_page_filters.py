"""Masks that the pipeline's filters drop, and masks that come with the prompts file."""

import json

from annotate_kit import annotating, folder_of
from annotate_page import entries
from serve_kit import Fake
from test_annotate_filters import Fussy

from maskmill import Mask, testing
from maskmill_plugins.filters.nms import Nms
from maskmill_plugins.filters.score import Score


def test_what_the_batch_drops_is_marked_on_the_picture_and_in_the_list(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 2, height=320, width=480)
    filters = [("score", Score(min_area=2000)), ("nms", Nms(iou=0.5)), ("fussy", Fussy())]
    with annotating(folder, Fake(), filters=filters[:2]) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(100, 80, 130, 110)
        desk.says("the batch drops this: score: area", "#objects")
        red, green, blue = desk.color(115, 95)
        assert max(red, green, blue) - min(red, green, blue) < 60, "grey"
        desk.press("Enter")
        desk.says("1 object is dropped by the pipeline's filters. Press Enter again")
        desk.drag(130, 110, 300, 210)
        desk.page.wait_for_function("() => !document.querySelector('#objects .note')")
        desk.press("Escape")
        desk.drag(240, 60, 400, 230)
        desk.press("Escape")
        desk.drag(245, 60, 405, 230)
        desk.says("the batch drops this: nms: IoU", "#objects")
        assert desk.text("#objects .note").endswith("with Object 2, which scores better")
        server.session.filters._filters = filters
        desk.press("Escape")
        desk.drag(20, 250, 120, 310)
        desk.says("A batch run fails on this image: filters fussy: ValueError: 3 masks", "#filter-problem")
        assert len(desk.objects(4)) == 4 and not desk.page.locator("#objects .note").count()
        desk.saved()


def test_a_mask_of_the_prompts_file_is_shown_kept_and_not_edited(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 1, height=320, width=480)
    pixels = testing.pixels(320, 480)[..., 0] < 0
    pixels[100:200, 50:150] = True
    pixels[150, 40] = True
    given = Mask.from_array(pixels).rle
    line = {"image": "000.png", "prompts": [{"mask": given, "label": "cup"}]}
    (folder / "prompts.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        assert desk.objects(1) == ["cup"]
        desk.page.keyboard.down("m")
        bare = desk.color(100, 150)
        desk.page.keyboard.up("m")
        assert desk.color(100, 150) != bare
        desk.click(100, 150)
        desk.says("a mask from a file")
        desk.drag(200, 80, 300, 200)
        desk.objects(2)
        desk.press("1", "Enter")
        desk.status("done")
        desk.saved()
        kept, drawn = entries(folder / "prompts.jsonl")["000.png"]["prompts"]
        assert kept == {"mask": given, "label": "cup"} and "box" in drawn
