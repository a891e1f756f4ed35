"""`maskmill segment`: what the command line says becomes a pipeline file, and a run like any other."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st
from qwen_wire import KEY, Act, Wire, boxes
from stored_runs import told

from maskmill import Pipeline, testing
from maskmill.cli import segment
from maskmill.config.document import Document
from maskmill.config.load import load_config
from maskmill.config.pipeline_text import format_pipeline
from maskmill.output.run import Run

#: Quick, and in this process.
QUICK = ["--backend", "grabcut", "--set", "run.engine=inline"]
BOX = "--box=10,5,70,55"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with photos."""
    folder = tmp_path / "照片 [1]"
    for number, name in enumerate(("a.png", "b c.png", "more/d.png")):
        testing.write_picture(folder / name, 60, 80, seed=number)
    monkeypatch.chdir(folder)
    return folder


def tree_of(monkeypatch, *arguments):
    """The pipeline that a command line asks for."""
    asked = []
    monkeypatch.setattr(segment.run, "execute", lambda pipeline, **given: asked.append(pipeline) or 0)
    segment.command.main(["a.png", "-o", "out", *arguments], standalone_mode=False)
    tree = asked[0].config.document.tree
    return {key: tree[key] for key in tree if key not in ("name", "dataset", "output")}


SAM = {"use": "sam", "model": "vit_b"}
WRITERS = ["overlay", "cutout", "png"]
ASKED = {
    "a box": (
        ["--box", "1,2,3,4", "--backend", "grabcut"],
        {"prompts": [{"use": "manual", "box": [1, 2, 3, 4]}], "backend": {"use": "grabcut"}, "writers": WRITERS},
    ),
    "a box and points, of one object": (
        ["--box", "[1.5, 2, 30, 40]", "--point", "5 6", "--point", "7,8,0", "--label", "杯子", "--model", "vit_h"],
        {
            "prompts": [{"use": "manual", "box": [1.5, 2, 30, 40], "points": [[5, 6], [7, 8, 0]], "label": "杯子"}],
            "backend": {"use": "sam", "model": "vit_h"},
            "writers": WRITERS,
        },
    ),
    "boxes with one label": (
        ["--box", "1,2,3,4", "--box", "5,6,7,8", "--label", "a b", "--to", "coco, yolo", "--to", "png"],
        {
            "prompts": [{"use": "manual", "boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "label": "a b"}],
            "backend": SAM,
            "writers": ["coco", "yolo", "png"],
        },
    ),
    "boxes with labels": (
        ["--box", ".1,.2,.3,.4", "--box", "0,0,1,1", "--label", "a", "--label", "b", "--relative"],
        {
            "prompts": [
                {
                    "use": "manual",
                    "objects": [{"box": [0.1, 0.2, 0.3, 0.4], "label": "a"}, {"box": [0, 0, 1, 1], "label": "b"}],
                    "units": "relative",
                }
            ],
            "backend": SAM,
            "writers": WRITERS,
        },
    ),
    "what Qwen finds, and all": (
        ["--find", "cat, dog", "--find", "车辆，人", "--everything", "--set", "prompts.0.provider=openai"],
        {
            "prompts": [
                {"use": "qwen", "find": ["cat", "dog", "车辆", "人"], "provider": "openai"},
                {"use": "everything"},
            ],
            "combine": "all",
            "backend": SAM,
            "writers": WRITERS,
        },
    ),
    "what a detector finds": (
        ["--find", "cat", "--detector", "iSEE-Laboratory/llmdet_tiny"],
        {
            "prompts": [{"use": "detect", "model": "iSEE-Laboratory/llmdet_tiny", "find": ["cat"]}],
            "backend": SAM,
            "writers": WRITERS,
        },
    ),
    "a prompts file, and workers": (
        ["--prompts", "p.jsonl", "-j", "2", "--set", "writers.2.layout=indexed"],
        {
            "prompts": [{"use": "file", "path": "p.jsonl"}],
            "backend": SAM,
            "writers": ["overlay", "cutout", {"use": "png", "layout": "indexed"}],
            "run": {"jobs": 2},
        },
    ),
}


@pytest.mark.parametrize(("arguments", "tree"), ASKED.values(), ids=ASKED.keys())
def test_the_pipeline_has_what_was_asked_for_and_nothing_else(here, monkeypatch, arguments, tree):
    assert tree_of(monkeypatch, *arguments) == tree


REFUSED = {
    "nothing to segment": ([], "say what to segment: --box, --point, --find, --everything or --prompts FILE"),
    "three numbers": (["--box", "1,2,3"], "Invalid value for '--box': expected X0,Y0,X1,Y1, found '1,2,3'"),
    "no number": (["--point", "1,x"], "Invalid value for '--point': expected X,Y or X,Y,0, found '1,x'"),
    "not a number": (["--box", "1,2,3,nan"], "Invalid value for '--box'"),
    "an empty box": ([BOX, "--box", "50,5,1,1"], "--box 50,5,1,1: a box is [x1, y1, x2, y2] with x1 < x2"),
    "the mark of a point": (["--point", "1,2,3"], "--point 1,2,3: a point's label is 1"),
    "points of which box": ([BOX, BOX, "--point", "1,2"], "--point: with several boxes it is not clear"),
    "labels": ([BOX, BOX, "--label", "a", "--label", "b", "--label", "c"], "--label: expected one, or one for each of"),
    "a label of nothing": (["--find", "a", "--label", "b"], "--label names the objects of --box"),
    "relative to nothing": (["--find", "a", "--relative"], "--relative is about --box and --point"),
    "a detector of nothing": (["--everything", "--detector", "a/b"], "--detector: --find says what to look for"),
    "a detector": (
        ["--find", "a", "--detector", "x", *QUICK],
        "--detector: prompt source 'detect': the model folder",
    ),
    "a writer": ([BOX, "--to", "png,cocoo"], "--to: there is no writer 'cocoo'\n  did you mean 'coco'?"),
    "a backend": ([BOX, "--backend", "grabct"], "--backend: there is no backend 'grabct'"),
    "a model": ([BOX, "--model", "vit_x"], "--model: expected 'vit_b', 'vit_l' or 'vit_h', not 'vit_x'"),
    "an option": ([BOX, "--set", "backend.modl=x"], "--set backend.modl: the backend 'sam' has no option 'modl'"),
    "workers": ([BOX, "-j", "many"], "--jobs: expected a whole number or 'auto', not 'many'"),
    "a plugin": ([BOX, "--plugins", "x.py"], "--plugins x.py: the plugin path"),
    "a photo": ([BOX, "nix.png", *QUICK], "PHOTO: the dataset"),
    "two photos of one name": ([BOX, "more/../a.png", *QUICK], "two images have the key 'a.png'"),
    "a prompts file": (["--prompts", "x.csv", *QUICK], "--prompts: prompt source 'file': the prompts file"),
    "the output": ([BOX, "-o", "more", *QUICK], "-o: the folder"),
    "the backend takes no grid": (["--everything", *QUICK], "--everything: the backend 'grabcut' takes"),
}


@pytest.mark.parametrize(("arguments", "said"), REFUSED.values(), ids=REFUSED.keys())
def test_a_mistake_names_the_argument_and_writes_nothing(here, capsys, arguments, said):
    code, out, err = told(capsys, "segment", "a.png", "-o", "out", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert not Path("out").exists()


def test_the_pipeline_file_does_the_same_again(here, capsys, monkeypatch):
    photos = ["a.png", "a.png", "b*.png", "more"]
    code, out, _ = told(capsys, "segment", *photos, BOX, "--point=40,30", "-o", "out", "--to", "coco", *QUICK)
    assert (code, out.splitlines()[0][:18]) == (0, "3 images: 3 done, ")
    monkeypatch.chdir("more")
    again = Pipeline.load("../out/pipeline.yaml")
    assert again.check() == []
    report = again.run(quiet=True)
    assert (report.ran, report.output.resolve()) == (0, here / "out")
    with Run(here / "out") as run:
        [mask] = run.result(run.find("d.png")).masks
        assert (mask.prompt.box.xyxy, len(mask.prompt.points)) == ((10, 5, 70, 55), 1)
    assert {path.name for path in (here / "out").iterdir()} >= {"pipeline.yaml", "coco", "results", "run.json"}


def test_a_second_command_into_the_same_output_continues_or_redoes(here, capsys):
    segmenting = ["segment", "a.png", "-o", "out", "--to", "png", *QUICK]
    assert told(capsys, *segmenting, BOX)[0] == 0
    assert "1 was there already" in told(capsys, *segmenting, BOX)[1]
    assert "already" not in told(capsys, *segmenting, "--box=20,5,70,55")[1]
    assert "box: [20, 5, 70, 55]" in Path("out/pipeline.yaml").read_text(encoding="utf-8")


def test_a_changed_pipeline_file_is_not_overwritten(here, capsys):
    segmenting = ["segment", "a.png", "-o", "out", BOX, *QUICK]
    assert told(capsys, *segmenting)[0] == 0
    file = Path("out/pipeline.yaml")
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))  # an editor's line ends change nothing
    assert told(capsys, *segmenting)[0] == 0
    file.write_text(mine := file.read_text(encoding="utf-8") + "# mine\n", encoding="utf-8")
    code, _, err = told(capsys, *segmenting)
    assert (code, file.read_text(encoding="utf-8")) == (2, mine)
    assert "was changed since it was written" in err
    assert told(capsys, *segmenting, "--fresh")[0] == 0


def test_a_failed_image_decides_the_exit_code_and_the_advice_can_be_typed(here, capsys):
    code, _, err = told(capsys, "segment", "a.png", "-o", "out", "--box=900,5,950,55", *QUICK)
    assert code == 1
    assert "lies outside the image" in err
    assert re.search(r"To retry them: .* --retry-failed", err)


def test_what_a_model_finds_is_segmented(here, capsys, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("MASKMILL_CACHE", str(here / "cache"))
    with Wire() as wire:
        wire.script([Act(boxes(("cat", (10, 5, 70, 55))))])
        server = ["provider=openai", f"base_url={wire.openai}", f"api_key={KEY}", "coords=abs_original"]
        sets = [part for each in server for part in ("--set", f"prompts.0.{each}")]
        code, *_ = told(capsys, "segment", "a.png", "--find", "cat", "-o", "out", "--to", "coco", *sets, *QUICK)
    assert code == 0
    with Run(here / "out") as run:
        [mask] = run.result(run.find("a.png")).masks
    assert (mask.label, mask.prompt.box.xyxy) == ("cat", (10, 5, 70, 55))
    text = Path("out/pipeline.yaml").read_text(encoding="utf-8")
    assert KEY not in text
    assert "# Left out, because it is a secret: prompts.0.api_key\n" in text


def test_a_dry_run_writes_nothing(here, capsys):
    code, out, _ = told(capsys, "segment", "a.png", "-o", "out", BOX, *QUICK, "--dry-run")
    assert (code, Path("out").exists()) == (0, False)
    assert out


def written(tree, folder, sets=(), **load):
    """The text for a pipeline in this folder, and the pipeline."""
    tree = {"prompts": [{"use": "manual", "box": [1, 2, 3, 4]}], "backend": "grabcut", "dataset": ["a"], **tree}
    document = Document.from_tree("test", Path.cwd(), {**tree, "output": str(folder)}, {})
    config = load_config(folder / "pipeline.yaml", sets=sets, document=document, **load)
    return format_pipeline(config, folder, "head"), config


TEXTS = ["no", "007", "1e3", "0o7", "${HOME}", "$${x}", "a: b", "a #1", "“x”", "车：a", "- a", "", " a ", "null", "~"]
TEXTS += ["D:\\new", "a，b", "a\n\nb", "\x85", "#"]


@settings(max_examples=15, deadline=None)
@example(TEXTS)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_every_text_is_read_back_as_it_was(tmp_path_factory, texts):
    folder = tmp_path_factory.getbasetemp() / "round"
    folder.mkdir(exist_ok=True)
    images = {text: {"box": [1, 2, 3, 4], "label": text} for text in texts}
    found, config = written({"prompts": [{"use": "manual", "images": images}], "name": texts[0] or "x"}, folder)
    (folder / "pipeline.yaml").write_text(found, encoding="utf-8", newline="")
    again = load_config(folder / "pipeline.yaml")
    assert again.name == config.name
    assert again.prompts[0].stage == config.prompts[0].stage
    models = config.stages().model_ids()
    assert again.fingerprints(models).masks == config.fingerprints(models).masks


def test_paths_lead_to_the_same_files_from_the_output(here, monkeypatch):
    monkeypatch.setenv("WEIGHTS", "w.pth")
    out = here / "deep" / "out"
    tree = {"backend": {"use": "sam"}, "dataset": ["a.png", "more/*.png", "package:skimage/data/coffee.png"]}
    sets = [
        "backend.checkpoint=${WEIGHTS}",
        "prompts=[{use: file, path: more/p.csv}]",
        "writers=[{use: coco, like: x.json}]",
    ]
    text, config = written(tree, out, sets)
    out.mkdir(parents=True)
    (out / "pipeline.yaml").write_text(text, encoding="utf-8")
    assert "${WEIGHTS}" in text
    again = load_config(out / "pipeline.yaml")
    for mine, other in (
        (config.backend.stage.checkpoint, again.backend.stage.checkpoint),
        (config.prompts[0].stage.path, again.prompts[0].stage.path),
        (config.writers[0].stage.like, again.writers[0].stage.like),
        (config.output, again.output),
        *((here / a, out / b) for a, b in zip(config.dataset[:2], again.dataset[:2], strict=True)),
    ):
        assert other.resolve() == mine.resolve()
    assert again.dataset[2] == "package:skimage/data/coffee.png"
    assert written({"backend": {"use": "sam", "checkpoint": "auto"}}, out)[0].count("checkpoint: auto") == 1


def test_secrets_are_not_written_but_named(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN", "geheim-1")
    backend = {"use": "remote", "url": "http://127.0.0.1:1"}
    text, _ = written({"backend": backend}, tmp_path, ["backend.token=geheim-2"])
    assert "geheim" not in text
    assert "# Left out, because it is a secret: backend.token" in text
    text, _ = written({"backend": backend}, tmp_path, ["backend.token=${TOKEN}"])
    assert "token: '${TOKEN}'" in text


def test_drop_ins_that_are_used_are_named(project, monkeypatch):
    monkeypatch.chdir(project.folder)
    text, _ = written({"backend": "slow"}, project.folder / "a" / "b" / "out")
    assert text.startswith("# head\nplugins:\n- '../../../plugins/fakes.py'\n")
    assert "plugins" not in written({}, project.folder / "out")[0]
