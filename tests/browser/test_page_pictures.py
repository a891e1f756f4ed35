"""Images of every kind: rotated, tiny, huge, broken, many, and one from outside the folder."""

import io
import json
import shutil

import numpy as np
import PIL.Image
import pytest
from annotate_kit import annotating, folder_of
from annotate_page import entries, near
from pycocotools import mask as coco_mask
from serve_kit import Fake, picture

from maskmill import Mask


class Ellipses(Fake):
    """The ellipse in a box, drawn directly as run lengths, without an array of the image's size."""

    def masks(self, image, prompts, embedding=None):
        height, width = image.size
        turn = np.linspace(0, 2 * np.pi, 400)
        found = []
        for prompt in prompts:
            x1, y1, x2, y2 = prompt.box.xyxy
            x, y = (x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(turn), (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(turn)
            (rle,) = coco_mask.frPyObjects([np.stack([x, y], 1).ravel().tolist()], height, width)
            found.append(Mask((height, width), rle["counts"].decode(), 0.9, prompt=prompt))
        return found


def test_a_rotated_photo_is_upright_and_boxes_match_its_pixels(tmp_path, tab):
    upright = np.zeros((240, 360, 3), np.uint8)
    upright[40:100, 250:330] = 255
    stored = PIL.Image.fromarray(np.rot90(upright, 1).copy())  # orientation 6: the camera was rotated
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    stored.save(tmp_path / "photos" / "turned.jpg", exif=exif, quality=95)
    with annotating(tmp_path / "photos", Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        assert min(desk.color(290, 70)) > 230 and max(desk.color(70, 70)) < 25
        desk.drag(250, 40, 330, 100)
        desk.saved()
        assert near(
            entries(tmp_path / "photos" / "prompts.jsonl")["turned.jpg"]["prompts"][0]["box"], [250, 40, 330, 100]
        )


def test_a_picture_of_40_by_30(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 1, height=30, width=40)
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(10, 8, 30, 22)
        desk.saved()
        desk.objects(1)
        assert near(entries(folder / "prompts.jsonl")["000.png"]["prompts"][0]["box"], [10, 8, 30, 22], within=0.1)


@pytest.mark.slow
def test_a_picture_of_12000_by_9000_does_not_freeze_the_page(tmp_path, tab):
    (tmp_path / "photos").mkdir()
    large = PIL.Image.new("L", (12_000, 9_000), 40)
    large.paste(200, (3000, 2000, 9000, 7000))
    large.save(tmp_path / "photos" / "large.png", compress_level=1)
    with annotating(tmp_path / "photos", Ellipses(embeds=False)) as server:
        desk = tab(f"{server.url}/annotate/", wait=False)
        desk.page.wait_for_selector("body[data-ready=true]", timeout=60_000)
        desk.page.evaluate("""() => {
            window.longest = 0;
            let last = performance.now();
            (function frame() {
                const now = performance.now();
                window.longest = Math.max(window.longest, now - last);
                last = now;
                requestAnimationFrame(frame);
            })();
        }""")
        desk.drag(500, 400, 11_500, 8_600)
        desk.page.wait_for_selector("#objects .score:not(.wait)", timeout=60_000)
        for _ in range(8):
            desk.page.mouse.wheel(0, -100)
            desk.page.wait_for_timeout(30)
        desk.saved()
        box = entries(tmp_path / "photos" / "prompts.jsonl")["large.png"]["prompts"][0]["box"]
        assert near(box, [500, 400, 11_500, 8_600], within=12)
        assert desk.page.evaluate("longest") < 700


def test_real_pixels_are_shown_at_every_zoom(tmp_path, tab):
    (tmp_path / "photos").mkdir()
    pixels = np.zeros((1500, 4200, 3), np.uint8)
    pixels[:, ::2] = 255  # stripes of one pixel, which a preview turns grey
    PIL.Image.fromarray(pixels).save(tmp_path / "photos" / "stripes.png", compress_level=1)
    with annotating(tmp_path / "photos", Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        places = [desk.place(3000, 700), desk.place(3600, 700)]
        for place in places:  # the second one after a jump to another part
            desk.press("0")
            desk.page.mouse.move(*place)
            for _ in range(30):
                desk.page.mouse.wheel(0, -120)
            with desk.page.expect_response(lambda response: "crop=" in response.url) as answer:
                pass
            assert answer.value.status == 200
            at = round(
                desk.page.evaluate(
                    "([x, y]) => { const { left } = document.getElementById('canvas').getBoundingClientRect();"
                    " const { scale, x: offset } = document.getElementById('canvas').dataset;"
                    " return (x - left - offset) / scale; }",
                    list(place),
                )
            )
            desk.page.wait_for_timeout(100)
            shown = [desk.color(at + step + 0.5, 700.5)[0] for step in (0, 1, 2)]
            assert sorted(shown) in ([0, 0, 255], [0, 255, 255]), shown


def test_twenty_thousand_images_are_listed_quickly(tmp_path, tab):
    folder = tmp_path / "photos"
    folder.mkdir()
    first = folder / "img-00000.png"
    first.write_bytes(picture(0))
    for number in range(1, 20_000):
        (folder / f"img-{number:05}.png").hardlink_to(first)
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.says("0 / 20000", "#progress-text")
        assert desk.page.locator("#list .row").count() < 60
        desk.page.evaluate("document.getElementById('list').scrollTop = 36 * 15000")
        desk.page.wait_for_selector("#list .row[title^='img-15003']")
        desk.page.fill("#search", "19998")
        desk.page.wait_for_selector("#list .row[title^='img-19998']")
        assert desk.page.locator("#list .row").count() == 1
        desk.page.locator("#list .row").click()
        desk.opened("img-19998.png")
        desk.drag(10, 10, 30, 30)
        desk.objects(1)
        desk.press("Enter")
        desk.opened("img-19999.png")
        desk.says("1 / 20000", "#progress-text")
        desk.page.fill("#search", "")
        desk.page.get_by_role("button", name="Done 1").click()
        desk.page.wait_for_function("() => document.querySelectorAll('#list .row').length === 1")


def test_the_status_filter_determines_the_next_image(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 6, height=100, width=100)
    lines = [{"image": f"00{number}.png", "prompts": [], "status": "empty"} for number in (1, 3, 4)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.opened("000.png")
        desk.page.get_by_role("button", name="To do 3").click()
        desk.page.wait_for_function("() => document.querySelectorAll('#list .row').length === 3")
        desk.press("e")
        desk.opened("002.png")
        desk.press("p")
        desk.opened("000.png")  # it is still in the visible list
        desk.press("n")
        desk.opened("002.png")
        desk.press("n")
        desk.opened("005.png")
        assert desk.page.locator("#next").is_disabled()
        desk.page.get_by_role("button", name="Empty 4").click()
        desk.page.wait_for_selector("#list .row[title^='004.png']")
        desk.page.wait_for_function("() => !document.getElementById('previous').disabled")
        desk.press("p")
        desk.opened("004.png")
        desk.press("p")
        desk.opened("003.png")
        desk.page.get_by_role("button", name="All 6").click()
        desk.page.wait_for_selector("#list .row[title^='002.png']")
        desk.press("p")
        desk.opened("002.png")


def test_an_unreadable_file_is_reported_and_can_be_skipped(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 3, height=320, width=480)
    (folder / "001.png").write_bytes(b"no picture at all")
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/", silent=False)
        desk.drag(100, 80, 300, 200)
        desk.saved()
        desk.page.get_by_role("button", name="Done 0").click()
        desk.page.wait_for_function("() => !document.querySelector('#list .row')")
        desk.press("n")
        desk.page.wait_for_selector("#blank:not([hidden])")
        assert "cannot be opened" in desk.text("#blank-title")
        assert desk.text("#place") == "2 of 3"
        assert desk.page.is_disabled("#accept")
        desk.press("Delete", "z", "e", "Enter")  # none of them may act on the previous image
        desk.press("n")
        desk.opened("002.png")
        desk.press("e")
        desk.says("1 / 3", "#progress-text")
        desk.press("p")
        desk.page.wait_for_selector("#blank:not([hidden])")
        desk.press("p")
        desk.opened("000.png")
        desk.objects(1)
        desk.saved()
        said = entries(folder / "prompts.jsonl")
        assert {key: (line["status"], len(line["prompts"])) for key, line in said.items()} == {
            "000.png": ("todo", 1),
            "002.png": ("empty", 0),
        }


def test_chinese_names_and_folders(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 1, height=120, width=160)
    (folder / "照片").mkdir()
    shutil.move(folder / "000.png", folder / "照片" / "猫 #1.png")
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(20, 20, 100, 80)
        desk.saved()
        desk.page.reload()
        desk.ready()
        desk.objects(1)
        assert list(entries(folder / "prompts.jsonl")) == ["照片/猫 #1.png"]


def downloaded(desk, kind):
    with desk.page.expect_download() as download:
        desk.page.click(f"[data-download={kind}]")
    return download.value.suggested_filename, download.value.path().read_bytes()


def test_mask_cutout_and_coco_are_downloaded(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 1, height=320, width=480)
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        desk.drag(100, 80, 300, 200)
        name, data = downloaded(desk, "mask")
        x1, y1, x2, y2 = entries(folder / "prompts.jsonl")["000.png"]["prompts"][0]["box"]
        mask = np.asarray(PIL.Image.open(io.BytesIO(data)))
        assert name.endswith(".png") and mask.shape == (320, 480)
        assert abs(np.count_nonzero(mask) - (x2 - x1) * (y2 - y1)) <= 330
        name, data = downloaded(desk, "cutout")
        assert PIL.Image.open(io.BytesIO(data)).mode == "RGBA"
        name, data = downloaded(desk, "coco")
        assert name.endswith(".json") and len(json.loads(data)["annotations"]) == 1


def test_an_image_dropped_on_the_page_is_segmented_and_not_saved(tmp_path, tab):
    folder = folder_of(tmp_path / "photos", 2, height=320, width=480)
    with annotating(folder, Fake()) as server:
        desk = tab(f"{server.url}/annotate/")
        dropped = list(picture(7, height=200, width=300))
        transfer = desk.page.evaluate_handle(
            """bytes => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "猫.png", { type: "image/png" }));
            return transfer;
        }""",
            dropped,
        )
        desk.page.dispatch_event("#canvas", "dragenter", {"dataTransfer": transfer})
        desk.page.dispatch_event("#canvas", "drop", {"dataTransfer": transfer})
        desk.opened("Quick try: 猫.png")
        desk.drag(50, 40, 200, 150)
        desk.objects(1)
        assert desk.text("#save-text") == "Quick try: not saved"
        assert desk.page.is_disabled("#accept")
        _, data = downloaded(desk, "mask")
        assert PIL.Image.open(io.BytesIO(data)).size == (300, 200)
        assert entries(folder / "prompts.jsonl") == {}
        desk.press("n")
        desk.opened("000.png")
        desk.page.locator("#list .row").nth(1).click()
        desk.opened("001.png")
