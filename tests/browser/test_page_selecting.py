"""Masks and name tags select, edges and corners resize; what is asked before accepting."""

import pytest
from annotate_kit import annotating, folder_of, save
from annotate_page import entries, near
from serve_kit import Fake


@pytest.fixture
def desk(tmp_path, tab):
    """A page over three images of 480×320; the first one has two objects."""
    folder = folder_of(tmp_path / "photos", 3, height=320, width=480)
    with annotating(folder, Fake()) as server:
        save(
            server,
            "000.png",
            {"box": [40, 60, 140, 160], "label": "cup"},
            {"box": [200, 60, 400, 260], "label": "plate"},
        )
        page = tab(f"{server.url}/annotate/#image=000.png")
        page.file, page.server = folder / "prompts.jsonl", server
        page.opened("000.png")
        page.objects(2)
        yield page


def boxes(page, key="000.png"):
    page.saved()
    return [prompt["box"] for prompt in entries(page.file)[key]["prompts"]]


def cursor(page, x, y):
    page.page.mouse.move(*page.place(x, y))
    return page.page.evaluate("getComputedStyle(document.getElementById('canvas')).cursor")


def selected(page):
    return page.text("#objects [data-active=true] .name")


def test_a_click_on_another_mask_selects_it_and_hovering_highlights_it(desk):
    assert selected(desk) == "plate"
    assert cursor(desk, 90, 110) == "pointer"
    assert desk.text("#objects [data-hover=true] .name") == "cup"
    before = desk.color(300, 180)
    desk.page.locator("#objects .object").nth(1).hover()
    desk.click(90, 110)
    assert selected(desk) == "cup"
    assert desk.color(300, 180) != before, "the plate is no longer strong"
    desk.click(100, 100)
    desk.press("f")
    desk.click(300, 180)
    desk.objects(2)
    desk.saved()
    cup, plate = entries(desk.file)["000.png"]["prompts"]
    assert len(cup["points"]) == 2, "a click on its own mask, or with the tool for points, edits the selected object"
    assert "points" not in plate


def test_edges_corners_and_the_name_tag_move_the_selected_box(desk):
    assert cursor(desk, 400, 160) == "ew-resize"
    assert cursor(desk, 400, 260) == "nwse-resize"
    desk.drag(400, 160, 430, 170)
    assert near(boxes(desk)[1], [200, 60, 430, 260])
    desk.drag(430, 260, 201, 61)
    left, top, right, bottom = boxes(desk)[1]
    assert near([left, top], [200, 60]) and right - left > 1 and bottom - top > 1, (
        "a corner does not pass the other one"
    )
    desk.press("z")
    x, y = desk.place(200, 60)
    desk.page.mouse.move(x + 12, y - 10)
    desk.page.mouse.down()
    desk.page.mouse.move(x + 42, y + 10, steps=4)
    desk.page.mouse.up()
    moved = boxes(desk)[1]
    assert moved[0] > 202 and near([moved[2] - moved[0], moved[3] - moved[1]], [230, 200])
    assert near(boxes(desk)[0], [40, 60, 140, 160])


def test_a_tiny_drag_is_a_click_and_a_thin_one_is_refused(desk):
    desk.press("Escape")
    for at, across, down in ((160, 6, 5), (20, 90, 1)):
        x, y = desk.place(at, 290)
        desk.page.mouse.move(x, y)
        desk.page.mouse.down()
        desk.page.mouse.move(x + across, y + down, steps=3)
        desk.page.mouse.up()
    desk.says("too thin")
    assert len(desk.objects(3)) == 3
    desk.saved()
    assert "box" not in entries(desk.file)["000.png"]["prompts"][2]


def test_accepting_asks_once_about_objects_without_a_label(desk):
    desk.press("n")
    desk.opened("001.png")
    desk.drag(100, 80, 300, 200)
    desk.objects(1)
    desk.press("Enter")
    desk.says("1 object has no label. Press Enter again")
    assert desk.text("#name") == "001.png"
    desk.press("Enter")
    desk.opened("002.png")


def test_a_held_enter_accepts_one_image(desk):
    for _ in range(5):
        desk.page.keyboard.down("Enter")
    desk.page.keyboard.up("Enter")
    desk.opened("001.png")
    desk.page.wait_for_timeout(150)
    assert desk.text("#name") == "001.png"


def test_editing_a_finished_image_makes_it_to_do_again(desk):
    desk.status("done")
    desk.drag(400, 160, 430, 170)
    desk.says("to do again")
    desk.status("todo")
    desk.press("z")
    desk.status("done")


def test_nothing_here_can_be_taken_back_and_copying_twice_adds_nothing(desk):
    desk.press("e")
    desk.opened("001.png")
    desk.says("2 objects removed")
    desk.page.click("#toast button")
    desk.opened("000.png")
    assert len(desk.objects(2)) == 2
    desk.press("n")
    desk.opened("001.png")
    desk.press("c")
    desk.objects(2)
    desk.press("c")
    desk.says("already here")
    assert len(desk.objects(2)) == 2
