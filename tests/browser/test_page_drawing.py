"""Boxes, points, objects and labels, drawn with a real mouse."""

from typing import Literal

import numpy as np
import pytest
from annotate_kit import annotating, folder_of
from annotate_page import entries, near
from serve_kit import Fake

from maskmill import Mask


class Three(Fake):
    """Three masks per prompt: its own, the left half of the image, the whole image."""

    multimask: Literal["auto", "all", "off"] = "auto"

    def masks(self, image, prompts, embedding=None):
        found = []
        for prompt, mask in zip(prompts, super().masks(image, prompts, embedding), strict=True):
            half = np.zeros(image.size, bool)
            half[:, : image.width // 2] = True
            whole = np.ones(image.size, bool)
            three = [mask, *(Mask.from_array(area, score=0.5, prompt=prompt) for area in (half, whole))]
            found += three if self.multimask == "all" else [three[prompt.pick or 0]]
        return found


@pytest.fixture
def desk(tmp_path, tab):
    """A page over four images of 480×320."""
    folder = folder_of(tmp_path / "photos", 4, height=320, width=480)
    with annotating(folder, Fake()) as server:
        page = tab(f"{server.url}/annotate/")
        page.file, page.server = folder / "prompts.jsonl", server
        page.opened("000.png")
        yield page


def prompts(page, key="000.png"):
    page.saved()
    return entries(page.file)[key]["prompts"]


def test_dragging_a_box_shows_its_mask(desk):
    before = desk.color(150, 120)
    desk.drag(100, 80, 300, 200)
    assert desk.objects(1) == ["Object 1"]
    assert near(prompts(desk)[0]["box"], [100, 80, 300, 200])
    assert entries(desk.file)["000.png"]["status"] == "todo"
    assert desk.color(150, 120) != before, "the mask is drawn over it"
    assert desk.text("#objects .score") == "1.00"
    size = desk.page.evaluate(
        "(({ width, height, hidden }) => [width / height, hidden])(document.getElementById('cutout'))"
    )
    assert size[1] is False and abs(size[0] - 200 / 120) < 0.1, "the cut-out has the object's form"


def test_masks_follow_the_mouse_with_one_request_at_a_time(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 1, height=320, width=480)
    with annotating(folder, Fake(seconds=0.03)) as server:
        desk = tab(f"{server.url}/annotate/")
        under_way, most = set(), []

        def asked(request):
            if request.url.endswith("/masks"):
                under_way.add(request)
                most.append(len(under_way))

        desk.page.on("request", asked)
        desk.page.on("requestfinished", lambda request: under_way.discard(request))
        left, top = desk.place(50, 40)
        desk.page.mouse.move(left, top)
        desk.page.mouse.down()
        for step in range(40):
            desk.page.mouse.move(left + 5 * step, top + 4 * step)
            desk.page.wait_for_timeout(10)
        shown = len(most)
        assert shown >= 3, "masks while the button is down"
        assert not desk.page.locator("#objects li").count(), "the object is there when the button is up"
        desk.page.mouse.up()
        desk.objects(1)
        assert max(most) == 1
        assert len(most) < 40, "only the newest of the waiting boxes is asked for"


def test_points_on_and_off_the_object(desk):
    desk.click(200, 150)
    desk.click(260, 170)
    desk.click(60, 40, button="right")
    desk.click(400, 40, key="Alt")
    points = prompts(desk)[0]["points"]
    assert [point[2] for point in points] == [1, 1, 0, 0]
    assert near([number for point in points for number in point[:2]], [200, 150, 260, 170, 60, 40, 400, 40])
    desk.objects(1)


def test_a_point_off_the_object_without_an_object_is_refused_with_a_message(desk):
    desk.click(200, 150, button="right")
    desk.says("First draw a box")
    assert desk.objects(0) == []


def test_tools_for_a_single_mouse_button(desk):
    desk.press("f")
    desk.click(200, 150)
    desk.press("g")
    desk.click(60, 40)
    assert [point[2] for point in prompts(desk)[0]["points"]] == [1, 0]
    desk.press("x")
    desk.click(60, 40)
    assert [point[2] for point in prompts(desk)[0]["points"]] == [1]
    desk.click(200, 150)
    assert prompts(desk) == [], "an object that nothing is left of goes"


def test_corners_and_points_can_be_moved(desk):
    desk.drag(100, 80, 300, 200)
    desk.drag(300, 200, 360, 260)
    assert near(prompts(desk)[0]["box"], [100, 80, 360, 260])
    desk.click(200, 150)
    desk.drag(200, 150, 240, 170)
    assert near(prompts(desk)[0]["points"][0], [240, 170, 1])
    assert len(prompts(desk)) == 1


def test_a_box_ends_at_the_edge_of_the_image(desk):
    desk.drag(400, 250, 520, 360)
    box = prompts(desk)[0]["box"]
    assert box[2:] == [480, 320] and near(box[:2], [400, 250])


def test_undo_and_redo_go_through_every_step(desk):
    desk.drag(100, 80, 300, 200)
    desk.click(200, 150)
    desk.drag(20, 20, 90, 70)
    desk.press("z")
    assert len(prompts(desk)) == 1
    desk.press("z", "z")
    assert prompts(desk) == []
    desk.press("Shift+Z", "Shift+Z", "Shift+Z")
    assert len(prompts(desk)) == 2
    desk.press("Control+z")
    assert len(prompts(desk)) == 1
    desk.page.click("#undo")
    assert "points" not in prompts(desk)[0]
    desk.press("n")
    desk.opened("001.png")
    desk.press("p")
    desk.opened("000.png")
    desk.press("z")
    assert prompts(desk) == [], "steps can be undone after one has been elsewhere"


def test_several_objects_with_labels(desk):
    desk.page.fill("#label-input", "杯子")
    desk.page.press("#label-input", "Enter")
    desk.drag(100, 80, 300, 200)
    desk.page.fill("#label-input", "spoon")
    desk.page.press("#label-input", "Enter")
    desk.drag(20, 220, 120, 300)
    desk.press("1")
    assert desk.objects(2) == ["spoon", "杯子"]
    desk.press("j")
    desk.press("1")
    assert [prompt["label"] for prompt in prompts(desk)] == ["杯子", "杯子"]
    desk.press("n")
    desk.opened("001.png")
    desk.drag(100, 80, 300, 200)
    assert prompts(desk, "001.png")[0]["label"] == "杯子", "the next object has the last label"


def test_objects_are_chosen_hidden_and_deleted(desk):
    desk.drag(100, 80, 300, 200)
    desk.drag(320, 220, 420, 300)
    desk.objects(2)
    drawn = desk.color(370, 260)
    desk.press("s")
    assert desk.color(370, 260) != drawn
    desk.press("s")
    assert desk.color(370, 260) == drawn
    desk.page.locator("#objects .pick").first.click()
    desk.press("Delete")
    assert near(prompts(desk)[0]["box"], [320, 220, 420, 300])
    assert len(prompts(desk)) == 1


def test_escape_cancels_a_drag_and_then_the_selection(desk):
    desk.click(200, 150)
    begin = desk.place(300, 200)
    desk.page.mouse.move(*begin)
    desk.page.mouse.down()
    desk.page.mouse.move(begin[0] + 60, begin[1] + 40, steps=3)
    desk.press("Escape")
    desk.page.mouse.up()
    assert len(desk.objects(1)) == 1
    desk.press("Escape")
    desk.click(60, 60)
    assert len(desk.objects(2)) == 2, "without a selection a click begins an object"


def test_ten_keys_finish_the_folder(desk):
    desk.drag(100, 80, 300, 200)
    desk.objects(1)
    desk.press("Enter")
    desk.opened("001.png")
    desk.press("Enter")
    desk.says("Nothing is drawn")
    desk.press("e")
    desk.opened("002.png")
    desk.drag(100, 80, 300, 200)
    desk.press("r")
    desk.opened("003.png")
    desk.press("c")
    desk.objects(1)
    desk.press("Enter")
    desk.says("All images are finished")
    desk.saved()
    said = entries(desk.file)
    assert [said[key]["status"] for key in sorted(said)] == ["done", "empty", "rejected", "done"]
    assert said["003.png"]["prompts"] == said["002.png"]["prompts"], "copied from the previous image"
    desk.says("4 / 4", "#progress-text")
    desk.press("p")
    desk.opened("002.png")
    desk.press("r")
    desk.status("todo")
    desk.saved()
    desk.says("3 / 4", "#progress-text")


def test_zoom_and_pan_do_not_move_the_objects(desk):
    desk.page.mouse.move(*desk.place(240, 160))
    for _ in range(3):
        desk.page.mouse.wheel(0, -100)
    desk.drag(240, 160, 200, 140, button="middle")
    assert float(desk.page.get_attribute("#canvas", "data-scale")) > 2
    desk.drag(200, 120, 260, 180)
    assert near(prompts(desk)[0]["box"], [200, 120, 260, 180], within=0.6)
    before = desk.place(0, 0)
    desk.page.keyboard.down(" ")
    desk.drag(200, 120, 220, 140)
    desk.page.keyboard.up(" ")
    assert desk.place(0, 0) != before
    assert len(prompts(desk)) == 1
    desk.press("0")
    fitted = desk.place(0, 0)
    assert fitted != before


def test_one_of_three_masks_is_picked(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 1, height=320, width=480)
    with annotating(folder, Three()) as server:
        page = tab(f"{server.url}/annotate/")
        page.file = folder / "prompts.jsonl"
        page.click(300, 150)
        page.page.wait_for_selector(".suggestion canvas")
        page.page.locator(".suggestion").nth(2).click()
        assert prompts(page)[0]["pick"] == 1
        assert page.text("#objects .score") == "0.50"
        page.press("v")
        assert prompts(page)[0]["pick"] == 2
        page.press("v")
        assert "pick" not in prompts(page)[0]
        page.press("v")
        page.click(320, 150)
        assert "pick" not in prompts(page)[0], "another prompt has other masks to choose from"
