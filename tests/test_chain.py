"""One image through a chain: statuses, failures, what is redone and what is not."""

import errno
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from maskmill import (
    Artifact,
    Box,
    Filter,
    ImageError,
    ImageResult,
    Mask,
    Prompt,
    PromptSource,
    StopRun,
    Transient,
    Writer,
    save,
    testing,
)
from maskmill.chain.chain import Chain
from maskmill.chain.fingerprint import Fingerprint
from maskmill.chain.plugin_call import Trace
from maskmill.output.store import load_result
from maskmill.plugins.roles import Stages

WANTED = Fingerprint("p", "m", "f", ("w",))
BARE = Fingerprint("p", "m", "f", ())
BOX = Prompt(box=Box(10, 10, 30, 30), label="cup")


class Says(PromptSource):
    """Says what it was told; counts how often it was asked."""

    def open(self):
        self._asked = Counter()

    def told(self, answer):
        self._answer = answer
        return self

    def prompts(self, image):
        self._asked["times"] += 1
        if isinstance(self._answer, list) and self._answer and isinstance(self._answer[0], Exception):
            error = self._answer.pop(0)
            raise error
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class Counting(testing.FillPrompt):
    """Counts how often it computed."""

    def open(self):
        self._calls = 0

    def masks(self, image, prompts, embedding=None):
        self._calls += 1
        return super().masks(image, prompts, embedding)


class Smallest(Filter):
    """Drops masks below an area, shrinks the others by their first row."""

    area: int = 0
    shrink: bool = False

    def apply(self, image, masks):
        kept = [mask if mask.area >= self.area else mask.drop(f"area {mask.area} < {self.area}") for mask in masks]
        if not self.shrink:
            return kept
        out = []
        for mask in kept:
            pixels = mask.array
            pixels[:12] = False
            out.append(mask.with_array(pixels))
        return out


class Text(Writer):
    """Writes the areas of the kept masks."""

    def open(self):
        self._calls = 0

    def write(self, image, result, folder):
        self._calls += 1
        areas = [mask.area for mask in result.kept]
        return [save(folder, result.key, json.dumps(areas).encode(), ".txt")]


def chain(tmp_path, *answers, backend=None, filters=(), writers=(), combine="first"):
    sources = [(f"says{n}", Says().told(answer)) for n, answer in enumerate(answers)]
    stages = Stages(sources, combine, ("fill", backend or Counting()), list(filters), list(writers))
    built = Chain(stages, tmp_path / "out", model_id="fill-1")
    built.open()
    return built


@pytest.fixture
def ref(tmp_path):
    return testing.write_picture(tmp_path / "a.png")


def test_an_image_becomes_masks_files_and_a_stored_result(tmp_path, ref):
    built = chain(tmp_path, [BOX], writers=[("text", Text())])
    trace = Trace()
    result, changed = built.process(ref, WANTED, trace)
    assert changed
    assert (result.status, result.size, len(result.kept)) == ("done", (48, 64), 1)
    assert result.prompts[0].source == "says0"
    assert result.artifacts[0].path == "text/a.png.txt"
    assert (tmp_path / "out/text/a.png.txt").read_text() == "[400]"
    assert load_result(tmp_path / "out", "a.png") == result
    assert set(trace.seconds) == {"read", "prompts", "backend", "writers"}


@pytest.mark.parametrize(
    ("answers", "status", "asked"),
    [
        ([None, [BOX]], "done", [1, 1]),
        ([[BOX], [BOX]], "done", [1, 0]),
        ([[], [BOX]], "empty", [1, 0]),
        ([None, None], "failed", [1, 1]),
    ],
    ids=["the-second-knows", "the-first-answers", "nothing-there", "nobody-knows"],
)
def test_sources_are_asked_until_one_knows(tmp_path, ref, answers, status, asked):
    built = chain(tmp_path, *answers)
    result, _ = built.process(ref, BARE)
    assert result.status == status
    assert [source._asked["times"] for _, source in built.stages.prompts] == asked
    if status == "failed":
        assert result.failure.type == "NoPrompts"


def test_combine_all_joins_the_answers(tmp_path, ref):
    other = Prompt(box=Box(0, 0, 5, 5))
    result, _ = chain(tmp_path, [BOX], None, [other], combine="all").process(ref, BARE)
    assert [mask.area for mask in result.masks] == [400, 25]
    assert [prompt.source for prompt in result.prompts] == ["says0", "says2"]


@pytest.mark.parametrize(
    ("answer", "stage", "kind"),
    [
        (ValueError("bad"), "prompts", "ValueError"),
        (ImageError("too odd"), "prompts", "ImageError"),
        ([Prompt(text="cat")], "prompts", "PromptError"),
        ([Prompt(box=Box(100, 100, 200, 200))], "prompts", "PromptError"),
    ],
    ids=["exception", "image-error", "not-accepted", "outside"],
)
def test_what_goes_wrong_fails_this_image_with_stage_and_reason(tmp_path, ref, answer, stage, kind):
    result, _ = chain(tmp_path, answer).process(ref, BARE)
    assert (result.status, result.failure.stage, result.failure.type) == ("failed", stage, kind)
    assert bool(result.failure.traceback) == (kind == "ValueError")


def test_a_file_that_is_no_image_fails_at_reading(tmp_path, ref):
    (tmp_path / "a.png").write_text("hello", encoding="utf-8")
    result, _ = chain(tmp_path, [BOX]).process(ref, BARE)
    assert (result.status, result.failure.stage) == ("failed", "read")
    assert "a.png: not a JPEG" in result.failure.message


def test_transient_faults_are_tried_again(tmp_path, ref, monkeypatch):
    monkeypatch.setattr("maskmill.chain.plugin_call.PAUSES", (0.0, 0.0))

    class Flaky(Counting):
        def masks(self, image, prompts, embedding=None):
            found = super().masks(image, prompts, embedding)
            if self._calls < 3:
                raise Transient("busy")
            return found

    result, _ = chain(tmp_path, [BOX], backend=Flaky()).process(ref, BARE)
    assert result.status == "done"


def test_stop_run_and_a_full_disk_pass_through(tmp_path, ref):
    with pytest.raises(StopRun, match="bad key"):
        chain(tmp_path, StopRun("bad key")).process(ref, BARE)
    with pytest.raises(StopRun, match="No space left"):
        chain(tmp_path, OSError(errno.ENOSPC, "No space left on device")).process(ref, BARE)


def test_filters_drop_with_a_reason_and_may_change_pixels(tmp_path, ref):
    small = Prompt(box=Box(0, 0, 5, 5))
    built = chain(tmp_path, [small, BOX], filters=[("smallest", Smallest(area=100, shrink=True))])
    result, _ = built.process(ref, BARE)
    dropped, kept = result.masks
    assert (dropped.dropped_by, dropped.reason) == ("smallest", "area 25 < 100")
    assert kept.area == 400 - 2 * 20
    assert [mask.area for mask in result.raw] == [25, 400], "what the backend made is kept where pixels changed"


def test_all_masks_dropped_is_empty_with_the_reason(tmp_path, ref):
    result, _ = chain(tmp_path, [BOX], filters=[("smallest", Smallest(area=1000))]).process(ref, BARE)
    assert (result.status, result.reason) == ("empty", "smallest dropped the only mask: area 400 < 1000")


@pytest.mark.parametrize(
    ("wanted", "prompts", "backend", "written"),
    [
        (WANTED, 0, 0, 0),
        (Fingerprint("p", "m", "f", ("w2",)), 0, 0, 1),
        (Fingerprint("p", "m", "f2", ("w",)), 0, 0, 1),
        (Fingerprint("p", "m2", "f", ("w",)), 1, 1, 1),
        (Fingerprint("p2", "m", "f", ("w",)), 1, 0, 1),
    ],
    ids=["nothing", "writer", "filter", "backend", "source"],
)
def test_a_change_redoes_from_the_first_changed_stage(tmp_path, ref, wanted, prompts, backend, written):
    first = chain(tmp_path, [BOX], filters=[("smallest", Smallest(shrink=True))], writers=[("text", Text())])
    before, _ = first.process(ref, WANTED)
    again = chain(tmp_path, [BOX], filters=[("smallest", Smallest(shrink=True))], writers=[("text", Text())])
    result, changed = again.process(ref, wanted)
    assert changed == (wanted != WANTED)
    assert again.stages.prompts[0][1]._asked["times"] == prompts
    assert again.stages.backend[1]._calls == backend
    assert again.stages.writers[0][1]._calls == written
    assert result.masks == before.masks
    assert result.artifacts == before.artifacts


def test_masks_of_the_same_prompts_are_kept_in_the_new_order(tmp_path, ref):
    """The sources have changed: what they give decides what is segmented."""
    other, third = Prompt(box=Box(5, 5, 10, 10), label="b"), Prompt(box=Box(2, 2, 9, 30), label="c")
    shrink = [("smallest", Smallest(shrink=True))]
    chain(tmp_path, [BOX, other, third], filters=shrink).process(ref, BARE)
    changed = Fingerprint("p2", "m", "f", ())
    again = chain(tmp_path, [third, BOX, other], filters=shrink)
    result, _ = again.process(ref, changed)
    assert again.stages.backend[1]._calls == 0
    fresh, _ = chain(tmp_path / "fresh", [third, BOX, other], filters=shrink).process(ref, changed)
    assert (result.masks, result.raw, result.prompts) == (fresh.masks, fresh.raw, fresh.prompts)


@pytest.mark.parametrize(
    "prompts",
    [
        [BOX, Prompt(box=Box(5, 5, 10, 11), label="b")],
        [BOX, Prompt(box=Box(5, 5, 10, 10), label="other")],
        [BOX],
        [BOX, Prompt(box=Box(5, 5, 10, 10), label="b"), Prompt(box=Box(5, 5, 10, 10), label="b")],
    ],
    ids=["moved", "renamed", "fewer", "twice"],
)
def test_other_prompts_are_segmented(tmp_path, ref, prompts):
    chain(tmp_path, [BOX, Prompt(box=Box(5, 5, 10, 10), label="b")]).process(ref, BARE)
    again = chain(tmp_path, prompts)
    again.process(ref, Fingerprint("p2", "m", "f", ()))
    assert again.stages.backend[1]._calls == 1


def test_a_changed_image_redoes_all(tmp_path, ref):
    chain(tmp_path, [BOX]).process(ref, BARE)
    testing.write_picture(tmp_path / "a.png", seed=1)
    again = chain(tmp_path, [BOX])
    _, changed = again.process(ref, BARE)
    assert changed
    assert again.stages.backend[1]._calls == 1


def test_a_missing_output_file_is_written_again(tmp_path, ref):
    chain(tmp_path, [BOX], writers=[("text", Text())]).process(ref, WANTED)
    (tmp_path / "out/text/a.png.txt").unlink()
    again = chain(tmp_path, [BOX], writers=[("text", Text())])
    again.process(ref, WANTED)
    assert (tmp_path / "out/text/a.png.txt").exists()
    assert again.stages.backend[1]._calls == 0


def test_files_of_an_earlier_result_do_not_outlive_it(tmp_path, ref):
    class Many(Writer):
        count: int

        def write(self, image, result, folder) -> list[Artifact]:
            return [save(folder, f"{n}", b"x") for n in range(self.count)]

    chain(tmp_path, [BOX], writers=[("many", Many(count=3))]).process(ref, WANTED)
    chain(tmp_path, [BOX], writers=[("many", Many(count=1))]).process(ref, Fingerprint("p", "m", "f", ("w3",)))
    assert sorted(path.name for path in (tmp_path / "out/many").iterdir()) == ["0"]


def test_run_writes_nothing(tmp_path):
    result = chain(tmp_path, [BOX], writers=[("text", Text())]).run(testing.image())
    assert [mask.area for mask in result.kept] == [400]
    assert not (tmp_path / "out").exists()


def test_notes_end_in_the_result_under_the_plugins_name(tmp_path, ref):
    class Noting(Counting):
        def masks(self, image, prompts, embedding=None):
            self.note("boxes", len(prompts))
            return super().masks(image, prompts, embedding)

    result, _ = chain(tmp_path, [BOX], backend=Noting()).process(ref, BARE)
    assert result.notes == {"fill": {"boxes": 1}}


@pytest.mark.parametrize(
    ("reasons", "says"),
    [
        (["empty mask"], "the backend found nothing: its mask is empty"),
        (["empty mask", "empty mask"], "the backend found nothing: all 2 masks are empty"),
        ([None], "score dropped the only mask"),
        (
            ["too small", "empty mask", "too big"],
            "none of 3 masks is left: score dropped 2, 1 of the backend was empty",
        ),
    ],
)
def test_the_reason_for_no_mask_is_a_sentence(reasons, says):
    mask = Mask.from_array(np.ones((4, 4), bool))
    masks = [replace(mask, index=n, dropped_by="score", reason=reason) for n, reason in enumerate(reasons)]
    assert ImageResult.done_or_empty("a.png", (4, 4), "", masks=masks).reason == says
