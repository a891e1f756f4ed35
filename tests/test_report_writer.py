"""report: its figures are the run's, its page holds everything itself, and nothing in the data breaks out of it."""

import io
import itertools
import json
import re
import tracemalloc
from collections import Counter
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from urllib.parse import unquote

import cv2
import numpy as np
import PIL.Image
import pytest
from report_kit import KEYS, Page, make_run

from maskmill import Box, ImageResult, Mask, Prompt, Run, read_run, testing
from maskmill.plugins.stage import working_in
from maskmill.results import STATUSES, Doubt, Failure
from maskmill_plugins._shared.doubt_rating import rate_doubt
from maskmill_plugins._shared.result_pages.layers import BUDGET, encode_outlines
from maskmill_plugins.writers.report import Report
from maskmill_plugins.writers.report.changes import Seen, find_reasons, judge
from maskmill_plugins.writers.report.document import BLOCK
from maskmill_plugins.writers.report.picture import describe_picture
from maskmill_plugins.writers.report.summary import Summary, without_numbers

KEY, STATUS, DOUBT, WHY = range(4)
TIMES = ("seconds", "stages", "slowest", "machine")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    report = make_run(tmp_path_factory.mktemp("report"))
    assert report.outcome == "finished", report.message
    return report.output


@pytest.fixture(scope="module")
def page(output):
    return Page(output / "report" / "report.html")


def finish(folder, results, **options):
    """The page of these results, without a run."""
    (artifact,) = Report(**options).finish(iter(results), folder)
    return Page(folder / artifact.path)


def test_counts_are_those_of_the_run(output, page):
    with Run(output) as run:
        assert page.summary["statuses"] == run.counts()
    masks = [mask for result in read_run(output) for mask in result.masks]
    assert page.summary["masks"] == {"kept": sum(m.kept for m in masks), "dropped": sum(not m.kept for m in masks)}
    assert page.summary["masks"]["dropped"] > 0
    for name in ("score", "stability", "area"):
        assert sum(page.summary[name]["kept"]) == page.summary["masks"]["kept"]
        assert sum(page.summary[name]["dropped"]) == page.summary["masks"]["dropped"]
    assert sum(count for _, _, count in page.summary["drops"]) == page.summary["masks"]["dropped"]
    kept = Counter(mask.label for mask in masks if mask.kept)
    assert {page.summary["label_names"][n]: count for n, count, _ in page.summary["labels"]} == kept


def test_every_image_has_its_row_and_its_thumbnail(output, page):
    results = {result.key: result for result in read_run(output)}
    assert [row[KEY] for row in page.rows] == sorted(KEYS) == list(results)
    assert len(page.thumbnails) == len(page.rows)
    for row, data in zip(page.rows, page.thumbnails, strict=True):
        status = results[row[KEY]].status
        assert STATUSES[row[STATUS]] == status
        assert bool(data) == (status != "failed")
        if data:
            assert PIL.Image.open(io.BytesIO(data)).format == "WEBP"


def test_failures_are_listed_by_their_reason(page):
    (group,) = page.summary["failures"]
    assert (group["stage"], group["plugin"], group["type"], group["count"]) == ("backend", "scores", "ImageError", 2)
    assert group["keys"] == ["fails 1.png", "fails 2.png"]
    assert "gave up" in group["message"]


def test_nothing_in_the_data_ends_its_element(page):
    scripts = [attributes for tag, attributes in page.tags if tag == "script"]
    assert [a.get("type") for a in scripts[:5]] == ["application/json"] * 4 + [None]
    assert {a.get("type") for a in scripts[5:]} == {"text/plain"}
    assert not [tag for tag, _ in page.tags if tag in ("img", "b", "iframe")]
    assert "猫</script><img src=x>" in page.summary["label_names"]
    assert page.summary["about"]["name"] == "<b>试验</b> & co"
    assert "alert(1)" in page.summary["failures"][0]["message"]
    assert "\u2028" not in page.text


def test_half_characters_and_odd_numbers_come_through(tmp_path):
    image = testing.image(key='\udce9"<!--.png')
    masks = [
        replace(mask, score=score)
        for mask, score in zip(testing.masks(image), (float("nan"), 7.0, -1, None), strict=True)
    ]
    odd = replace(masks[0], prompt=replace(masks[0].prompt, label="\ud83d</SCRIPT>"))
    page = finish(tmp_path, [testing.result(image, [odd, *masks[1:]])])
    assert page.rows[0][KEY] == image.ref.key
    assert "\ud83d</SCRIPT>" in page.summary["label_names"]
    assert sum(page.summary["score"]["kept"]) == 2, "what is no number is not counted, what is out of range is"


def test_the_page_loads_nothing(page):
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    links = [value for _, a in page.tags for name, value in a.items() if name in ("src", "href", "action")]
    assert links == ["data:,"]
    shown = page.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(
        r"https?://|url\(|@import|fetch\(|XMLHttp|innerHTML|insertAdjacent|document\.write|eval\(", shown
    )


def test_provenance_says_what_ran(output, page):
    about = page.summary["about"]
    assert "min_score: 0.3" in about["pipeline"]
    assert about["model"] == "fill-1"
    assert about["dataset"] == [str(output.parent / "photos")]
    assert not about["scores_are_iou"], "the backend is no SAM"
    assert datetime.fromisoformat(about["written"]).tzinfo
    assert about["versions"]["numpy"]
    assert about["jobs"] == 1
    assert list(about["drop_ins"]) == [str(output.parent / "drop.py")]
    assert {name for name, _ in about["stages"]} >= {"read", "backend", "writers"}


def test_what_formats_lose_is_shown(page):
    ((name, mean, lowest, masks, _),) = page.summary["formats"]
    assert (name, round(mean, 9), lowest) == ("lossy", 0.98, 0.95)
    assert masks == page.summary["masks"]["kept"]


def test_a_report_added_later_knows_what_formats_lost_before(tmp_path):
    make_run(tmp_path, KEYS[:2], writers=("lossy",))
    output = make_run(tmp_path, KEYS[:2], writers=("lossy", "report")).output
    assert Page(output / "report" / "report.html").summary["formats"][0][:3] == ["lossy", 0.98, 0.95]


def test_a_changed_result_changes_the_page_and_an_unchanged_one_does_not(tmp_path):
    first = make_run(tmp_path, KEYS[:5]).output / "report" / "report.html"
    before = first.stat().st_mtime_ns
    make_run(tmp_path, KEYS[:5])
    assert first.stat().st_mtime_ns == before
    make_run(tmp_path, KEYS[:6])
    assert [row[KEY] for row in Page(first).rows] == sorted(KEYS[:6])


def test_only_times_differ_between_two_reports(tmp_path):
    pages = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        page = Page(make_run(tmp_path / name).output / "report" / "report.html")
        summary = page.summary
        del summary["slowest"], summary["about"]["stages"]
        for place in ("command", "pipeline", "drop_ins", "written", "dataset"):
            del summary["about"][place]
        rows = [[*row[:9], *row[10:]] for row in page.rows]
        pages.append((summary, json.dumps(rows).replace(f"/{name}/", "/"), page.thumbnails))
    assert pages[0] == pages[1]


def test_a_page_without_times_is_the_same_to_the_byte(tmp_path):
    results = [testing.result(image, testing.masks(image)) for image in map(named, range(3))]
    pages = [finish(tmp_path / name, results).text for name in ("one", "two")]
    assert pages[0] == pages[1]


def named(number):
    return testing.image(seed=number, key=f"{number:06d}.png")


def many(count):
    """Results that cost no time to make: the first one's masks, with scores that differ."""
    one = testing.result(named(0), testing.masks(named(0))[:2])
    for number in range(count):
        masks = tuple(replace(mask, score=1 - number / (2 * count)) for mask in one.masks)
        yield replace(one, key=f"{number:06d}.png", masks=masks)


def test_the_gallery_holds_the_most_doubtful_ones_where_there_are_too_many(tmp_path):
    page = finish(tmp_path, many(50), gallery=5)
    assert [row[KEY] for row in page.rows] == [f"{number:06d}.png" for number in range(45, 50)]
    assert page.summary["gallery"] == {"shown": 5, "total": 50}
    assert page.summary["statuses"]["done"] == 50
    assert finish(tmp_path, many(50), gallery=0).rows == []


def test_memory_does_not_grow_with_the_dataset(tmp_path):
    peaks = []
    for count in (300, 3000):
        tracemalloc.start()
        Report(gallery=100).finish(many(count), tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0] + 100_000


def test_thumbnails_stand_in_blocks_and_missing_ones_leave_a_gap(tmp_path):
    results = []
    for number in range(BLOCK + 3):
        result = testing.result(named(number), testing.masks(named(number)))
        results.append(result)
        if number % 10:
            Report().write(named(number), result, tmp_path)
    page = finish(tmp_path, results)
    assert {name for name in page.data if name.startswith("t")} == {"t0", "t1"}
    assert [bool(data) for data in page.thumbnails] == [bool(number % 10) for number in range(BLOCK + 3)]


def test_what_is_drawn_over_a_photo_is_exact_and_bounded(output, page):
    layers = dict(zip((row[KEY] for row in page.rows), page.layers, strict=True))
    found = layers["照片/猫 '1'.png"]
    (photo,) = found["photos"]
    assert (output / "report" / unquote(photo)).resolve() == output.parent / "photos" / "照片" / "猫 '1'.png"
    assert len(found["masks"]) == len(next(row for row in page.rows if row[KEY] == "照片/猫 '1'.png")[13])
    assert layers["fails 1.png"] == {}
    pixels = np.zeros((60, 80), bool)
    pixels[10:30, 20:50] = True
    pixels[15:20, 30:40] = False  # a hole
    ((_, text),) = encode_outlines([Mask.from_array(pixels)])
    drawn = np.zeros(pixels.shape, np.uint8)
    cv2.fillPoly(drawn, [np.rint((line - 0.5) * 16).astype(int) for line in decode(text)], 1, shift=4)
    assert (drawn.astype(bool) ^ pixels).sum() <= 2 * (60 + 40), "at most the pixels under the line"
    noise = [Mask.from_array(np.random.default_rng(n).random((120, 160)) > 0.6) for n in range(3)]
    assert sum(len(text) for _, text in encode_outlines(noise)) <= BUDGET


def decode(text):
    """The lines of an outline, as `lightbox.js` reads them."""
    for line in text.split(" "):
        numbers, shift, value = [], 0, 0
        for letter in line:
            bits = ord(letter) - 63
            value |= (bits & 31) << shift
            shift += 5
            if bits < 32:
                numbers.append(~(value >> 1) if value & 1 else value >> 1)
                shift = value = 0
        yield np.cumsum(np.array(numbers).reshape(-1, 2), axis=0) / 2


def test_copies_of_the_photos_are_stored_if_asked_for(tmp_path):
    image = testing.image(480, 640, key="照片 1.tiff")
    artifacts = Report(pictures=320).write(image, testing.result(image, testing.masks(image)), tmp_path)
    with PIL.Image.open(tmp_path / artifacts[1].path) as copy:
        assert (copy.format, copy.size) == ("JPEG", (320, 240))
    noted = describe_picture(image, testing.result(image, testing.masks(image)), tmp_path, artifacts[1].path)
    assert [unquote(photo) for photo in noted["photos"]] == [artifacts[1].path], "browsers show no TIFF"


def change(page, key):
    number = next(n for n, row in enumerate(page.rows) if row[KEY] == key)
    return json.loads(page.data["changed"]).get(str(number))


def test_a_report_says_what_changed_since_the_last_one(tmp_path):
    keys = ["a&b.png", "fails 1.png", "none.png", *(f"sub/photo_{number:02d}.png" for number in range(4))]
    output = make_run(tmp_path, keys).output
    page = Page(output / "report" / "report.html")
    assert page.summary["changes"] is None
    assert page.data["changed"].strip() == "{}"
    (tmp_path / "photos" / "none.png").unlink()
    testing.write_picture(tmp_path / "photos" / "sub" / "photo_00.png", seed=99)
    make_run(tmp_path, [*keys[:2], *keys[3:], "new.png"])
    page = Page(output / "report" / "report.html")
    found = page.summary["changes"]
    assert [found["counts"][name] for name in ("new", "redone", "removed", "same")] == [1, 1, 1, 5]
    assert (found["reasons"], found["removed"]) == ({"image": 1}, ["none.png"])
    assert datetime.fromisoformat(found["since"]).tzinfo
    assert change(page, "new.png")[0] == "new"
    assert change(page, "sub/photo_00.png")[:2] == ["redone", ["image"]]
    assert change(page, "a&b.png") is None
    # the record was written, but the run was killed before it could say so: the same changes again
    shown = [found, page.data["changed"]]
    rewrite(output)
    page = Page(output / "report" / "report.html")
    assert [page.summary["changes"], page.data["changed"]] == shown
    (output / "report" / "images.jsonl.gz").write_bytes(b"damaged")
    rewrite(output)
    assert Page(output / "report" / "report.html").summary["changes"] is None


def rewrite(output):
    """Write the page of a run again."""
    with Run(output) as run, working_in(output):
        Report().finish(iter([run.result(row) for row in run.rows()]), output / "report")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("done", 0.1, 2, "i/p/m/f"), ("done", 0.1, 2, "i/p/m/f"), None),
        (("done", 0.1, 2, "i/p/m/f"), ("done", 0.4, 2, "i/p/m2/f"), (["model"], "worse")),
        (("done", 0.4, 2, "i/p/m/f"), ("done", 0.1, 3, "i/p2/m/f2"), (["prompts", "filters"], "better")),
        (("done", 0.1, 2, "i/p/m/f"), ("failed", 0, 0, "i/p/m/f"), (["retry"], "worse")),
        (("failed", 0, 0, "i/p/m/f"), ("empty", 0.9, 0, "i/p/m/f"), (["retry"], "better")),
        (("done", 0.1, 2, "i/p/m/f"), ("done", 0.1, 2, "i/x/decided/decided"), (["corrections"], "")),
        (("done", 0.1, 2, "i/x/decided/decided"), ("done", 0.1, 2, "i/x/decided/decided"), None),
        (("done", 0.1, 2, "i/p/m/f"), ("rejected", 0, 0, "i/x/decided/decided"), (["corrections"], "")),
    ],
    ids=["same", "model", "prompts", "failed", "retried", "decided", "still decided", "rejected"],
)
def test_why_an_image_was_made_again_and_whether_it_got_better(before, after, expected):
    seen = [Seen("a", *each[:3], each[3].split("/")) for each in (before, after)]
    reasons = find_reasons(*seen)
    assert (None if not reasons else (reasons, judge(*seen))) == expected


def test_a_failed_image_does_not_keep_the_thumbnail_of_an_earlier_run(tmp_path):
    image = named(1)
    Report().write(image, testing.result(image, testing.masks(image)), tmp_path)
    failed = ImageResult(image.ref.key, "failed", failure=Failure("read", "", "ImageReadError", "gone"))
    assert finish(tmp_path, [failed]).thumbnails == [b""]


def test_a_page_that_cannot_be_finished_leaves_the_old_one(tmp_path):
    finish(tmp_path, many(2))
    before = (tmp_path / "report.html").read_bytes()

    def broken():
        yield from many(1)
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        Report().finish(broken(), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("side", [64, 192])
def test_thumbnails_are_small_and_show_the_masks(side, tmp_path):
    image = testing.image(480, 640)
    with_masks = testing.result(image, testing.masks(image))
    pictures = []
    for result in (with_masks, replace(with_masks, masks=(), prompts=())):
        (artifact,) = Report(thumbnail=side).write(image, result, tmp_path)
        pictures.append(PIL.Image.open(tmp_path / artifact.path).convert("RGB"))
        assert pictures[-1].size == (side, side * 3 // 4)
        assert artifact.bytes < 12_000
    assert pictures[0].tobytes() != pictures[1].tobytes()


IMAGE = testing.image()
MASKS = testing.masks(IMAGE)[:2]
SURE = [replace(mask, score=1.0, stability=1.0) for mask in MASKS]


@pytest.mark.parametrize(
    ("masks", "notes", "expected"),
    [
        (SURE, {}, (0.0, "", None)),
        ([replace(SURE[0], score=0.6), SURE[1]], {}, (0.4, "score", 0.6)),
        ([*SURE, replace(SURE[0], prompt=Prompt(box=Box(0, 0, 2, 2)))], {}, (1.0, "overlap", 1.0)),
        ([*SURE, SURE[0]], {}, (0.0, "", None)),
        ([replace(SURE[0], stability=0.7), replace(SURE[1], score=0.8)], {}, (0.3, "stability", 0.7)),
        ([SURE[0], replace(SURE[1], score=0.1, dropped_by="score")], {}, (0.125, "dropped", 1)),
        ([replace(mask, dropped_by="score") for mask in SURE], {}, (0.9, "dropped_all", 2)),
        (SURE, {"yolo": {"iou": {"mean": 0.9, "min": 0.5, "masks": 2}}}, (0.5, "format", 0.5)),
        (SURE, {"yolo": {"iou": "odd"}, "other": 3}, (0.0, "", None)),
        ([replace(SURE[0], prompt=Prompt(box=Box(0, 0, 2, 2), score=0.2))], {}, (0.4, "prompt", 0.2)),
        ([replace(SURE[0].with_array(SURE[0].array & False), score=0.9)], {}, (0.95, "no_pixels", None)),
    ],
    ids=[
        "sure",
        "score",
        "found twice",
        "two masks of one prompt",
        "stability",
        "dropped",
        "all dropped",
        "format",
        "odd notes",
        "prompt",
        "no pixels",
    ],
)
def test_doubt_is_the_weightiest_reason(masks, notes, expected):
    found = rate_doubt(replace(testing.result(IMAGE, masks), notes=notes))
    assert (round(found.value, 6), found.why, found.figure) == expected


def test_images_with_a_reported_doubt_come_first_and_are_counted(tmp_path):
    results = [testing.result(named(number), testing.masks(named(number))) for number in range(3)]
    results[1] = replace(results[1], doubts=(Doubt("truncated", "cut off"), Doubt("conflict", "two labels")))
    page = finish(tmp_path, iter(results))
    assert max(page.rows, key=lambda row: row[DOUBT])[KEY] == "000001.png"
    assert page.rows[1][-1] == ["truncated", "conflict"]
    assert "truncated: cut off; conflict: two labels" in page.rows[1]
    assert [(code, count) for code, _, count in page.summary["doubts"]] == [("conflict", 1), ("truncated", 1)]


def test_an_image_without_prompts_is_beyond_doubt_and_one_without_answers_is_not():
    empty = testing.result(IMAGE, [])
    assert rate_doubt(empty).value == 0
    assert rate_doubt(replace(empty, prompts=(Prompt(text="cat"),))).why == "nothing"


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("score 0.412 < 0.5", "score # < #"),
        ("IoU 1e-05 > 0.9 with mask 12, which", "IoU # > # with mask #, which"),
        ("vit_b of sha256 3f1c: 2 parts", "vit_b of sha256 3f1c: # parts"),
        ("", ""),
    ],
)
def test_reasons_are_counted_without_their_figures(text, without):
    assert without_numbers(text) == without


def test_kinds_of_reasons_are_bounded():
    summary = Summary()
    one = testing.result(IMAGE, testing.masks(IMAGE)[:1])
    letters = ["".join(each) for each in itertools.product("abcdefghij", repeat=3)]
    for reason in letters:
        summary.add(replace(one, masks=(replace(one.masks[0], dropped_by="odd", reason=reason),)), None)
        summary.add(ImageResult(reason, "failed", failure=Failure("read", "", "Odd", f"because {reason}!")), None)
    told = summary.to_json()
    assert sum(count for _, _, count in told["drops"]) == sum(group["count"] for group in told["failures"]) == 1000
    assert len(told["drops"]) <= 501
    assert len(told["failures"]) <= 501


@pytest.mark.parametrize("own", ["writers/report/page", "evaluation/report/page"])
def test_both_languages_have_all_texts_and_the_program_asks_for_no_other(own):
    folders = [files("maskmill_plugins") / "_shared/result_pages/web", files("maskmill_plugins") / own]
    shared, strings = (json.loads((folder / "strings.json").read_text(encoding="utf-8")) for folder in folders)
    program = "".join(
        part.read_text(encoding="utf-8") for folder in folders for part in folder.iterdir() if part.name.endswith(".js")
    )
    for texts in (shared, strings):
        assert set(texts) == {"en", "zh"}
        assert list(texts["en"]) == list(texts["zh"])
        for name, text in texts["en"].items():
            assert sorted(re.findall(r"\{\d\}", text)) == sorted(re.findall(r"\{\d\}", texts["zh"][name])), name
    assert not set(shared["en"]) & set(strings["en"])
    asked = set(re.findall(r'\bt\("(\w+)"', program))
    assert asked <= {*shared["en"], *strings["en"]}
    made = ("why_", "sort_", "change_", "reason_", "word_", "by_", "group_", "photo_")
    unused = [name for name in strings["en"] if f'"{name}"' not in program and not name.startswith(made)]
    assert unused == []
