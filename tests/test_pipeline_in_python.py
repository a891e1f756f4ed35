"""`Pipeline` in Python: without a file, changed while it is loaded, on single images."""

import json
from pathlib import Path

import numpy as np
import pytest

import maskmill
from maskmill import Pipeline, PipelineError, read_run, testing

BOX = [10, 6, 54, 42]


def content(**more):
    """A pipeline over `photos`, as a dictionary."""
    manual = {"use": "manual", "box": np.array(BOX, np.float32), "label": "cup"}
    return {"prompts": [manual], "backend": "grabcut", "writers": ["coco"], "run": {"engine": "inline"}, **more}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with photos; the working directory is another one."""
    for name in ("a.png", "b.png"):
        testing.write_picture(tmp_path / "home/photos" / name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home"


def stored(output: Path) -> list[dict]:
    return [{**result.to_json(), "provenance": None} for result in read_run(output)]


def test_a_dictionary_does_what_a_file_does(folder):
    data = content(dataset="photos", output=Path("one"))
    pipeline = Pipeline.from_dict(data, base=folder)
    assert repr(pipeline) == "<Pipeline 'pipeline': manual > grabcut > coco>"
    report = pipeline.run(quiet=True)
    assert (report.output, report.counts["done"]) == (folder / "one", 2)
    file = folder / "p.yaml"
    file.write_text(json.dumps({**content(dataset="photos", output="two")}, default=np.ndarray.tolist), "utf-8")
    Pipeline.load(str(file)).run(quiet=True)
    assert stored(folder / "one") == stored(folder / "two")
    assert (folder / "one/coco/instances.json").read_bytes() == (folder / "two/coco/instances.json").read_bytes()
    again = Pipeline.from_dict(data, base=folder).run(quiet=True)
    assert again.ran == 0, "a rerun goes on"
    assert json.loads((folder / "one/run.json").read_text("utf-8"))["command"] == "the same call in Python"


def test_build_takes_the_same_as_keywords(folder):
    photos = [folder / "photos/a.png", folder / "photos/b.png"]
    manual = {"use": "manual", "box": BOX}
    output = folder / "out"
    pipeline = Pipeline.build(
        dataset=photos, prompts=manual, backend="grabcut", writers=["png"], output=output, run={"engine": "inline"}
    )
    assert pipeline.run(jobs=1, quiet=True).counts["done"] == 2
    assert json.loads((output / "run.json").read_text("utf-8"))["pipeline"]["run"]["jobs"] == 1
    assert sorted(path.name for path in (output / "png").iterdir()) == ["a_png", "b_png", "masks.csv"]


def test_drop_ins_are_found_below_the_base(folder):
    (folder / "plugins").mkdir()
    (folder / "plugins/fakes.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
    data = {"prompts": ["fake-source"], "backend": "fake-backend"}
    assert "fake-backend" in repr(Pipeline.from_dict(data, base=str(folder)))
    with pytest.raises(PipelineError, match="there is no backend 'fake-backend'"):
        Pipeline.from_dict(data)
    assert Pipeline.from_dict(data, plugins=folder / "plugins/fakes.py")


WRONG = {
    "an unknown key": ({"writer": []}, "writer: unknown key 'writer'\n  did you mean 'writers'?"),
    "an option": (
        {"backend": {"use": "grabcut", "itarations": 2}},
        "backend.itarations: .*\n  did you mean 'iterations'",
    ),
    "a value in a list": ({"prompts": [{"use": "manual", "box": [1, 2, 3]}]}, "prompts.0.box: expected a list of 4"),
    "an object": (
        {"prompts": [{"use": "manual", "box": object()}]},
        "prompts.0.box: expected plain data .* not object",
    ),
    "not a number": ({"run": {"timeout": float("nan")}}, "run.timeout: expected a finite number"),
    "a key": ({"run": {1: 2}}, "run: a key must be a text, not 1"),
    "a variable": ({"name": "${NO_SUCH_VARIABLE}"}, "name: the environment variable NO_SUCH_VARIABLE is not set"),
    "a plugin": ({"writers": ["cocoa"]}, "writers.0: there is no writer 'cocoa'\n  did you mean 'coco'"),
}


@pytest.mark.parametrize(("more", "says"), WRONG.values(), ids=WRONG)
def test_mistakes_have_the_path_of_the_value(more, says):
    with pytest.raises(PipelineError, match=says) as caught:
        Pipeline.from_dict(content(**more))
    assert "is missing" not in str(caught.value), "dataset and output are needed by a run only"


def test_what_is_no_dictionary_is_refused():
    with pytest.raises(PipelineError, match=r"expected a mapping .* not 'p.yaml'\n  Pipeline.load"):
        Pipeline.from_dict("p.yaml")


def test_environment_variables_are_those_of_a_file(folder, monkeypatch):
    monkeypatch.setenv("CUP", "a cup")
    manual = {"use": "manual", "box": BOX, "label": "${CUP}"}
    with Pipeline.from_dict(content(prompts=[manual])).open_chain() as chain:
        assert chain.run(folder / "photos/a.png").kept[0].label == "a cup"


def test_what_only_a_run_needs_may_be_missing_until_then(folder):
    (folder / "p.yaml").write_text("prompts: [everything]\nbackend: grabcut\n", encoding="utf-8")
    from_file, from_dict = Pipeline.load(folder / "p.yaml"), Pipeline.from_dict(content())
    for pipeline, place in ((from_file, f"{folder / 'p.yaml'}:1:1: "), (from_dict, "the pipeline: ")):
        assert [str(problem).split("\n")[0] for problem in pipeline.check()] == [
            f"{place}the key 'dataset' is missing",
            f"{place}the key 'output' is missing",
        ]
        with pytest.raises(PipelineError, match="the key 'dataset' is missing"):
            pipeline.run(quiet=True)
    (folder / "p.yaml").write_text("prompts: [everything]\nbackend: grabcat\n", encoding="utf-8")
    with pytest.raises(PipelineError, match=r"(?s)grabcat.*'dataset' is missing"):
        Pipeline.load(folder / "p.yaml")


FORMS = {
    "texts": ("home/photos", "home/out", {"backend.iterations": 2}, "home/plugins/f.py"),
    "paths": (Path("home/photos"), Path("home/out"), ["backend.iterations=2"], Path("home/plugins/f.py")),
    "lists": (["home/photos/a.png", Path("home/photos/b.png")], "home/out", "backend.iterations=2", ["home/plugins"]),
}


@pytest.mark.parametrize(("dataset", "output", "sets", "plugins"), FORMS.values(), ids=FORMS)
def test_load_takes_texts_paths_and_lists(folder, monkeypatch, dataset, output, sets, plugins):
    (folder / "plugins").mkdir()
    (folder / "plugins/f.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
    (folder / "p.yaml").write_text("prompts: [fake-source]\nbackend: {use: grabcut}\n", encoding="utf-8")
    monkeypatch.chdir(folder.parent)
    pipeline = Pipeline.load(
        "home/p.yaml", dataset=dataset, output=output, sets=sets, plugins=plugins, drop_ins=False, jobs=1
    )
    assert [ref.key for ref in pipeline.dataset] == ["a.png", "b.png"]
    assert pipeline.config.output == folder / "out"
    assert (pipeline.config.backend.stage.iterations, pipeline.config.run.jobs) == (2, 1)


def test_values_to_replace_are_python_values(folder):
    (folder / "p.yaml").write_text("prompts: [everything]\nbackend: sam\n", encoding="utf-8")
    sets = {
        "backend": {"use": "grabcut"},
        "prompts": [{"use": "manual", "label": "1", "box": np.array(BOX)}],
        "name": "no",
    }
    config = Pipeline.load(folder / "p.yaml", sets=sets).config
    assert (config.backend.name, config.name) == ("grabcut", "no")
    assert config.prompts[0].options == {"label": "1", "box": BOX}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda pipeline, file: Pipeline.load(file, datset="x"), r"Pipeline.load\(\) has no keyword 'datset'; did you"),
        (lambda pipeline, file: pipeline.run(job=1), r"Pipeline.run\(\) has no keyword 'job'; did you mean 'jobs'"),
        (lambda pipeline, file: pipeline.run(limt=1), "did you mean 'limit'"),
    ],
    ids=["load", "jobs", "limit"],
)
def test_unknown_keywords_are_named(folder, call, says):
    with pytest.raises(TypeError, match=says):
        call(Pipeline.from_dict(content()), folder / "p.yaml")


@pytest.mark.parametrize("jobs", [0, 1.5, "many"])
def test_a_number_of_workers_that_cannot_be_is_explained(jobs):
    with pytest.raises(PipelineError, match="jobs: expected"):
        Pipeline.from_dict(content()).run(jobs=jobs)


def test_a_chain_takes_images_in_every_form_and_encodes_them_once(folder):
    encoded = []

    class Encoding(testing.FillPrompt):
        def embed(self, image):
            encoded.append(image.ref.key)
            return image.size

        def masks(self, image, prompts, embedding=None):
            assert embedding == image.size
            return super().masks(image, prompts)

    pipeline = Pipeline.from_dict(content(dataset="photos"), base=folder)
    object.__setattr__(pipeline.config.backend, "stage", Encoding())
    photo = folder / "photos/a.png"
    with pipeline.open_chain() as chain:
        first = chain.run(photo)
        assert [(mask.label, mask.box) for mask in first.kept] == [("cup", maskmill.Box(*BOX))]
        for form in (str(photo), photo.read_bytes(), next(iter(pipeline.dataset))):
            assert chain.run(form).masks == first.masks
        other = chain.run(photo, [maskmill.Prompt(box=[1, 1, 9, 9])], key="street/a.png")
        assert (other.key, other.kept[0].area) == ("street/a.png", 64)
        assert encoded == ["a.png"]
        chain.run(testing.pixels(30, 30))
        assert encoded == ["a.png", "array"]
    assert sorted(path.name for path in folder.iterdir()) == ["photos"], "nothing is written"
