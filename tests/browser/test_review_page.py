"""The review page, used with a real mouse and keys; then the pipeline runs again."""

import json

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("fastapi")
from review_kit import decide, lines, make_run, rerun, reviewing

from maskmill import Pipeline, Run


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


def shown(tab, key):
    tab.page.wait_for_selector(f'body[data-shown="{key}"]')


def saved(tab, folder, count):
    tab.page.wait_for_selector('#save-state[data-state="saved"]')
    found = lines(folder)
    assert len(found) == count
    return found[-1]


def test_a_person_decides_and_the_next_run_respects_it(server, folder, tab):
    page = tab(f"{server.url}/review/")
    shown(page, "05.png")
    page.press("Enter")
    shown(page, "04.png")
    assert saved(page, folder, 1)["verdict"] == "accepted"

    page.click(20, 20)  # the cat
    page.press("l")
    page.page.keyboard.type("do")
    page.press("Enter")  # the only label that begins so
    page.click(70, 20)  # the dog
    page.press("Delete")
    page.click(40, 60)  # the tree that a filter dropped
    page.press("k", "Enter")
    shown(page, "03.png")
    line = saved(page, folder, 2)
    assert (line["verdict"], [one["label"] for one in line["prompts"]]) == ("fixed", ["dog", "tree"])

    page.press("r")
    page.page.keyboard.type("模糊")
    page.press("Enter")
    shown(page, "02.png")
    line = saved(page, folder, 3)
    assert (line["image"], line["verdict"], line["comment"]) == ("03.png", "rejected", "模糊")

    page.press("q")
    page.page.keyboard.type("two dogs?")
    page.press("Enter")
    shown(page, "01.png")
    assert saved(page, folder, 4)["verdict"] == "question"

    page.press("z")  # nothing to undo here: back to the last one
    shown(page, "02.png")
    assert page.page.inner_text("#comment") == "Eva: two dogs?"
    page.press("n")
    shown(page, "01.png")

    rerun(folder)
    results = {result.key: result for result in Run(folder / "out").results(("done", "empty", "rejected"))}
    assert [mask.label for mask in results["04.png"].kept] == ["dog", "tree"]
    assert results["03.png"].status == "rejected"


def test_a_held_key_decides_nothing(server, folder, tab):
    page = tab(f"{server.url}/review/")
    shown(page, "05.png")
    page.page.keyboard.down("Enter")
    shown(page, "04.png")
    for _ in range(5):
        page.page.keyboard.down("Enter")
    page.page.keyboard.up("Enter")
    page.page.wait_for_timeout(300)
    assert [line["image"] for line in lines(folder)] == ["05.png"]


BRIGHT = '''
import numpy as np
from dataclasses import replace
from maskmill import hookimpl
from maskmill.testing import FillPrompt


class Bright(FillPrompt):
    """Fills boxes; sure of a mask as far as the pixels below it are bright."""

    def masks(self, image, prompts, embedding=None):
        made = super().masks(image, prompts)
        return [replace(mask, score=float(np.mean(image.pixels[mask.array] > 128))) for mask in made]


@hookimpl
def register_backends(register):
    register("bright", Bright)
'''


def make_faulty_run(folder, count=60):
    """A run of dark pictures with a bright square each; returns the images whose box is beside it, one of twenty."""
    random, faults, prompts = np.random.default_rng(5), set(), []
    (folder / "photos").mkdir()
    for number in range(count):
        key, (x, y) = f"{number:02}.png", random.integers(5, 40, 2).tolist()
        pixels = random.integers(0, 90, (80, 100, 3), np.uint8)
        pixels[y : y + 30, x : x + 30] += 150
        PIL.Image.fromarray(pixels).save(folder / "photos" / key)
        left, top, right, bottom = random.integers(0, 4, 4).tolist()  # boxes are loose
        box = [x - left, y - top, x + 30 + right, y + 30 + bottom]
        if number % 20 == 7:
            faults.add(key)
            box[0::2] = [at + 22 for at in box[0::2]]
        prompts.append({"image": key, "prompts": [{"box": box, "label": "square"}]})
    (folder / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in prompts), encoding="utf-8")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "bright.py").write_text(BRIGHT, encoding="utf-8")
    (folder / "p.yaml").write_text(
        "dataset: photos\nprompts: [{use: file, path: b.jsonl}]\ncorrections: p.corrections.jsonl\n"
        "backend: bright\noutput: out\nrun: {engine: inline}\n",
        encoding="utf-8",
    )
    Pipeline.load(folder / "p.yaml").run(quiet=True)
    return faults


def test_a_person_finds_all_faults_in_the_first_tenth_of_the_queue(tmp_path, tab):
    faults = make_faulty_run(tmp_path)
    with reviewing(tmp_path) as server:
        page = tab(f"{server.url}/review/")
        for number in range(6):
            page.page.wait_for_selector("body[data-shown]")
            key = page.page.get_attribute("body", "data-shown")
            if key in faults:
                page.press("r")
                page.page.keyboard.type("beside")
            page.press("Enter")
            page.page.wait_for_function("(key) => document.body.dataset.shown !== key", arg=key)
            line = saved(page, tmp_path, number + 1)
            assert (line["image"], line["verdict"]) == (key, "rejected" if key in faults else "accepted")
    assert {line["image"] for line in lines(tmp_path) if line["verdict"] == "rejected"} == faults


def test_undo_tab_and_several_labels_at_once(server, folder, tab):
    page = tab(f"{server.url}/review/")
    shown(page, "05.png")
    page.press("Tab")
    names = page.page.locator('#objects .object[data-active="true"] .name')
    assert names.all_inner_texts() == ["dog"]  # the lowest score first
    page.page.wait_for_function("() => document.getElementById('canvas').dataset.scale > 8")
    page.press("0", "a", "2")
    assert page.page.locator("#objects .name").all_inner_texts() == ["dog", "dog"]
    assert page.page.inner_text("#accept-text") == "Save and go on"
    page.press("z")
    assert page.page.locator("#objects .name").all_inner_texts() == ["dog", "cat"]
    page.press("Delete")
    assert page.page.inner_text("#others .object[data-id=m0] .reason") == "removed just now"
    page.press("z", "Enter")
    shown(page, "04.png")
    assert saved(page, folder, 1)["verdict"] == "accepted"


def test_two_pages_get_different_images_and_a_conflict_shows_both_versions(server, folder, tab):
    eva, tom = tab(f"{server.url}/review/"), tab(f"{server.url}/review/", expected={409})
    shown(eva, "05.png")
    shown(tom, "03.png")  # 04.png is loaded ahead for Eva
    tom.page.locator("#list .entry").nth(0).click()
    shown(tom, "05.png")
    assert "has this image open" in tom.page.inner_text("#toast")
    eva.click(20, 20)
    eva.press("Delete", "Enter")
    shown(eva, "04.png")
    tom.press("b")
    tom.click(60, 60)  # what Tom painted goes with his version
    tom.press("Enter")
    dialog = tom.page.locator("dialog[data-kind=conflict-dialog]")
    dialog.wait_for()
    assert "Fixed by Eva" in dialog.inner_text()
    assert dialog.locator("canvas").count() == 2
    dialog.get_by_text("Save yours").click()
    tom.page.wait_for_function("() => !document.getElementById('dialog').open")
    tom.page.wait_for_selector('#save-state[data-state="saved"]')
    tom.page.wait_for_function("() => document.body.dataset.shown !== '05.png'")
    assert [(line["image"], len(line["prompts"])) for line in lines(folder)] == [("05.png", 1), ("05.png", 3)]


def decide_as(server, key, reviewer, labels, verdict="accepted", comment=""):
    """Somebody decides, and keeps the objects of these labels."""
    image = server.get("/v1/review/image", params={"key": key, "reviewer": reviewer}).json()
    objects = [{"id": one["id"], "label": one["label"]} for one in image["objects"] if one["label"] in labels]
    assert decide(server, key, verdict, objects, image, reviewer=reviewer, comment=comment).status_code == 200


def test_a_lead_settles_a_disagreement_and_reads_the_figures_of_the_team(server, folder, tab):
    server.session.overlap, server.session.reviewer = frozenset({"05.png"}), "Ann"
    decide_as(server, "05.png", "Eva", {"cat"})
    decide_as(server, "05.png", "李雷", {"cat", "dog"})
    decide_as(server, "04.png", "Eva", {"cat", "dog"}, "question", "一只还是两只？")
    lead = tab(f"{server.url}/review/")
    shown(lead, "05.png")
    dialog = lead.page.locator("dialog[data-kind=conflict-dialog]")
    dialog.wait_for()
    assert dialog.locator("h3").all_inner_texts() == ["Eva: Fixed", "李雷: Accepted"]
    assert dialog.locator("canvas").count() == 2
    dialog.get_by_text("Take 李雷's").click()
    shown(lead, "03.png")
    line = saved(lead, folder, 4)
    assert (line["reviewer"], line["verdict"], len(line["prompts"])) == ("Ann", "accepted", 2)

    with lead.page.context.expect_page() as opened:
        lead.page.click("#to-team")
    team = opened.value
    team.wait_for_selector("body[data-ready=true]")
    text = team.inner_text("#team")
    for part in ("1 of 6", "Eva · 李雷", "Eva: 一只还是两只？", "Too early to say", "0 (0%)"):
        assert part in text
    team.click("#language")
    assert "待解答" in team.inner_text("#team") and team.get_attribute("html", "lang") == "zh-CN"
    for width in (400, 1280):
        team.set_viewport_size({"width": width, "height": 800})
        assert team.evaluate("document.documentElement.scrollWidth") == width
    team.click("#team a")
    team.wait_for_selector('body[data-shown="04.png"]')


def test_contact_sheet(server, folder, tab):
    page = tab(f"{server.url}/review/")
    shown(page, "05.png")
    page.press("c")
    page.page.wait_for_function("() => document.querySelectorAll('.crop:not([data-waiting])').length === 6")
    page.page.locator(".crop").nth(1).click()
    page.press("Enter")
    page.page.wait_for_function("() => document.getElementById('sheet-said').textContent.startsWith('0 images')")
    assert [line["image"] for line in lines(folder)] == ["04.png"]
    page.page.select_option("#sheet-label", "dog")
    page.page.wait_for_function("() => document.querySelectorAll('.crop:not([data-waiting])').length === 5")
    page.press("Enter")
    page.page.wait_for_function("() => document.getElementById('sheet-said').textContent.startsWith('5 images')")
    page.press("Escape")
    page.page.wait_for_selector("#blank:not([hidden])")
    assert {line["verdict"] for line in lines(folder)} == {"question", "accepted"}


def test_a_decision_that_the_server_did_not_get_is_not_shown_as_saved(server, folder, tab):
    page = tab(f"{server.url}/review/")
    shown(page, "05.png")
    page.page.context.set_offline(True)
    page.press("Enter")
    page.page.wait_for_selector('#save-state[data-state="unsaved"]')
    page.page.wait_for_selector("#banner:not([hidden])")
    assert lines(folder) == []
    page.page.context.set_offline(False)
    page.page.wait_for_function("() => document.getElementById('banner').innerText.includes('is not saved')")
    page.press("Enter")
    shown(page, "04.png")
    page.page.wait_for_selector("#banner", state="hidden")
    assert saved(page, folder, 1)["image"] == "05.png"


def test_the_name_is_asked_once_and_the_page_speaks_chinese(server, folder, tab):
    server.session.ask, server.session.reviewer = True, "user"
    page = tab(f"{server.url}/review/", wait=False, locale="zh-CN")
    page.page.locator("dialog input").fill("李雷")
    page.press("Enter")
    shown(page, "05.png")
    assert page.page.inner_text("#accept-text") == "通过"
    page.press("Enter")
    shown(page, "04.png")
    assert saved(page, folder, 1)["reviewer"] == "李雷"
    page.page.reload()
    page.ready()
    assert page.page.inner_text("#who") == "李雷"
