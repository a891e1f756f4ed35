"""Before, beside and after a run: --probe, --offline, init, status."""

import pytest

from maskmill import Pipeline, PipelineError
from maskmill.cli import main as maskmill_main
from maskmill.cli.run import main as run_main
from maskmill.config.load import load_config


def exit_code(main, *arguments):
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    return raised.value.code or 0


def test_a_probe_times_some_images_and_reckons(project, capsys):
    project.write("{use: slow, seconds: 0.2}", run="{engine: joblib, jobs: 2}")
    project.many(20)
    assert exit_code(run_main, project.file, "--dry-run", "--probe", "3") == 0
    said = capsys.readouterr().out
    assert "dry run: 20 images: 20 new" in said
    assert "3 images timed: 0.2" in said
    assert "of it backend" in said
    assert "20 images to do: about 2 seconds here, with 2 workers × 1 thread" in said
    assert "To speed it up: fewer prompts per image\n" in said
    assert not project.output.exists()


def test_a_probe_tells_of_images_that_fail(project, capsys):
    project.photos("a.png", "raise.png", "z.png")
    assert exit_code(run_main, project.file, "--dry-run", "--probe", "3") == 0
    assert "failed: raise.png: filters chaos: RuntimeError: as told" in capsys.readouterr().out


def test_probe_goes_with_dry_run(project, capsys):
    project.photos("a.png")
    assert exit_code(run_main, project.file, "--probe", "3") == 2


def test_offline_refuses_what_reaches_out(project):
    project.photos("a.png")
    path = project.folder / "plugins" / "fakes.py"
    source = path.read_text(encoding="utf-8")
    path.write_text(
        source.replace("    seconds: float = 0.0", "    network = 'lan'\n    seconds: float = 0.0"), encoding="utf-8"
    )
    pipeline = Pipeline.load(project.file)
    with pytest.raises(PipelineError, match=r"p\.yaml:4:\d+: --offline: the backend 'slow' needs the network \(lan\)"):
        pipeline.run(offline=True, quiet=True)
    assert pipeline.run(quiet=True).exit_code == 0


def test_status_tells_what_failed_and_how_to_go_on(project, capsys):
    project.photos("a.png", "raise-1.png", "raise-2.png", "raise-3.png", "raise-4.png", "z.png")
    assert exit_code(maskmill_main, "run", project.file, "-q") == 1
    assert "raise-1.png: failed at filters chaos: RuntimeError: as told" in capsys.readouterr().err
    assert exit_code(maskmill_main, "status", project.output) == 0
    said = capsys.readouterr().out
    assert said.startswith("p: finished\n2 done, 4 failed\n  4 failed at filters chaos: RuntimeError: as told\n")
    assert "raise-1.png, raise-2.png, raise-3.png and 1 more" in said
    assert "--retry-failed" in said


def test_status_of_a_run_that_was_cut_short(project, capsys):
    project.photos("a.png", "b-stop.png")
    assert exit_code(maskmill_main, "run", project.file, "-q") == 1
    capsys.readouterr()
    assert exit_code(maskmill_main, "status", project.output) == 0
    said = capsys.readouterr().out
    assert said.startswith("p: stopped, 1 not processed yet\n1 done\n")
    assert "To continue: " in said


def test_status_of_a_folder_that_is_no_run(tmp_path, capsys):
    assert exit_code(maskmill_main, "status", tmp_path) == 2
    assert "is not the output folder of a run" in capsys.readouterr().err


def test_init_copies_pipelines_that_load_and_overwrites_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_code(maskmill_main, "init") == 0
    files = sorted((tmp_path / "pipelines").glob("*.yaml"))
    assert {"quickstart", "box", "points"} <= {file.stem for file in files}
    assert (tmp_path / "datasets/quickstart/prompts.jsonl").exists()
    assert not list(tmp_path.rglob("*.py"))
    for file in files:
        load_config(file)
    box = tmp_path / "pipelines/box.yaml"
    box.write_text("mine", encoding="utf-8")
    capsys.readouterr()
    assert exit_code(maskmill_main, "init", "box") == 0
    assert "it differs from" in capsys.readouterr().out
    assert box.read_text(encoding="utf-8") == "mine"


def test_init_names_what_there_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert exit_code(maskmill_main, "init", "quickstrat") == 2
    assert "available: box" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
