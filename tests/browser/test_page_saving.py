"""Changes shown as saved are on disk, unsaved ones are not lost: reloads, two tabs, a server that dies."""

import PIL.Image
import pytest
from annotate_kit import Annotate, annotating, folder_of, opened, save
from annotate_page import entries, near
from serve_kit import BACKENDS, Fake, free_port, picture


@pytest.fixture
def folder(tmp_path):
    return folder_of(tmp_path / "photos", 3, height=320, width=480)


@pytest.fixture
def start(tmp_path, folder):
    """Start the command in a process of its own, always on the same port."""
    plugins = tmp_path / "backends.py"
    plugins.write_text(BACKENDS, encoding="utf-8")
    port = free_port()

    def started(*options):
        return Annotate(folder, "--backend", "slow", "--plugins", plugins, *options, port=port)

    return started


def test_a_reload_shows_what_was_drawn(folder, tab):
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.press("n")
        desk.opened("001.png")
        desk.drag(100, 80, 300, 200)
        desk.click(200, 150)
        desk.objects(1)
        desk.saved()
        desk.page.reload()
        desk.ready()
        desk.opened("001.png")
        assert desk.objects(1) == ["Object 1"]
        assert desk.page.locator("#list .row").nth(1).get_attribute("aria-selected") == "true"
        assert desk.page.locator("#list .row .count").nth(1).inner_text() == "1"


def test_closing_the_tab_at_once_loses_nothing(folder, tab):
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(100, 80, 300, 200)
        desk.page.close(run_before_unload=True)
        later = tab(f"{server.url}/annotate/", same=tab("about:blank", wait=False))
        later.objects(1)
        assert near(entries(folder / "prompts.jsonl")["000.png"]["prompts"][0]["box"], [100, 80, 300, 200])


def test_two_tabs_do_not_overwrite_each_other_silently(folder, tab):
    with annotating(folder, Fake()) as server:
        mine = tab(f"{server.url}/annotate/", expected={409})
        theirs = tab(f"{server.url}/annotate/", same=mine, expected={409})
        theirs.drag(20, 20, 80, 80)
        theirs.saved()
        mine.page.bring_to_front()
        mine.drag(100, 80, 300, 200)
        mine.page.wait_for_selector("#dialog[open][data-kind=conflict-dialog]")
        assert "Not saved" in mine.text("#save-text")
        mine.page.keyboard.press("Escape")
        assert mine.page.locator("#dialog[open]").count(), "one has to choose"
        assert near(entries(folder / "prompts.jsonl")["000.png"]["prompts"][0]["box"], [20, 20, 80, 80])
        mine.page.get_by_role("button", name="Take theirs").click()
        mine.saved()
        assert len(mine.objects(1)) == 1
        mine.press("z")
        mine.saved()
        assert near(entries(folder / "prompts.jsonl")["000.png"]["prompts"][0]["box"], [100, 80, 300, 200]), "by undo"

        theirs.page.bring_to_front()
        theirs.click(50, 50)
        theirs.page.get_by_role("button", name="Keep mine").click()
        theirs.saved()
        now = entries(folder / "prompts.jsonl")["000.png"]["prompts"]
        assert len(now) == 1 and len(now[0]["points"]) == 1


def test_a_dead_server_is_reported_and_everything_is_saved_when_it_is_back(folder, tab, start):
    with start() as server:
        desk = tab(server.url + server.page, expected={404})
        desk.drag(100, 80, 300, 200)
        desk.saved()
        server.process.kill()
        server.process.wait()
        assert len(entries(folder / "prompts.jsonl")["000.png"]["prompts"]) == 1, "it was shown as saved"
        desk.drag(320, 220, 420, 300)
        desk.state("unsaved")
        assert "does not answer" in desk.text("#banner")
        desk.drag(20, 220, 90, 300)
        assert desk.text("#save-text") == "Not saved, will retry"
    with start():
        desk.saved()
        desk.page.wait_for_selector("#banner", state="hidden")
        desk.objects(3)
        assert len(entries(folder / "prompts.jsonl")["000.png"]["prompts"]) == 3
        desk.press("n")
        desk.opened("001.png")


def test_changes_that_a_closed_tab_could_not_save_are_restored(folder, tab, start):
    with start() as server:
        first = tab(server.url + server.page, expected={404})
        url = server.url + server.page
        first.drag(100, 80, 300, 200)
        first.saved()
        server.process.kill()
        server.process.wait()
        first.drag(320, 220, 420, 300)
        first.state("unsaved")
        keeper = tab("about:blank", same=first, wait=False)
        first.page.close()
    with start():
        # another tab's draft counts as abandoned after some seconds, which have passed here
        keeper.page.add_init_script("const now = Date.now; Date.now = () => now() + 60000;")
        keeper.page.goto(url)
        keeper.ready()
        keeper.objects(2)
        keeper.saved()
        assert len(entries(folder / "prompts.jsonl")["000.png"]["prompts"]) == 2


def test_a_slow_server_is_shown_and_the_page_stays_usable(folder, tab):
    with annotating(folder, Fake(encode=1.0, seconds=0.2)) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(100, 80, 300, 200)
        desk.page.wait_for_selector("#busy:not([hidden])")
        assert desk.text("#busy-text")[:9] in ("Preparing", "computing")
        desk.press("1")
        desk.drag(320, 220, 420, 300)
        desk.press("z")
        assert len(desk.objects(1)) == 1
        desk.saved()


def test_the_page_waits_for_the_server_and_the_model(folder, tab, start):
    with start("--set", "loading=1.5") as server:
        desk = tab(server.url + server.page, expected={404})
        desk.drag(100, 80, 300, 200)
        desk.objects(1)


def test_a_late_response_for_another_image_is_not_drawn(folder, tab):
    with annotating(folder, Fake(seconds=0.6)) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(100, 80, 300, 200)
        desk.press("n")
        desk.opened("001.png")
        clean = desk.color(200, 140)
        desk.page.wait_for_timeout(900)
        assert desk.color(200, 140) == clean
        assert desk.objects(0) == []
        desk.saved()
        assert len(entries(folder / "prompts.jsonl")["000.png"]["prompts"]) == 1


def test_opening_another_image_ends_a_drag(folder, tab):
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        begin, end = desk.place(100, 80), desk.place(300, 200)
        held = []
        desk.page.route("**/annotate/image?*", lambda route: held.append(route))
        desk.page.mouse.move(*begin)
        with desk.page.expect_request("**/annotate/image?*"):
            desk.press("n")
        desk.page.mouse.down()
        for route in held:
            route.continue_()
        desk.opened("001.png")
        desk.page.mouse.move(*end, steps=4)
        desk.page.mouse.up()
        assert desk.objects(0) == []
        desk.saved()
        assert entries(folder / "prompts.jsonl") == {}


def test_a_replaced_image_is_shown_again_and_not_confused_with_the_old_one(folder, tab):
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(100, 80, 300, 200)
        desk.saved()
        old = entries(folder / "prompts.jsonl")["000.png"]["sha256"]
        (folder / "000.png").write_bytes(picture(9, height=320, width=480))
        desk.drag(320, 220, 420, 300)
        desk.says("This image has changed")
        assert entries(folder / "prompts.jsonl")["000.png"]["sha256"] == old, "a batch refuses what was drawn on it"
        desk.objects(2)
        desk.drag(20, 220, 90, 300)
        desk.objects(3)
        desk.saved()
        assert entries(folder / "prompts.jsonl")["000.png"]["sha256"] == opened(server, "000.png")["sha256"] != old


@pytest.mark.parametrize("prompts", [[{"box": [100, 80, 300, 200]}], []], ids=["done", "empty"])
def test_accepting_confirms_the_prompts_for_a_changed_image(folder, tab, prompts):
    with annotating(folder, Fake()) as server:
        assert save(server, "000.png", *prompts).status_code == 200
        (folder / "000.png").write_bytes(picture(9, height=320, width=480))
        desk = tab(f"{server.url}/annotate/#image=000.png")
        desk.says("This image has changed")
        desk.objects(len(prompts))
        desk.press("Enter")
        desk.opened("001.png")
        desk.saved()
        assert entries(folder / "prompts.jsonl")["000.png"]["sha256"] == opened(server, "000.png")["sha256"]


def test_a_prefetched_image_that_was_replaced_is_fetched_again(folder, tab):
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.page.wait_for_function("""() => performance.getEntriesByType("resource").some((entry) =>
            entry.name.includes("preview?key=001.png") && entry.responseEnd > 0)""")
        PIL.Image.new("RGB", (480, 320), (255, 0, 0)).save(folder / "001.png")
        desk.press("n")
        desk.opened("001.png")
        assert desk.color(240, 160) == (255, 0, 0)


def test_all_masks_are_requested_again_from_a_server_with_another_model(folder, tab, start):
    with start() as server:
        desk = tab(server.url + server.page, expected={404})
        desk.drag(100, 80, 300, 200)
        desk.objects(1)
        desk.saved()
    with start("--set", "seconds=0.01"):
        desk.press("n")
        desk.opened("001.png")
        with desk.page.expect_request(lambda request: request.url.endswith("/masks")):
            desk.press("p")
        desk.objects(1)


def test_an_image_replaced_while_the_server_was_down_is_not_requested_forever(folder, tab, start):
    with start() as server:
        desk = tab(server.url + server.page, expected={404})
        desk.drag(100, 80, 300, 200)
        desk.saved()
    (folder / "000.png").write_bytes(picture(9, height=320, width=480))
    asked = []
    desk.page.on("request", lambda request: asked.append(request.url))
    with start():
        desk.click(200, 150)
        desk.says("This image has changed")
        desk.objects(1)
        assert sum(url.endswith("/masks") for url in asked) < 10


def test_the_page_prompts_for_the_token_and_keeps_it_out_of_the_url(folder, tab):
    from maskmill_plugins.server.settings import Settings

    with annotating(folder, Fake(), Settings(token="geheim"), wait=False) as server:
        desk = tab(f"{server.url}/annotate/#token=geheim")
        assert "geheim" not in desk.page.url
        desk.drag(100, 80, 300, 200)
        desk.saved()
        asked = tab(f"{server.url}/annotate/", wait=False, expected={401})
        asked.page.wait_for_selector("#dialog[data-kind=token-dialog] input")
        asked.page.fill("#dialog input", "geheim")
        asked.page.press("#dialog input", "Enter")
        asked.ready()
        asked.objects(1)
