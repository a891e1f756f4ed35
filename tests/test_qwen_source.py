"""The source qwen alone: coordinates of every family and shape, options, labels, key, network."""

import hashlib
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pydantic
import pytest
from hypothesis import given, settings, strategies as st
from qwen_wire import KEY, TEXT, VISION, Act, Wire, boxes

from maskmill import Image, ImageError, ImageRef, PipelineError
from maskmill.cli import main as maskmill_main
from maskmill.config.load import load_config
from maskmill.plugins.stage import collecting
from maskmill.testing import image
from maskmill_plugins.prompts.qwen import Qwen
from maskmill_plugins.prompts.qwen.calls.question import ModelReply

pytest.importorskip("openai")
PAGE = (Path(__file__).parent.parent / "docs/qwen.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
#: Where the rectangle of `drawn` lies, in parts of the width and the height.
PLACE = (0.2, 0.25, 0.6, 0.75)
SHAPES = [(4000, 300), (300, 4000), (1024, 1024), (37, 53)]
FAMILIES = [
    ("qwen3.7-plus", "rel1000"),
    ("qwen3-vl-8b-instruct", "rel1000"),
    ("qwen2-vl-7b-instruct", "rel1000"),
    ("qwen2.5-vl-7b-instruct", "abs_sent"),
    ("qwen-vl-max-2025-08-13", "abs_sent"),
]


@pytest.fixture
def wire(monkeypatch, tmp_path):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    with Wire() as wire:
        yield wire


@pytest.fixture
def qwen(wire):
    """Makes the stage, open; closed at the end."""
    made = []

    def make(**options):
        given = {"provider": "openai", "base_url": wire.openai, "api_key": KEY, "find": ["thing"], **options}
        made.append(Qwen.from_options(given))
        assert made[-1].check() == []
        made[-1].open()
        return made[-1]

    yield make
    for stage in made:
        stage.close()


def drawn(size, orientation=1):
    """A picture file with a red rectangle at `PLACE`, upright; stored turned where the orientation says so."""
    width, height = size
    pixels = np.full((height, width, 3), 30, np.uint8)
    x1, y1, x2, y2 = (round(part * side) for part, side in zip(PLACE, (width, height) * 2, strict=True))
    pixels[y1:y2, x1:x2] = (220, 20, 20)
    stored = PIL.Image.fromarray(pixels)
    exif = PIL.Image.Exif()
    if orientation == 6:  # to be turned right by 90° to stand upright
        stored = stored.transpose(PIL.Image.Transpose.ROTATE_90)
        exif[274] = 6
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    return Image.from_bytes(buffer.getvalue(), ImageRef("drawn.png", "drawn.png"))


def seen(picture):
    """Where the red rectangle lies in a picture that was received, in parts of its sides."""
    pixels = np.asarray(picture.convert("RGB")).astype(int)
    rows, columns = np.nonzero(pixels[..., 0] - pixels[..., 1] > 100)
    width, height = picture.size
    return columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height


def answering(convention, size):
    """A server that counts as a family does."""

    def answer(call):
        sides = {"rel1000": (1000, 1000), "abs_sent": call.picture.size, "abs_original": size}[convention]
        place = [round(part * side, 2) for part, side in zip(PLACE, sides * 2, strict=True)]
        return Act(boxes(("thing", tuple(place))))

    return answer


@pytest.mark.parametrize("orientation", [1, 6], ids=["upright", "turned"])
@pytest.mark.parametrize("size", SHAPES, ids=lambda size: "{}×{}".format(*size))
@pytest.mark.parametrize(("model", "convention"), FAMILIES)
def test_boxes_are_within_a_pixel(wire, qwen, model, convention, size, orientation):
    picture = drawn(size, orientation)
    assert (picture.width, picture.height) == size
    wire.answer = answering(convention, size)
    (prompt,) = qwen(model=model).prompts(picture)
    truth = [part * side for part, side in zip(PLACE, size * 2, strict=True)]
    assert prompt.box.xyxy == pytest.approx(truth, abs=1.0)
    received = wire.calls[0].picture
    least = 1.5 / min(received.size)
    assert seen(received) == pytest.approx(PLACE, abs=max(least, 0.02)), "what was sent is upright and whole"


@pytest.mark.parametrize("convention", ["rel1000", "abs_sent", "abs_original"])
def test_an_unknown_model_is_refused_until_its_coordinates_are_named(wire, qwen, convention):
    options = {"provider": "openai", "base_url": wire.openai, "find": ["thing"], "model": "llava-7b"}
    (problem,) = Qwen.from_options(options).check()
    assert "llava-7b" in problem.message
    assert "maskmill qwen calibrate" in str(problem)
    wire.answer = answering(convention, (640, 480))
    (prompt,) = qwen(model="llava-7b", coords=convention).prompts(drawn((640, 480)))
    assert prompt.box.xyxy == pytest.approx([128, 120, 384, 360], abs=1.0)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (37, 53), (2, 4000), (9000, 9000)], ids=lambda s: "{}×{}".format(*s))
def test_no_server_has_a_reason_to_resize(wire, qwen, size):
    """Qwen2.5-VL rounds sides to 28, and wants 4 to 1280 tokens."""
    height, width = qwen(model="qwen2.5-vl-7b-instruct").build_plan().view_image(size).sent
    assert height % 28 == width % 28 == 0
    assert 4 * 28**2 <= height * width <= 1280 * 28**2
    assert max(height, width) / min(height, width) <= 200


@pytest.mark.parametrize(("model", "path"), [("qwen-turbo", TEXT), ("qwen3.7-plus", VISION), ("qwen9", VISION)])
def test_blind_models_are_asked_at_their_own_endpoint(wire, qwen, model, path):
    pytest.importorskip("dashscope")
    wire.script([], Act("[[10, 20], [30, 40]]"))
    stage = qwen(model=model, blind=True, provider="dashscope", base_url=wire.dashscope, **{"as": "points"})
    (prompt,) = stage.prompts(image(48, 64))
    assert [(point.x, point.y) for point in prompt.points] == [(10, 20), (30, 40)]
    (call,) = wire.calls
    assert (call.path, call.picture) == (path, None)
    assert not wire.refused


@pytest.mark.parametrize("provider", ["dashscope", "openai"])
def test_an_sdk_that_is_missing_or_too_old_is_named(monkeypatch, provider):
    import importlib.metadata
    import importlib.util

    stage = Qwen.from_options({"find": ["a"], "provider": provider})
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.28.1")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    (problem,) = stage.missing()
    assert problem.message == f"needs a newer version of the package {provider!r}, found 0.28.1"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == provider else object())
    (problem,) = stage.missing()
    assert problem.hint == 'pip install "maskmill[qwen]"'


def test_a_model_that_does_not_see_is_not_sent_pictures():
    (problem,) = Qwen.from_options({"find": ["a"], "model": "qwen-turbo", "api_key": "k"}).check()
    assert "does not accept images" in problem.message
    assert "blind: true" in problem.hint


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text('[]{}()<>",:0123456789.-bxo_2d|/ \n', max_size=200))
def test_no_reply_whatsoever_fails_in_any_other_way_than_unreadable(text):
    stage = Qwen.from_options({"find": ["a", "b"], "one_class_per_call": False, "api_key": "k"})
    plan = stage.build_plan()
    view, (question,) = plan.view_image((480, 640)), plan.questions
    parsed = plan.parse(ModelReply(text))
    if parsed is not None:
        for prompt in plan.make_prompts(question, view, parsed)[0]:
            assert prompt.fit(480, 640) == prompt
            assert prompt.label in ("a", "b")


def test_half_a_character_in_a_reply_does_no_harm(wire, qwen):
    wire.script([], Act(boxes(("\ud83d", (0, 0, 500, 500)))))
    (prompt,) = qwen(find="a thing").prompts(image())
    json.dumps(prompt.to_json(), ensure_ascii=False).encode()
    notes = {}
    wire.script([], Act("\ud83d"))
    with collecting(notes), pytest.raises(ImageError):
        qwen(find="another thing").prompts(image())
    json.dumps(notes, ensure_ascii=False).encode()


@pytest.mark.parametrize("key", ["sk 1", "sk-钥匙", "a\nb"])
def test_a_key_that_cannot_be_sent_is_refused_and_not_shown(key):
    (problem,) = Qwen.from_options({"find": ["a"], "api_key": key}).check()
    assert "copy it again" in problem.message
    assert key not in str(problem)


def test_each_class_is_asked_for_by_itself_or_all_at_once(wire, qwen):
    qwen(find=["vehicle", "person"]).prompts(image())
    assert len(wire.calls) == 2
    assert "vehicle" in wire.calls[0].text
    assert "person" not in wire.calls[0].text
    wire.script([], Act(boxes(("person", (0, 0, 500, 500)), ("vehicle", (500, 500, 900, 900)))))
    found = qwen(find=["vehicle", "person"], one_class_per_call=False).prompts(image())
    assert len(wire.calls) == 3
    assert sorted(prompt.label for prompt in found) == ["person", "vehicle"]


def test_labels_are_the_users_own(wire, qwen):
    wire.script([], Act(boxes(("car", (0, 0, 500, 500)))))
    (prompt,) = qwen(find=["vehicle"]).prompts(image())
    assert prompt.label == "vehicle"


def test_one_sentence_leaves_the_labels_to_the_model(wire, qwen):
    wire.script([], Act(boxes(("red car", (0, 0, 500, 500)))))
    (prompt,) = qwen(find="all vehicles in the picture").prompts(image())
    assert prompt.label == "red car"
    assert "all vehicles in the picture" in wire.calls[0].text


def test_descriptions_are_for_the_model_and_names_for_the_result(wire, qwen):
    (prompt,) = qwen(find={"车辆": "cars, trucks and buses"}).prompts(image())
    assert "cars, trucks and buses" in wire.calls[0].text
    assert prompt.label == "车辆"


def test_points(wire, qwen):
    wire.script([], Act('```json\n[{"point_2d": [500, 250], "label": "thing"}]\n```'))
    stage = qwen(**{"as": "points"})
    (prompt,) = stage.prompts(image(48, 64))
    assert (prompt.points[0].x, prompt.points[0].y) == pytest.approx((32, 12), abs=1)
    assert stage.kinds() == {"points"}


def test_a_truncated_reply_keeps_what_is_complete_and_says_so(wire, qwen):
    text = '```json\n[{"bbox_2d": [0, 0, 500, 500], "label": "thing"}, {"bbox_2d": [500, 500, 9'
    wire.script([], Act(text, finish="length"))
    notes = {}
    with collecting(notes):
        found = qwen().prompts(image())
    assert len(found) == 1
    assert "truncated" in json.dumps(notes)


def test_the_raw_reply_is_noted_by_its_hash_also_when_it_comes_from_disk(wire, qwen):
    text = '```json\n[{"bbox_2d": [0, 0, 500, 500], "label": "车辆"}]\n```'
    wire.script([], Act(text))
    seen = []
    for _ in range(2):
        notes = {}
        with collecting(notes):
            qwen(find=["车辆"]).prompts(image())
        seen.append(notes["answers"])
    assert len(wire.calls) == 1
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert seen[0] == seen[1] == [{"asked": "车辆", "found": 1, "reply_sha256": digest}]


def test_an_answer_is_asked_for_once_more_in_other_words(wire, qwen):
    wire.script([Act("I cannot say.")])
    assert len(qwen().prompts(image())) == 1
    first, second = wire.calls
    assert first.text != second.text
    assert first.encoded == second.encoded
    wire.script([], Act("I cannot say."))
    with pytest.raises(ImageError, match=r"cannot be parsed.*I cannot say"):
        qwen(find=["other"]).prompts(image())


def test_the_same_picture_is_sent_in_the_same_bytes(wire, qwen):
    qwen(cache=False).prompts(image())
    qwen(cache=False).prompts(image())
    first, second = wire.calls
    assert first.encoded == second.encoded


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"find": []}, "at least 1 item"),
        ({"find": ["a", ""]}, "at least 1 character"),
        ({"find": ["a"], "as_": "points"}, "Extra inputs are not permitted"),
        ({"find": ["a"], "budget": {"cost": 5}}, "needs `input_price` and `output_price`"),
        ({"find": ["a"], "budget": {"calls": 5, "input_price": 1}}, "set both prices"),
        ({"find": ["a"], "concurrency": 0}, "greater than or equal to 1"),
    ],
    ids=["nothing", "empty name", "as_", "cost", "one price", "concurrency"],
)
def test_options_that_cannot_be_right(options, words):
    with pytest.raises(pydantic.ValidationError, match=words):
        Qwen.from_options(options)


@pytest.mark.parametrize(
    ("url", "reach"),
    [
        ("http://127.0.0.1:11434/v1", "none"),
        ("http://localhost:8000/v1", "none"),
        ("http://192.168.1.5:8000/v1", "lan"),
        ("http://workstation:8000/v1", "lan"),
        ("https://qwen.example.com/v1", "internet"),
        (None, "internet"),
    ],
)
def test_how_far_it_reaches_is_the_servers_affair(monkeypatch, url, reach):
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    options = {"provider": "openai", "base_url": url} if url else {}
    assert Qwen.from_options({"find": ["a"], **options}).reaches() == reach


def test_the_key_is_no_part_of_any_text_or_fingerprint(monkeypatch):
    stages = [Qwen.from_options({"find": ["a"], "api_key": key, "model": "qwen3-vl"}) for key in (KEY, "another")]
    assert KEY not in repr(stages[0])
    assert KEY not in json.dumps(stages[0].model_dump(mode="json"))
    assert stages[0].fingerprint(ImageRef("a", "a")) == stages[1].fingerprint(ImageRef("a", "a"))


def test_a_drop_in_sdk_is_imported_only_when_a_question_is_put():
    import subprocess

    code = (
        "import sys; from maskmill_plugins.prompts.qwen import Qwen;"
        "stage = Qwen.from_options({'find': ['a'], 'api_key': 'k'}); stage.check(); stage.open(); stage.close();"
        "sys.exit(str([m for m in ('dashscope', 'openai', 'requests', 'tenacity', 'httpx') if m in sys.modules] or 0))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() in ("", "0"), done.stderr


def test_the_cache_is_listed_measured_and_cleared(wire, qwen, capsys):
    qwen().prompts(image())
    for arguments, words in (
        (["list"], "qwen3.7-plus"),
        (["size"], "1 answer of qwen3.7-plus"),
        (["clear"], "1 answer removed"),
        (["size"], "MB"),
    ):
        with pytest.raises(SystemExit):
            maskmill_main(["qwen", "cache", *arguments])
        assert words in capsys.readouterr().out
    assert "bbox_2d" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["qwen_auto", "qwen_blind", "qwen_local"])
def test_the_ready_pipelines_are_right(monkeypatch, name):
    from maskmill import Pipeline

    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    file = Path(__file__).parent.parent / f"pipelines/{name}.yaml"
    config = Pipeline.load(file).config
    (use,) = config.prompts
    assert use.stage.check() == []
    monkeypatch.delenv("DASHSCOPE_API_KEY")
    problems = use.stage.check()
    assert [problem.hint.split(" (")[0] for problem in problems] == (
        ["get one at https://www.alibabacloud.com/help/en/model-studio/get-api-key"] if name == "qwen_auto" else []
    )


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_page_load(tmp_path, monkeypatch, text):
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    (use,) = load_config(tmp_path / "p.yaml").prompts
    assert use.stage.check() == []


def test_no_such_region(monkeypatch):
    (problem,) = Qwen.from_options({"find": ["a"], "region": "cn-moon"}).check()
    assert "unknown region 'cn-moon'" in problem.message
    with pytest.raises(PipelineError):
        Qwen.from_options({"find": ["a"], "region": "cn-moon"}).resolve_endpoint()


#: Options, and their fingerprint and question id before there was a second wording.
BEFORE = [
    ({"find": ["a"], "wording": 1}, "cba5bb1b6f4e5d10", "bf5e55ee52b0"),
    ({"find": "all cars", "as": "points", "max_tokens": 100, "wording": 1}, "d9de6b8b22fa65bf", "4d41271fdfdb"),
    ({"find": ["a"], "prompt_template": "x {classes}"}, "d6a014bb274aba51", "2287ce7e209b"),
    ({"find": ["a"], "blind": True, "model": "qwen-turbo"}, "f316ab1546c3c880", "2bae197ad93a"),
    (
        {"find": ["a", "b"], "model": "qwen2.5-vl-7b", "one_class_per_call": False, "wording": 1},
        "00bf1df1955e4d77",
        "a0bc9970a57c",
    ),
]


@pytest.mark.parametrize(("options", "fingerprint", "question"), BEFORE, ids=range(len(BEFORE)))
def test_results_and_answers_of_before_stay_valid(options, fingerprint, question):
    stage = Qwen.from_options({**options, "api_key": KEY})
    plan = stage.build_plan()
    view = plan.view_image((1000, 2000))
    assert stage.fingerprint(ImageRef("a", "a")) == fingerprint
    found = plan.list_question_ids(plan.questions[0].write_text(view), "00", view)
    assert question in [question_id[:12] for question_id, _ in found]


def test_the_second_wording_is_another_question():
    stages = [Qwen.from_options({"find": ["a"], "api_key": KEY, "wording": wording}) for wording in (1, 2)]
    assert len({stage.fingerprint(ImageRef("a", "a")) for stage in stages}) == 2


def test_the_unit_in_the_question_is_the_models(wire, qwen):
    qwen().prompts(image())
    wire.script([], Act(boxes(("thing", (5, 5, 40, 40)))))
    qwen(model="qwen2.5-vl-7b").prompts(image())
    assert ["0 to 1000" in call.text for call in wire.calls] == [True, False]


@pytest.mark.parametrize("provider", ["openai", "dashscope"])
@pytest.mark.parametrize(("limit", "least", "most"), [(None, 1_200_000, 1_311_000), (300_000, 250_000, 300_000)])
def test_max_pixels_limits_what_is_sent(wire, qwen, provider, limit, least, most):
    pytest.importorskip(provider)
    qwen(max_pixels=limit, provider=provider, base_url=getattr(wire, provider)).prompts(drawn((2000, 1500)))
    (call,) = wire.calls
    assert least <= call.picture.width * call.picture.height <= most
    if provider == "dashscope":
        assert call.body["input"]["messages"][0]["content"][0].get("max_pixels") == limit


@pytest.mark.parametrize(
    ("options", "key", "labels"),
    [
        ({"find": ["thing"]}, "bbox_2d", ["thing"]),
        ({"find": ["a", "b"], "one_class_per_call": False, "as": "points"}, "point_2d", ["a", "b"]),
        ({"find": "all things"}, "bbox_2d", None),
    ],
)
def test_the_server_holds_the_answer_to_a_schema(wire, qwen, options, key, labels):
    wire.script([], Act('[{"bbox_2d": [1, 2, 300, 400], "point_2d": [9, 9], "label": "a"}]'))
    qwen(response_format="json_schema", **options).prompts(image())
    form = wire.calls[0].body["response_format"]
    assert form["type"] == "json_schema"
    schema = form["json_schema"]["schema"]
    assert schema["type"] == "array"
    assert schema["items"]["required"] == [key, "label"]
    assert schema["items"]["properties"]["label"].get("enum") == labels
    qwen(**options).prompts(image())
    assert "response_format" not in wire.calls[1].body, "asked again, and without"


@pytest.mark.parametrize("options", [{"provider": "dashscope"}, {"blind": True}, {"prompt_template": "x {classes}"}])
def test_no_schema_for_other_questions(options):
    given = {"find": ["a"], "api_key": KEY, "provider": "openai", "base_url": "http://127.0.0.1:1/v1", **options}
    (problem,) = Qwen.from_options({**given, "response_format": "json_schema"}).check()
    assert "needs `provider: openai`" in problem.message
