"""Whole runs with the source qwen against a local server: answers, budget, kills, secrets, rates."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from qwen_wire import ERRORS, KEY, OK, Act, Wire, boxes

from maskmill import Pipeline, PipelineError
from maskmill.cli.run import main as run_main
from maskmill_plugins.prompts.qwen.calls.answer_store import AnswerStore
from maskmill_plugins.prompts.qwen.cost.budget import read_usage

pytest.importorskip("openai")
POSIX = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
LANE = "{engine: joblib, jobs: 1}"
NOTHING = Act("```json\n[]\n```")


@pytest.fixture
def wire():
    with Wire() as wire:
        yield wire


@pytest.fixture
def asking(project, wire, monkeypatch):
    """A project whose pictures are asked about; the key stands in the file as a variable."""
    monkeypatch.setenv("WIRE_KEY", KEY)
    monkeypatch.setenv("MASKMILL_CACHE", str(project.folder / "cache"))
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)

    def write(options="", provider="openai", find="[vehicle]", backend="{use: slow}", run="{engine: inline}"):
        project.write(backend, run)
        text = project.file.read_text(encoding="utf-8")
        url = getattr(wire, provider)
        source = (
            f"[{{use: qwen, provider: {provider}, base_url: '{url}', api_key: '${{WIRE_KEY}}', find: {find}{options}}}]"
        )
        project.file.write_text(text.replace("[{use: middle}]", source), encoding="utf-8")

    write()
    project.ask = write
    project.wire = wire
    return project


def run(project, **options):
    return Pipeline.load(project.file).run(quiet=True, **options)


def files(project):
    """Every output that must not depend on how the run went; what it cost does."""
    return {name: data for name, data in project.files().items() if not name.startswith("qwen-spent")}


def result(project, key):
    return json.loads((project.output / f"results/{key}.json").read_text(encoding="utf-8"))


def command(project, *arguments):
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from maskmill.cli.run import main; main()", str(project.file), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )


@pytest.mark.parametrize(("engine", "provider"), [("joblib", "openai"), ("inline", "openai"), ("inline", "dashscope")])
def test_boxes_arrive_in_pixels_with_the_users_labels(asking, provider, engine):
    pytest.importorskip(provider)
    asking.wire.script([], Act(boxes(("Vehicle", (250, 250, 750, 500)))))
    asking.ask(provider=provider, run=f"{{engine: {engine}}}")
    asking.photos("a.png", "图.png")
    assert run(asking).counts["done"] == 2
    (prompt,) = result(asking, "a.png")["prompts"]
    assert prompt["box"] == pytest.approx([16, 12, 48, 24], abs=0.5)
    assert (prompt["label"], prompt["source"]) == ("vehicle", "qwen")
    assert not asking.wire.refused


def test_nothing_there_is_empty_and_not_failed(asking):
    asking.wire.script([], NOTHING)
    asking.photos("a.png")
    assert run(asking).counts["empty"] == 1


def test_an_unreadable_reply_is_asked_for_once_more_then_the_image_fails_with_it(asking):
    asking.wire.script([], Act("I am sorry, I see 12 34 56 78."))
    asking.photos("a.png")
    assert run(asking).counts["failed"] == 1
    assert len(asking.wire.calls) == 2
    found = result(asking, "a.png")
    assert found["failure"]["type"] == "ImageError"
    assert "I am sorry, I see 12 34 56 78." in json.dumps(found["notes"]["qwen"])
    asking.wire.script([])
    assert run(asking, retry_failed=True).counts["done"] == 1
    assert len(asking.wire.calls) == 3


def test_what_was_answered_is_not_asked_again_by_another_output(asking):
    asking.photos("a.png", "b.png")
    run(asking)
    first = files(asking)
    report = Pipeline.load(asking.file).run(quiet=True, fresh=True)
    assert report.ran == 2
    assert len(asking.wire.calls) == 2
    assert files(asking) == first, "an answer from disk gives the same result as one from the server"


@pytest.mark.parametrize("change", [", model: qwen3.6-plus", ", as: points", ", thinking: true"])
def test_another_question_is_asked(asking, change):
    asking.photos("a.png")
    run(asking)
    asking.ask(change)
    run(asking)
    assert len(asking.wire.calls) >= 2


@pytest.mark.parametrize("change", ["concurrency: 2", "rpm: 5000", "budget: {calls: 7}", "timeout: 5", "cache: false"])
def test_options_without_effect_redo_nothing(asking, change):
    asking.photos("a.png")
    run(asking)
    asking.ask(f", {change}")
    assert run(asking).ran == 0


@pytest.mark.parametrize(
    ("error", "words"),
    [("bad key", "rejected the key"), ("unpaid", "no credit left"), ("no model", "are retired after about a year")],
)
def test_what_no_image_can_survive_stops_the_run(asking, error, words):
    asking.many(20)
    asking.wire.script([], ERRORS[error])
    report = run(asking)
    assert report.outcome == "stopped"
    assert words in report.message
    assert len(asking.wire.calls) <= 4, "no more than were under way"
    asking.wire.script([])
    assert run(asking).counts["done"] == 20


def test_an_inspected_image_fails_alone(asking):
    asking.photos("a.png", "b.png", "c.png")
    asking.wire.script(["inspected"])
    assert run(asking).counts == {"done": 2, "empty": 0, "rejected": 0, "failed": 1, "quarantined": 0}


def test_nothing_but_inspected_images_is_no_reason_to_stop(asking):
    asking.many(6)
    asking.wire.script([], ERRORS["inspected"])
    report = run(asking)
    assert (report.outcome, report.counts["failed"]) == ("finished", 6)
    assert {failure["type"] for failure in asking.failures().values()} == {"ImageError"}


def test_a_spent_budget_stops_the_run_and_a_larger_one_goes_on(asking):
    asking.many(12)
    asking.ask(", budget: {calls: 5}, concurrency: 2", run=LANE)
    report = run(asking)
    assert report.outcome == "stopped"
    assert "the budget is spent: 5 of 5 calls" in report.message
    assert len(asking.wire.calls) == 5 == read_usage(asking.output).calls
    assert run(asking).outcome == "stopped"
    assert len(asking.wire.calls) == 5, "a second start with the same budget pays nothing more"
    asking.ask(", budget: {calls: 12}, concurrency: 2", run=LANE)
    assert run(asking).counts["done"] == 12
    assert len(asking.wire.calls) == 12


def test_many_calls_need_a_budget_or_consent(asking, monkeypatch):
    monkeypatch.setattr("maskmill_plugins.prompts.qwen.forecast.MANY", 10)
    asking.many(6)
    asking.ask(find="[vehicle, person]")
    with pytest.raises(PipelineError) as raised:
        run(asking)
    text = str(raised.value)
    assert "2 classes × 6 images = 12 calls; one_class_per_call: false halves this" in text
    assert "--yes" in text
    assert not asking.wire.calls
    assert not asking.output.exists()
    assert run(asking, yes=True).counts["done"] == 6
    assert len(asking.wire.calls) == 12


def test_dry_run_says_calls_answers_and_cost_as_they_come(asking, capsys):
    asking.photos(*(f"{number}.png" for number in range(8)))
    prices = ", budget: {calls: 100, input_price: 2000, output_price: 6000}"
    asking.ask(prices, find="[vehicle, person]")
    said = Pipeline.load(asking.file).rehearse()
    assert "16 calls" in said
    assert not asking.wire.calls
    assert not asking.output.exists()
    run(asking, limit=6)
    wire = asking.wire
    calls, tokens = len(wire.calls), wire.input_tokens + wire.output_tokens
    said = Pipeline.load(asking.file).rehearse()
    assert "4 calls" in said
    run(asking)
    assert len(wire.calls) - calls == 4
    estimate = int(said.split("about ")[1].split(" tokens")[0].replace(",", ""))
    assert estimate == pytest.approx(wire.input_tokens + wire.output_tokens - tokens, rel=0.1)
    Path(asking.output).rename(asking.folder / "elsewhere")
    assert "0 calls, 16 stored answers" in Pipeline.load(asking.file).rehearse()


def test_no_key_stops_before_anything_is_loaded(asking, monkeypatch, capsys):
    asking.photos("a.png")
    text = asking.file.read_text(encoding="utf-8")
    asking.file.write_text(
        text.replace(", api_key: '${WIRE_KEY}'", "").replace("openai", "dashscope"), encoding="utf-8"
    )
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    with pytest.raises(SystemExit) as ended:
        run_main([str(asking.file)])
    assert ended.value.code == 2
    errors = capsys.readouterr().err
    assert "is sent to Alibaba's own hosts only" in errors
    assert KEY not in errors
    assert not asking.output.exists()


@pytest.mark.parametrize("provider", ["openai", "dashscope"])
def test_the_key_is_written_nowhere(asking, provider):
    """Not on success, not by errors that repeat it, not in tracebacks, not with -v."""
    pytest.importorskip(provider)
    echo = f"wrong key: {KEY}"
    asking.photos("a.png", "b.png", "c.png", "d.png", "raise.png")
    asking.ask(", concurrency: 1", provider=provider, run=LANE if provider == "openai" else "{engine: inline}")
    asking.wire.script([Act(f"{echo} []"), Act(f"{echo} []"), Act(status=400, code="Odd", message=echo), OK, "html"])
    process = command(asking, "-v", "--log-json")
    said, _ = process.communicate(timeout=120)
    asking.wire.script([], Act(status=401, code="InvalidApiKey", message=echo))
    asking.photos("e.png")
    process = command(asking, "-v", "--retry-failed")
    said += process.communicate(timeout=120)[0]
    assert "rejected the key" in said
    assert "as told" in said
    assert KEY not in said
    files = [path for path in asking.folder.rglob("*") if path.is_file()]
    assert any(path.name == "answers.sqlite" for path in files)
    for path in files:
        assert KEY.encode() not in path.read_bytes(), path


def test_verbose_reads_like_a_story(asking, capsys):
    asking.photos("a.png")
    asking.ask(run=LANE)
    Pipeline.load(asking.file).run(verbose=True)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip().startswith("a.png")]
    story = " | ".join(lines)
    words = [
        "read, 64×48",
        "asking qwen3.7-plus for vehicle",
        "coordinates received: 1 box",
        "1 mask by slow",
        "wrote 1",
    ]
    places = [story.find(word) for word in words]
    assert -1 not in places, story
    assert places == sorted(places), story
    Pipeline.load(asking.file).run(verbose=True, fresh=True)
    assert "a.png: using the stored answer of qwen3.7-plus for vehicle" in capsys.readouterr().err


def test_blind_sends_no_picture_and_is_marked(asking):
    asking.wire.script([], Act("Foreground: [[210, 350], [650, 480]]"))
    asking.ask(", blind: true, as: points, model: qwen3-4b", find="[person]")
    asking.photos("a.png")
    run(asking)
    assert all(call.picture is None for call in asking.wire.calls)
    assert "64" in asking.wire.calls[0].text
    assert "48" in asking.wire.calls[0].text
    assert result(asking, "a.png")["notes"]["qwen"]["blind"] is True


def segmented(capsys):
    """How many images the backend segmented, by the verbose log."""
    return capsys.readouterr().err.count("masks by slow")


def answer_by_class(call):
    places = {"vehicle": (250, 250, 750, 750), "person": (100, 100, 300, 300), "dog": (600, 100, 900, 300)}
    (name,) = [name for name in places if name in call.text]
    return Act(boxes((name, places[name])))


@pytest.mark.parametrize("engine", ["joblib", "inline"])
def test_nothing_is_segmented_anew_where_no_question_changed(asking, capsys, engine):
    """Another order of `find`, a larger max_tokens: the same masks, in the order of a new run."""
    asking.wire.answer = answer_by_class
    asking.photos("a.png", "b.png")
    run_options = f"{{engine: {engine}, jobs: 1}}"
    asking.ask(find="[vehicle, person, dog]", run=run_options)
    Pipeline.load(asking.file).run(verbose=True)
    assert segmented(capsys) == 2
    asking.ask(", max_tokens: 9000", find="[dog, vehicle, person]", run=run_options)
    report = Pipeline.load(asking.file).run(verbose=True)
    assert (report.ran, report.counts["done"]) == (2, 2)
    assert segmented(capsys) == 0
    assert [mask["prompt"]["label"] for mask in result(asking, "a.png")["masks"]] == ["dog", "vehicle", "person"]
    assert len(asking.wire.calls) == 6


def test_questions_in_another_order_give_the_files_of_a_new_run_and_fewer_are_segmented_anew(asking, capsys):
    asking.wire.answer = answer_by_class
    asking.photos("a.png", "b.png")
    asking.ask(find="[vehicle, person, dog]")
    run(asking)
    asking.ask(", max_tokens: 9000", find="[dog, vehicle, person]")
    run(asking)
    again = files(asking)
    Pipeline.load(asking.file).run(quiet=True, fresh=True)
    assert files(asking) == again
    asking.ask(find="[dog, vehicle]")
    Pipeline.load(asking.file).run(verbose=True)
    assert segmented(capsys) == 2


def test_a_cut_off_answer_is_a_doubt_until_a_larger_limit_completes_it(asking):
    asking.photos("a.png", "b.png")
    whole = OK.text
    cut = whole.replace("\n```", "")[:-1] + ', {"bbox_2d": [1, 2'
    asking.wire.script([Act(cut, finish="length")], Act(whole))
    asking.ask(", max_tokens: 50")
    report = run(asking)
    assert (report.counts["done"], report.doubts) == (2, {"truncated": 1})
    asking.ask(", max_tokens: 500")
    report = run(asking)
    assert (report.counts["done"], report.doubts) == (2, {})
    assert len(asking.wire.calls) == 3


def kept(project):
    """How many answers are on disk."""
    with closing(AnswerStore(project.folder / "cache/qwen")) as answers:
        return sum(count for _, count, *_ in answers.list_models())


@POSIX
def test_killed_and_run_again_no_answer_that_arrived_is_paid_twice(asking):
    """90 pictures at 60 ms, garbage and errors among them; killed in the middle."""
    import random

    asking.many(90)
    chance = random.Random(40)

    def answer(call):
        kind = chance.random()
        if kind < 0.05:
            return ERRORS["throttled"]
        if kind < 0.07:
            return ERRORS["internal"]
        return Act(OK.text if kind > 0.08 else "no idea", seconds=0.06)

    asking.wire.answer = answer
    asking.ask(", concurrency: 6", run=LANE)
    process = command(asking, "-q")
    while len(asking.wire.calls) < 40:
        time.sleep(0.01)
        assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    time.sleep(0.3)  # answers under way reach nobody
    arrived = kept(asking)
    before = len(asking.wire.calls)
    report = run(asking)
    counts = report.counts
    assert counts["done"] + counts["failed"] == 90, report
    assert counts["failed"] <= 5
    wire = asking.wire
    assert wire.most_at_once <= 6 * 2
    assert max(call.at_once for call in wire.calls[before:]) <= 6
    assert 0 <= read_usage(asking.output).calls - len(wire.calls) <= 6, "a call that was reserved may not have left"
    assert 0 <= wire.good - kept(asking) <= 6, f"only what was under way was lost; {arrived} had arrived"
