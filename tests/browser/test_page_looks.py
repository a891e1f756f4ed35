"""Sizes, colours, languages, keyboard, touch."""

import re
from pathlib import Path

import pytest
from annotate_kit import annotating, folder_of
from annotate_page import entries, near
from serve_kit import Fake

import maskmill_plugins.annotate

WEB = Path(maskmill_plugins.annotate.__file__).parent / "web"
PHONE = {"width": 400, "height": 800, "has_touch": True, "is_mobile": True}


@pytest.fixture
def server(tmp_path):
    folder = folder_of(tmp_path / "photos", 3, height=320, width=480)
    with annotating(folder, Fake()) as running:
        running.file = folder / "prompts.jsonl"
        yield running


def outside(desk):
    """Buttons that are partly hidden at the sides, or whose text is cut off."""
    return desk.page.evaluate("""() => [...document.querySelectorAll("button, input, h1, .save")].filter((element) => {
        const { left, right, width } = element.getBoundingClientRect();
        return width > 1 && (left < 0 || right > innerWidth || element.scrollWidth > element.clientWidth + 1);
    }).map((element) => element.id || element.textContent)""")


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("size", [{"width": 1280}, {"width": 900}, PHONE], ids=["desk", "tablet", "phone"])
def test_everything_is_visible(server, tab, size, locale):
    desk = tab(f"{server.url}/annotate/", locale=locale, **size)
    assert desk.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert outside(desk) == []
    stage = desk.page.locator("#stage").bounding_box()
    assert stage["height"] > 250 and stage["width"] > 380
    finish = desk.page.locator("#accept").bounding_box()
    assert finish["y"] + finish["height"] <= desk.page.viewport_size["height"]


def test_a_large_zoom_and_forced_colours_leave_the_page_usable(server, tab):
    small = {"width": 640, "height": 360, "device_scale_factor": 2, "forced_colors": "active"}
    desk = tab(f"{server.url}/annotate/", **small)
    assert outside(desk) == []
    assert desk.page.locator("#canvas").bounding_box()["height"] > 200, "there is room to draw"
    desk.drag(100, 80, 300, 200)
    desk.drag(20, 80, 90, 200)
    desk.objects(2)
    ground = "one => getComputedStyle(one).backgroundColor"
    grounds = [desk.page.locator("#objects .pick").nth(number).evaluate(ground) for number in range(2)]
    assert grounds[0] != grounds[1], "the selected object is marked"
    pressed, other = desk.page.locator("#tools [data-tool=box]"), desk.page.locator("#tools [data-tool=add]")
    assert pressed.evaluate(ground) != other.evaluate(ground)
    desk.page.click("#accept")
    desk.opened("001.png")


def test_long_labels_hide_nothing(server, tab):
    desk = tab(f"{server.url}/annotate/")
    long = ("一个非常长的类别名称" * 4, "a label of so many words that it cannot stand in one line")
    for left, label in zip((20, 250), long, strict=True):
        desk.drag(left, 80, left + 180, 200)
        desk.page.fill("#label-input", label)
        desk.page.press("#label-input", "Enter")
    desk.objects(2)
    assert outside(desk) == []


def test_controls_on_a_phone_are_large_enough_for_touch(server, tab):
    desk = tab(f"{server.url}/annotate/", **PHONE)
    desk.drag(100, 80, 300, 200)
    desk.objects(1)
    small = desk.page.evaluate("""() => [...document.querySelectorAll("button")].filter((button) => {
        const { width, height } = button.getBoundingClientRect();
        return width && (width < 36 || height < 40);
    }).map((button) => button.id || button.textContent)""")
    assert small == []
    desk.page.click("#show-list")
    desk.page.locator("#list .row").nth(2).click()
    desk.opened("002.png")
    assert desk.page.is_hidden("#list")


def touch(session, kind, *points):
    places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})


def test_fingers_draw_tap_and_pinch(server, tab):
    desk = tab(f"{server.url}/annotate/", **PHONE)
    fingers = desk.page.context.new_cdp_session(desk.page)
    begin, end = desk.place(100, 80), desk.place(300, 200)
    touch(fingers, "touchStart", begin)
    touch(fingers, "touchMove", ((begin[0] + end[0]) / 2, (begin[1] + end[1]) / 2))
    touch(fingers, "touchMove", end)
    touch(fingers, "touchEnd")
    desk.page.touchscreen.tap(*desk.place(200, 150))
    desk.saved()
    (prompt,) = entries(server.file)["000.png"]["prompts"]
    assert near(prompt["box"], [100, 80, 300, 200], within=3) and near(prompt["points"][0], [200, 150, 1], within=3)
    before = float(desk.page.get_attribute("#canvas", "data-scale"))
    x, y = desk.place(240, 160)
    touch(fingers, "touchStart", (x - 20, y), (x + 20, y))
    touch(fingers, "touchMove", (x - 60, y), (x + 60, y))
    touch(fingers, "touchMove", (x - 80, y), (x + 80, y))
    touch(fingers, "touchEnd")
    desk.place(0, 0)
    assert float(desk.page.get_attribute("#canvas", "data-scale")) > 2 * before
    desk.saved()
    assert entries(server.file)["000.png"]["prompts"] == [prompt], "a pinch draws nothing"


def luminance(color):
    red, green, blue = (int(number) / 255 for number in re.findall(r"\d+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_theme_follows_the_system_until_it_is_chosen(server, tab):
    ground = "getComputedStyle(document.querySelector('.bar')).backgroundColor"
    light = tab(f"{server.url}/annotate/", color_scheme="light")
    assert luminance(light.page.evaluate(ground)) > 0.8
    dark = tab(f"{server.url}/annotate/", color_scheme="dark")
    assert luminance(dark.page.evaluate(ground)) < 0.2
    dark.page.click("#theme")
    assert luminance(dark.page.evaluate(ground)) > 0.8
    dark.page.reload()
    dark.ready()
    assert luminance(dark.page.evaluate(ground)) > 0.8


def test_chinese_by_the_browser_and_by_choice(server, tab):
    desk = tab(f"{server.url}/annotate/", locale="zh-CN")
    assert desk.text("#accept") == "完成" and desk.text("#save-text") == "已保存"
    assert desk.page.get_attribute("html", "lang") == "zh-CN"
    desk.drag(100, 80, 300, 200)
    assert desk.objects(1) == ["目标 1"]
    desk.page.click("#language")
    assert desk.text("#accept") == "Accept" and desk.objects(1) == ["Object 1"]
    desk.page.reload()
    desk.ready()
    assert desk.text("#accept") == "Accept"


def test_every_text_of_the_page_is_in_the_table_in_two_languages():
    table = (WEB / "strings.js").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^  (\w+): (\[.*?\]),$", table, re.MULTILINE | re.DOTALL))
    for name, row in rows.items():
        english, chinese = re.findall(r'"((?:[^"\\]|\\.)*)"', row)
        assert re.findall(r"\{\w+\}", english) == re.findall(r"\{\w+\}", chinese) or set(
            re.findall(r"\{\w+\}", english)
        ) == set(re.findall(r"\{\w+\}", chinese)), name
    asked = re.findall(r'data-t(?:-\w+)?="(\w+)"', (WEB / "index.html").read_text(encoding="utf-8"))
    for module in WEB.glob("*.js"):
        asked += re.findall(r'\bt\("(\w+)"', module.read_text(encoding="utf-8"))
    assert set(asked) <= set(rows)
    assert len(asked) > 80


def test_the_page_names_no_other_host_and_no_inline_code():
    for file in WEB.iterdir():
        text = file.read_text(encoding="utf-8")
        hosts = set(re.findall(r"https?://[^/\"' )]+", text)) - {"http://www.w3.org"}
        assert not hosts, file.name
        assert len(text.splitlines()) <= 400, file.name
    html = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<script(?![^>]*src=)|<style", html)


def test_keys_alone_reach_everything(server, tab):
    desk = tab(f"{server.url}/annotate/")
    desk.press("?")
    assert desk.page.locator("#dialog[open]").count()
    assert "accept and go on" in desk.text("#dialog")
    desk.press("Escape")
    assert not desk.page.locator("#dialog[open]").count()
    desk.press("/")
    desk.page.keyboard.type("002")
    desk.page.wait_for_function("() => document.querySelectorAll('#list .row').length === 1")
    desk.press("Enter", "Enter")
    desk.opened("002.png")
    desk.press("Enter")  # it accepts, although the focus was in the list
    desk.says("Nothing is drawn")
    seen = set()
    for _ in range(40):
        desk.press("Tab")
        seen.add(desk.page.evaluate("document.activeElement.id || document.activeElement.dataset.tool || ''"))
    assert {"theme", "language", "canvas", "box", "fit", "label-input", "new-object", "accept", "reject"} <= seen


def test_every_button_has_a_name_for_a_screen_reader(server, tab):
    desk = tab(f"{server.url}/annotate/")
    desk.drag(100, 80, 300, 200)
    desk.objects(1)
    nameless = desk.page.evaluate("""() => [...document.querySelectorAll("button, input, canvas, [role]")]
        .filter((element) => element.getBoundingClientRect().width && !["toast", "banner"].includes(element.id))
        .filter((element) => !element.getAttribute("aria-label") && !element.textContent.trim())
        .map((element) => element.outerHTML.slice(0, 80))""")
    assert nameless == []
