"""Whole runs: statuses, resume, faults, interruption, over both engines."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import loky
import pytest

from maskmill import OutputError, Pipeline, PluginError, UsageError, files, read_run, testing
from maskmill.dataset.walk import FolderWalk
from maskmill.run import driver
from maskmill.run.dry_run import choose_resources
from maskmill.run.plan import RunRequest, listing
from maskmill.run.resources import plan_resources

ENGINES = ["inline", "joblib"]
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


def run(project, **options):
    return Pipeline.load(project.file).run(quiet=True, **options)


def command(project, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "maskmill", "run", str(project.file), *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONUTF8": "1"},
        **options,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_folder_becomes_results_files_and_a_report(project, engine):
    project.write(run=f"{{engine: {engine}, jobs: 2}}")
    project.photos("a.png", "a.jpg", "sub/a.png", "图 片/empty 猫.png")
    report = run(project)
    assert report.exit_code == 0
    assert report.counts == {"done": 3, "empty": 1, "rejected": 0, "failed": 0, "quarantined": 0}
    assert {"areas/a.png.txt", "areas/a.jpg.txt", "areas/sub/a.png.txt", "results/图 片/empty 猫.png.json"} <= set(
        project.files()
    )
    results = list(read_run(project.output))
    assert [result.key for result in results] == sorted(project.statuses())
    assert [result.status for result in results].count("empty") == 1
    about = json.loads((project.output / "run.json").read_text(encoding="utf-8"))
    assert about["outcome"] == "finished"
    assert about["counts"]["done"] == 3
    assert about["stage_seconds"].keys() >= {"read", "backend"}
    assert (project.output / "failures.jsonl").read_text() == ""


def test_a_folder_named_like_a_result_file_stands_in_nobodys_way(project):
    project.photos("a.png", "a.png.json/b.png", "a.png.txt/b.png")
    assert run(project).counts["done"] == 3
    assert sorted(result.key for result in read_run(project.output)) == ["a.png", "a.png.json/b.png", "a.png.txt/b.png"]


@pytest.mark.parametrize("engine", ENGINES)
def test_one_bad_image_costs_only_itself(project, engine):
    project.write(run=f"{{engine: {engine}, jobs: 2}}")
    project.photos("a.png", "raise.png", "z.png")
    (project.folder / "photos" / "zero.jpg").write_bytes(b"")
    (project.folder / "photos" / "text.jpg").write_text("hello", encoding="utf-8")
    report = run(project)
    assert report.exit_code == 1
    assert project.statuses() == {
        "a.png": "done", "raise.png": "failed", "text.jpg": "failed", "z.png": "done", "zero.jpg": "failed",
    }  # fmt: skip
    failures = project.failures()
    assert (failures["raise.png"]["stage"], failures["raise.png"]["plugin"]) == ("filters", "chaos")
    assert "as told" in failures["raise.png"]["message"]
    assert "empty (0 bytes)" in failures["zero.jpg"]["message"]


@POSIX
def test_a_poison_image_is_quarantined_after_three_tries_and_a_flaky_one_survives(project):
    project.write(run="{engine: joblib, jobs: 2}")
    project.photos(*(f"{n}.png" for n in range(6)), "poison.png", "flaky.png")
    report = run(project)
    assert report.counts == {"done": 7, "empty": 0, "rejected": 0, "failed": 0, "quarantined": 1}
    assert (project.tries("poison.png"), project.tries("flaky.png")) == (3, 3)
    assert all(project.tries(f"{n}.png") == 1 for n in range(6)), "innocents run once"
    assert "died" in project.failures()["poison.png"]["message"]


@POSIX
def test_a_hang_is_ended_by_the_time_limit(project):
    project.write(run="{engine: joblib, jobs: 2, timeout: 0.5}")
    project.photos("a.png", "hang.png", "z.png")
    report = run(project)
    assert project.statuses() == {"a.png": "done", "hang.png": "quarantined", "z.png": "done"}
    failure = project.failures()["hang.png"]
    assert failure["type"] == "Timeout"
    assert "apply" in failure["traceback"], "the stack says where it hung"
    assert report.exit_code == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_rerun_does_nothing_twice(project, engine):
    project.write(run=f"{{engine: {engine}, jobs: 2}}")
    project.photos("a.png", "b.png", "raise.png")
    run(project)
    before = project.files()
    report = run(project)
    assert (report.ran, report.exit_code) == (0, 1)
    assert project.files() == before
    report = run(project, retry_failed=True)
    assert (report.ran, project.tries("raise.png"), project.tries("a.png")) == (1, 2, 1)


def test_new_changed_and_vanished_images(project):
    project.photos("a.png", "b.png", "c.png")
    run(project)
    (project.folder / "photos" / "a.png").unlink()
    testing.write_picture(project.folder / "photos" / "b.png", seed=77)
    testing.write_picture(project.folder / "photos" / "d.png", seed=78)
    report = run(project)
    assert report.ran == 2
    assert report.counts["done"] == 3
    assert (project.output / "areas/all.list").read_text() == "b.png done\nc.png done\nd.png done"
    os.utime(project.folder / "photos" / "c.png")
    before = (project.output / "results/c.png.json").read_bytes()
    run(project)
    assert project.tries("c.png") == 1, "a touched file with the same bytes is not done again"
    assert (project.output / "results/c.png.json").read_bytes() == before


def test_limit_and_only(project):
    project.photos("a.png", "b.png", "sub/c.png")
    assert run(project, limit=1).counts["done"] == 1
    assert run(project, only="sub/*").counts["done"] == 2
    assert run(project).counts["done"] == 3


@pytest.mark.parametrize(
    ("only", "expected"),
    {
        "a[1].png": ["a[1].png"],
        "[ab]1.png": ["a1.png", "b1.png"],
        "b[1].png": ["b1.png"],
        "cafe\u0301.png": ["caf\u00e9.png"],
        "caf\u00e9*": ["caf\u00e9.png"],
        "cafe\u0301*": ["caf\u00e9.png"],
        "a2.png": [],
    }.items(),
)
def test_only_takes_a_key_by_its_letters_or_a_pattern(project, only, expected):
    project.photos("a[1].png", "a1.png", "b1.png", "caf\u00e9.png")
    refs = listing(Pipeline.load(project.file).config, RunRequest(only=only))
    assert [ref.key for ref in refs] == expected


def test_a_changed_backend_is_refused_until_told(project):
    project.photos("a.png")
    run(project)
    project.write(backend="{use: slow, model: b}")
    with pytest.raises(OutputError, match=r"p\.yaml:4:.*another backend.*\n.*--fresh"):
        run(project)
    report = run(project, fresh=True)
    assert report.ran == 1
    assert (project.folder / "out.old-1" / "ledger.sqlite").exists(), "nothing is deleted"


def test_changed_filters_and_writers_leave_the_backend_alone(project):
    project.photos("a.png")
    run(project)
    text = project.file.read_text(encoding="utf-8")
    project.file.write_text(text.replace("writers: [", "writers: [{use: areas}, "), encoding="utf-8")
    run(project)
    assert project.tries("a.png") == 2, "filters are cheap and run again"
    assert (project.output / "areas-2" / "a.png.txt").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_backend_that_cannot_be_opened_is_the_runs_fault(project, engine):
    project.photos("a.png")
    project.write("{use: slow, refuse: raise}", run=f"{{engine: {engine}}}")
    with pytest.raises(PluginError, match="backend 'slow' cannot be opened: ValueError: no such weights"):
        run(project)
    assert project.statuses() == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_hint_of_a_backend_that_cannot_be_opened_reaches_the_user(project, engine):
    project.photos("a.png")
    project.write("{use: slow, refuse: hint}", run=f"{{engine: {engine}}}")
    with pytest.raises(PluginError) as caught:
        run(project)
    text = "the backend 'slow' cannot be opened: w.pth: the weights are damaged\n  download them again"
    assert str(caught.value) == text


def test_a_worker_that_dies_while_opening_is_the_runs_fault(project):
    project.photos("a.png")
    project.write("{use: slow, refuse: die}", run="{engine: joblib}")
    with pytest.raises(PluginError, match="worker processes in a row died while starting"):
        run(project)


@pytest.mark.parametrize("engine", ENGINES)
def test_stop_run_stops_resumably(project, engine):
    project.write(run=f"{{engine: {engine}, jobs: 1}}")
    project.photos("a.png", "b-stop.png", "c.png")
    report = run(project)
    assert (report.outcome, report.exit_code, report.message) == ("stopped", 1, "budget spent")
    assert project.statuses() == {"a.png": "done"}
    assert not (project.output / "areas/all.list").exists()


@pytest.mark.parametrize(("limit", "ran"), [("0", 1), ("1", 2), ("1%", 100)])
def test_max_failures(project, limit, ran):
    project.write(run=f"{{engine: inline, max_failures: {limit}, same_failures: null}}")
    project.photos(*(f"raise-{n:03}.png" for n in range(103)))
    report = run(project)
    assert (report.outcome, report.ran, report.exit_code) == ("stopped", ran, 1)


def test_the_dataset_is_listed_once_by_all_who_work_with_it(project, monkeypatch):
    project.many(30)
    scans = []
    scan = FolderWalk._scan
    monkeypatch.setattr(
        FolderWalk, "_scan", lambda self, folder, state: scans.append(folder) or scan(self, folder, state)
    )
    driver.run(Pipeline.load(project.file).config, RunRequest(quiet=True))
    assert len(scans) == 1


def test_no_images_is_an_error(project):
    (project.folder / "photos").mkdir()
    with pytest.raises(UsageError, match="no image"):
        run(project)


def test_an_output_with_foreign_files_or_another_run_is_refused(project):
    project.photos("a.png")
    project.output.mkdir()
    (project.output / "thesis.txt").write_text("precious", encoding="utf-8")
    done = command(project)
    assert done.returncode == 2
    assert "contains files that are not from a run ('thesis.txt', ...)" in done.stderr


@POSIX
def test_two_runs_into_one_output_are_refused(project):
    project.many(6)
    project.write("{use: slow, seconds: 1.0}")
    first = subprocess.Popen([sys.executable, "-m", "maskmill", "run", str(project.file), "-q"])
    try:
        wait_until(lambda: (project.output / "results").exists())
        with pytest.raises(OutputError, match="another run is using"):
            run(project)
    finally:
        first.kill()
        first.wait()
    assert run(project, limit=1).exit_code == 0, "the lock falls with the process"


def wait_until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def finished(project):
    return len(list((project.output / "results").rglob("*.json")))


@POSIX
def test_a_signal_drains_and_a_rerun_goes_on(project):
    project.many(40)
    project.write("{use: slow, seconds: 0.1}", run="{engine: joblib, jobs: 2}")
    process = subprocess.Popen(
        [sys.executable, "-m", "maskmill", "run", str(project.file)],
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    wait_until(lambda: project.output.exists() and finished(project) >= 4)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "; press Ctrl-C again to stop at once\n" in errors, "in progress, or just finished"
    done = finished(project)
    assert f"Interrupted, {40 - done} images remain. To continue: " in errors and " -m maskmill run " in errors
    assert 4 <= done < 40
    assert len(project.statuses()) == done, "what was in work is finished and recorded"
    assert run(project).ran == 40 - done


@POSIX
@pytest.mark.parametrize("ending", ["twice", "kill"])
def test_an_interruption_while_finishing_leaves_a_run_that_goes_on(project, ending):
    project.many(8)
    run(project)
    undisturbed = project.files()
    (project.output / "areas" / "all.list").unlink()
    options = f"{{use: areas, finish_seconds: 0.5, finishing: '{project.folder.as_posix()}/finishing'}}"
    text = project.file.read_text(encoding="utf-8").replace("{use: areas}", options)
    project.file.write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "maskmill", "run", str(project.file), "--verify"],
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    wait_until((project.folder / "finishing").exists)
    if ending == "kill":
        process.kill()
    else:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    assert process.returncode == (-9 if ending == "kill" else 130), errors
    assert not (project.output / "areas" / "all.list").exists()
    (project.folder / "finishing").unlink()
    run(project, verify=True)
    assert project.files() == undisturbed


def test_a_run_that_could_not_start_says_so_in_its_record(project):
    project.photos("a.png")
    project.write("{use: slow, refuse: raise}")
    with pytest.raises(PluginError):
        run(project)
    about = json.loads((project.output / "run.json").read_text(encoding="utf-8"))
    assert (about["outcome"], "no such weights" in about["message"]) == ("not started", True)


def test_the_command_line_tells_what_to_do_next(project):
    project.photos("a.png", "raise.png")
    done = command(project)
    assert done.returncode == 1
    assert "2 images: 1 done, 1 failed" in done.stderr
    assert "--retry-failed" in done.stderr
    assert "raise.png: failed at filters chaos: RuntimeError: as told" in done.stderr


def test_a_single_image_tells_its_story(project):
    project.photos("a.png")
    done = command(project)
    assert done.returncode == 0
    for line in ("a.png: read, 64×48", "1 prompt from middle", "1 mask by slow", "areas wrote 1 file"):
        assert line in done.stderr


def test_dry_run_counts_and_writes_nothing(project):
    project.photos("a.png", "b.png")
    done = command(project, "--dry-run")
    assert "dry run: 2 images: 2 new" in done.stdout
    assert not project.output.exists()


MOVING = """
import os
from pathlib import Path
from maskmill import hookimpl
from maskmill.testing import FillPrompt


class Moving(FillPrompt):
    model: Path

    def model_id(self):
        return self.model.read_text(encoding="utf-8")

    def masks(self, image, prompts, embedding=None):
        if "moves" in image.ref.key:
            self.model.write_text("another", encoding="utf-8")
            os._exit(9)
        return super().masks(image, prompts, embedding)


@hookimpl
def register_backends(register):
    register("moving", Moving)
"""


def test_a_worker_that_finds_another_model_than_the_run_began_with_stops_it(project):
    (project.folder / "plugins" / "moving.py").write_text(MOVING, encoding="utf-8")
    model = project.folder / "model.txt"
    model.write_text("first", encoding="utf-8")
    project.write("{use: moving, model: model.txt}", "{engine: joblib, jobs: 1}")
    project.photos("a.png", "moves.png", "z.png")
    with pytest.raises(PluginError, match="now uses 'another', but this run started with 'first'"):
        run(project)
    assert project.statuses() == {"a.png": "done"}
    (project.folder / "photos" / "moves.png").unlink()
    model.write_text("first", encoding="utf-8")
    assert run(project).counts["done"] == 2


@pytest.mark.parametrize(("jobs", "workers"), [(3, 3), (-1, loky.cpu_count()), (-1000, 1)], ids=["3", "all", "low"])
def test_a_negative_number_of_jobs_counts_from_the_cores(jobs, workers):
    assert plan_resources(jobs, "auto", None).jobs == workers


@pytest.mark.parametrize("address", ["ftp://host/out", "https://host/out", "s3+http://host/out"])
def test_an_address_that_is_no_bucket_is_no_folder(project, address, monkeypatch):
    project.photos("a.png")
    monkeypatch.chdir(project.folder)
    with pytest.raises(UsageError, match="is the address of a server"):
        Pipeline.load(project.file, output=address).run(quiet=True)
    with pytest.raises(UsageError, match=r"is the address of a server|is on the web"):
        Pipeline.load(project.file, dataset=address).run(quiet=True)
    assert not list(project.folder.glob("*:*"))


FINDING = """
from pathlib import Path
from maskmill import NO_EFFECT, Box, Prompt, PromptSource, hookimpl
from maskmill.files import hash_once
from pydantic import Field


class Finds(PromptSource):
    weights: Path = Field(json_schema_extra=NO_EFFECT)

    def model_id(self):
        return hash_once(self.weights) if self.weights.exists() else ""

    def memory_per_worker(self):
        return 10**15

    def prepare(self, say):
        if not self.weights.exists():
            self.weights.write_text("downloaded", encoding="utf-8")

    def open(self):
        with self.weights.with_name("opened").open("a", encoding="utf-8") as file:
            file.write("x")

    def prompts(self, image):
        return [Prompt(box=Box(1, 1, 9, 9), label="thing")]


@hookimpl
def register_prompt_sources(register):
    register("finds", Finds)
"""


class Finding:
    """A project whose prompts come from a source with a model, which is downloaded first."""

    def __init__(self, project):
        (project.folder / "plugins" / "finds.py").write_text(FINDING, encoding="utf-8")
        self.project, self.weights = project, project.folder / "weights.bin"

    def write(self, writers="[areas]", **values):
        self.project.write(**values)
        text = self.project.file.read_text(encoding="utf-8").replace("[{use: areas}]", writers)
        self.project.file.write_text(text.replace("use: middle", "use: finds, weights: weights.bin"), encoding="utf-8")

    def times_opened(self):
        path = self.project.folder / "opened"
        return path.stat().st_size if path.exists() else 0


@pytest.fixture
def finding(project):
    return Finding(project)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_model_of_a_source_is_loaded_only_where_stored_masks_do_not_serve(finding, project, engine):
    finding.write(run=f"{{engine: {engine}, jobs: 1}}")
    project.photos("a.png", "b.png")
    run(project)
    assert finding.times_opened() == 1
    finding.write(writers="[areas, png]", run=f"{{engine: {engine}, jobs: 1}}")
    assert run(project).ran == 2
    assert finding.times_opened() == 1, "the masks are stored, and only the new writer had to work"
    testing.write_picture(project.folder / "photos" / "b.png", seed=9)
    assert run(project, verify=True).ran == 2
    assert finding.times_opened() == 2, "a picture changed"


def test_results_depend_on_the_model_of_a_source_which_is_known_after_its_download(finding, project):
    finding.write()
    project.photos("a.png")
    assert run(project).ran == 1, "the model is downloaded before its id is asked for"
    assert run(project).ran == 0
    (result,) = read_run(project.output)
    sha256 = hashlib.sha256(b"downloaded").hexdigest()
    assert result.provenance["source_models"] == {"finds": sha256}
    finding.weights.write_text("retrained", encoding="utf-8")
    assert run(project).ran == 1
    (again,) = read_run(project.output)
    assert again.provenance["fingerprint"] != result.provenance["fingerprint"]


def test_a_worker_that_finds_another_model_of_a_source_stops_the_run(finding, project):
    finding.write(run="{engine: joblib, jobs: 1}")
    project.photos("a.png", "poison.png", "z.png")
    text = project.file.read_text(encoding="utf-8")
    (project.folder / "plugins" / "swaps.py").write_text(SWAPPING, encoding="utf-8")
    project.file.write_text(text.replace("{use: slow}", "swaps"), encoding="utf-8")
    with pytest.raises(PluginError, match=r"prompt source 'finds' now uses .* but this run started with"):
        run(project)
    assert project.statuses() == {"a.png": "done"}


SWAPPING = """
import os
from pathlib import Path
from maskmill import hookimpl
from maskmill.testing import FillPrompt


class Swaps(FillPrompt):
    def masks(self, image, prompts, embedding=None):
        if "poison" in image.ref.key:
            (Path(image.ref.uri).parent.parent / "weights.bin").write_text("another", encoding="utf-8")
            os._exit(9)
        return super().masks(image, prompts, embedding)


@hookimpl
def register_backends(register):
    register("swaps", Swaps)
"""


def test_the_memory_of_a_source_counts_beside_that_of_the_backend(finding):
    finding.write()
    resources = choose_resources(Pipeline.load(finding.project.file).config, 64)
    assert resources.jobs == 1
    finding.write(run="{jobs: 2}")
    resources = choose_resources(Pipeline.load(finding.project.file).config, 64)
    assert "use jobs: 1" in resources.warning


def test_workers_take_over_what_the_driver_has_hashed(tmp_path, monkeypatch):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"weights")
    assert files.hash_once(path) == hashlib.sha256(b"weights").hexdigest()
    known = [row for row in files.known_hashes() if row[0] == str(path)]
    monkeypatch.setattr(files, "_known", {})
    monkeypatch.setattr(files, "sha256_of", None)
    files.adopt_hashes(known)
    assert files.hash_once(path) == hashlib.sha256(b"weights").hexdigest()
    monkeypatch.undo()
    path.write_bytes(b"other")
    files.adopt_hashes(known)
    assert files.hash_once(path) == hashlib.sha256(b"other").hexdigest()
