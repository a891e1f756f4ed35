"""Every built-in of a single file works copied out, with its registered name changed and nothing else."""

import importlib.util
import json
from importlib import metadata
from pathlib import Path

import pytest

from maskmill import Pipeline, read_run, testing
from maskmill.plugins.registry import ROLES, Registry

#: name -> options with which it has something to do
OPTIONS = {
    "file": {"path": "prompts.jsonl"},
    "manual": {"boxes": [[0.1, 0.1, 0.5, 0.9]], "units": "relative", "label": "猫"},
    "everything": {"points_per_side": 3, "label": "thing"},
    "text": {"find": ["猫", "thing"]},
    "class_map": {"map": {"猫": "cat", "thing": None}},
    "clip_to_box": {"margin": 1},
    "cleanup": {"islands": 9, "holes": 9, "keep_largest": True},
    "max_per_image": {"count": 1},
    "nms": {"iou": 0.2, "across_labels": True},
    "score": {"min_area": 100, "max_fraction": 0.447},
    "png": {"layout": "indexed"},
    **{name: {"names": "full"} for name in ("labelme", "voc", "yolo", "panoptic", "semantic", "huggingface")},
}
#: Files that tell times.
TIMED = {"ledger.sqlite", "entries.sqlite", "run.json", ".lock"}


def single_files():
    """(name, file) of each built-in whose module is one file and offers something for a pipeline."""
    offered = {entry.name for entry in Registry.load().entries.values()}
    for point in metadata.entry_points(group="maskmill"):
        spec = importlib.util.find_spec(point.value)
        single = point.value.startswith("maskmill_plugins.") and spec.submodule_search_locations is None
        if single and point.name in offered:
            yield point.name, Path(spec.origin)


#: Without the engines that start other programs: `--engines dask,ray` has tests of their own.
BUILT_INS = {name: file for name, file in single_files() if name not in {"dask", "ray"}}


def role_of(name):
    return next(entry.role for entry in Registry.load().entries.values() if entry.name == name)


def copied(folder, name):
    """The built-in as a drop-in file `my-NAME`."""
    text = BUILT_INS[name].read_text(encoding="utf-8")
    assert text.count(f'register("{name}", ') == 1
    file = folder / f"my_{name}.py"
    file.write_text(text.replace(f'register("{name}", ', f'register("my-{name}", '), encoding="utf-8")
    return file


@pytest.fixture
def photos(tmp_path):
    refs = testing.write_pictures(tmp_path / "photos")
    lines = [{"image": ref.key, "prompts": [{"box": [0, 0, 1, 1], "label": "猫"}]} for ref in refs]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (tmp_path / "fakes.py").write_text(testing.DROP_IN, encoding="utf-8")
    return tmp_path


def run(folder, output, uses, plugins):
    """Run a pipeline in which these plugins have their roles, and fakes the others."""
    document = {
        "dataset": "photos",
        "prompts": [{"use": "fake-source"}],
        "backend": {"use": "fake-backend"},
        "writers": [{"use": "fake-writer"}],
        "output": output,
        "run": {"engine": "inline", "jobs": 2},
    }
    for name in uses:
        use = {"use": name, **OPTIONS.get(name.removeprefix("my-"), {})}
        role = role_of(name.removeprefix("my-"))
        if role == "engine":
            document["run"]["engine"] = use
        elif role == "backend":
            document["backend"] = use
        else:
            document.setdefault({"prompt source": "prompts"}.get(role, f"{role}s"), []).insert(0, use)
    file = folder / f"{output}.yaml"
    file.write_text(json.dumps(document), encoding="utf-8")
    report = Pipeline.load(file, plugins=[folder / "fakes.py", *plugins], drop_ins=False).run(quiet=True)
    assert report.exit_code == 0
    return report.output


def found(output, renamed=()):
    """All that a run made, by path; the copies called as the originals."""

    def original(data):
        for name in renamed:
            data = data.replace(f"my-{name}".encode(), name.encode())
        return data

    made = {}
    for path in output.rglob("*"):
        place = path.relative_to(output)
        if path.is_file() and path.name not in TIMED and place.parts[0] != "results":
            made[original(place.as_posix().encode()).decode()] = original(path.read_bytes())
    for result in read_run(output):
        about = {**result.to_json(), "provenance": None}
        made[f"result/{result.key}"] = original(json.dumps(about).encode())
    return made


def test_the_built_ins_of_one_file_are_known():
    assert {"manual", "file", "everything", "grabcut", "score", "nms"} < set(BUILT_INS)
    assert {"png", "overlay", "cutout", "coco", "inline", "joblib"} < set(BUILT_INS)
    assert {role_of(name) for name in BUILT_INS} == set(ROLES)


@pytest.mark.parametrize("name", BUILT_INS)
def test_a_copy_gives_what_the_original_gives(photos, name):
    before = found(run(photos, "original", [name], []))
    after = found(run(photos, "copy", [f"my-{name}"], [copied(photos, name)]), [name])
    assert after == before
    assert len(before) > len(testing.PICTURES)


def test_copies_work_together_in_processes(photos):
    # grabcut drops all masks of some images, and overlay would write its name into the picture;
    # the names of copies are compressed in parquet's table, where they cannot be taken back
    names = [name for name in BUILT_INS if name not in {"inline", "everything", "grabcut", "parquet", "text"}]
    before = found(run(photos, "originals", [name for name in names if name != "joblib"], []))
    uses = [f"my-{name}" for name in names]
    after = found(run(photos, "copies", uses, [copied(photos, name) for name in names]), names)
    assert after == before
    assert {path.split("/")[0] for path in before} >= {"png", "overlay", "cutout", "coco", "result"}


def test_a_copy_keeps_the_contract(photos):
    for name in BUILT_INS:
        if name not in {"joblib", "inline"}:
            options = {**OPTIONS.get(name, {}), **({"path": str(photos / "prompts.jsonl")} if name == "file" else {})}
            assert testing.problems(copied(photos, name), options, engines=()) == []
