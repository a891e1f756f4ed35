"""What stages may say before a run: its cost, and that the user has to agree; and what they tell and keep in it."""

import json

import pytest

from maskmill import Pipeline, PipelineError
from maskmill.cli.run import main as run_main
from maskmill.plugins.stage import run_folder

DEAR = '''
from maskmill import Box, ImageError, Prompt, PromptSource, hookimpl
from maskmill.plugins.stage import run_folder


class Dear(PromptSource):
    """Costs one coin an image, and more than two need consent."""

    waits = True

    def open(self):
        self._folder = run_folder()

    def forecast(self, refs, output):
        return [f"{len(refs)} coins: {', '.join(ref.key for ref in refs)}"]

    def objection(self, refs, output):
        return f"{len(refs)} coins" if len(refs) > 2 else ""

    def prompts(self, image):
        self.tell(f"{image.ref.key}: a coin is thrown")
        self.note("folder", self._folder.name)
        if "wrong" in image.ref.key:
            raise ImageError("the coin fell into the well")
        return [Prompt(box=Box(1, 1, 9, 9))]


@hookimpl
def register_prompt_sources(register):
    register("dear", Dear)
'''


@pytest.fixture(params=["inline", "joblib"])
def dear(project, request):
    (project.folder / "plugins" / "dear.py").write_text(DEAR, encoding="utf-8")
    project.write(run=f"{{engine: {request.param}, jobs: 1}}")
    text = project.file.read_text(encoding="utf-8")
    project.file.write_text(text.replace("middle", "dear"), encoding="utf-8")
    return project


def load(project):
    return Pipeline.load(project.file)


def test_a_dry_run_shows_the_forecast_of_what_is_to_do(dear):
    dear.photos("a.png", "b.png")
    assert load(dear).rehearse().splitlines()[1:] == ["dear: 2 coins: a.png, b.png"]
    load(dear).run(quiet=True, only="a.png")
    assert load(dear).rehearse().splitlines()[1:] == ["dear: 1 coins: b.png"]


def test_an_objection_stops_the_run_before_anything_is_done_unless_yes(dear, capsys):
    dear.photos("a.png", "b.png", "c.png")
    with pytest.raises(PipelineError, match=r"p\.yaml:3:\d+: prompt source 'dear': 3 coins\n.*--yes"):
        load(dear).run(quiet=True)
    assert not dear.output.exists()
    load(dear).run(quiet=True, limit=2)
    with pytest.raises(SystemExit) as ended:
        run_main([str(dear.file), "-q", "--yes"])
    assert ended.value.code == 0


def test_images_that_an_earlier_source_answers_for_are_not_counted(dear):
    dear.photos("a.png", "b.png", "c.png")
    (dear.folder / "known.jsonl").write_text('{"image": "b.png", "prompts": []}\n', encoding="utf-8")
    text = dear.file.read_text(encoding="utf-8")
    dear.file.write_text(
        text.replace("[{use: dear}]", "[{use: file, path: known.jsonl}, {use: dear}]"), encoding="utf-8"
    )
    assert "dear: 2 coins: a.png, c.png" in load(dear).rehearse()
    dear.file.write_text(dear.file.read_text(encoding="utf-8") + "\ncombine: all\n", encoding="utf-8")
    assert "dear: 3 coins" in load(dear).rehearse()


def test_a_stage_tells_its_part_of_the_story_and_knows_the_runs_folder(dear, capsys):
    dear.photos("a.png")
    load(dear).run(verbose=True)
    story = capsys.readouterr().err
    words = ["a.png: read, ", "a.png: a coin is thrown", "a.png: 1 prompt from dear", "mask by slow"]
    places = [story.find(word) for word in words]
    assert -1 not in places
    assert places == sorted(places)
    assert story.count("a.png: read, ") == 1
    assert result(dear, "a.png")["notes"] == {"dear": {"folder": "out"}}
    assert run_folder() is None


def test_what_was_noted_before_a_failure_is_kept(dear):
    dear.photos("wrong.png")
    load(dear).run(quiet=True)
    assert result(dear, "wrong.png")["notes"] == {"dear": {"folder": "out"}}


def result(project, key):
    return json.loads((project.output / f"results/{key}.json").read_text(encoding="utf-8"))
