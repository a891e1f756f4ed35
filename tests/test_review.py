"""`maskmill review`: what a person decided about a run's images holds, and the doubtful ones come first."""

import io
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from stored_runs import told

pytest.importorskip("fastapi")
from review_kit import Review, copy_run, decide, lines, make_run, opened, rerun, reviewing

from maskmill import Mask, Run
from maskmill_plugins.review import leases, review_queue
from maskmill_plugins.review.leases import Leases


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reviewed")
    make_run(folder)
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(first, tmp_path) -> Path:
    """A copy of a run with its photos."""
    return copy_run(first, tmp_path / "copy")


@pytest.fixture
def page(folder):
    with reviewing(folder) as client:
        yield client


def queue(page, **query):
    answer = page.get("/v1/review/queue", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def keys(page, **query):
    return [item["key"] for item in queue(page, **query)["items"]]


def take(page, holder="tab", **more):
    answer = page.post("/v1/review/next", json={"holder": holder, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def painted(top=30, **more):
    """A mask as the page sends it: a bar of 10 rows."""
    array = np.zeros((80, 100), bool)
    array[top : top + 10, 5:95] = True
    mask = Mask.from_array(array)
    return {"size": [80, 100], "counts": mask.counts, "area": mask.area, **more}


def mended(page, key):
    """The objects of an image with a painted cat, a dog by a click, a new bird, and a sun that the model found."""
    cat, dog, _ = opened(page, key)["objects"]
    click = {"points": [[30, 70, 1]], "box": [5, 60, 95, 80], "score": 0.5, "stability": 0.75}
    return [
        {"id": cat["id"], "label": "cat", "mask": painted(30)},
        {"id": dog["id"], "label": "wolf", "mask": painted(60, **click)},
        {"id": "n2", "label": "bird", "mask": painted(0)},
        {"id": "n1", "label": None, "mask": painted(50, points=[[6, 55, 1]], score=0.25)},
    ]


def tree(folder: Path) -> dict[str, bytes]:
    """The stored results and the writers' files."""
    root = folder / "out"
    paths = (path for path in root.rglob("*") if path.is_file() and path.parent != root)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def test_the_most_doubtful_image_comes_first(page):
    found = queue(page)
    assert [item["key"] for item in found["items"]] == [f"{number:02}.png" for number in (5, 4, 3, 2, 1, 0)]
    item = found["items"][0]
    assert (item["why"], item["figure"], item["objects"], item["dropped"]) == ("score", 0.8, 2, 1)
    assert found["counts"]["unseen"] == found["total"] == 6


def test_accepted_images_are_not_made_again_and_change_no_file(folder, page):
    before = tree(folder)
    for key in keys(page):
        assert decide(page, key, reviewer="李雷", seconds=1.23).json()["verdict"] == "accepted"
    assert rerun(folder) == []
    assert tree(folder) == before
    assert rerun(folder, ["backend.shift=3", "output=out2"]) == []
    masks = [[mask.counts for mask in result.kept] for result in Run(folder / "out").results()]
    assert [[mask.counts for mask in result.kept] for result in Run(folder / "out2").results()] == masks
    assert lines(folder)[0]["reviewer"] == "李雷"
    assert lines(folder)[0]["seconds"] == 1.2


def test_one_correction_makes_one_image_again_without_the_backend(folder, page):
    for key in keys(page):
        decide(page, key)
    image = opened(page, "03.png")
    cat, _, tree_ = image["objects"]
    assert (tree_["kept"], tree_["reason"]) == (False, "drop-trees: a tree")
    objects = [{"id": cat["id"], "label": "lynx"}, {"id": tree_["id"], "label": "tree"}]
    assert decide(page, "03.png", objects=objects).json()["verdict"] == "fixed"
    before = tree(folder)
    assert rerun(folder) == []
    after = tree(folder)
    assert {name for name in after if "0" in name and after[name] != before.get(name)} <= {
        name for name in after if "03" in name
    }
    result = Run(folder / "out").result(Run(folder / "out").find("03.png"))
    assert [(mask.label, mask.counts) for mask in result.kept] == [("lynx", cat["counts"]), ("tree", tree_["counts"])]
    assert queue(page, state="fixed")["total"] == 1
    again = opened(page, "03.png")
    assert [(each["label"], each["kept"]) for each in again["objects"]] == [("lynx", True), ("tree", True)]


def test_a_correction_that_no_run_has_used_yet_is_shown_and_a_removed_object_can_come_back(page):
    image = opened(page, "01.png")
    decide(page, "01.png", objects=[{"id": "m1", "label": "wolf"}], image=image)
    after = opened(page, "01.png")
    shown = [(each["id"], each["label"], each["kept"], each["reason"]) for each in after["objects"]]
    assert shown == [
        ("m1", "wolf", True, ""),
        ("m0", "cat", False, "removed in the review"),
        ("m2", "tree", False, "drop-trees: a tree"),
    ]
    back = [{"id": "m1", "label": "wolf"}, {"id": "m0", "label": "cat"}]
    assert decide(page, "01.png", objects=back, image=after).json()["verdict"] == "fixed"
    after = opened(page, "01.png")
    assert [each["label"] for each in after["objects"] if each["kept"]] == ["cat", "wolf"]
    as_before = [{"id": "m0", "label": "cat"}, {"id": "m1", "label": "dog"}]
    assert decide(page, "01.png", objects=as_before, image=after).json()["verdict"] == "accepted"


def test_painted_masks_are_those_of_every_later_run(folder, page):
    objects = mended(page, "03.png")
    assert decide(page, "03.png", objects=objects).json()["verdict"] == "fixed"
    (line,) = lines(folder)
    assert [(one.get("label"), one.get("points"), one["mask"].get("score")) for one in line["prompts"]] == [
        ("cat", None, None),
        ("wolf", [[30, 70, 1]], 0.5),
        ("bird", None, None),
        (None, [[6, 55, 1]], 0.25),
    ]
    others = [f"{number:02}.png" for number in (0, 1, 2, 4, 5)]
    assert (rerun(folder), rerun(folder, ["backend.shift=5", "output=out2"])) == ([], others)
    for output in ("out", "out2"):
        kept = Run(folder / output).result(Run(folder / output).find("03.png")).kept
        assert [mask.counts for mask in kept] == [each["mask"]["counts"] for each in objects]
        assert [(mask.score, mask.stability) for mask in kept] == [
            (None, None),
            (0.5, 0.75),
            (None, None),
            (0.25, None),
        ]
    shown = [each for each in opened(page, "03.png")["objects"] if each["kept"]]
    assert [(each["id"], each["points"], each["drawn"]) for each in shown] == [
        ("m0", [], [8, 8, 40, 40]),
        ("m1", [[30, 70, 1]], [5, 60, 95, 80]),
        ("m2", [], None),
        ("m3", [[6, 55, 1]], None),
    ]
    item = next(each for each in queue(page)["items"] if each["key"] == "03.png")
    assert (item["why"], item["figure"]) == ("score", 0.25)


DAMAGED = {
    "the mask has 80×100 pixels, and the image 100×80": {"size": [100, 80]},
    "do not add up": {"counts": "0", "area": 1},
    "its run lengths are damaged": {"counts": "不"},
    "no pixels": {"counts": Mask.from_array(np.zeros((80, 100), bool)).counts},
    "the mask has 900 pixels, not 899": {"area": 899},
    "or its run lengths are damaged": {"counts": "T3b10Pi0hj6"},  # one of them is 0
    "lies outside the image": {"points": [[101, 5, 1]]},
    "mean nothing alone": {"points": [[10, 5, 0]]},
    "must be a number from 0 to 1": {"score": 17},
}


def test_damaged_masks_are_refused(folder, page):
    for reason, change in DAMAGED.items():
        answer = decide(page, "01.png", objects=[{"id": "n1", "label": "a", "mask": painted(**change)}])
        assert (answer.status_code, reason in answer.json()["detail"]) == (422, True), answer.text
    assert lines(folder) == []


def propose(page, key="01.png", **prompt):
    """The model's answer, once it is loaded."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = page.post("/v1/review/mask", params={"key": key}, json=prompt)
        if answer.status_code != 200 or answer.json()["state"] != "loading":
            return answer
        time.sleep(0.02)
    raise AssertionError("the model is still loading")


def test_the_runs_own_backend_answers_clicks(page):
    reply = propose(page, box=[10, 20, 30, 60]).json()
    expected = np.zeros((80, 100), bool)
    expected[20:60, 10:30] = True
    assert reply["mask"] == {
        "counts": Mask.from_array(expected).counts,
        "score": 0.89,
        "stability": 1.0,
        "box": [10, 20, 30, 60],
        "area": 800,
    }
    outside = propose(page, points=[[500, 5, 1]])
    assert (outside.status_code, "lies outside" in outside.json()["detail"]) == (409, True)


def test_an_image_is_encoded_once_before_the_first_click_on_it(page):
    from serve_kit import Fake, until

    model, backend = page.session.model, Fake()
    model._load = lambda: ("fake", backend)
    assert page.post("/v1/review/prepare", params={"key": "02.png"}).status_code == 204  # not open yet
    propose(page, "01.png", box=[10, 20, 30, 60])
    warm_up_and_first = len(backend._passes)
    assert page.post("/v1/review/prepare", params={"key": "02.png"}).status_code == 204
    until(lambda: len(backend._passes) > warm_up_and_first)
    propose(page, "02.png", points=[[5, 5, 1]])
    assert len(backend._passes) == warm_up_and_first + 1


@pytest.mark.parametrize("cause", ["none", "broken"])
def test_without_a_model_the_page_says_why_and_everything_else_works(folder, cause):
    about = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))
    if cause == "none":
        about["pipeline"]["backend"] = {"use": "none"}
    else:
        (folder / "plugins" / "mine.py").write_text("import nothing_of_this_name", encoding="utf-8")
    (folder / "out" / "run.json").write_text(json.dumps(about), encoding="utf-8")
    with reviewing(folder) as page:
        reply = propose(page, box=[10, 20, 30, 60]).json()
        why = "takes no points and boxes" if cause == "none" else "nothing_of_this_name"
        assert (reply["state"], why in reply["reason"]) == ("failed", True), reply
        assert decide(page, "01.png", objects=mended(page, "01.png")).status_code == 200


def test_objects_of_a_failed_image_can_be_painted(folder):
    text = (folder / "p.yaml").read_text(encoding="utf-8")
    (folder / "p.yaml").write_text(
        text.replace("use: boxes", "use: manual, images: {'0[1-5].png': {box: [1, 1, 9, 9]}}"), encoding="utf-8"
    )
    shutil.rmtree(folder / "out")
    rerun(folder)
    with reviewing(folder) as page:
        assert keys(page, status="failed") == ["00.png"]
        image = opened(page, "00.png")
        assert (image["objects"], "no prompt source has a prompt" in image["reason"]) == ([], True)
        objects = [{"id": "n1", "label": "bird", "mask": painted()}]
        assert decide(page, "00.png", objects=objects).json()["verdict"] == "fixed"
    rerun(folder)
    (mask,) = Run(folder / "out").result(Run(folder / "out").find("00.png")).kept
    assert (mask.label, mask.counts) == ("bird", painted()["counts"])


def test_a_rejected_image_stays_reviewable_after_the_next_run(folder, page):
    decide(page, "02.png", "rejected", comment="blurred")
    assert rerun(folder) == []
    image = opened(page, "02.png")
    assert (image["item"]["state"], image["comment"]) == ("rejected", "blurred")
    assert [each["label"] for each in image["objects"]] == ["cat", "dog"]
    assert decide(page, "02.png").status_code == 200
    rerun(folder)
    assert Run(folder / "out").find("02.png").status == "done"


def test_a_question_leaves_the_decision_to_the_pipeline(folder, page):
    before = tree(folder)
    assert decide(page, "00.png", "question", comment="两只猫？").json()["verdict"] == "question"
    assert rerun(folder) == []
    assert tree(folder) == before
    assert keys(page, state="question") == ["00.png"]
    assert opened(page, "00.png")["comment"] == "两只猫？"


def test_a_result_that_changed_since_is_queued_again(folder, page):
    image = opened(page, "04.png")
    decide(page, "04.png")
    (folder / "p.yaml").write_text((folder / "p.yaml").read_text().replace("corrections:", "#"), encoding="utf-8")
    shutil.rmtree(folder / "out")
    rerun(folder, ["backend.shift=2"])
    stale = decide(page, "04.png", image=image)
    assert stale.status_code == 409
    assert opened(page, "04.png")["item"]["state"] == "older"
    assert keys(page, state="older") == ["04.png"]


def test_a_second_decision_on_the_same_version_is_a_conflict_that_shows_the_first(folder, page):
    image = opened(page, "01.png")
    decide(page, "01.png", "rejected", image=image, reviewer="Eva", comment="dark")
    answer = decide(page, "01.png", image=image, reviewer="Tom")
    assert answer.status_code == 409
    theirs = answer.json()
    assert (theirs["image"]["item"]["reviewer"], theirs["image"]["item"]["state"]) == ("Eva", "rejected")
    assert len(lines(folder)) == 1
    assert decide(page, "01.png", image=theirs["image"], reviewer="Tom").status_code == 200


@pytest.mark.parametrize(
    "objects",
    [[{"id": "m9", "label": None}], [{"id": "m0", "label": "a"}, {"id": "m0", "label": "b"}], [{"id": "c0"}]],
    ids=["unknown", "twice", "of no correction"],
)
def test_objects_that_the_image_does_not_have_are_refused(folder, page, objects):
    assert decide(page, "01.png", objects=objects).status_code == 422
    assert lines(folder) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"search": "05"}, ["05.png"]),
        ({"label": "cat", "limit": 2}, ["05.png", "04.png"]),
        ({"label": "tree"}, []),
        ({"status": "empty"}, []),
        ({"dropped": True, "offset": 5}, ["00.png"]),
        ({"state": "open", "search": "1"}, ["01.png"]),
    ],
    ids=str,
)
def test_filters(page, query, expected):
    assert keys(page, **query) == expected


def test_images_with_a_low_score_can_be_chosen(folder, page):
    lowest = {each.key: min(mask.score for mask in each.kept) for each in Run(folder / "out").results()}
    limit = sorted(lowest.values())[2]
    found = keys(page, score=limit)
    assert sorted(found) == sorted(key for key, score in lowest.items() if score < limit) and len(found) == 2
    assert page.post("/v1/review/next", json={"holder": "h", "filters": {"score": 0}}).json()["image"] is None


def test_a_sample_is_always_the_same(page):
    assert sorted(keys(page, sample=3)) == sorted(keys(page, sample=3))
    assert set(keys(page, sample=3)) < set(keys(page, sample=5))


def test_no_image_is_given_to_two(page):
    given = [take(page, f"tab {number}")["image"]["item"]["key"] for number in range(6)]
    assert sorted(given) == keys(page)[::-1]
    assert take(page, "one more")["image"] is None
    assert take(page, "tab 0", keep=["05.png"], skip=["04.png"])["image"] is None
    assert take(page, "tab 0", keep=[])["image"]["item"]["key"] == "05.png"
    assert page.get("/v1/review/image", params={"key": "05.png", "holder": "x"}).json()["item"]["open_by"] == "Eva"


def test_an_abandoned_image_is_free_after_ten_minutes():
    now = [0.0]
    held = Leases(clock=lambda: now[0])
    assert held.take("a", "1", "Eva")
    assert not held.take("a", "2", "Tom")
    now[0] = leases.LEASE + 1
    assert held.take("a", "2", "Tom")
    assert held.find_other("a", "1") == "Tom"


def test_contact_sheet_accepts_images_whose_objects_were_all_seen(folder, page):
    cats = page.get("/v1/review/sheet", params={"label": "cat"}).json()
    assert [crop["key"] for crop in cats["items"]] == [f"{number:02}.png" for number in (5, 4, 3, 2, 1, 0)]
    picture = page.get("/v1/review/crop", params={"key": "05.png", "index": 0})
    assert picture.headers["content-type"] == "image/jpeg"
    seen = [
        {**{name: crop[name] for name in ("key", "index", "result")}, "wrong": crop["key"] == "02.png"}
        for crop in cats["items"]
    ]
    reply = page.post("/v1/review/sheet", json={"objects": seen}).json()
    assert (reply["accepted"], reply["questions"], reply["waiting"]) == (0, 1, 5)
    assert page.get("/v1/review/sheet", params={"label": "cat"}).json()["left"] == 0
    dogs = page.get("/v1/review/sheet", params={"label": "dog"}).json()["items"]
    decide(page, "00.png", "rejected")
    reply = page.post(
        "/v1/review/sheet",
        json={"objects": dogs and [{name: crop[name] for name in ("key", "index", "result")} for crop in dogs]},
    ).json()
    assert (reply["accepted"], reply["not_saved"]) == (4, ["00.png"])
    decided = {line["image"]: (line["verdict"], line.get("comment", "")) for line in lines(folder)}
    assert decided["02.png"] == ("question", "contact sheet: wrong object 1 (cat)")
    assert decided["05.png"] == ("accepted", "contact sheet")
    assert decided["00.png"][0] == "rejected"


def test_a_full_disk_saves_nothing_and_says_so(folder, page, monkeypatch):
    from maskmill_plugins.annotate import line_file

    decide(page, "00.png")
    before = (folder / "p.corrections.jsonl").read_bytes()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(line_file.os, "fsync", full)
    answer = decide(page, "01.png")
    monkeypatch.undo()
    assert answer.status_code == 507
    assert "No space left" in answer.json()["detail"]
    assert (folder / "p.corrections.jsonl").read_bytes() == before
    assert opened(page, "01.png")["item"]["state"] == "unseen"


def test_a_picture_that_changed_is_refused_but_its_masks_are_shown(folder, page):
    (folder / "photos" / "05.png").write_bytes((folder / "photos" / "04.png").read_bytes())
    answer = page.get("/v1/review/picture", params={"key": "05.png"})
    assert answer.status_code == 422
    assert "has changed since its masks were made" in answer.json()["detail"]
    assert len(opened(page, "05.png")["objects"]) == 3
    assert page.get("/v1/review/picture", params={"key": "04.png"}).headers["content-type"] == "image/png"


def test_parts_of_a_picture_have_its_real_pixels_and_thumbnails_are_small(folder, page):
    with PIL.Image.open(folder / "photos" / "03.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    part = page.get("/v1/review/picture", params={"key": "03.png", "max": 64, "crop": "20,10,40,30"})
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(part.content))), pixels[10:40, 20:60])
    assert page.get("/v1/review/picture", params={"key": "03.png", "crop": "90,10,40,30"}).status_code == 422
    small = page.get("/v1/review/picture", params={"key": "03.png", "max": 50})
    assert small.headers["content-type"] == "image/jpeg"
    assert PIL.Image.open(io.BytesIO(small.content)).size == (50, 40)


def test_ratings_are_read_from_the_cache_unless_a_result_changed(folder, monkeypatch):
    with reviewing(folder) as page:
        assert queue(page)["pending"] == 0
    read = []
    load = review_queue.load_result
    monkeypatch.setattr(review_queue, "load_result", lambda output, key: read.append(key) or load(output, key))
    os.utime(folder / "out" / "results" / "03.png.json")
    with reviewing(folder) as page:
        assert read == ["03.png"]
        assert keys(page)[0] == "05.png"


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_server_loses_no_decision_and_gives_no_open_image_to_another_page(folder):
    import httpx

    with Review(folder / "out", "--reviewer", "Tom") as server:
        with httpx.Client(base_url=server.url, trust_env=False) as page:
            assert decide(page, "00.png", "rejected", comment="dark").status_code == 200
            assert [take(page, holder)["image"]["item"]["key"] for holder in ("a", "b")] == ["05.png", "04.png"]
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(20)
    assert [(line["image"], line["reviewer"]) for line in lines(folder)] == [("00.png", "Tom")]
    with Review(folder / "out") as server:
        with httpx.Client(base_url=server.url, trust_env=False) as page:
            assert [take(page, holder)["image"]["item"]["key"] for holder in ("c", "b")] == ["03.png", "04.png"]
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0, server.said
    assert "Traceback" not in server.said


def test_the_command_says_which_line_the_pipeline_lacks(folder, capsys, monkeypatch):
    from maskmill_plugins.server import process

    monkeypatch.setattr(process, "listen", lambda requests, session, address, start: print("note:", session.notice))
    arguments = ("review", folder / "out", "--no-browser")
    code, out, _ = told(capsys, *arguments)
    assert (code, out) == (0, "note: \n")
    text = (folder / "p.yaml").read_text(encoding="utf-8")
    (folder / "p.yaml").write_text(text.replace("corrections:", "# corrections:"), encoding="utf-8")
    _, out, _ = told(capsys, *arguments)
    assert out == "note: add `corrections: p.corrections.jsonl` to p.yaml, so that runs respect it\n"


def test_what_cannot_be_reviewed_is_explained(folder, capsys, tmp_path):
    code, _, err = told(capsys, "review", tmp_path)
    assert code == 2
    assert "is not the output folder of a run" in err
    code, _, err = told(capsys, "annotate", folder / "out")
    assert code == 2
    assert f"maskmill review {folder / 'out'}" in err
    code, _, err = told(capsys, "review", folder / "out", "--corrections", folder / "out" / "c.jsonl")
    assert code == 2
    assert "must not lie in the output folder" in err
    about = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))
    about["file"] = None
    del about["pipeline"]["corrections"]
    (folder / "out" / "run.json").write_text(json.dumps(about), encoding="utf-8")
    code, _, err = told(capsys, "review", folder / "out")
    assert code == 2
    assert "--corrections FILE.jsonl" in err
    with reviewing(folder):
        code, _, err = told(capsys, "review", folder / "out", "--corrections", folder / "p.corrections.jsonl")
    assert code == 2
    assert "another `maskmill review` is using this file" in err
    (folder / "p.corrections.jsonl").write_text('{"image": "a.png", "verdict": "fine"}\n', encoding="utf-8")
    code, _, err = told(capsys, "review", folder / "out", "--corrections", folder / "p.corrections.jsonl")
    assert code == 2
    assert "the verdict must be one of" in err
