"""Several people review a run: second opinions, disagreements, the figures of a team, and when a review may stop."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from stored_runs import told

pytest.importorskip("fastapi")
from review_kit import copy_run, decide, lines, make_run, opened, rerun, reviewing

from maskmill import Box, Mask, Prompt, Run
from maskmill.corrections import Corrections
from maskmill_plugins._shared.team.agreement import Agreement, compare_objects
from maskmill_plugins._shared.team.figures import describe_team
from maskmill_plugins._shared.team.records import DecisionRecord, SecondOpinion, read_records
from maskmill_plugins._shared.team.stopping import LEAST, Judged, advise, describe_bands, wilson_interval
from maskmill_plugins.review.second_opinions import choose_overlap

KEY = "03.png"


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("team")
    make_run(folder)
    return folder


@pytest.fixture
def folder(first, tmp_path, monkeypatch):
    """A copy of a run with its photos."""
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    return copy_run(first, tmp_path / "copy")


@pytest.fixture
def page(folder):
    """A server that gives the image `KEY` to two people."""
    with reviewing(folder) as client:
        client.session.overlap = frozenset({KEY})
        yield client


def seen_by(page, reviewer):
    """The image `KEY` as a person gets it."""
    answer = page.get("/v1/review/image", params={"key": KEY, "reviewer": reviewer})
    assert answer.status_code == 200, answer.text
    return answer.json()


def offered(page, reviewer):
    """The images that are open to a person."""
    query = {"state": "open", "reviewer": reviewer}
    return [item["key"] for item in page.get("/v1/review/queue", params=query).json()["items"]]


def decide_as(page, reviewer, verdict="accepted", labels=("cat", "dog"), **more):
    """A person decides about `KEY` and keeps the objects of these labels."""
    image = seen_by(page, reviewer)
    objects = [{"id": one["id"], "label": one["label"]} for one in image["objects"] if one["label"] in labels]
    answer = decide(page, KEY, verdict, objects, image, reviewer=reviewer, seconds=5, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_second_person_decides_without_seeing_the_first_decision(folder, page):
    decide_as(page, "Eva", labels=("cat",), comment="no dog")
    assert KEY not in offered(page, "eva ")
    assert KEY in offered(page, "Tom")
    rerun(folder)  # the stored result is Eva's now
    image = seen_by(page, "Tom")
    assert (image["item"]["state"], image["item"]["reviewer"], image["comment"]) == ("unseen", "", "")
    assert [one["label"] for one in image["objects"] if one["kept"]] == ["cat", "dog"]
    assert decide_as(page, "Tom", labels=("cat",))["verdict"] == "fixed"
    eva, tom = lines(folder)
    assert (eva["change"], eva["doubt"]) == ({"iou": 0.5, "added": 0, "removed": 1, "relabelled": 0}, 0.18)
    assert tom["second"] == {"reviewer": "Eva", "verdict": "fixed", "iou": 1.0, "agrees": True}
    assert (tom["result"], tom["doubt"]) == (eva["result"], 0.18)
    for person in ("Eva", "Tom", "Ann"):
        assert KEY not in offered(page, person)
    assert rerun(folder) == []
    assert Corrections(folder / "p.corrections.jsonl").find(KEY).reviewer == "Eva"
    decide_as(page, "Tom", labels=("dog",))  # goes back to it
    assert lines(folder)[-1]["second"]["agrees"] is False


def test_a_disagreement_shows_both_versions_until_somebody_settles_it(folder, page):
    decide_as(page, "Eva", labels=("cat",))
    decide_as(page, "Tom")
    image = seen_by(page, "Ann")
    assert image["item"]["state"] == "disputed"
    assert [(one["reviewer"], one["verdict"], len(one["objects"])) for one in image["versions"]] == [
        ("Eva", "fixed", 1),
        ("Tom", "accepted", 2),
    ]
    assert KEY in offered(page, "Ann")
    assert KEY not in offered(page, "Tom")
    assert rerun(folder) == []  # Eva's
    assert len(Run(folder / "out").result(Run(folder / "out").find(KEY)).kept) == 1
    team = page.get("/v1/review/team").json()
    assert [one["key"] for one in team["disagreements"]["items"]] == [KEY]
    assert team["pairs"] == [{"names": ["Eva", "Tom"], "images": 1, "agree": 0, "iou": 0.5}]
    image = seen_by(page, "Ann")
    taken = decide(page, KEY, objects=[], image=image, reviewer="Ann", take=image["versions"][1]["revision"])
    assert (taken.json()["verdict"], taken.json()["item"]["state"]) == ("accepted", "accepted")
    again = decide(page, KEY, objects=[], image=image, reviewer="Bob", take=image["versions"][0]["revision"])
    assert again.status_code == 409
    line = lines(folder)[-1]
    assert (line["reviewer"], len(line["prompts"]), "second" in line) == ("Ann", 2, False)
    assert not [person for person in ("Eva", "Tom", "Ann", "Bob") if KEY in offered(page, person)]
    rerun(folder)
    assert len(Run(folder / "out").result(Run(folder / "out").find(KEY)).kept) == 2
    assert page.get("/v1/review/team").json()["disagreements"]["items"] == []


def test_only_images_for_two_people_are_offered_twice(page):
    for key in ("00.png", KEY):
        decide(page, key, image=opened(page, key), reviewer="Eva")
    assert [key for key in offered(page, "Tom") if key in ("00.png", KEY)] == [KEY]
    decide_as(page, "Tom", "rejected", comment="dark")
    assert decide(page, "00.png", image=seen_by(page, "Tom"), reviewer="Tom").status_code == 409
    assert {record.second.agrees for record in page.session.file.records() if record.second} == {False}


def test_the_images_for_two_people_are_always_the_same():
    keys = [f"{number}.jpg" for number in range(400)]
    chosen = choose_overlap(keys, 0.05)
    assert len(chosen) == 20
    assert choose_overlap(keys[::-1], 0.05) == chosen
    assert chosen < choose_overlap(keys, 0.1)
    assert choose_overlap(keys[:3], 0.05) and not choose_overlap(keys, 0)


def square(left, label="a", side=10):
    pixels = np.zeros((30, 60), np.bool_)
    pixels[5 : 5 + side, left : left + side] = True
    return replace(Mask.from_array(pixels), prompt=Prompt(box=Box(1, 1, 9, 9), label=label))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [], (1.0, 0, 0, 0)),
        ([square(0), square(20)], [square(20), square(0)], (1.0, 0, 0, 0)),
        ([square(0), square(20)], [square(0), square(20, "b")], (1.0, 0, 0, 1)),
        ([square(0)], [square(5)], (1 / 3, 0, 0, 0)),
        ([square(0), square(20)], [square(0), square(40)], (1 / 3, 1, 1, 0)),
    ],
    ids=["none", "order", "label", "moved", "another object"],
)
def test_agreement_of_two_sets_of_masks(before, after, expected):
    found = compare_objects(before, after)
    assert found[:4] == pytest.approx(expected)
    assert found.agrees is (expected == (1.0, 0, 0, 0))


def record(key, verdict="accepted", reviewer="Eva", second=None, **more):
    change = Agreement(iou, 0, 0, 0) if (iou := more.pop("iou", 1.0)) is not None else None
    known = {"time": 0.0, "seconds": 6.0, "comment": "", "reviewed": "a", "makes": "a", "doubt": 0.04, **more}
    return DecisionRecord(key=key, verdict=verdict, reviewer=reviewer, change=change, second=second, **known)


def test_pace_is_measured_while_somebody_works():
    times = [0, 10, 20, 30, 40, 4000, 4010]  # with a pause of more than an hour, after which one took its 6 seconds
    found = describe_team([record(str(time), time=time, reviewer="Eva ") for time in times], 9, [0] * 100)
    (person,) = found["people"]
    assert person["hours"] * 3600 == pytest.approx(6 + 40 + 6 + 10)
    assert person["pace"] == pytest.approx(7 / person["hours"])
    assert (person["median_seconds"], found["decided"]) == (6, 7)


def test_what_counts_when_an_image_was_decided_several_times():
    agreed = SecondOpinion("Eva", 0.95, True)
    other = SecondOpinion("Eva", 0.5, False)
    found = describe_team(
        [
            record("twice"),
            record("twice", "fixed", makes="b", iou=0.8),
            record("twice", reviewed="b", makes="b"),  # after a run with that correction
            record("remade", "fixed", makes="b", iou=0.1),
            record("remade", reviewed="c", makes="c", doubt=0.3),  # another model made it anew
            record("asked", "question"),
            record("both"),
            record("both", "accepted", "Tom", agreed),
            record("settled"),
            record("settled", "rejected", "tom", other, iou=None),
            record("settled", reviewer="Ann"),
            record("old", doubt=None, iou=None),
        ],
        images=9,
        undecided=[1] * 100,
    )
    assert found["verdicts"] == {"accepted": 5, "fixed": 0, "rejected": 0, "question": 1}
    assert found["decided"] == 5
    bands = {band["from"]: (band["images"], band["unchanged"]) for band in found["bands"] if band["images"]}
    assert bands == {0: (3, 1), 30: (1, 1)}  # unchanged: both; remade. Not: twice; settled, which Tom rejected
    assert found["machine"]["iou"] == pytest.approx((0.8 + 1 + 1 + 1) / 4)
    assert (found["machine"]["images"], found["machine"]["not_known"]) == (4, 1)
    assert found["pairs"] == [{"names": ["Eva", "Tom"], "images": 2, "agree": 1, "iou": pytest.approx(0.725)}]
    assert found["disagreements"]["items"] == []


@pytest.mark.parametrize(
    ("judged", "undecided", "advice", "below"),
    [
        ([(0.04, True)] * 120, {}, "done", None),
        ([(0.04, True)] * 118 + [(0.03, False)] * 2, {2: 300, 60: 7}, "stop", 5),
        ([(0.07, True)] * 60 + [(0.02, True)] * 3, {2: 300}, "stop", 10),
        ([(0.07, True)] * 60 + [(0.02, False)] * 40, {2: 300}, "go_on", None),
        ([(0.07, True)] * 30, {2: 300}, "sample", None),
        ([(0.9, False)] * 90, {2: 300}, "go_on", None),
        ([(0.7, True)] * 90, {100 - 1: 3, 2: 9}, "stop", 100),
    ],
    ids=["done", "stop", "a band above suffices", "a band below speaks against it", "few", "bad", "all"],
)
def test_when_a_review_may_stop(judged, undecided, advice, below):
    left = [undecided.get(number, 0) for number in range(100)]
    found = advise(describe_bands([Judged(*one) for one in judged], left))
    assert (found["advice"], found.get("below")) == (advice, below)
    if advice == "stop":
        assert found["left"] + found["above"] == sum(left)
        assert found["low"] >= 0.9
        assert found["wrong"] >= found["left"] * (1 - found["low"])


def test_the_interval_is_wilsons():
    assert wilson_interval(118, 120) == pytest.approx((0.9413, 0.9954), abs=1e-4)
    assert wilson_interval(LEAST, LEAST)[0] >= 0.9 > wilson_interval(LEAST - 1, LEAST - 1)[0]


def test_the_figures_on_the_terminal_and_in_the_report(folder, page, capsys):
    decide(page, "05.png", "rejected", reviewer="李雷", comment="模糊")
    decide(page, "04.png", "question", reviewer="Eva", comment="two dogs?")
    decide_as(page, "Eva", labels=("dog",))
    decide_as(page, "Tom")
    code, out, _ = told(capsys, "review", folder / "out", "--team")  # while the server runs
    assert code == 0
    for part in ("2 of 6 images decided: 1 fixed, 1 rejected, 1 in question", "1 × 模糊", "04.png: Eva: two dogs?"):
        assert part in out
    assert "03.png: fixed by Eva, accepted by Tom" in out
    shown = json.loads(told(capsys, "review", folder / "out", "--team", "--json")[1])
    served = page.get("/v1/review/team").json()
    assert {**shown, "version": served["version"]} == served
    text = (folder / "p.yaml").read_text(encoding="utf-8")
    (folder / "p.yaml").write_text(text.replace("writers: [", "writers: [report, "), encoding="utf-8")
    rerun(folder)
    team = read_report(folder)
    assert {name: team[name] for name in team if name not in ("bands", "stop")} == {
        name: served[name] for name in team if name not in ("bands", "stop")
    }
    decide(page, "00.png", reviewer="Eva")  # changes no result
    rerun(folder)
    assert read_report(folder)["verdicts"]["accepted"] == team["verdicts"]["accepted"] + 1


def read_report(folder):
    """The figures of the team in the report."""
    text = (folder / "out" / "report" / "report.html").read_text(encoding="utf-8")
    return json.loads(text.partition('id="summary">')[2].partition("</script>")[0])["about"]["team"]


def test_lines_of_earlier_versions_and_unfinished_ones_are_read(folder, page):
    decide(page, "00.png")
    path = folder / "p.corrections.jsonl"
    line = json.loads(path.read_text(encoding="utf-8"))
    for name in ("doubt", "change", "time", "reviewer", "seconds"):
        line.pop(name, None)
    path.write_text(f'{json.dumps(line)}\n{{"image": "01.png", "verd', encoding="utf-8")
    (found,) = read_records(path)
    assert (found.doubt, found.change, found.time, found.reviewer) == (None, None, None, "")
    assert page.get("/v1/review/team").json()["machine"]["not_known"] == 1


@pytest.mark.parametrize("share", ["5", "120%", "many"])
def test_a_share_that_is_none_is_refused(folder, capsys, share):
    code, _, err = told(capsys, "review", folder / "out", "--overlap", share)
    assert code == 2
    assert "write, for example, 5%" in err


def test_every_text_of_the_pages_has_the_same_places_in_both_languages():
    from maskmill_plugins._shared.team import WEB as TEAM
    from maskmill_plugins.review.routes import WEB

    script = (TEAM / "team_view.js").read_text(encoding="utf-8")
    tables = [(WEB / "strings.js").read_text(encoding="utf-8"), script.partition("};")[0]]
    names = set()
    for table in tables:
        for name, english, chinese in re.findall(r'(\w+): \[\s*"([^"]*)",\s*"([^"]*)",?\s*\]', table):
            assert sorted(re.findall(r"\{\w+\}", english)) == sorted(re.findall(r"\{\w+\}", chinese)), name
            names.add(name)
    used = re.findall(r'\bt\("(\w+)"', script) + re.findall(r'\b(?:card|wide|tile|listCard)\("(\w+)"', script)
    assert len(used) > 20 and set(used) <= names
