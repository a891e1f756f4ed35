"""Which machine made an image, and where users read it. The machines are given to results of the engine `inline`."""

import dataclasses
import json

import pytest
from report_kit import Page
from stored_runs import told

from maskmill import Pipeline
from maskmill.output.hosts import format_hosts
from maskmill.output.store import result_path
from maskmill.plugins.messages import Reply
from maskmill.run.progress import Progress
from maskmill.stored.merge import merge
from maskmill_plugins.engines.inline import Inline

HOSTS = {
    "east": {"slots": 2, "lost": 0, "images": 1, "processor": "X"},
    "west": {"slots": 0, "lost": 4, "images": 3, "processor": "X"},
}


@pytest.fixture
def several(project, monkeypatch):
    """A pipeline whose images come from two machines, by their names, until the list is emptied."""
    project.photos("east-1.png", "west-1.png", "west-raise.png", "west-empty.png")
    project.file.write_text(project.file.read_text().replace("{use: areas}", "{use: areas}, {use: report}"))
    hosts, wait = dict(HOSTS), Inline.wait

    def name_hosts(engine, seconds):
        for token, task in engine._waiting[:]:
            for _, outcome in wait(engine, seconds):
                named = hosts and isinstance(outcome, Reply)
                yield token, dataclasses.replace(outcome, host=task.ref.key[:4]) if named else outcome

    monkeypatch.setattr(Inline, "wait", name_hosts)
    monkeypatch.setattr(Inline, "hosts", lambda engine: hosts)
    return hosts


def run(project, output="out", **how):
    return Pipeline.load(project.file, output=project.folder / output).run(**how)


def test_machines_are_named_where_a_run_is_looked_at(several, project, capsys):
    run(project)
    said = capsys.readouterr().err
    assert "west-raise.png: failed at filters chaos: RuntimeError: as told (on west)" in said
    assert "east-1.png: done" not in said
    assert project.failures()["west-raise.png"]["host"] == "west"
    assert json.loads((project.output / "run.json").read_bytes())["hosts"] == HOSTS

    code, out, _ = told(capsys, "status", project.output)
    assert code == 0
    assert "\nHosts: east (2 slots, 1 image), west (lost, 3 images)\n" in out
    assert "1 failed at filters chaos: RuntimeError: as told (on west)\n" in out
    state = json.loads(told(capsys, "status", project.output, "--json")[1])
    assert (state["hosts"], state["failures"][0]["hosts"]) == (HOSTS, {"west": 1})

    assert "\nhost     east\n" in told(capsys, "explain", project.output, "east-1.png")[1]
    hosts = Page(project.output / "report" / "report.html").summary["about"]["hosts"]
    assert hosts == [["east", 1, False], ["west", 3, True]]

    merge([project.output], project.folder / "merged")
    code, out, _ = told(capsys, "status", project.folder / "merged")
    assert "\nHosts: east (2 slots, 1 image), west (lost, 3 images)\n" in out
    assert "\nhost     west\n" in told(capsys, "explain", project.folder / "merged", "west-1.png")[1]


def test_results_do_not_depend_on_it_and_a_later_run_on_one_machine_forgets_it(several, project, capsys):
    run(project, quiet=True)
    several.clear()
    run(project, "alone", quiet=True)
    for key in ("east-1.png", "west-raise.png"):
        named, alone = (result_path(project.folder / name, key).read_bytes() for name in ("out", "alone"))
        assert named == alone
    run(project, quiet=True, retry_failed=True)
    assert "host" not in project.failures()["west-raise.png"]
    assert "\nHosts: " in told(capsys, "status", project.output)[1]
    _, out, _ = told(capsys, "status", project.folder / "alone")
    assert "Hosts" not in out
    assert "(on " not in out


def test_progress_names_several_machines_only():
    progress = Progress(quiet=True)
    assert progress._line(4).endswith("none finished yet") or "starting" in progress._line(4)
    progress.show_hosts(lambda: HOSTS)
    assert progress._line(4).endswith("; east (2 slots, 1 image), west (lost, 3 images)")
    assert format_hosts({"east": HOSTS["east"]}) == ""
    many = {f"host{number}": HOSTS["east"] for number in range(100)}
    assert format_hosts(many).endswith("host7 (2 slots, 1 image), 92 more; 200 slots in all")
