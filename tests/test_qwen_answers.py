"""What a reply is worth: an answer, a doubtful one, none; what is asked again, and what is paid for once."""

import json
from contextlib import closing

import pytest
from qwen_wire import KEY, Act, Wire, boxes

from maskmill import ImageError
from maskmill.plugins.stage import collecting
from maskmill.testing import image
from maskmill_plugins.prompts.qwen import Qwen
from maskmill_plugins.prompts.qwen.asking.conversation import describe_objects
from maskmill_plugins.prompts.qwen.calls.answer_store import AnswerStore
from maskmill_plugins.prompts.qwen.calls.question import ModelReply
from maskmill_plugins.prompts.qwen.reply.none_sentence import says_none
from maskmill_plugins.prompts.qwen.reply.parse import parse_reply

pytest.importorskip("openai")
GOOD = ("car", (100, 100, 500, 500))


@pytest.fixture
def wire(monkeypatch, tmp_path):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)
    with Wire() as wire:
        yield wire


@pytest.fixture
def ask(wire):
    """Asks about a picture with the server's next replies; returns prompts, doubts by code, verbose lines."""

    def ask(*replies, picture=None, **options):
        acts = [reply if isinstance(reply, Act) else Act(reply) for reply in replies]
        wire.script(acts[:-1], acts[-1])
        given = {"provider": "openai", "base_url": wire.openai, "api_key": KEY, "find": ["car"], **options}
        stage = Qwen.from_options(given)
        assert stage.check() == []
        stage.open()
        doubts, lines = [], []
        with closing(stage), collecting({}, lines.append, doubts):
            prompts = stage.prompts(image() if picture is None else picture)
        return prompts, {doubt.code: doubt.message for doubt in doubts}, "\n".join(lines)

    return ask


# --- nothing usable ----------------------------------------------------------------------------

USELESS = {
    "0 to 1": ('[{"bbox_2d": [0.1, 0.2, 0.5, 0.8], "label": "car"}]', {}, "1 between 0 and 1"),
    "0 to 1, with whole numbers": ('[{"bbox_2d": [0, 0.25, 1, 1], "label": "car"}]', {}, "1 between 0 and 1"),
    "0 to 1, all whole": ('[{"bbox_2d": [0, 0, 1, 1], "label": "car"}]', {}, "1 sliver"),
    "points from 0 to 1": ('[{"point_2d": [0.4, 0.7], "label": "car"}]', {"as": "points"}, "1 between 0 and 1"),
    "outside": (boxes(("car", (-300, 0, -200, 50)), ("car", (-9, -9, 0, 0))), {}, "2 outside"),
    "a point outside": ('[{"point_2d": [-5, 10], "label": "car"}]', {"as": "points"}, "1 outside"),
    "slivers": (boxes(("car", (5, 5, 5, 90)), ("car", (5, 5, 90, 6))), {}, "2 sliver"),
    "no class": (boxes(("tree", (0, 0, 500, 500))), {"one_class_per_call": False}, "1 of no class asked for"),
    "another unit": (boxes(GOOD, ("car", (700, 200, 1316, 600))), {}, "its coordinates reach 1316"),
    "points in another unit": (
        '[{"point_2d": [1920, 70]}, {"point_2d": [10, 70]}]',
        {"as": "points"},
        "its coordinates reach 1920",
    ),
    "half a box": ('[{"bbox_2d": [1, 2, 3], "label": "car"}]', {}, "1 no box"),
    "half a box beside an empty list": ('[{"bbox_2d": [1, 2, 3], "label": "car"}]\n[]', {}, "1 no box"),
    "too large": ('[{"bbox_2d": [1, 2, 3, 1e9], "label": "car"}]', {}, "1 no box"),
    "a point too large": ('[{"point_2d": [1, 2e9], "label": "car"}]', {"as": "points"}, "1 no point"),
    "three dimensions": ('[{"bbox_3d": [1, 2, 3, 4, 5, 6, 7, 8, 9], "label": "car"}]', {}, "not two-dimensional"),
    "cut off at once": (
        Act('```json\n[{"bbox_2d": [100, 100', finish="length"),
        {},
        r"it reached max_tokens \(4,096\)",
    ),
    "filtered at once": (Act("[", finish="content_filter"), {}, "content filter stopped it"),
    "an empty list in a loop": (Act("[]\n" * 50, finish="length"), {}, "cut off before its first object"),
}


@pytest.mark.parametrize(("reply", "options", "words"), USELESS.values(), ids=USELESS)
def test_a_reply_without_a_usable_object_is_asked_once_more_and_then_fails(ask, wire, reply, options, words):
    classes = ["car", "dog"] if "one_class_per_call" in options else ["car"]
    with pytest.raises(ImageError, match=words):
        ask(reply, find=classes, **options)
    assert len(wire.calls) == 2
    assert wire.calls[0].text != wire.calls[1].text


@pytest.mark.parametrize(("reply", "options", "words"), USELESS.values(), ids=USELESS)
def test_a_second_usable_reply_is_taken_for_the_first(ask, wire, reply, options, words):
    second = '[{"point_2d": [400, 300], "label": "car"}]' if options.get("as") == "points" else boxes(GOOD)
    classes = ["car", "dog"] if "one_class_per_call" in options else ["car"]
    prompts, doubts, _ = ask(reply, second, find=classes, **options)
    assert ([prompt.label for prompt in prompts], doubts) == (["car"], {})
    assert ask("not asked", find=classes, **options)[:2] == (prompts, {}), "stored like any other"
    assert len(wire.calls) == 2


def test_nothing_after_objects_that_could_not_be_used_is_doubtful(ask, wire):
    for _ in "asked", "stored":
        prompts, doubts, _ = ask(boxes(("car", (0.1, 0.1, 0.5, 0.5))), "[]")
        assert prompts == []
        assert list(doubts) == ["incomplete"]
    assert len(wire.calls) == 2
    assert ask("I cannot say.", "[]", find=["dog"])[:2] == ([], {})


def test_an_unknown_list_beside_an_empty_answer_is_doubtful(ask):
    for number, reply in enumerate(('{"detections": [], "car": [[1, 2, 30, 40]]}', '{"car": [1, 2, 30, 40]}\n[]')):
        prompts, doubts, _ = ask(reply, model=f"qwen3-vl-{number}")
        assert (prompts, list(doubts)) == ([], ["incomplete"])
        assert "1 under an unknown key" in doubts["incomplete"]


def test_objects_of_another_class_are_left_to_its_own_question(ask, wire):
    car = boxes(GOOD)
    prompts, doubts, _ = ask(car, find=["car", "dog"])
    assert [prompt.label for prompt in prompts] == ["car"]
    assert doubts == {"incomplete": "the answer about dog has only objects of other classes: 1"}
    with pytest.raises(ImageError, match="no object of the class asked for: about dog"):
        ask("[]", car, find=["car", "dog"], model="qwen3.6-plus")
    dog = boxes(("dog", (600, 600, 900, 900)), GOOD)
    assert ask(car, dog, find=["car", "dog"], model="qwen3-vl-plus")[1] == {}


# --- nothing there -----------------------------------------------------------------------------

NONE = {
    "There are no cars in this image.": ["car"],
    "There are no cars.": ["car"],
    "**There is no car visible in the image.**": ["car"],
    "There aren't any cars in the photo.": ["car"],
    "There do not appear to be any cars in the image.": ["car"],
    "No cars were detected.": ["cars"],
    "No Cars": ["car"],
    "I don’t see any cars in this image.": ["car"],
    "The image does not contain any traffic lights": ["traffic light"],
    "The image contains no buses.": ["bus"],
    "The car is not visible in the image.": ["car"],
    "There are no cars or dogs in the image.": ["car", "dog"],
    "There are no objects in the image.": ["car", "dog"],
    "None.": ["car"],
    "图中没有汽车。": ["汽车"],
    "图像中没有发现任何汽车。": ["汽车"],
    "未检测到汽车": ["汽车"],
    "<think>A car? No.</think>There are no cars in this image.": ["car"],
    "<answer>There are no cars in this image.</answer>": ["car"],
    '{"detections": []}': ["car"],
    '{"image_region": [0, 0, 1000, 1000], "detections": []}': ["car"],
}


@pytest.mark.parametrize("reply", NONE)
def test_a_reply_that_says_none_costs_one_call(ask, wire, reply):
    assert ask(reply, find=NONE[reply], one_class_per_call=False)[:2] == ([], {})
    assert len(wire.calls) == 1


NOT_NONE = [
    "There is no image.",
    "I cannot see any images.",
    "I can't identify people in this image.",
    "There are no cars, but there is a truck.",
    "There are no cars in the image. However, there is a truck.",
    "There are no red cars in the image.",
    "There are no other cars in the image.",
    "There are no cars in the left half of the image.",
    "The car is not fully visible in the image.",
    "There are no issues with the car.",
    "There are no trucks in this image.",
    "There is no doubt: a car.",
    "No, there is a car in the image.",
    "No.",
    "There are no 3 cars.",
    "图中没有卡车。",
    "",
]


@pytest.mark.parametrize("text", NOT_NONE)
def test_other_sentences_do_not_say_none(text):
    assert not says_none(text, ["car"])
    assert not says_none(text, ["汽车"])


def test_a_sentence_has_to_name_everything_that_was_asked_for():
    assert not says_none("There are no cars.", ["car", "dog"])
    assert not says_none("There are no cars, dogs or cats.", ["car", "dog"])
    assert says_none("No vehicles were found.", ["all vehicles in the picture"], sentence=True)
    assert not says_none("No horses were found.", ["all vehicles in the picture"], sentence=True)
    assert not says_none("There is no picture.", ["all vehicles in the picture"], sentence=True)


# --- doubtful ----------------------------------------------------------------------------------

DOUBTFUL = {
    "outside": (boxes(GOOD, ("car", (-90, 0, -10, 50))), "out_of_range", "1 outside"),
    "0 to 1": (boxes(GOOD, ("car", (0.1, 0.2, 0.5, 0.8))), "out_of_range", "1 between 0 and 1"),
    "slip": (boxes(("car", (700, 200, 1003, 600))), "clipped", "1 object "),
    "clipped": (boxes(("car", (-20, 200, 300, 600))), "clipped", "1 object "),
    "sliver": (boxes(GOOD, ("car", (7, 7, 7, 90))), "incomplete", "1 sliver"),
    "half a box": (f'[{boxes(GOOD)[9:-5]}, {{"bbox_2d": [1, 2, 3]}}]', "incomplete", "1 no box"),
    "swapped": (boxes(("car", (500, 100, 100, 500))), "other", "swapped corners"),
    "no class": (boxes(GOOD, ("tree", (0, 0, 50, 50))), "incomplete", "1 of no class asked for"),
}


@pytest.mark.parametrize(("reply", "code", "words"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_is_left_out_or_changed_is_doubtful(ask, wire, reply, code, words):
    prompts, doubts, _ = ask(reply, find=["car", "dog"], one_class_per_call=False)
    assert len(prompts) == 1
    assert list(doubts) == [code]
    assert words in doubts[code]
    assert len(wire.calls) == 1


def test_pixels_may_be_above_a_thousand(ask):
    reply = boxes(("car", (100, 100, 1200, 700)))
    for coords in "abs_original", "abs_sent":
        assert ask(reply, picture=image(800, 1264), coords=coords, cache=False)[1] == {}


# --- cut off -----------------------------------------------------------------------------------

CUT = '```json\n[{"bbox_2d": [100, 100, 500, 500], "label": "car"}, {"bbox_2d": [500, 500, 9'
WHOLE = boxes(GOOD)
TRUNCATED = {
    "length": (Act(CUT, finish="length"), r"it reached max_tokens (4,096)"),
    "length, after a whole list": (Act(WHOLE, finish="length"), "it reached max_tokens"),
    "content_filter": (Act(WHOLE, finish="content_filter"), "content filter stopped it"),
    "MAX_TOKENS": (Act(CUT, finish="MAX_TOKENS"), "it reached max_tokens"),
    "abort": (Act(WHOLE, finish="abort"), "the server stopped it (abort)"),
    "stop, inside a value": (Act(CUT, finish="stop"), "ends inside a value"),
    "stop, inside a value in a fence": (Act(CUT + "\n```", finish="stop"), "ends inside a value"),
    "in JSON in JSON": (Act(json.dumps({"answer": CUT})), "ends inside a value"),
    "a tag": (Act("<ref>car</ref><box>(100,100),(500,500)</box><box>(50,6"), "ends inside a value"),
    "a swallowed tag": (Act("car(100,100),(500,500)\ncar(500,500),(9"), "ends inside a value"),
}


@pytest.mark.parametrize(("reply", "words"), TRUNCATED.values(), ids=TRUNCATED)
def test_a_cut_off_answer_keeps_its_complete_objects_and_is_doubtful(ask, wire, reply, words):
    prompts, doubts, _ = ask(reply)
    assert len(prompts) == 1
    assert list(doubts) == ["truncated"]
    assert words in doubts["truncated"]
    assert len(wire.calls) == 1


@pytest.mark.parametrize("finish", ["stop", "", "STOP", "eos", "null"])
def test_a_whole_answer_is_not_doubtful(ask, finish):
    assert ask(Act(WHOLE, finish=finish))[1] == {}


def test_a_larger_limit_asks_again_only_what_was_cut_off(ask, wire):
    two = boxes(GOOD, ("dog", (500, 500, 900, 900)))
    replies = [Act(CUT, finish="length"), Act(boxes(("dog", (500, 500, 900, 900))))]
    prompts, doubts, _ = ask(*replies, find=["car", "dog"], max_tokens=100)
    assert (len(prompts), list(doubts), len(wire.calls)) == (2, ["truncated"], 2)
    assert ask(two, find=["car", "dog"], max_tokens=100)[0] == prompts
    assert ask(two, find=["car", "dog"], max_tokens=50)[0] == prompts
    assert len(wire.calls) == 2, "the same limit, or a lower one, gives nothing more"
    prompts, doubts, _ = ask(WHOLE, find=["car", "dog"], max_tokens=200)
    assert (len(prompts), doubts, len(wire.calls)) == (2, {}, 3)
    assert [call.body["max_tokens"] for call in wire.calls] == [100, 100, 200]
    for limit in 100, 4096, 10_000:
        assert ask(two, find=["car", "dog"], max_tokens=limit)[:2] == (prompts, {})
    assert len(wire.calls) == 3


def test_a_reply_that_was_cut_off_at_once_costs_no_try_of_a_larger_limit(ask, wire):
    cut = Act("[{", finish="length")
    with pytest.raises(ImageError):
        ask(cut, max_tokens=100)
    assert len(ask(cut, WHOLE, max_tokens=200)[0]) == 1
    assert len(wire.calls) == 4


@pytest.mark.parametrize("limit", [4096, 100])
def test_answers_stored_by_earlier_versions_are_used(ask, wire, tmp_path, monkeypatch, limit):
    """They lie under an id with their own max_tokens, and do not say what it was."""
    prompts = ask(WHOLE, cache=False)[0]
    stage = Qwen.from_options(
        {"provider": "openai", "base_url": wire.openai, "api_key": KEY, "find": ["car"], "max_tokens": limit}
    )
    plan = stage.build_plan()
    view, (template,) = plan.view_image(image().size), plan.questions
    ids = plan.list_question_ids(template.write_text(view), sent_hash(plan, view), view)
    assert [number for _, number in ids] == list(dict.fromkeys([4096, limit]))
    with closing(AnswerStore(tmp_path / "cache/qwen")) as answers:
        answers.add(ids[-1][0], plan.model, ModelReply(WHOLE, "stop"))
    assert ask("not asked", max_tokens=limit)[0] == prompts
    assert len(wire.calls) == 1


def sent_hash(plan, view):
    import hashlib

    from maskmill_plugins.prompts.qwen.asking.sent_image import encode_image

    return hashlib.sha256(encode_image(image(), view.sent)).hexdigest()


# --- the verbose log ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted", "blind", "expected"),
    [
        (boxes(GOOD), "boxes", False, "1 box: car (100, 100, 500, 500)"),
        (boxes(GOOD, GOOD), "boxes", False, "2 boxes: car (100, 100, 500, 500); car (100, 100, 500, 500)"),
        ('[{"point_2d": [1.5, 2]}]', "points", False, "1 point: (1.5, 2)"),
        ("[[1, 2], [3, 4]]", "points", True, "2 points: (1, 2) (3, 4)"),
        ("[]", "boxes", False, "none"),
        (boxes(*[GOOD] * 25), "boxes", False, "; and 5 more"),
    ],
    ids=["box", "boxes", "point", "points of one object", "none", "many"],
)
def test_coordinates_are_listed_as_they_came(text, wanted, blind, expected):
    assert expected in describe_objects(parse_reply(text, wanted, blind).found)


def test_blind_stands_after_the_question(ask):
    _, _, lines = ask("[[10, 20], [30, 40]]", blind=True, **{"as": "points"})
    asked, received = lines.splitlines()[:2]
    assert asked.endswith("asking qwen3.7-plus for car (blind: without the image)")
    assert "coordinates received: 2 points: (10, 20) (30, 40)" in received
