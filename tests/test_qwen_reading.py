"""Parsing replies: every answer is found, and nothing else, for any text."""

import json
import os
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from maskmill_plugins.prompts.qwen.reply.parse import parse_reply

CAR = '{"bbox_2d": [10, 20, 30, 40], "label": "car"}'
DOG = '{"bbox_2d": [50, 60, 70, 80], "label": "dog"}'
A, B = (10, 20, 30, 40), (50, 60, 70, 80)
#: A file of replies of real models, a JSON object a line: raw, expected.
REAL = os.environ.get("MASKMILL_QWEN_REPLIES")


def boxes(text, **options):
    """Name and box of each object."""
    return [(one.label, one.box) for one in parse_reply(text, **options).found]


def spots(text, **options):
    """Name and points of each object."""
    return [(one.label, one.points) for one in parse_reply(text, "points", **options).found]


TWO = [("car", A), ("dog", B)]
ONE = [("car", A)]
BARE = [(None, A), (None, B)]
BOXES = {
    "JSON": (f"[{CAR}, {DOG}]", TWO),
    "a fence": (f"```json\n[\n\t{CAR},\n\t{DOG}\n]\n```", TWO),
    "a fence that never closes": (f"```json\n[{CAR}, {DOG}]", TWO),
    "a fence that only closes": (f"[{CAR}, {DOG}]\n```", TWO),
    "the residue of a fence": (f"json\n[{CAR}, {DOG}]\n", TWO),
    "one object": (CAR, ONE),
    "JSON lines": (f"{CAR}\n{DOG}", TWO),
    "arrays one after the other": (f"[{CAR}]\n[{DOG}]", TWO),
    "an empty array before": (f"[]\n[{CAR}]", ONE),
    "prose around": (f"Sure, 2 objects! Call 555-1234.\n[{CAR}, {DOG}]\nThat makes 100, 200, 300, 400.", TWO),
    "a tool call": (f'<tool_call>\n{{"name": "mark", "arguments": {DOG}}}\n</tool_call>', [("dog", B)]),
    "an object around": (f'{{"objects": [{CAR}, {DOG}], "image_size": [640, 480, 1, 2]}}', TWO),
    "labels as keys": ('{"car": [[10, 20, 30, 40]], "dog": [[50, 60, 70, 80]]}', TWO),
    "labels as keys of flat lists": ('{"car": [10, 20, 30, 40], "dog": [50, 60, 70, 80]}', TWO),
    "labels as keys of objects": ('{"car": {"bbox": [10, 20, 30, 40]}, "dog": [{"bbox": [50, 60, 70, 80]}]}', TWO),
    "rows": ('[["car", 10, 20, 30, 40], ["dog", [50, 60, 70, 80]]]', TWO),
    "bare lists": ("[[10, 20, 30, 40], [50, 60, 70, 80]]", BARE),
    "one flat list": ("[10, 20, 30, 40]", BARE[:1]),
    "eight numbers": ("[10, 20, 30, 40, 50, 60, 70, 80]", BARE),
    "eight numbers under a key": ('{"bbox_2d": [10, 20, 30, 40, 50, 60, 70, 80]}', BARE),
    "two boxes under a key": ('{"label": "car", "bbox_2d": [[10, 20, 30, 40], [50, 60, 70, 80]]}', [*ONE, ("car", B)]),
    "corners": ('{"label": "car", "bbox_2d": [[10, 20], [30, 40]]}', ONE),
    "four corners": ('{"label": "car", "bbox": [[10, 20], [30, 20], [30, 40], [10, 40]]}', ONE),
    "sides by name": ('[{"label": "car", "bbox": {"x_min": 10, "y_min": 20, "x_max": 30, "y_max": 40}}]', ONE),
    "sides in the object": ('[{"label": "car", "x1": 10, "y1": 20, "x2": 30, "y2": 40}]', ONE),
    "a score in the box": ('[{"label": "car", "bbox_2d": [10, 20, 30, 40, 0.97]}]', ONE),
    "numbers in quotes": ('[{"label": "car", "bbox_2d": ["10", "20", "30", "40"]}]', ONE),
    "a box in quotes": ('[{"label": "car", "bbox_2d": "(10,20),(30,40)"}]', ONE),
    "tags in JSON": ('[{"label": "car", "bbox_2d": "<box>(10,20),(30,40)</box>"}]', ONE),
    "a description beside the label": (f'[{CAR[:-1]}, "description": "person", "type": "object"}}]', ONE),
    "a description alone": ('{"bbox_2d": [10, 20, 30, 40], "description": "car"}', ONE),
    "a Chinese label": ('[{"bbox_2d": [10, 20, 30, 40], "name_zh": "汽车"}]', [("汽车", A)]),
    "Chinese keys": ('[{"标签": "汽车", "边界框": [10, 20, 30, 40]}]', [("汽车", A)]),
    "full-width punctuation": ("[{“bbox_2d”：[10，20，30，40]，“label”：“汽车”}]", [("汽车", A)]),
    "quotes of Python": ("[{'bbox_2d': (10, 20, 30, 40), 'label': 'driver's car', 'ok': None}]", [("driver's car", A)]),
    "quotes in a label": ('[{"bbox_2d": [10, 20, 30, 40], "label": "12" pipe"}]', [('12" pipe', A)]),
    "numbers in a label": (
        '[{"bbox_2d": [10, 20, 30, 40], "label": "[1,2,3,4] (5,6),(7,8)"}]',
        [("[1,2,3,4] (5,6),(7,8)", A)],
    ),
    "comments": (f"[\n  // the first [1, 2, 3, 4]\n  {CAR}, # {{}} \n  /* and */ {DOG}\n]", TWO),
    "commas at the end": ('[{"bbox_2d": [10, 20, 30, 40,], "label": "car",},]', ONE),
    "no commas": ('[{"bbox_2d": [10 20 30 40] "label": "car"} {"bbox_2d": [50, 60, 70, 80] "label": "dog"}]', TWO),
    "no quotes": ("[{bbox_2d: [10, 20, 30, 40], label: car}]", ONE),
    "an ellipsis": (f"[{CAR}, {DOG}, ...]", TWO),
    "doubled braces": (f"[{{{CAR}}}, {{{DOG}}}]", TWO),
    "a doubled brace": (f"{{{{{CAR[1:]}", ONE),
    "no opening bracket": (f"{CAR}, {DOG}]", TWO),
    "no closing bracket": (f"```json\n[{CAR}, {DOG}\n```\nDone [1, 2, 3, 4].", TWO),
    "no bracket after the numbers": ('[{"bbox_2d": [10, 20, 30, 40, "label": "car"}]', ONE),
    "no brace between": (f"[{CAR[:-1]}, {DOG}]", TWO),
    "no braces between": (f"[{CAR[:-1]}, {DOG[1:]}]", TWO),
    "no bracket before the numbers": ('[{"bbox_2d": 10, 20, 30, 40], "label": "car"}]', ONE),
    "no colon": ('[{"bbox_2d" [10, 20, 30, 40], "label" "car"}]', ONE),
    "doubled quotes": ('[{""bbox_2d"": [10, 20, 30, 40], ""label"": ""car""}]', ONE),
    "a brace too many": (f'[{CAR}, {DOG}, {{"bbox_2d": [1, 2, 3}}, 4], "label": "car"}}]', TWO),
    "no opening brace": (f"[{CAR[1:]}, {DOG}]", TWO),
    "no quote after a label": (f"[{CAR[:-2]}}}, {DOG}]", TWO),
    "no quote after a key": (f'[{{"bbox_2d: [10, 20, 30, 40], "label": "car"}}, {DOG}]', TWO),
    "JSON in JSON": (json.dumps(f"```json\n[{CAR}, {DOG}]\n```"), TWO),
    "JSON in JSON, its outer quotes lost": (json.dumps(f"[{CAR}, {DOG}]")[1:-1], TWO),
    "JSON in an answer": (json.dumps({"answer": f"[{CAR}, {DOG}]"}), TWO),
    "thoughts": (f"<think>{DOG} maybe [[1, 2, 3, 4]]</think>\n[{CAR}]", ONE),
    "thoughts without a beginning": (f"a dog at {DOG}\n</think>\n[{CAR}]", ONE),
    "thoughts about thoughts": (f"<think>a <think> {DOG}</think> {DOG}</think>[{CAR}]", ONE),
    "thoughts in JSON": (f'{{"reasoning": {DOG}, "objects": [{CAR}]}}', ONE),
    "a form before the answer": (f'As {{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}: [{CAR}]', ONE),
    "tags of Qwen-VL": ('<ref>"car"</ref><box>(10,20),(30,40)</box> and<ref> dog</ref><box>(50,60),(70,80)</box>', TWO),
    "two boxes of one tag": ("<ref>car</ref><box>(10,20),(30,40)</box><box>(50,60),(70,80)</box>", [*ONE, ("car", B)]),
    "tags of Qwen2-VL": (
        "<|object_ref_start|>car<|object_ref_end|><|box_start|>(10,20),(30,40)<|box_end|><|im_end|>",
        ONE,
    ),
    "swallowed tags": ("car(10,20),(30,40)\ndog(50, 60), (70, 80)", TWO),
    "swallowed tags in prose": ("Look, car(10,20),(30,40), beside it a dog.", ONE),
    "a sentence that says box": ("The bounding box of it is [10, 20, 30, 40].", BARE[:1]),
    "lines with names": ("I see:\n- car: [10, 20, 30, 40]\n- **dog**: [50, 60, 70, 80]", TWO),
    "numbered lines": ("1. **car**: [10, 20, 30, 40]\n2. **dog** [50, 60, 70, 80]", TWO),
    "a place": ("The car is located at [10, 20, 30, 40].", BARE[:1]),
    "a Chinese sentence": ("坐标为：[10, 20, 30, 40]。", BARE[:1]),
    "lists on lines of their own": ("Here they are:\n[10, 20, 30, 40]\n[50, 60, 70, 80]\nDone.", BARE),
    "inverted corners": ('{"bbox_2d": [30, 40, 10, 20], "label": "car"}', ONE),
    "fractions and signs": ('{"bbox_2d": [-1.5, .5, 1e2, +3.], "label": "car"}', [("car", (-1.5, 0.5, 100, 3))]),
    "points where boxes were wanted": ('[{"point_2d": [1, 2], "label": "car"}]', [("car", None)]),
}


@pytest.mark.parametrize(("text", "expected"), BOXES.values(), ids=BOXES)
def test_boxes_are_read_from(text, expected):
    assert boxes(text) == expected
    assert parse_reply(text).readable


POINTS = {
    "JSON": (
        '[{"point_2d": [1, 2], "label": "car"}, {"point": [3, 4]}]',
        [("car", ((1, 2, 1),)), (None, ((3, 4, 1),))],
    ),
    "XML": (
        '<points x1="1" y1="2" x2="3.5" y2="4" alt="car">car</points>',
        [("car", ((1, 2, 1),)), ("car", ((3.5, 4, 1),))],
    ),
    "XML of one": ("<point x='1' y='2' alt='car'/>", [("car", ((1, 2, 1),))]),
    "a list": ('{"label": "car", "points": [[1, 2], [3, 4]]}', [("car", ((1, 2, 1),)), ("car", ((3, 4, 1),))]),
    "objects": ('[{"label": "car", "x": 1, "y": 2}]', [("car", ((1, 2, 1),))]),
    "a tool call": (
        '<tool_call>{"name": "use", "arguments": {"action": "click", "coordinate": [1, 2]}}',
        [("click", ((1, 2, 1),))],
    ),
    "labels as keys": ('{"car": [[1, 2], [3, 4]]}', [("car", ((1, 2, 1),)), ("car", ((3, 4, 1),))]),
    "pairs in prose": ("I chose [[1, 2], [3, 4]] for you.", [(None, ((1, 2, 1),)), (None, ((3, 4, 1),))]),
}


@pytest.mark.parametrize(("text", "expected"), POINTS.values(), ids=POINTS)
def test_points_are_read_from(text, expected):
    assert spots(text) == expected


BLIND = {
    "prose": ("I guess [[210, 350], [650, 480]] would do.", [(None, ((210, 350, 1), (650, 480, 1)))]),
    "two lines": ("Foreground: [[1, 2], [3, 4]]\nBackground: [[5, 6]]", [(None, ((1, 2, 1), (3, 4, 1), (5, 6, 0)))]),
    "Chinese": ("前景点：[[1, 2]]，背景点：[[5, 6]]", [(None, ((1, 2, 1), (5, 6, 0)))]),
    "JSON": ('{"foreground": [[1, 2]], "background": [[5, 6]]}', [(None, ((1, 2, 1), (5, 6, 0)))]),
    "labels beside": ('{"points": [[1, 2], [5, 6]], "labels": [1, 0]}', [(None, ((1, 2, 1), (5, 6, 0)))]),
    "labels inside": ("[[1, 2, 1], [5, 6, 0]]", [(None, ((1, 2, 1), (5, 6, 0)))]),
    "the size repeated": ("The image is [[640, 480]]. Points: [[1, 2]]", [(None, ((1, 2, 1),))]),
}


@pytest.mark.parametrize(("text", "expected"), BLIND.values(), ids=BLIND)
def test_points_guessed_without_a_picture_are_of_one_object(text, expected):
    assert spots(text, blind=True) == expected


@pytest.mark.parametrize("text", ["at [[210, 350], [650, 480]].", "The box would be [210, 350, 650, 480], I guess"])
def test_a_box_is_guessed_without_a_picture(text):
    assert boxes(text, blind=True) == [(None, (210, 350, 650, 480))]


NOTHING = [
    "[]",
    "```json\n[]\n```",
    "json\n[]\n",
    "[]\n[]",
    '{"objects": []}',
    '{"car": [], "dog": []}',
    "{}",
    "There are no cars in it: []",
    '[{"bbox_2d": [], "label": "none"}]',
    '{"bbox_2d": null}',
    "<think>a car at [1, 2, 3, 4]?</think>[]",
]


@pytest.mark.parametrize("text", NOTHING)
def test_an_empty_list_says_that_nothing_is_there(text):
    reading = parse_reply(text)
    assert reading.readable
    assert reading.found == []


UNREADABLE = [
    "",
    " ",
    "C. window",
    "null",
    "There are no cars.",
    "Call 555-1234-567 or (555) 123-4567, ext 1, 2, 3, 4",
    "The car stands at 10, 20, 30, 40.",
    "Cars are common [1, 2, 3, 4] in towns [5].",
    "See [pp 1, 2, 3, 4].",
    "The size of it: [0, 0, 640, 480]",
    "<think>[[1, 2, 3, 4]]",
    f"<think>\n{CAR}",
    "from (10, 20) to (30, 40)",
    '{"bbox_2d": [x1, y1, x2, y2]}',
    '{"bbox_3d": [1, 2, 3, 4, 5, 6, 7, 8, 9]}',
    '{"x": 1, "y": 2, "width": 3, "height": 4}',
    '{"bbox_2d": [1.2.3, 4, 5, 6]}',
    '{"bbox_2d": [10-20, 3, 4]}',
    '{"bbox_2d": [1, 2, 3+4, 5]}',
    '{"bbox_2d": [NaN, 1, 2, 3]}',
    '{"bbox_2d": [1e999, 1, 2, 3]}',
    '{"bbox_2d": [1, true, 2, 3]}',
    '{"bbox_2d": [1%, 2%, 3%, 4%]}',
    '{"bbox_2d": [1, 2, 3]}',
    '{"ids": [1, 2, 3, 4]}',
    "<| box_start |>(501,10), (995987)<| box_dend |>",
    "<box>(501,10),(995987)</box>",
    "boxes = []\nfor box in boxes: print(box)",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_there_is_no_answer_in(text):
    reading = parse_reply(text)
    assert reading.found == []
    assert not reading.readable


def test_a_reply_that_breaks_off_keeps_what_is_complete():
    text = f'[{CAR}, {{"bbox_2d": [50, 60, 70, 80], "label": "dog"}}]'
    for cut in range(len(text) - 1):
        reading = parse_reply(text[:cut])
        complete = [box for box, end in ((A, "40]"), (B, "80]")) if end in text[:cut]]
        assert [one.box for one in reading.found] == complete, text[:cut]
        assert reading.truncated == (cut > 0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[10, 20, 30, 40], [50, 60, 70, 8", [A]),
        ("[10, 20, 30, 4", []),
        ('{"car": [[10, 20, 30, 40], [50, 60', [A]),
        ('{"bbox_2d": [[10, 20], [30, 40], [10', []),
        ("<ref>car</ref><box>(10,20),(30,40)</box><box>(50,60),(70,8", [A]),
    ],
)
def test_numbers_that_break_off_are_no_coordinates(text, expected):
    reading = parse_reply(text)
    assert [one.box for one in reading.found] == expected
    assert reading.truncated


def test_what_was_put_right_and_left_out_is_counted():
    counts = parse_reply(
        '[{"bbox_2d": [30, 40, 10, 20]}, {"bbox_2d": [1, 2, 3]}, {"bbox_3d": [1]}, {"bbox_2d": [1, 2, 3, 1e7]}]'
    ).counts
    assert counts == {"inverted": 1, "no box": 2, "not two-dimensional": 1}
    assert parse_reply(f"[{CAR}]").counts == {}


@pytest.mark.skipif(REAL is None, reason="MASKMILL_QWEN_REPLIES names no file of real replies")
def test_real_replies_are_read_as_people_read_them():
    wrong = []
    for line in Path(REAL).read_text(encoding="utf-8").splitlines():
        reply = json.loads(line)
        expected = [
            (one["label"], tuple(one["box"]) if "box" in one else None, tuple(one.get("point", ())))
            for one in reply["expected"]
        ]
        wanted = "points" if any("point" in one for one in reply["expected"]) else "boxes"
        found = [
            (one.label, one.box, one.points[0][:2] if one.points else ())
            for one in parse_reply(reply["raw"], wanted).found
        ]
        if found != expected:
            wrong.append((reply["id"], found, expected))
    assert wrong == []


# --- mutations ---------------------------------------------------------------------------------

LABELS = ["car", "red car", "driver's door", "汽车", "Sport & Outdoor | Joggers", "person 2", "t-shirt (blue)"]


def reply_of(rng):
    """A reply like those of the current models, and its boxes."""
    truth = []
    while len(truth) < rng.randint(1, 6):
        box = tuple(sorted(rng.sample(range(1000), 4)))
        truth.append((box[0], box[1], box[2], box[3]))
    objects = []
    for box in truth:
        pairs = [f'"bbox_2d": {json.dumps(box)}', f'"label": "{rng.choice(LABELS)}"']
        objects.append("{" + ", ".join(pairs if rng.random() < 0.7 else pairs[::-1]) + "}")
    text = "[\n\t" + ",\n\t".join(objects) + "\n]"
    return (f"```json\n{text}\n```" if rng.random() < 0.7 else text), truth


def truncated(text, truth, rng):
    cut = rng.randrange(len(text))
    ends = [position for position, sign in enumerate(text) if sign == "}"]
    return text[:cut], truth[: sum(end < cut for end in ends)]


def untouched(change):
    """A mutation that no object may suffer from."""
    return lambda text, truth, rng: (change(text, rng), truth)


PROSE = "There are 3 of them, see [1] and pages 10, 20, 30, 40; call (555) 123-4567 on 2026-11-23 at 12:30.\n"
MUTATIONS = {
    "truncated": truncated,
    "fences lost": untouched(lambda text, rng: text.replace("```json\n", "").replace("```", "")),
    "closing fence only": untouched(lambda text, rng: text.replace("```json\n", "").removesuffix("\n```") + "\n```"),
    "residue": untouched(lambda text, rng: text.replace("```json", "json").removesuffix("```")),
    "quotes of Python": untouched(lambda text, rng: text.replace('"', "'")),
    "braces doubled": untouched(lambda text, rng: text.replace("{", "{{").replace("}", "}}")),
    "opening braces doubled": untouched(lambda text, rng: text.replace("{", "{{")),
    "prose around": untouched(lambda text, rng: PROSE + text + "\n" + PROSE),
    "thoughts before": untouched(lambda text, rng: f'<think>{PROSE} {{"bbox_2d": [1, 2, 3, 4]}}</think>\n{text}'),
    "thoughts half before": untouched(lambda text, rng: f'{PROSE} [{{"bbox_2d": [1, 2, 3, 4]}}]</think>\n{text}'),
    "no bracket before": untouched(lambda text, rng: text.replace("[", "", 1)),
    "no bracket after": untouched(lambda text, rng: re.sub(r"\](\s*(?:```)?)$", r"\1", text)),
    "a comma lost": untouched(lambda text, rng: text.replace("},", "}", 1)),
    "commas too many": untouched(lambda text, rng: text.replace("}", ",}").replace("]", ",]")),
    "comments": untouched(lambda text, rng: text.replace("},", "}, // next: [1, 2, 3, 4]").replace("[\n", "[ # all\n")),
    "one line": untouched(lambda text, rng: text.replace("\n", " ").replace("\t", "")),
    "lines of Windows": untouched(lambda text, rng: text.replace("\n", "\r\n")),
    "JSON lines": untouched(lambda text, rng: re.sub(r"^(```json\n)?\[|\](\s*(?:```)?)$", "", text).replace("},", "}")),
    "JSON in JSON": untouched(lambda text, rng: json.dumps(text)),
    "wrapped": untouched(lambda text, rng: f'{{"objects": {re.sub("```(json)?", "", text)}, "count": 3}}'),
    "a brace lost": untouched(lambda text, rng: text.replace("},", ",", 1)),
    "a quote lost": untouched(lambda text, rng: text.replace('"}', "}", 1)),
    "an empty array after": untouched(lambda text, rng: text + "\n[]"),
    "tokens around": untouched(lambda text, rng: f"<|im_start|>{text}<|im_end|>"),
}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_a_mutated_reply_loses_nothing_and_gains_nothing(mutation, seed):
    rng = random.Random(seed)
    text, truth = reply_of(rng)
    mutated, complete = mutation(text, truth, rng)
    found = [one.box for one in parse_reply(mutated).found]
    assert set(complete) <= set(found), f"lost\n{mutated}"
    assert set(found) <= set(truth), f"invented\n{mutated}"
    assert len(found) == len(set(found))


# --- any text ----------------------------------------------------------------------------------

NUMBERS = re.compile(r"[0-9]+\.[0-9]*|\.?[0-9]+")
EXPONENTS = re.compile(r"(?:[0-9]+\.[0-9]*|\.?[0-9]+)[eE][-+]?[0-9]+")
PIECES = [
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    '"',
    "'",
    ",",
    ":",
    "\n",
    " ",
    "\\",
    "//",
    "/*",
    "*/",
    "#",
    "```",
    "```json",
    "<think>",
    "</think>",
    "<box>",
    "</box>",
    "<ref>",
    "<|box_start|>",
    "<|box_end|>",
    '<points x1="1" y1="2',
    "bbox_2d",
    "point_2d",
    '"label"',
    '"bbox_2d": [1, 2, 3, 4]',
    "[[5, 6], [7, 8]]",
    "(9,10),(11,12)",
    "box",
    "size",
    "-",
    "1.5",
    "1e3",
    "0",
    "None",
    "，",
    "：",
    "“",
    "”",
    "汽车",
    CAR,
    "foreground",
    "\\u0041",
    "\ud800",
    "\x00",
]
TEXTS = st.one_of(
    st.text(), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=40).map("".join)
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, st.sampled_from(["boxes", "points"]), st.booleans())
def test_no_text_fails_or_yields_a_number_that_is_not_in_it(text, wanted, blind):
    reading = parse_reply(text, wanted, blind)
    written = {float(number) for number in [*NUMBERS.findall(text), *EXPONENTS.findall(text)]}
    for one in reading.found:
        numbers = [*(one.box or ()), *(number for point in one.points for number in point[:2])]
        assert {abs(number) for number in numbers} <= written
        assert one.box or one.points
    assert reading.readable or not reading.found


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 1000), st.sampled_from([*"[]{}\",:'\n `\\", ""])), max_size=5),
)
def test_no_edit_of_a_replys_punctuation_makes_a_box(seed, edits):
    text, truth = reply_of(random.Random(seed))
    for place, sign in edits:
        at = place % len(text)
        before, here, after = text[max(0, at - 1) : at], text[at], text[at + 1 : at + 2]
        if here.isalnum() or (before.isalnum() and after.isalnum()):
            here = ""  # without it, other numbers would stand there
        if not (before.isdigit() and text[at].isdigit()):
            text = text[:at] + sign + text[at + len(here) :]
    assert {one.box for one in parse_reply(text).found} <= set(truth)


MILLION = 1_000_000  # characters
LONG = {
    "brackets": "[" * MILLION,
    "braces": "{" * MILLION,
    "quotes": '["' * (MILLION // 2),
    "apostrophes": "['a " * (MILLION // 4),
    "half-open quotes": '{"a, ' * (MILLION // 5),
    "comments": "[" + "/*" * (MILLION // 2),
    "comments that never end": "[" + "/* " * (MILLION // 3),
    "a comment": "[/*" + " " * MILLION,
    "box tags": "<box>" * (MILLION // 5),
    "object tags": "<|object_ref_start|>" * (MILLION // 20),
    "thoughts": "<think>" * (MILLION // 7),
    "broken thoughts": "</think " * (MILLION // 8),
    "an attribute": "<points " + "a" * MILLION + ">",
    "point tags": "<points " * (MILLION // 8),
    "a number": "[" + "1" * MILLION + "]",
    "backslashes": '["' + "\\" * MILLION,
    "swallowed tags": "a(1,2),(3,4)      " * (MILLION // 18) + "x(",
    "spaces": "['a'" + " " * MILLION,
    "lists": "[1,2,3,4]" * (MILLION // 9),
    "objects": CAR * (MILLION // len(CAR)),
    "a loop that never ends": "[" + f"{CAR}, " * (MILLION // len(CAR)),
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_time_grows_with_the_length(text):
    length = MILLION // 2
    begun = time.perf_counter()
    parse_reply(text[: length // 4])
    middle = time.perf_counter()
    parse_reply(text[:length])
    assert time.perf_counter() - middle < 12 * (middle - begun) + 1.0
