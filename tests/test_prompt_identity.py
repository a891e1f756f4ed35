"""Equal prompts of two sources stay two prompts, from the source to the mask and to the row of `prompts.csv`."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maskmill import Box, Image, ImageError, Mask, Prompt, Run, testing
from maskmill.api import Pipeline
from maskmill.chain.contract import compute_masks
from maskmill.masks import match_prompts
from maskmill.stored.explain import explain
from maskmill.tables import read_table

A, B = Prompt(box=Box(1, 1, 9, 9), ref="1"), Prompt(box=Box(2, 2, 9, 9), ref="2")
TWIN = replace(A)
SECOND = '''
from maskmill import Filter, hookimpl


class Second(Filter):
    """Keeps the first of equal masks, as nms does."""

    def apply(self, image, masks):
        return [masks[0], *(mask.drop("twin") for mask in masks[1:])]


@hookimpl
def register_filters(register):
    register("second", Second)
'''


def mask_of(prompt) -> Mask:
    return Mask.from_array(np.ones((10, 10), bool), prompt=prompt)


MATCHES = {
    "one each": ([A, B], [A, B], [0, 1]),
    "in another order": ([B, A], [A, B], [1, 0]),
    "equal, in order": ([replace(A), replace(A)], [A, TWIN], [0, 1]),
    "equal, the very objects": ([TWIN, A], [A, TWIN], [1, 0]),
    "one object twice": ([A, A], [A, A], [0, 1]),
    "three candidates each": ([replace(A)] * 6, [A, TWIN], [0, 0, 0, 1, 1, 1]),
    "equal with another between": ([replace(A), B, replace(A)], [A, B, TWIN], [0, 1, 2]),
    "too few": ([replace(A)], [A, TWIN], [0]),
    "of no prompt": ([B, None], [A], [None, None]),
}


@pytest.mark.parametrize(("answers", "prompts", "numbers"), MATCHES.values(), ids=MATCHES)
def test_the_prompt_that_a_mask_answers(answers, prompts, numbers) -> None:
    assert match_prompts([mask_of(prompt) for prompt in answers], prompts) == numbers


def test_equal_prompts_need_a_mask_each() -> None:
    image = Image.from_array(np.zeros((10, 10, 3), np.uint8))
    assert len(compute_masks(lambda image, prompts: [mask_of(p) for p in prompts], image, [A, TWIN])) == 2
    with pytest.raises(ImageError, match="the backend returned no mask for the prompt"):
        compute_masks(lambda image, prompts: [mask_of(A)], image, [A, TWIN])


@pytest.fixture
def run(tmp_path):
    """Runs two files with equal prompts; returns the rows of `prompts.csv` without what is equal in them."""

    def start(combine, filters=(), labels=("cat", "cat")):
        (tmp_path / "plugins").mkdir(exist_ok=True)
        (tmp_path / "plugins" / "fakes.py").write_text(f"import maskmill\n{testing.DROP_IN}", encoding="utf-8")
        (tmp_path / "plugins" / "second.py").write_text(SECOND, encoding="utf-8")
        testing.write_picture(tmp_path / "photos" / "a.png")
        for name, label in zip(("one", "two"), labels, strict=True):
            line = {"image": "a.png", "prompts": [{"box": [2, 2, 20, 20], "label": label}]}
            (tmp_path / f"{name}.jsonl").write_text(json.dumps(line), encoding="utf-8")
        sources = [{"use": "file", "path": f"{name}.jsonl"} for name in ("one", "two")]
        about = {"dataset": "photos", "prompts": sources, "combine": combine, "backend": "fake-backend"}
        about |= {"filters": list(filters), "output": "out", "run": {"engine": "inline"}}
        (tmp_path / "p.yaml").write_text(json.dumps(about), encoding="utf-8")
        Pipeline.load(tmp_path / "p.yaml").run(quiet=True)
        rows = read_table(tmp_path / "out" / "prompts.csv")
        return [(row["file"], row["outcome"], row["mask"], row["reason"]) for row in rows]

    return start


def test_each_row_of_prompts_csv_has_its_own_mask(run, tmp_path) -> None:
    assert run("all") == [("one.jsonl", "mask", "0", ""), ("two.jsonl", "mask", "1", "")]
    with Run(tmp_path / "out") as done:
        assert [mask["prompt"] for mask in explain(done, "a.png")["masks"]] == [0, 1]


def test_one_of_them_dropped(run) -> None:
    assert run("all", ["second"]) == [("one.jsonl", "mask", "0", ""), ("two.jsonl", "dropped", "1", "second: twin")]


def test_prompts_that_differ_by_their_label_only(run) -> None:
    mapped = [{"use": "class_map", "map": {"cat": "pet", "dog": "pet"}}]
    assert [row[1:3] for row in run("all", mapped, ("cat", "dog"))] == [("mask", "0"), ("mask", "1")]


def test_the_second_source_was_not_used(run) -> None:
    assert run("first") == [
        ("one.jsonl", "mask", "0", ""),
        ("two.jsonl", "not asked", "", "an equal prompt of another source was used"),
    ]
