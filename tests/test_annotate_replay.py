"""A batch run over the prompts file gives the masks that the page showed, bit for bit."""

import json

import PIL.Image
import pytest
import small_sam
from annotate_kit import annotating, opened, save

from maskmill import Pipeline, read_run

pytestmark = pytest.mark.torch

#: By image: what a person drew, in pixels of the upright picture.
DRAWN = {
    "turned.jpg": [{"box": [10, 20.25, 90.5, 150], "label": "猫"}, {"points": [[40, 200, 1]]}],
    "several.png": [
        {"box": [30, 30, 120, 100.125], "label": "a"},
        {"box": [100, 60, 250, 190], "label": "b"},
        {"points": [[60.5, 70.25, 1], [200, 20, 0]], "box": [20, 20, 180, 170]},
        {"points": [[150, 100, 1], [160, 110, 1], [10, 10, 0]]},
        {"points": [[220.75, 40, 1]]},
        {"box": [-20, -10, 60, 70]},
    ],
    "small.png": [{"points": [[20, 15, 1]]}, {"box": [5, 5, 30, 25]}],
}
PICKED = [(prompt, pick) for prompt in DRAWN["several.png"][:5] for pick in range(3)]


@pytest.fixture(params=[True, False], ids=["fast", "stock"])
def options(request, monkeypatch, tmp_path):
    pytest.importorskip("segment_anything")
    monkeypatch.setenv("MASKMILL_THREADS", "1")
    checkpoint = small_sam.save(small_sam.seeded(), tmp_path / "small.pth")
    return {"checkpoint": str(checkpoint), "device": "cpu", "fast": request.param}


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = PIL.Image.Exif()
    exif[274] = 6
    PIL.Image.fromarray(small_sam.photo(180, 240, 1)).save(folder / "turned.jpg", exif=exif)
    PIL.Image.fromarray(small_sam.photo(200, 320, 2)).save(folder / "several.png")
    PIL.Image.fromarray(small_sam.photo(30, 40, 3)).save(folder / "small.png")
    return folder


def batch(folder, options):
    """The masks of a run over the prompts file, by image."""
    pipeline = {
        "dataset": str(folder),
        "prompts": [{"use": "file", "path": str(folder / "prompts.jsonl")}],
        "backend": {"use": "sam", **options},
        "output": str(folder.parent / "out"),
        "run": {"jobs": 1, "engine": "inline", "threads": 1},
    }
    file = folder.parent / "p.yaml"
    file.write_text(json.dumps(pipeline), encoding="utf-8")
    assert Pipeline.load(file).run(quiet=True).exit_code == 0
    return {result.key: [shown(mask.to_json()) for mask in result.masks] for result in read_run(folder.parent / "out")}


def shown(mask):
    """The fields of a mask to compare, of a result or of an HTTP response."""
    return (mask.get("rle") or mask)["counts"], mask["score"], mask["stability"]


def asked(server, id_, *prompts, **more):
    answer = server.masks(id_, *prompts, **more)
    assert answer.status_code == 200, answer.text
    return [shown(mask) for mask in answer.json()["masks"]]


def test_a_batch_gives_the_masks_of_the_page(folder, options):
    from maskmill_plugins.backends.sam import Sam

    page, alone = {}, {}
    with annotating(folder, Sam(**options)) as server:
        for key, prompts in DRAWN.items():
            id_ = opened(server, key)["id"]
            assert save(server, key, *prompts).status_code == 200
            page[key] = asked(server, id_, *prompts)
            alone[key] = [mask for prompt in prompts for mask in asked(server, id_, prompt)]
    assert page == alone, "a mask does not depend on what is asked along with it"
    assert batch(folder, options) == page
    assert len({counts for masks in page.values() for counts, *_ in masks}) > 5


def test_a_batch_gives_the_candidate_that_was_picked_on_the_page(folder, options):
    from maskmill_plugins.backends.sam import Sam

    prompts = [{**prompt, "pick": pick} for prompt, pick in PICKED]
    with annotating(folder, Sam(**options)) as server:
        id_ = opened(server, "several.png")["id"]
        seen = [asked(server, id_, prompt, multimask="all")[pick] for prompt, pick in PICKED]
        for key in DRAWN:
            save(server, key, *(prompts if key == "several.png" else []))
        assert asked(server, id_, *prompts) == seen
    assert batch(folder, options)["several.png"] == seen
