"""`maskmill compare`: two runs held against each other, and pipelines run for it."""

import json
import re
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
from report_kit import Page
from stored_runs import files, project, run, told

from maskmill import Box, Mask, Prompt
from maskmill_plugins._shared.pairing import pair_by_overlap
from maskmill_plugins.evaluation.compare.comparison import pair_masks
from maskmill_plugins.evaluation.compare.variants import parse_vary, split_values

#: A backend whose masks are moved to the right, in some images.
MOVED = """
from dataclasses import replace
import numpy as np
from pydantic import Field
from maskmill import hookimpl
from maskmill.testing import FillAnything


class Moved(FillAnything):
    by: int = Field(0, description="pixels")
    fail: bool = False

    def masks(self, image, prompts, embedding=None):
        if self.fail and image.ref.key == "e.png":
            raise ValueError("as told")
        found = super().masks(image, prompts)
        if not image.ref.key.startswith("b/"):
            return found
        return [mask.with_array(np.roll(mask.array, self.by, axis=1)) for mask in found]


@hookimpl
def register_backends(register):
    register("moved", Moved)
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    file = project(tmp_path_factory.mktemp("比较"), writers="[]")
    (file.parent / "plugins" / "moved.py").write_text(MOVED, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def runs(file):
    return run(file, "one"), run(file, "moved", sets=["backend={use: moved, by: 6}"])


def compared(capsys, *arguments, code=0):
    found, out, err = told(capsys, "compare", *arguments)
    assert (found, err) == (code, "")
    return out


def numbers(folder):
    return json.loads((folder / "comparison.json").read_bytes())


def test_how_far_two_runs_agree(runs, tmp_path, capsys):
    out = compared(capsys, *runs, "-o", tmp_path / "c")
    found = numbers(tmp_path / "c")
    # the first mask moved inside the picture: 30 of 42 columns are common; the second wraps around: 30 of 42 too
    moved = 30 / 42
    assert found["images"] == 5
    assert found["identical_images"] == 3
    assert (found["pairs"], found["pairs_by_prompt"], found["identical_pairs"]) == (10, 10, 6)
    assert found["mean_iou"] == pytest.approx((6 + 4 * moved) / 10)
    assert found["mean_agreement"] == pytest.approx((3 + 2 * moved) / 5)
    assert found["median_iou"] == 1
    assert found["share_of_pairs_from_iou"] == {"0.5": 1, "0.75": 0.6, "0.9": 0.6, "0.95": 0.6, "0.99": 0.6}
    assert found["iou_histogram"] == [*[0] * 14, 4, *[0] * 4, 6]
    assert f"{(6 + 4 * moved) / 10:.3f}" in out
    assert "3 of them with identical masks" in out


def test_the_images_that_differ_most_are_shown(runs, tmp_path, capsys):
    compared(capsys, *runs, "-o", tmp_path / "c")
    names = [f"worst/{rank:02}{end}" for rank in (1, 2) for end in ("-errors.png", ".jpg")]
    assert sorted(files(tmp_path / "c")) == ["comparison.json", "index.html", *names]
    assert [each["image"] for each in numbers(tmp_path / "c")["worst"]] == ["b/c.png", "b/照片 1.png"]
    with PIL.Image.open(tmp_path / "c" / "worst" / "01-errors.png") as picture:
        errors = np.asarray(picture)
    assert {1, 2} <= set(np.unique(errors)), "both runs have pixels that the other one lacks"
    page = Page(tmp_path / "c" / "index.html")
    rows = json.loads(page.data["rows"])
    assert len(rows) == page.summary["total"] == 10
    assert [row[4] for row in rows[:4]] == [pytest.approx(30 / 42, abs=1e-4)] * 4


def test_seconds_are_those_of_the_ledgers(runs, tmp_path, capsys):
    from maskmill import Run

    compared(capsys, *runs, "-o", tmp_path / "c")
    with Run(runs[0]) as opened:
        took = [row.seconds for row in opened.rows()]
    assert numbers(tmp_path / "c")["a"]["seconds_per_image"]["mean"] == pytest.approx(sum(took) / 5)


def test_a_run_agrees_with_itself(runs, tmp_path, capsys):
    compared(capsys, runs[0], run(runs[0].parent / "p.yaml", "again"), "-o", tmp_path / "c")
    found = numbers(tmp_path / "c")
    assert found["identical_images"] == found["images"] == 5
    assert found["mean_agreement"] == 1
    assert found["worst"] == []


def test_other_statuses_and_images_that_only_one_has_are_counted(file, runs, tmp_path, capsys):
    other = run(file, "failing", sets=["backend={use: moved, fail: true}"], only="[b-e]*")
    out = compared(capsys, runs[0], other, "-o", tmp_path / "c")
    found = numbers(tmp_path / "c")
    assert found["statuses"] == [{"a": "done", "b": "done", "images": 3}, {"a": "done", "b": "failed", "images": 1}]
    assert found["only_in_a"] == {"count": 1, "names": ["a.png"]}
    assert "done in one and failed in failing: 1" in out


def test_masks_without_a_partner_count_against_the_agreement(file, runs, tmp_path, capsys):
    fewer = run(file, "fewer", sets=["filters=[{use: fake-filter}]"])
    compared(capsys, runs[0], fewer, "-o", tmp_path / "c")
    found = numbers(tmp_path / "c")
    assert found["a"]["masks_without_partner"] == 5
    assert found["mean_iou"] == 1
    assert found["mean_agreement"] == 0.5


def test_more_than_two_are_each_compared_with_the_first(runs, tmp_path, capsys):
    out = compared(capsys, *runs, runs[0].parent / "one", "-o", tmp_path / "c")
    assert (numbers(tmp_path / "c" / "01")["images"], numbers(tmp_path / "c" / "02")["mean_agreement"]) == (5, 1)
    assert out.count("images finished in both runs: 5") == 2


def test_runs_over_other_images_are_refused(runs, tmp_path, capsys):
    other = run(project(tmp_path, ["z.png"], writers="[]"))
    code, _, err = told(capsys, "compare", runs[0], other)
    assert code == 2
    assert "no image in common" in err


def test_other_versions_of_an_image_are_not_compared(runs, tmp_path, capsys):
    file = project(tmp_path, ["d.png", "a.png"], writers="[]")  # with other seeds
    code, out, _ = told(capsys, "compare", runs[0], run(file))
    assert code == 1
    assert "a.png: the runs saw different versions of this image" in out


def test_a_pipeline_is_run_with_each_value(file, tmp_path, capsys):
    given = ["--vary", "backend={use: moved, by: 0},{use: moved, by: 6}", "-o", tmp_path / "v"]
    code, out, _ = told(capsys, "compare", file, *given)
    assert code == 0
    assert out.startswith("by=0 and by=6\n")
    assert {path.name for path in (tmp_path / "v").iterdir()} == {"by=0", "by=6", "comparison"}
    found = numbers(tmp_path / "v" / "comparison")
    assert found["mean_agreement"] == pytest.approx((3 + 2 * 30 / 42) / 5)
    assert found["a"]["name"] == "by=0"


def test_values_can_have_names(file, tmp_path, capsys):
    given = ["--vary", "backend={原: {use: moved}, 'to, right': {use: moved, by: 6}}", "-o", tmp_path / "v"]
    code, out, _ = told(capsys, "compare", file, *given)
    assert (code, out.splitlines()[0]) == (0, "原 and to, right")
    assert {path.name for path in (tmp_path / "v").iterdir()} == {"原", "to, right", "comparison"}
    assert numbers(tmp_path / "v" / "comparison")["b"]["name"] == "to, right"


NAMED = {
    "backend.model=vit_b, vit_h": [("vit_b", "model=vit_b", "vit_b"), ("vit_h", "model=vit_h", "vit_h")],
    "backend.model={b: vit_b, h: 'vit_h'}": [("b", "b", "vit_b"), ("h", "h", "vit_h")],
    "backend={b: {use: sam, model: vit_b}, g: grabcut}": [
        ("b", "b", "{use: sam, model: vit_b}"),
        ("g", "g", "grabcut"),
    ],
    "backend={use: sam, model: vit_b},{use: sam, model: vit_h}": [
        ("vit_b", "vit_b", "{use: sam, model: vit_b}"),
        ("vit_h", "vit_h", "{use: sam, model: vit_h}"),
    ],
    "backend={use: sam},{use: grabcut, iterations: 2},{use: grabcut}": [
        ("sam", "sam", "{use: sam}"),
        ("grabcut-iterations=2", "grabcut-iterations=2", "{use: grabcut, iterations: 2}"),
        ("grabcut", "grabcut", "{use: grabcut}"),
    ],
    "backend={use: remote, token: a},{use: remote, token: b}": [  # a secret makes no name
        ("1", "1", "{use: remote, token: a}"),
        ("2", "2", "{use: remote, token: b}"),
    ],
    "filters=[],[cleanup]": [("[]", "filters=[]", "[]"), ("[cleanup]", "filters=[cleanup]", "[cleanup]")],
}


@pytest.mark.parametrize(("vary", "values"), NAMED.items(), ids=NAMED.keys())
def test_the_names_of_values(vary, values):
    key, found = parse_vary(vary)
    assert key == vary.partition("=")[0]
    assert [(value.folder, value.name, value.text) for value in found] == values


def test_every_value_is_checked_before_the_first_run(file, tmp_path, capsys):
    values = "{ok: {use: moved, by: 1}, x: {use: moved, by: x}, y: {use: moved, bye: 3}, z: movd}"
    code, out, err = told(
        capsys, "compare", file, "--vary", f"backend={values}", "-o", tmp_path / "v", "--set", "nam=x"
    )
    assert (code, out) == (2, "")
    assert [line for line in err.splitlines() if not line.startswith(" ")] == [
        "--set nam: unknown key 'nam'",
        "--vary backend (x): by: expected a whole number, not 'x'",
        "--vary backend (y): the backend 'moved' has no option 'bye'",
        "--vary backend (z): there is no backend 'movd'",
    ]
    assert not (tmp_path / "v").exists()


def test_a_folder_with_masks_of_another_backend_is_refused_before_the_first_run(file, tmp_path, capsys):
    given = ["compare", file, "-o", tmp_path / "v", "--limit", "1", "--vary"]
    assert told(capsys, *given, "backend={a: {use: moved}, b: {use: moved, by: 6}}")[0] == 0
    code, _, err = told(capsys, *given, "backend={c: {use: moved}, b: {use: moved, by: 7}}")
    assert code == 2
    assert "--vary backend (b): '" in err
    assert "made with another backend" in err
    assert not (tmp_path / "v" / "c").exists()


def test_real_photos_and_a_real_backend(tmp_path, capsys):
    pytest.importorskip("skimage")
    (tmp_path / "p.yaml").write_text(
        "dataset: package:skimage/data/coffee.png\n"
        "prompts: [{use: manual, box: [150, 60, 470, 350]}]\n"
        "backend: grabcut\noutput: out\nrun: {engine: inline}\n",
        encoding="utf-8",
    )
    code, _, _ = told(capsys, "compare", tmp_path / "p.yaml", "--vary", "backend.max_side=128,256")
    assert code == 0
    found = numbers(tmp_path / "out-compared" / "comparison")
    assert sorted(path.name for path in (tmp_path / "out-compared").iterdir()) == ["128", "256", "comparison"]
    assert 0.5 < found["mean_iou"] < 1
    assert found["b"]["seconds_per_image"]["mean"] > 0


def test_failed_images_of_a_varied_run_decide_the_exit_code(file, tmp_path, capsys):
    given = ["--vary", "backend.fail=false,true", "--set", "backend.use=moved", "--limit", "5", "-o", tmp_path / "v"]
    code, out, _ = told(capsys, "compare", file, *given)
    assert code == 1
    assert "done in fail=false and failed in fail=true: 1" in out
    _, out, _ = told(capsys, "status", tmp_path / "v" / "true")  # its advice can be typed
    again = "--set backend.use=moved --limit 5 --set backend.fail=true -o"
    assert re.search(rf"run-pipeline .*p\.yaml'? {again} .* --retry-failed", out)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["p.yaml", "--vary", "backend.by"], "expected KEY=VALUE,VALUE"),
        (["p.yaml", "--vary", "backend.by=3"], "expected KEY=VALUE,VALUE"),
        (["p.yaml", "--vary", "backend={use: sam, model: vit_b}"], "expected KEY=VALUE,VALUE or KEY={NAME: VALUE"),
        (["p.yaml", "--vary", "backend={b: {use: moved}, B: slow}"], "the name 'B' is taken; give another one"),
        (["p.yaml", "--vary", "name=comparison,x"], "the name 'comparison' is taken"),
        (["p.yaml", "--vary", "backend.nope=3,4"], "has no option 'nope'"),
        (["one"], "give two output folders"),
        (["one", "moved", "--limit", "3"], "give two output folders"),
        (["a", "b", "c", "--vary", "x=1,2"], "and optionally the photos"),
        (["one", "photos"], "is not the output folder of a run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_before_anything_runs(file, runs, capsys, given, said):
    before = sorted(path.name for path in file.parent.iterdir())
    arguments = [file.parent / each if (file.parent / each).exists() else each for each in given]
    code, _, err = told(capsys, "compare", *arguments)
    assert code == 2
    assert said in err
    assert sorted(path.name for path in file.parent.iterdir()) == before


def mask(x, prompt=None, width=10):
    pixels = np.zeros((20, 60), bool)
    pixels[5:15, x : x + width] = True
    return Mask.from_array(pixels, prompt=prompt)


def box(x, **more):
    return Prompt(box=Box(x, 5, x + 10, 15), **more)


def test_equal_prompts_pair_masks_even_if_they_lie_apart():
    a, b = (
        [mask(0, box(0, source="file")), mask(30, box(30))],
        [mask(31, box(30, score=0.5)), mask(45, box(0, label="x"))],
    )
    pairs = {(pair.a, pair.b): pair for pair in pair_masks(a, b)}
    assert set(pairs) == {(0, 1), (1, 0)}
    assert pairs[0, 1].iou == 0
    assert pairs[1, 0].iou == pytest.approx(9 / 11)
    assert all(pair.by_prompt for pair in pairs.values())


def test_several_masks_of_one_prompt_are_paired_by_overlap():
    grid = Prompt(text="cup")
    a, b = [mask(0, grid), mask(20, grid), mask(40, grid)], [mask(21, grid), mask(1, grid)]
    assert {(pair.a, pair.b) for pair in pair_masks(a, b)} == {(0, 1), (1, 0)}


def test_without_prompts_what_overlaps_most_is_a_pair():
    a, b = [mask(0), mask(20)], [mask(5), mask(20), mask(19)]
    pairs = pair_masks(a, b)
    assert [(pair.a, pair.b, pair.identical, pair.by_prompt) for pair in pairs] == [
        (0, 0, False, False),
        (1, 1, True, False),
    ]
    assert pair_masks([], b) == pair_masks(a, []) == []


def test_the_greatest_overlap_goes_first():
    overlap = np.array([[0.9, 0.8], [0.8, 0.0]])
    assert pair_by_overlap(overlap) == [(0, 0, 0.9)]
    assert pair_by_overlap(overlap, np.array([[False, True], [True, True]])) == [(0, 1, 0.8), (1, 0, 0.8)]


def test_values_are_parted_at_commas_outside_of_brackets_and_quotes():
    assert split_values("vit_b, vit_h") == ["vit_b", "vit_h"]
    assert split_values("[1, 2],{a: 3, b: 4}") == ["[1, 2]", "{a: 3, b: 4}"]
    assert split_values("'a,b',c,") == ["'a,b'", "c"]


def test_a_filter_that_renames_does_not_change_what_was_asked():
    named = replace(mask(0, box(0, label="a")), changed_by=("class_map",))
    assert pair_masks([named], [mask(0, box(0, label="b"))])[0].by_prompt
