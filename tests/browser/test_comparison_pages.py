"""The pages of `evaluate` and `compare` in Chromium, from disk."""

import json

import pytest
from report_kit import eventually
from stored_runs import project, run

from maskmill.cli import main

LABEL = '<b>猫</b> & "co"' + "长" * 60


def call(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert not ended.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`evaluation` and `comparison` of runs whose masks are two fixed boxes, with and without a filter."""
    folder = tmp_path_factory.mktemp("pages")
    file = project(folder, ["a.png", "b/照片 <1>.png"], "[{use: report}]")
    runs = [run(file, "one"), run(file, "fewer", sets=["filters=[{use: fake-filter}]"])]
    boxes = [[0, 0, 36, 30], [30, 10, 30, 30]]
    names = ["a.png", "b/照片 <1>.png"]
    annotations = [
        {"id": 2 * image + n, "image_id": image, "category_id": n, "bbox": box, "area": 900, "iscrowd": 0}
        | {"segmentation": [[x, y, x + width, y, x + width, y + height, x, y + height]]}
        for image in (0, 1)
        for n, box in enumerate(boxes[: image + 1])
        for x, y, width, height in [box]
    ]
    images = [{"id": n, "file_name": name, "height": 40, "width": 60} for n, name in enumerate(names)]
    categories = [{"id": 0, "name": "thing"}, {"id": 1, "name": LABEL}]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    call("evaluate", runs[0], "--truth", folder / "truth.json", "-o", folder / "evaluation", "--one-class")
    call("compare", *runs, run(file, "third"), "-o", folder / "comparison")
    return folder


@pytest.fixture
def opened(chromium):
    """Opens a page; at the end nothing complained, and only files of its folder were read."""
    contexts, noise, requests = [], [], []

    def open_page(file, **settings):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, "locale": "en-US", **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert noise == []
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}


def column(page, number):
    return page.locator(f"#objects tbody tr > :nth-child({number})").all_inner_texts()


def test_an_evaluation_is_sorted_filtered_and_opened(opened, folder):
    page = opened(folder / "evaluation" / "index.html")
    assert page.locator("h1").inner_text() == "p against truth.json"
    assert page.locator(".tile", has_text="Objects").locator("dd").first.inner_text() == "3"
    assert page.get_by_text("Classes are ignored").count() == 1
    assert column(page, 6) == sorted(column(page, 6)), "the worst first"
    assert column(page, 5).count("extra") == 1, "a mask that matches no object"
    head = page.locator("#objects th", has_text="Label")
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, 2) == [*["猫"] * page.locator("#objects td", has_text="extra").count(), "thing", "thing", LABEL]
    assert page.evaluate("location.hash") == "#objects?sort=-label"
    page.locator("#figures").get_by_role("button", name=LABEL).click()
    assert column(page, 2) == [LABEL]
    assert page.locator("#grid button").count() == 1
    page.locator("#grid button").click()
    page.wait_for_selector(".plane .photo")
    assert page.locator("dialog h2").inner_text() == "b/照片 <1>.png"
    errors = page.locator(".plane [data-layer=layer_errors]")
    eventually(page, "document.querySelector('.plane .pixels').naturalWidth === 60")
    page.keyboard.press("e")
    assert not errors.is_visible()
    assert page.locator("dialog tbody tr").count() == 2
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#grid button").count() == page.evaluate("pictures.length")


def test_comparisons_lead_to_each_other_and_to_the_reports_of_the_runs(opened, folder):
    page = opened(folder / "comparison" / "01" / "index.html", color_scheme="dark")
    assert "only in the first" in " ".join(column(page, 4))
    page.locator("#grid button").first.click()
    assert {page.locator(f"dialog [data-name=set_{n}]").inner_text()[:-1] for n in (0, 1)} == {"one", "fewer"}
    page.keyboard.press("Escape")
    links = page.locator("#overview a.chip")
    assert links.all_inner_texts() == ["one – third", "one", "fewer"]
    links.first.click()
    assert page.locator("h1").inner_text() == "one – third"
    assert page.get_by_text("No image has a picture").count() == 1
    page.go_back()
    page.locator("#overview a.chip").nth(1).click()
    page.wait_for_selector("#provenance")


def test_nothing_is_wider_than_the_window_in_both_languages(opened, folder):
    for file in (folder / "evaluation" / "index.html", folder / "comparison" / "01" / "index.html"):
        page = opened(file, locale="zh-CN", forced_colors="active")
        for _ in range(2):
            for width in (1280, 400, 320):
                page.set_viewport_size({"width": width, "height": 800})
                assert page.evaluate("document.documentElement.scrollWidth") <= width
            page.click("#language")
