"""The report in Chromium, from disk: what people see of it, and that it asks nobody for anything."""

import json
from urllib.parse import urlencode

import pytest
from report_kit import KEYS, eventually, make_run


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("browser")).output / "report" / "report.html"


@pytest.fixture
def opened(chromium, file):
    """Opens the page with these settings; at the end nothing was asked for, and nothing complained."""
    contexts, noise, requests = [], [], []

    def open_page(**settings):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-US", **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("dialog", lambda dialog: (noise.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("#shown:not(:empty)", state="attached")
        page.evaluate("document.querySelector('#gallery').scrollIntoView()")
        page.wait_for_selector("#grid img")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert noise == []
    asked = {url for url in requests if not url.startswith("data:")}
    photos = (file.parents[2] / "photos").as_uri()
    assert {url for url in asked if not url.startswith(photos)} == {file.as_uri()}


def badges(page):
    return [int(text) for text in page.locator("#grid .doubt").all_inner_texts()]


def names(page):
    return page.locator("#grid .name").all_inner_texts()


def test_the_gallery_is_sorted_by_doubt_and_can_be_sorted_otherwise(opened):
    page = opened()
    assert badges(page) == sorted(badges(page), reverse=True)
    assert len(set(badges(page))) > 3
    page.select_option("#by-sort", "key")
    assert page.locator("#grid button").first.get_attribute("aria-label").startswith("a&b.png")


def test_only_cards_near_the_view_exist(opened):
    page = opened(viewport={"width": 500, "height": 300})
    assert 0 < page.locator("#grid button").count() < len(KEYS)
    page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    page.wait_for_selector(f"#grid [aria-posinset='{len(KEYS)}']")
    assert page.locator("#grid [aria-posinset='1']").count() == 0


def test_search_status_and_label_filter_the_gallery(opened):
    page = opened()
    page.fill("#by-search", "猫 '1'")
    assert names(page) == ["猫 '1'.png"]
    page.fill("#by-search", "")
    page.select_option("#by-status", "failed")
    assert names(page) == ["fails 1.png", "fails 2.png"]
    assert "gave up </script>" in page.locator("#grid .placeholder").first.inner_text()
    page.get_by_role("button", name="Clear").click()
    page.select_option(
        "#by-label", label=next(t for t in page.locator("#by-label option").all_inner_texts() if "猫" in t)
    )
    assert page.locator("#grid button").count() == page.evaluate("order.length") < len(KEYS)


def test_the_most_doubtful_pictures_are_on_the_first_screen(opened):
    page = opened()
    first = page.locator("#grid button").all_inner_texts()[:6]
    page.evaluate("scrollTo(0, 0)")
    shown = page.locator("#doubtful button")
    assert shown.all_inner_texts() == first
    eventually(page, "[...document.querySelectorAll('#doubtful img')].filter((i) => i.naturalWidth).length > 3")
    assert page.evaluate("document.querySelector('#doubtful').getBoundingClientRect().bottom") < 900
    assert "photos" in page.locator(".headline").inner_text()
    assert page.get_by_text("as the backend gives it").count() == 1
    shown.nth(1).click()
    assert page.locator("dialog h2").inner_text().endswith(shown.nth(1).locator(".name").inner_text())
    assert "image=" in page.evaluate("location.hash")


def test_the_filter_is_in_the_address(opened):
    page = opened()
    page.select_option("#by-status", "failed")
    page.select_option("#by-sort", "key")
    assert page.evaluate("location.hash") == "#gallery?status=failed&sort=key"
    name = page.evaluate("data.label_names.find((name) => name)")
    page.evaluate("(name) => { location.hash = '#gallery?' + new URLSearchParams({label: name, sort: 'no'}); }", name)
    eventually(page, "state.label && !state.status && state.sort === 'doubt'")
    assert page.evaluate("labelName(state.label)") == name
    assert 0 < page.evaluate("order.length") < len(KEYS)
    eventually(page, "document.querySelectorAll('#grid button').length === order.length")
    page.get_by_role("button", name="Clear").click()
    assert page.evaluate("location.hash") == "#gallery"


def test_an_image_opens_by_key_with_its_photo_and_layers_that_keys_switch(opened):
    page = opened()
    page.locator("#grid button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    first = page.locator("dialog h2").inner_text()
    page.wait_for_selector(".plane .photo")
    shown = page.evaluate("rows.findIndex((row) => row[KEY] === document.querySelector('dialog h2').textContent)")
    outline = page.locator("[data-layer=layer_masks] .outline").first
    assert outline.evaluate("(path) => path.getBBox().width") > 1
    switch = page.locator("dialog [data-name=layer_masks]")
    page.keyboard.press("m")
    assert (switch.get_attribute("aria-pressed"), outline.is_visible()) == ("false", False)
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h2").inner_text() != first
    assert switch.get_attribute("aria-pressed") == "false", "it stays switched off"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("M")
    assert page.locator("dialog h2").inner_text() == first
    assert outline.is_visible()
    assert page.locator("dialog tbody tr").count() == page.evaluate(f"rows[{shown}][MASKS].length")
    before = page.evaluate("lightbox.scale")
    page.locator("dialog tbody button").first.click()
    assert page.evaluate("lightbox.scale") > before
    assert page.locator("dialog tr.lit").count() == 1
    page.keyboard.press("0")
    assert page.evaluate("lightbox.scale") == before
    for _ in range(30):  # the focus goes round within it, or to the browser's own bar
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')")
    page.keyboard.press("Escape")
    eventually(page, "!location.hash.includes('image=')")
    assert not page.locator("dialog").is_visible()
    eventually(page, "document.activeElement.dataset.place === '1'")


def test_a_link_opens_the_image_and_the_arrows_stay_within_its_filter(opened, file):
    page = opened()
    page.goto(
        file.as_uri() + "#gallery?" + urlencode({"search": "photo_0", "sort": "key", "image": "sub/photo_03.png"})
    )
    page.reload()
    page.wait_for_selector("dialog[open] .photo")
    assert page.locator("dialog h2").inner_text() == "sub/photo_03.png"
    assert page.locator("dialog .head [role=status]").inner_text() == "4 of 10"
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    assert page.locator("dialog h2").inner_text() == "sub/photo_09.png"
    assert page.locator(".go-next").get_attribute("aria-disabled") == "true"
    page.keyboard.press("Escape")
    assert page.locator("#by-search").input_value() == "photo_0"
    assert "photo_0" in page.evaluate("location.hash")


def test_fingers_swipe_and_pinch(opened):
    page = opened(has_touch=True, viewport={"width": 400, "height": 800})
    page.locator("#grid button").first.click()
    title = page.locator("dialog h2").inner_text()
    box = page.locator(".stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    client = page.context.new_cdp_session(page)

    def touch(kind, *points):
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": a, "y": b} for a, b in points]})

    scale = page.evaluate("lightbox.scale")
    touch("touchStart", (x - 20, y), (x + 20, y))
    touch("touchMove", (x - 60, y), (x + 60, y))
    touch("touchEnd")
    assert page.evaluate("lightbox.scale") > 1.5 * scale
    page.get_by_role("button", name="Fit").click()
    touch("touchStart", (x + 90, y))
    touch("touchMove", (x, y + 5))
    touch("touchMove", (x - 90, y + 5))
    touch("touchEnd")
    eventually(page, f"document.querySelector('dialog h2').textContent !== {json.dumps(title)}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_failure_leads_to_its_image(opened):
    page = opened()
    page.locator("#failures .keys button").first.click()
    assert page.locator("dialog h2").inner_text() == "fails 1.png"
    assert "gave up" in page.locator("dialog .facts").inner_text()


def test_nothing_is_wider_than_the_window_in_the_browsers_language_and_the_other(opened):
    page = opened(locale="zh-CN")
    for heading, code in (("失败", "zh-CN"), ("Failures", "en")):
        assert page.locator("#failures h2").inner_text() == heading
        assert page.evaluate("document.documentElement.lang") == code
        for width in (1280, 700, 400, 320):
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate("new Promise(requestAnimationFrame)")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.click("#language")


def test_what_the_formats_lose_can_be_read_on_a_phone(opened):
    page = opened(viewport={"width": 400, "height": 800})
    table = page.locator("#overview .scroll")
    assert table.evaluate("table => table.scrollWidth <= table.clientWidth")
    assert table.locator("button").evaluate("(key) => key.scrollWidth <= key.clientWidth")


def test_on_paper_the_first_images_stand_side_by_side(opened):
    page = opened(viewport={"width": 760, "height": 1000})
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.evaluate("scrollTo(0, 1)")
    page.evaluate("new Promise(requestAnimationFrame)")
    boxes = page.evaluate(
        "[...document.querySelectorAll('.item')].map((item) => item.getBoundingClientRect().toJSON())"
    )
    assert len(boxes) == min(24, len(KEYS))
    assert [box["top"] == boxes[0]["top"] for box in boxes] == [number < 4 for number in range(len(boxes))]
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    page.evaluate("document.querySelector('#gallery').scrollIntoView()")
    page.wait_for_selector("#grid [style*=translate] img")


def test_dark_and_light_follow_the_system(opened):
    shades = []
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme)
        shades.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert shades == ["rgb(244, 246, 248)", "rgb(15, 20, 25)"]
