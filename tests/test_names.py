"""An image is found by the name somebody wrote, everywhere by one rule; what fits nothing is counted and named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import maskmill.images
from maskmill import DatasetError, Image, ImageRef, PipelineError, Run, testing
from maskmill.api import Pipeline
from maskmill.dataset.dataset import Dataset
from maskmill.files import expand_home
from maskmill.output.join import join_runs
from maskmill.stored.merge import merge
from maskmill_plugins._shared.prompt_files.matching import Matcher
from maskmill_plugins.annotate.image_list import ImageList
from maskmill_plugins.annotate.prompts_file import PromptsFile
from maskmill_plugins.evaluation.compare.comparison import compare
from maskmill_plugins.prompts.manual import Manual

COMPOSED, DECOMPOSED = "caf\u00e9.png", "cafe\u0301.png"
#: One letter composed, one decomposed: neither NFC nor NFD.
MIXED = "caf\u00e9/u\u0308.png"
BOX = {"box": [2, 2, 20, 20]}


@pytest.fixture
def ignore_case(monkeypatch):
    """As on Windows and macOS."""
    monkeypatch.setattr(maskmill.images, "IGNORES_CASE", True)


def pipeline(folder: Path, names, source, dataset="photos", output="out", engine="inline") -> Pipeline:
    for name in names:
        testing.write_picture(folder / "photos" / name)
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "fakes.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
    about = {"dataset": dataset, "prompts": [source], "backend": "fake-backend", "output": output}
    about["run"] = {"engine": engine}
    (folder / "p.yaml").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    return Pipeline.load(folder / "p.yaml")


def keys_of(folder: Path) -> list[str]:
    with Run(folder) as run:
        return [row.key for row in run.rows()]


# ---- `--only`

NAMES = ["a[1].png", "a1.png", "b.png", "x*.png", "xy.png", DECOMPOSED]
ONLY = {
    "brackets": ("a[1].png", ["a[1].png"]),
    "a star in a name": ("x*.png", ["x*.png"]),
    "a pattern": ("a*.png", ["a1.png", "a[1].png"]),
    "brackets as a pattern": ("[ab].png", ["b.png"]),
    "other letters": (COMPOSED, [DECOMPOSED]),
    "a pattern in other letters": ("*\u00e9.png", [DECOMPOSED]),
}


@pytest.mark.parametrize(("only", "keys"), ONLY.values(), ids=ONLY)
def test_only_means_the_image_of_this_name_or_those_that_fit(tmp_path, only, keys) -> None:
    pipeline(tmp_path, NAMES, {"use": "manual", **BOX}).run(only=only, quiet=True)
    assert keys_of(tmp_path / "out") == keys


def test_only_ignores_case_where_the_system_does(tmp_path, ignore_case) -> None:
    done = pipeline(tmp_path, ["IMG_1.PNG", "b.png"], {"use": "manual", **BOX})
    done.run(only="img_1.png", quiet=True)
    assert keys_of(tmp_path / "out") == ["IMG_1.PNG"]
    done.run(only="B*", quiet=True)
    assert keys_of(tmp_path / "out") == ["IMG_1.PNG", "b.png"]


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("b.jpg", "has the key 'b.jpg'\n  did you mean 'b.png'"),
        ("z*.png", "has the key 'z*.png', and none fits it as a pattern"),
        ("", "has the key ''"),
    ],
)
def test_only_that_fits_nothing_is_an_error(tmp_path, only, said) -> None:
    with pytest.raises(DatasetError) as caught:
        pipeline(tmp_path, NAMES, {"use": "manual", **BOX}).run(only=only, quiet=True)
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


# ---- the dataset

DATASETS = {
    "a folder": ("ph[1]/*.png", ["a.png"]),
    "a pattern where no such folder is": ("ph[2]/*.png", ["ph2/c.png"]),
    "deep": ("ph[1]/in[x]/*", ["d.png"]),
    "an image": ("ph[1]/a.png", ["a.png"]),
    "then a wildcard": ("ph[1]/**/*.png", ["a.png", "in[x]/d.png"]),
}


@pytest.mark.parametrize(("entry", "keys"), DATASETS.values(), ids=DATASETS)
def test_a_folder_that_exists_as_written_means_itself(tmp_path, entry, keys) -> None:
    for name in ("ph[1]/a.png", "ph1/b.png", "ph2/c.png", "ph[1]/in[x]/d.png", "ph[1]/inx/e.txt"):
        testing.write_picture(tmp_path / name) if name.endswith("png") else None
    assert [ref.key for ref in Dataset((entry,), tmp_path)] == keys


def test_a_folder_with_brackets_and_nothing_behind_it(tmp_path) -> None:
    (tmp_path / "ph[1]").mkdir()
    with pytest.raises(DatasetError, match="does not exist"):
        list(Dataset(("ph[1]/no/such.png",), tmp_path))


# ---- home folders

UNKNOWN = "~no-such-user-here/photos"
PLACES = {
    "dataset": {"dataset": UNKNOWN},
    "output": {"output": UNKNOWN},
    "a path of a plugin": {"source": {"use": "file", "path": UNKNOWN}},
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_the_home_of_an_unknown_user_is_refused(tmp_path, place) -> None:
    source = place.get("source", {"use": "manual", **BOX})
    values = {name: value for name, value in place.items() if name != "source"}
    with pytest.raises((PipelineError, DatasetError), match="the user 'no-such-user-here', who is unknown"):
        pipeline(tmp_path, ["a.png"], source, **values).run(quiet=True)


def test_a_folder_with_a_tilde_that_exists_means_itself(tmp_path) -> None:
    (tmp_path / "~no-such-user-here").mkdir()
    assert expand_home("~no-such-user-here", tmp_path) == tmp_path / "~no-such-user-here"
    assert expand_home("~/x", tmp_path) == Path.home() / "x"
    assert expand_home("x/~y", tmp_path) == tmp_path / "x/~y"


# ---- `manual`


def prompts_of(source: Manual, *keys: str) -> list[str]:
    """The labels that each of these images gets; the source knows them all."""
    source.survey(iter([ImageRef(key, key) for key in keys]))
    found = []
    for key in keys:
        prompts = source.prompts(Image.from_array(np.zeros((30, 40, 3), np.uint8), key))
        found.append("-" if prompts is None else "".join(str(prompt.label) for prompt in prompts))
    return found


MANUAL = {
    "a name with brackets is no pattern where the image exists": (["a[1].png"], ["a[1].png", "a1.png"], ["0", "-"]),
    "a pattern where it does not": (["a[1].png"], ["b.png", "a1.png"], ["-", "0"]),
    "a name before a pattern": (["*", "b.png"], ["a.png", "b.png"], ["0", "1"]),
    "composed": ([COMPOSED], [DECOMPOSED], ["0"]),
    "decomposed": ([DECOMPOSED], [COMPOSED], ["0"]),
    "both, both meant": ([COMPOSED, DECOMPOSED], [DECOMPOSED, COMPOSED], ["1", "0"]),
    "a pattern in other letters": (["*e\u0301*"], [COMPOSED], ["0"]),
}


@pytest.mark.parametrize(("names", "keys", "labels"), MANUAL.values(), ids=MANUAL)
def test_an_entry_of_manual_is_found(names, keys, labels) -> None:
    images = {name: {**BOX, "label": str(number)} for number, name in enumerate(names)}
    assert prompts_of(Manual.from_options({"images": images}), *keys) == labels


def test_an_entry_of_manual_in_another_case(ignore_case) -> None:
    images = {"A.PNG": {**BOX, "label": "x"}}
    assert prompts_of(Manual.from_options({"images": images}), "a.png") == ["x"]


def test_two_entries_for_one_image_are_refused() -> None:
    source = Manual.from_options({"images": {"s\u0323\u0307.png": BOX, "s\u0307\u0323.png": BOX}})
    with pytest.raises(PipelineError, match="several entries of `images` are the name of the image"):
        prompts_of(source, "\u1e69.png")


def test_a_worker_knows_which_entries_are_names(tmp_path) -> None:
    source = {"use": "manual", "images": {"a[1].png": {**BOX, "label": "x"}, "*": {}}}
    pipeline(tmp_path, ["a[1].png", "a1.png"], source, engine="joblib").run(quiet=True)
    with Run(tmp_path / "out") as run:
        assert [(result.key, result.status) for result in run.results()] == [("a1.png", "empty"), ("a[1].png", "done")]


# ---- merge and compare


@pytest.fixture
def runs(tmp_path):
    """Two runs over the same images, whose names are in other letters."""
    for folder, names in (("one", ["a.png", "cafe\u0301/\u00fc.png"]), ("two", ["a.png", MIXED, "b.png"])):
        pipeline(tmp_path / folder, names, {"use": "manual", **BOX}).run(quiet=True)
    return tmp_path / "one" / "out", tmp_path / "two" / "out"


def test_runs_are_joined_by_image_in_whatever_letters(runs) -> None:
    with Run(runs[0]) as one, Run(runs[1]) as two:
        assert [[number for _, number, _ in rows] for rows in join_runs([one, two])] == [[0, 1], [1], [0, 1]]
        assert [[number for _, number, _ in rows] for rows in join_runs([two, one])] == [[0, 1], [0], [0, 1]]


def test_merge_and_compare_use_it(runs, tmp_path) -> None:
    assert sum(merge(runs, tmp_path / "m", "first").counts.values()) == 3
    assert keys_of(tmp_path / "m") == ["a.png", "b.png", "cafe\u0301/\u00fc.png"]
    with Run(runs[0]) as one, Run(runs[1]) as two:
        found = compare(one, two, ("a", "b"))
    assert (found.images, found.only[0].count, found.only[1].count) == (2, 0, 1)


def test_a_run_that_has_both_spellings_tells_them_apart(tmp_path) -> None:
    pipeline(tmp_path / "one", [COMPOSED, DECOMPOSED], {"use": "manual", **BOX}).run(quiet=True)
    shutil.copytree(tmp_path / "one" / "out", tmp_path / "two")
    merged = merge([tmp_path / "one" / "out", tmp_path / "two"], tmp_path / "m")
    assert (sum(merged.counts.values()), merged.doubled) == (2, 2)


def test_runs_of_systems_that_ignore_case(tmp_path, ignore_case) -> None:
    for folder, name in (("one", "A.PNG"), ("two", "a.png")):
        pipeline(tmp_path / folder, [name], {"use": "manual", **BOX}).run(quiet=True)
    with Run(tmp_path / "one" / "out") as one, Run(tmp_path / "two" / "out") as two:
        assert [len(rows) for rows in join_runs([one, two])] == [2]


# ---- prompt files and corrections


def test_names_of_a_prompts_file_in_another_case(ignore_case) -> None:
    matcher = Matcher(["sub/IMG.PNG", "sub/img.png", "b.png"])
    assert matcher.find("sub/img.png") == "sub/img.png"
    assert matcher.find("B.png") == "b.png"
    assert matcher.candidates("sub/Img.png") == ("sub/IMG.PNG", "sub/img.png")


def test_a_correction_belongs_to_its_image_in_whatever_letters(tmp_path) -> None:
    images = ImageList([ImageRef(name, name) for name in (COMPOSED, "a.png")])
    file = tmp_path / "prompts.jsonl"
    entry = {"prompts": [{"box": [1, 2, 3, 4]}], "status": "done"}
    lines = [{"image": DECOMPOSED, **entry}, {"image": "gone.png", **entry}]
    file.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    with PromptsFile(file, find_key=images.find_key) as prompts:
        assert images.status(COMPOSED, prompts.lines()) == "done"
        assert images.missing(prompts.lines()) == ["gone.png"]
        before, revision = prompts.read(COMPOSED)
        assert before is not None
        prompts.save(COMPOSED, revision, {"prompts": [], "status": "empty"})
    with PromptsFile(file, find_key=images.find_key) as prompts:
        assert images.status(COMPOSED, prompts.lines()) == "empty"


# ---- what fits nothing

UNUSED = {
    "manual": (
        {"use": "manual", "images": {"nothere.png": BOX, "b.pgn": BOX, "z*": BOX, "*": BOX}},
        "3 of the 4 entries of `images` fit no image of the dataset: nothere.png, b.pgn (did you mean b.png?), z*",
    ),
    "file": ({"use": "file", "path": "p.jsonl"}, "1 of the images in p.jsonl is not in the dataset: B.png (did you"),
}


@pytest.mark.parametrize(("source", "said"), UNUSED.values(), ids=UNUSED)
def test_entries_that_fit_nothing_are_named_before_the_run_and_after_it(tmp_path, capsys, source, said) -> None:
    from maskmill.output.records import format_summary
    from maskmill.run.plan import RunRequest

    lines = [{"image": name, "prompts": [BOX]} for name in ("a.png", "b.png", "B.png")]
    (tmp_path / "p.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    made = pipeline(tmp_path, ["a.png", "b.png"], source)
    assert any(said in line for line in made.unmatched())
    assert said in made.rehearse()
    report = made.run(RunRequest())
    assert said in capsys.readouterr().err
    assert said in format_summary(report, "run-pipeline p.yaml")
    assert said in json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["warnings"][0]


def test_nothing_is_said_where_everything_fits(tmp_path) -> None:
    source = {"use": "manual", "images": {"a.png": BOX, "b*": BOX}}
    assert pipeline(tmp_path, ["a.png", "b.png"], source).run(quiet=True).warnings == ()
