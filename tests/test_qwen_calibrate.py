"""Calibration of a model's coordinates with images of several shapes; servers that change images."""

import shlex

import numpy as np
import pytest
from qwen_wire import KEY, Act, Wire, boxes

from maskmill.cli import main as maskmill_main
from maskmill_plugins.prompts.qwen.calibrate import (
    PICTURES,
    PLACE,
    TOLERANCE,
    CalibrationReply,
    choose_convention,
    draw_image,
    find_likely_cause,
    fit_conventions,
    get_boxes,
)
from maskmill_plugins.prompts.qwen.coordinates.convert import choose_send_size, find_far_corner
from maskmill_plugins.prompts.qwen.reply.parse import FoundObject
from maskmill_plugins.prompts.qwen.source import Qwen

CONVENTIONS = ["rel1000", "abs_sent", "abs_original"]


def reply(name, convention, grid=32, off=0.0, change=lambda x, y, w, h: (x, y)):
    """What a server answers about a picture; `off` in parts of the sides, `change` is what it does to the place."""
    sent = choose_send_size(PICTURES[name], "abs_sent", grid)
    height, width = PICTURES[name] if convention == "abs_original" else sent
    far = find_far_corner(convention, PICTURES[name], sent)
    place = (*change(*PLACE[:2], width, height), *change(*PLACE[2:], width, height))
    return CalibrationReply(name, sent, [tuple((p + off) * f for p, f in zip(place, far * 2, strict=True))])


@pytest.mark.parametrize("name", PICTURES)
def test_the_shape_is_where_the_truth_says(name):
    pixels = draw_image(name)
    height, width = PICTURES[name]
    assert pixels.shape == (height, width, 3)
    assert pixels.dtype == np.uint8
    red = pixels[..., 0].astype(int) - pixels[..., 1] > 100
    rows, columns = np.nonzero(red)
    found = (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
    assert found == pytest.approx(PLACE, abs=1e-3)


@pytest.mark.parametrize("grid", [28, 32])
@pytest.mark.parametrize("off", [0.0, 0.01, -0.02])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_convention_is_found_though_the_model_is_not_exact(convention, off, grid):
    replies = [reply(name, convention, grid, off) for name in PICTURES]
    assert choose_convention(replies) == convention
    for one in replies:
        first, second, _ = fit_conventions(one)
        assert first.coords == convention
        assert (first.x, first.y) == pytest.approx((abs(off), abs(off)), abs=1e-9)
        assert first.error <= TOLERANCE < second.error / 2, "and no other fits half as well"


def test_the_best_of_several_boxes_counts():
    right = reply("landscape", "rel1000").boxes[0]
    found = [FoundObject(box=(1.0, 1.0, 9.0, 9.0)), FoundObject(points=((5.0, 5.0, 1),)), FoundObject(box=right)]
    fits = fit_conventions(CalibrationReply("landscape", (777, 1680), get_boxes(found)))
    assert (fits[0].coords, fits[0].error) == ("rel1000", pytest.approx(0))


def test_nothing_fits_where_there_is_no_box():
    nothing = CalibrationReply("landscape", (777, 1680), get_boxes([FoundObject(points=((5.0, 5.0, 1),))]))
    assert fit_conventions(nothing) == []
    assert choose_convention([nothing]) is None
    assert choose_convention([CalibrationReply("landscape", (777, 1680), [(1.0, 1.0, 9.0, 9.0)])]) is None


def test_the_error_is_told_apart_by_axis():
    one = reply("portrait", "rel1000", change=lambda x, y, w, h: (x + 0.01, y - 0.2))
    (fit,) = [fit for fit in fit_conventions(one) if fit.coords == "rel1000"]
    assert (fit.x, fit.y) == pytest.approx((0.01, 0.2))


#: What a server does: a place in parts of the sides and the sides (width, height), and words of the likely cause.
FAULTS = {
    "padded": (lambda x, y, w, h: (x * w / max(w, h), y * h / max(w, h)), "pads images to a square"),
    "padded around": (
        lambda x, y, w, h: ((x * w + (max(w, h) - w) / 2) / max(w, h), (y * h + (max(w, h) - h) / 2) / max(w, h)),
        "around their centre",
    ),
    "y by the long side": (lambda x, y, w, h: (x, y * h / max(w, h)), "y is relative to the longer side"),
    "heights over 1024": (lambda x, y, w, h: (x, y * min(1, 1024 / h)), "heights over 1024 are squashed"),
    "portrait squashed": (lambda x, y, w, h: (x, y * w / h) if h > w else (x, y), "portrait images only"),
    "scales swapped": (lambda x, y, w, h: (x * h / w, y * w / h), "scales of x and y are swapped"),
    "swapped": (lambda x, y, w, h: (y, x), "y comes before x"),
}


@pytest.mark.parametrize("off", [0.0, 0.01])
@pytest.mark.parametrize("convention", ["rel1000", "abs_sent"])
@pytest.mark.parametrize(("change", "words"), FAULTS.values(), ids=FAULTS)
def test_a_server_that_changes_images_is_refused_and_its_fault_named(change, words, convention, off):
    replies = [reply(name, convention, off=off, change=change) for name in ("landscape", "portrait")]
    assert choose_convention(replies) is None
    cause = find_likely_cause(replies)
    assert words in cause
    assert f"`{convention}`" in cause


@pytest.fixture
def wire(monkeypatch, tmp_path):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WIRE_KEY", KEY)
    with Wire() as wire:
        yield wire


def calibrate(wire, capsys, *more):
    options = ["--provider", "openai", "--base-url", wire.openai, "--key-variable", "WIRE_KEY", *more]
    with pytest.raises(SystemExit) as ended:
        maskmill_main(["qwen", "calibrate", "--model", "llava-7b", *options])
    return ended.value.code, capsys.readouterr().out


def seeing(convention, change=lambda x, y, w, h: (x, y)):
    """A server that looks for the red pixels of the picture that it gets."""

    def answer(call):
        pixels = np.asarray(call.picture.convert("RGB")).astype(int)
        rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 1] > 100)
        width, height = call.picture.size
        first = change(columns.min() / width, rows.min() / height, width, height)
        last = change((columns.max() + 1) / width, (rows.max() + 1) / height, width, height)
        original = next(
            (w, h) for h, w in PICTURES.values() if (w > h) == (width > height) and (w < h) == (width < height)
        )
        sides = {"rel1000": (1000, 1000), "abs_sent": (width, height), "abs_original": original}[convention]
        place = [round(part * side) for part, side in zip((*first, *last), sides * 2, strict=True)]
        return Act(boxes(("red rectangle", tuple(place))))

    return answer


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("more", [(), ("--square",)], ids=["two", "three"])
def test_honest_servers_are_accepted(wire, capsys, convention, more):
    pytest.importorskip("openai")
    wire.answer = seeing(convention)
    code, said = calibrate(wire, capsys, *more)
    assert code == 0
    assert f"Set: coords: {convention}" in said
    assert "red rectangle" in said
    assert len(wire.calls) == 2 + len(more)
    assert all(call.picture.size not in [size[::-1] for size in PICTURES.values()] for call in wire.calls), (
        "sent smaller"
    )


@pytest.mark.parametrize("convention", ["rel1000", "abs_sent"])
@pytest.mark.parametrize("fault", ["padded", "heights over 1024", "scales swapped"])
def test_faulty_servers_are_refused(wire, capsys, fault, convention):
    pytest.importorskip("openai")
    change, words = FAULTS[fault]
    wire.answer = seeing(convention, change)
    code, said = calibrate(wire, capsys)
    assert code == 1
    assert words in said
    assert "the model is not at fault" in said
    assert "Set:" not in said
    assert "error x" in said


@pytest.mark.parametrize("text", ["I see a red rectangle.", boxes(("red rectangle", (1, 2, 300, 300)))])
def test_a_model_that_does_not_find_it(wire, capsys, text):
    pytest.importorskip("openai")
    wire.script([], Act(text))
    code, said = calibrate(wire, capsys)
    assert code == 1
    assert "No convention fits" in said
    assert "the model is not at fault" not in said


def test_portrait_right_and_landscape_odd(wire, capsys):
    pytest.importorskip("openai")
    wire.answer = seeing("rel1000", lambda x, y, w, h: (x, y) if h > w else (x, y * 0.71))
    code, said = calibrate(wire, capsys)
    assert code == 1
    assert "The images disagree" in said


def test_the_command_in_the_hint_reaches_the_server_of_the_pipeline(wire, capsys):
    pytest.importorskip("openai")
    key = {"api_key": KEY}
    options = {"provider": "openai", "base_url": wire.openai, "find": ["thing"], "model": "my model:7b"} | key
    (problem,) = Qwen.from_options(options).check()
    assert KEY not in problem.hint
    command = problem.hint.partition("run: ")[2].replace("NAME_OF_THE_KEY_VARIABLE", "WIRE_KEY")
    wire.answer = seeing("abs_sent")
    with pytest.raises(SystemExit) as ended:
        maskmill_main(shlex.split(command)[1:])
    assert not ended.value.code
    assert "Set: coords: abs_sent" in capsys.readouterr().out
    assert {call.body["model"] for call in wire.calls} == {"my model:7b"}
