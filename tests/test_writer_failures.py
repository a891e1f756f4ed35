"""A writer or a filter that fails keeps its image's masks and the files of the others; the retry does not segment."""

import errno
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from maskmill import Box, Filter, OutputError, Pipeline, Prompt, PromptSource, StopRun, Writer, read_run, save, testing
from maskmill.chain.chain import Chain
from maskmill.chain.fingerprint import Fingerprint
from maskmill.chain.plugin_call import Trace
from maskmill.cli import main
from maskmill.output.store import load_result
from maskmill.plugins.roles import Stages

PLUGINS = """
from pathlib import Path
from maskmill import Filter, Writer, hookimpl, save
from maskmill.testing import FillPrompt


class Counted(FillPrompt):
    def masks(self, image, prompts, embedding=None):
        with open(Path(__file__).with_name("calls.txt"), "a", encoding="utf-8") as file:
            file.write(image.ref.key + chr(10))
        return super().masks(image, prompts)


def mended():
    return Path(__file__).with_name("mended.txt").exists()


class Broken(Writer):
    def write(self, image, result, folder):
        first = save(folder, result.key, b"half", ".one")
        if image.ref.key.startswith("noisy") and not mended():
            raise OSError("broken data stream when writing image file")
        self.doubt("other", "as every time")
        self.note("looked at", image.ref.key)
        return [first, save(folder, result.key, b"whole", ".two")]


class BrokenFilter(Filter):
    def apply(self, image, masks):
        if image.ref.key.startswith("odd") and not mended():
            raise ValueError("odd")
        return list(masks)


@hookimpl
def register_backends(register):
    register("counted", Counted)


@hookimpl
def register_filters(register):
    register("broken-filter", BrokenFilter)


@hookimpl
def register_writers(register):
    register("broken", Broken)
"""
WRITERS = "[{use: areas}, {use: broken}, {use: png}, {use: coco}]"


@pytest.fixture
def mill(project):
    (project.folder / "plugins" / "broken.py").write_text(PLUGINS, "utf-8")
    project.photos("a.png", "noisy.png", "odd.png")
    text = project.write(backend="{use: counted}").read_text("utf-8")
    text = text.replace("filters: [", "filters: [{use: broken-filter}, ").replace("[{use: areas}]", WRITERS)
    project.file.write_text(text, "utf-8")
    return project


def run(project, **request):
    output = request.pop("output", None)
    return Pipeline.load(project.file, **({"output": output} if output else {})).run(quiet=True, **request)


def command(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([str(each) for each in arguments])
    return ended.value.code


def calls(project):
    return (project.folder / "plugins" / "calls.txt").read_text("utf-8").split()


def mend(project):
    (project.folder / "plugins" / "mended.txt").touch()


def files(folder):
    skip = {"ledger.sqlite", "entries.sqlite", "run.json", ".lock"}
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.name not in skip}


def test_a_broken_writer_fails_its_image_alone_and_the_others_write(mill):
    report = run(mill)
    assert report.exit_code == 1
    assert report.counts == {"done": 1, "empty": 0, "rejected": 0, "failed": 2, "quarantined": 0}
    written = files(mill.output)
    assert {name for name in written if "noisy" in name} == {
        "results/noisy.png.json",
        "areas/noisy.png.txt",
        "png/noisy_png/000_thing.png",
    }, "also those after it; of the broken one nothing"
    failures = [json.loads(line) for line in (mill.output / "failures.jsonl").read_text("utf-8").splitlines()]
    assert [(each["key"], each["stage"], each["plugin"]) for each in failures] == [
        ("noisy.png", "writers", "broken"),
        ("odd.png", "filters", "broken-filter"),
    ]
    noisy = next(result for result in read_run(mill.output) if result.key == "noisy.png")
    assert [artifact.path for artifact in noisy.artifacts] == ["areas/noisy.png.txt", "png/noisy_png/000_thing.png"]
    assert [mask.area for mask in noisy.kept] == [32 * 24]


def test_what_failed_is_in_no_file_about_the_dataset_and_in_no_export(mill, capsys):
    run(mill)
    assert (mill.output / "areas" / "all.list").read_text("utf-8") == "a.png done"
    coco = json.loads((mill.output / "coco" / "instances.json").read_bytes())
    assert [image["file_name"] for image in coco["images"]] == ["a.png"]
    assert command("export", mill.output, "--to", "png") == 0
    assert "2 images failed in the run and are not exported" in capsys.readouterr().out
    assert [path.name for path in (mill.output / "exports" / "png").iterdir() if path.is_dir()] == ["a_png"]
    assert command("merge", mill.output, "-o", mill.folder / "merged") == 1
    assert command("export", mill.folder / "merged", "--to", "coco") == 0
    exported = json.loads((mill.folder / "merged" / "exports" / "coco" / "instances.json").read_bytes())
    assert [image["file_name"] for image in exported["images"]] == ["a.png"]


def test_the_retry_takes_the_stored_masks_and_ends_like_an_undisturbed_run(mill):
    run(mill)
    assert calls(mill) == ["a.png", "noisy.png", "odd.png"]
    good = {name: (mill.output / name).stat().st_mtime_ns for name in ("areas/noisy.png.txt", "areas/a.png.txt")}
    assert run(mill).ran == 0, "a rerun leaves alone what failed, until it is told"
    mend(mill)
    report = run(mill, retry_failed=True)
    assert (report.ran, report.exit_code) == (2, 0)
    assert calls(mill) == ["a.png", "noisy.png", "odd.png"], "no image was segmented twice"
    assert {name: (mill.output / name).stat().st_mtime_ns for name in good} == good, "what was written stays"
    run(mill, output=mill.folder / "undisturbed")
    assert files(mill.output) == files(mill.folder / "undisturbed")


def test_without_the_writer_that_failed_the_image_is_done(mill):
    run(mill)
    text = mill.file.read_text("utf-8").replace("{use: broken}, ", "").replace("{use: broken-filter}, ", "")
    mill.file.write_text(text, "utf-8")
    assert run(mill).exit_code == 0
    assert calls(mill) == ["a.png", "noisy.png", "odd.png"]


def test_explain_and_prompts_csv_name_the_writer(mill, capsys):
    run(mill)
    assert command("explain", mill.output, "noisy.png") == 0
    told = capsys.readouterr().out
    assert "failed at writers broken: OSError: broken data stream" in told
    assert "mask 0 'thing'" in told
    assert "file areas/noisy.png.txt" in told


def make_unfinished(path):
    """Replace the stored result of a finished image as a run does while it makes the image again."""
    stored = json.loads(path.read_bytes())
    made = stored["provenance"]["fingerprint"].split("/")[:2]
    provenance = {**stored["provenance"], "partial": "/".join([*made, "", ""])}
    failure = {"stage": "worker", "plugin": "", "type": "Unfinished", "message": "", "traceback": ""}
    partial = {"status": "failed", "raw": stored["masks"], "masks": [], "provenance": provenance, "failure": failure}
    path.write_text(json.dumps({**stored, **partial}), "utf-8")
    return stored


def test_a_ledger_made_anew_knows_what_failed_and_what_is_unfinished(mill):
    run(mill)
    path = mill.output / "results" / "a.png.json"
    stored = make_unfinished(path)
    (mill.output / "ledger.sqlite").unlink()
    assert run(mill).counts == {"done": 1, "empty": 0, "rejected": 0, "failed": 2, "quarantined": 0}
    assert len(calls(mill)) == 3, "the masks of the unfinished one were there"
    assert json.loads(path.read_bytes()) == stored


def test_a_finished_image_whose_result_a_killed_run_was_replacing_is_no_empty_label(mill, capsys):
    run(mill)
    make_unfinished(mill.output / "results" / "a.png.json")
    assert command("export", mill.output, "--to", "png") == 1
    assert "a.png: its stored result is unfinished; run the pipeline again" in capsys.readouterr().err
    with pytest.raises(OutputError, match=r"the stored result of a\.png is unfinished.*run the pipeline again"):
        list(read_run(mill.output))
    run(mill)
    assert command("export", mill.output, "--to", "png") == 0


def test_an_overlay_of_a_noisy_photo_is_written(project):
    photo = testing.pixels(480, 640).astype(float).repeat(2, 0).repeat(2, 1)
    noisy = photo + np.random.default_rng(0).normal(30, 20, photo.shape)
    (project.folder / "photos").mkdir()
    PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(project.folder / "photos" / "noisy.png")
    text = project.write().read_text("utf-8").replace("[{use: areas}]", "[{use: overlay}, {use: cutout}]")
    project.file.write_text(text, "utf-8")
    assert run(project).counts["done"] == 1
    assert (project.output / "overlay" / "noisy.png.jpg").stat().st_size > 960 * 1280, "more than a byte per pixel"


# One image through a chain; a process that dies is a KeyboardInterrupt, the one exception that nothing catches.


class Says(PromptSource):
    """One box."""

    def prompts(self, image):
        return [Prompt(box=Box(10, 10, 30, 30), label="cup")]


class Counting(testing.FillPrompt):
    """Counts how often it computed."""

    def open(self):
        self._calls = 0

    def masks(self, image, prompts, embedding=None):
        self._calls += 1
        return super().masks(image, prompts)


class Text(Writer):
    """Writes the areas of the kept masks; notes how often it was called."""

    def open(self):
        self._calls, self._error = 0, None

    def write(self, image, result, folder):
        self._calls += 1
        if self._error is not None:
            raise self._error
        self.note("masks", len(result.kept))
        self.doubt("other", folder.name)
        return [save(folder, result.key, json.dumps([mask.area for mask in result.kept]).encode(), ".txt")]


class Failing(Filter):
    """Fails."""

    def open(self):
        self._error = None

    def apply(self, image, masks):
        if self._error is not None:
            raise self._error
        return list(masks)


@pytest.fixture
def ref(tmp_path):
    return testing.write_picture(tmp_path / "a.png")


@pytest.fixture
def chain(tmp_path):
    return build(tmp_path / "out")


def build(output: Path):
    writers = [(name, Text()) for name in ("one", "two", "three")]
    built = Chain(Stages([("says", Says())], "first", ("fill", Counting()), [("f", Failing())], writers), output)
    built.open()
    return built


WANTED = Fingerprint("p", "m", "f", ("w1", "w2", "w3"))


def paths(result):
    return [artifact.path for artifact in result.artifacts]


def writer_calls(built):
    return [writer._calls for _, writer in built.stages.writers]


def test_two_writers_that_fail_are_both_named(chain, ref):
    chain.stages.writers[0][1]._error = ValueError("no")
    chain.stages.writers[2][1]._error = ValueError("nor I")
    result, _ = chain.process(ref, WANTED)
    assert (result.status, result.failure.stage, result.failure.plugin) == ("failed", "writers", "one")
    assert result.failure.message == "no; three failed, too: ValueError: nor I"
    assert paths(result) == ["two/a.png.txt"]
    assert load_result(chain.output, ref.key) == result


def test_a_retry_that_fails_again_keeps_what_is_there(chain, ref):
    chain.stages.writers[1][1]._error = ValueError("no")
    first, _ = chain.process(ref, WANTED)
    second, _ = chain.process(ref, WANTED)
    assert (second.masks, paths(second)) == (first.masks, ["one/a.png.txt", "three/a.png.txt"])
    assert (chain.stages.backend[1]._calls, writer_calls(chain)) == (1, [1, 2, 1])


def test_a_retry_after_the_image_changed_segments(chain, ref, tmp_path):
    chain.stages.writers[1][1]._error = ValueError("no")
    chain.process(ref, WANTED)
    testing.write_picture(tmp_path / "a.png", seed=1)
    chain.process(ref, WANTED)
    assert chain.stages.backend[1]._calls == 2


@pytest.mark.parametrize("stage", ["filter", "writer"])
@pytest.mark.parametrize("careful", [False, True])
def test_a_process_that_dies_after_the_backend_leaves_the_masks(chain, ref, tmp_path, stage, careful):
    dying = chain.stages.filters[0][1] if stage == "filter" else chain.stages.writers[1][1]
    dying._error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        chain.process(ref, WANTED, careful=careful)
    partial = load_result(chain.output, ref.key)
    assert (partial.status, partial.failure.type) == ("failed", "Unfinished")
    assert [mask.area for mask in partial.raw or partial.masks] == [400]
    dying._error = None
    trace = Trace()
    result, _ = chain.process(ref, WANTED, trace)
    assert chain.stages.backend[1]._calls == 1
    undisturbed, _ = build(tmp_path / "undisturbed").process(ref, WANTED)
    assert json.dumps(result.to_json()) == json.dumps(undisturbed.to_json())


def test_a_writer_that_took_its_process_down_is_called_last(chain, ref, tmp_path):
    chain.stages.writers[0][1]._error = KeyboardInterrupt()
    for careful in (False, True, True):
        with pytest.raises(KeyboardInterrupt):
            chain.process(ref, WANTED, careful=careful)
    assert writer_calls(chain) == [3, 1, 1]
    partial = load_result(chain.output, ref.key)
    assert (partial.failure.plugin, paths(partial)) == ("one", ["two/a.png.txt", "three/a.png.txt"])
    chain.stages.writers[0][1]._error = None
    result, _ = chain.process(ref, WANTED, careful=True)
    undisturbed, _ = build(tmp_path / "undisturbed").process(ref, WANTED)
    assert json.dumps(result.to_json()) == json.dumps(undisturbed.to_json())


@pytest.mark.parametrize("error", [StopRun("budget"), OSError(errno.ENOSPC, "No space left on device")])
def test_a_full_disk_stops_the_run_and_the_masks_are_there(chain, ref, error):
    chain.stages.writers[1][1]._error = error
    with pytest.raises(StopRun):
        chain.process(ref, WANTED)
    assert writer_calls(chain) == [1, 1, 0]
    chain.stages.writers[1][1]._error = None
    assert chain.process(ref, WANTED)[0].status == "done"
    assert chain.stages.backend[1]._calls == 1
