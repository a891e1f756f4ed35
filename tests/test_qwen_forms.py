"""Forms of replies beyond the usual JSON: each is read right or refused, and nothing is invented."""

import json
import random
import re
import time

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from maskmill_plugins.prompts.qwen.reply.json_keys import classify_key
from maskmill_plugins.prompts.qwen.reply.parse import parse_reply

A, B = (10, 20, 30, 40), (50, 60, 70, 80)
NUMBERS = "[10, 20, 30, 40]"
ONE, TWO, BARE = [("car", A)], [("car", A), ("dog", B)], [(None, A)]


def boxes(text):
    return [(one.label, one.box) for one in parse_reply(text).found]


def spots(text):
    return [(one.label, *(point[:2] for point in one.points)) for one in parse_reply(text, "points").found]


BOX_KEYS = (
    "bounding_box_2d bbox_coordinates xyxy roi region boundingBox2D bbox_xyxy box_coordinates bbox_abs object_bbox"
    " bounds Bounding-Box normalized_bbox rectangle_coords bbox_2d_pixel regions ROI_2D bbox_ltrb anchor zone"
)


@pytest.mark.parametrize("key", BOX_KEYS.split())
def test_a_label_stays_whatever_the_key_of_its_box_is(key):
    assert boxes(f'[{{"{key}": {NUMBERS}, "label": "car"}}]') == ONE
    assert boxes(f'[{{"label": "car", "{key}": {NUMBERS}}}, {{"label": "dog", "{key}": [50, 60, 70, 80]}}]') == TWO


SIZED_KEYS = "bbox_xywh xywh cxcywh bbox_cxcywh XYWH box_wh bbox_ltwh x_y_w_h coco_bbox yolo_box xy_width_height"


@pytest.mark.parametrize("key", SIZED_KEYS.split())
def test_keys_that_say_width_and_height_are_refused_and_counted(key):
    reply = parse_reply(f'[{{"{key}": {NUMBERS}, "label": "car"}}]')
    assert (reply.found, reply.readable, reply.counts) == ([], False, {"width and height": 1})
    assert parse_reply(f'{{"{key}": [{NUMBERS}, [5, 6, 7, 8]], "detections": []}}').counts["width and height"] == 2
    assert boxes(f'[{{"{key}": [1, 2, 3, 4], "bbox_2d": {NUMBERS}, "label": "car"}}]') == ONE


SIZED = {
    "words before": f'The boxes are [x, y, w, h]:\n[{{"bbox_2d": {NUMBERS}, "label": "car"}}]',
    "words after": f'[{{"bbox_2d": {NUMBERS}, "label": "car"}}]\nFormat: (x_min, y_min, width, height)',
    "a value": f'{{"format": "xywh", "bbox": {NUMBERS}}}',
    "COCO": f'In COCO format: {{"bbox": {NUMBERS}}}',
    "a comment": f'[{{"bbox": {NUMBERS}}} // center_x, center_y, width, height\n]',
    "a sentence": f"The top-left corner, the width and the height of its box: {NUMBERS}",
    "Chinese": f'格式为[x, y, 宽, 高]：{{"bbox": {NUMBERS}}}',
    "sides": '{"x": 10, "y": 20, "width": 30, "height": 40}',
    "short sides": '[{"label": "car", "x": 10, "y": 20, "w": 30, "h": 40}]',
    "left and top": '{"left": 10, "top": 20, "width": 30, "height": 40, "label": "car"}',
    "a center": '{"cx": 10, "cy": 20, "w": 30, "h": 40}',
    "an object": '{"bbox": {"x": 10, "y": 20, "width": 30, "height": 40}}',
    "a place and a size": '{"position": [10, 20], "size": [30, 40]}',
    "a corner and a size": '{"top_left": [10, 20], "width": 30, "height": 40}',
    "the same twice": '{"bbox": [10, 20, 30, 40], "width": 30, "height": 40}',
    "a table": "| Object | x | y | w | h |\n|---|---|---|---|---|\n| car | 10 | 20 | 30 | 40 |",
    "a table's head": "| Object | Box (x, y, w, h) |\n|---|---|\n| car | 10, 20, 30, 40 |",
}


@pytest.mark.parametrize("text", SIZED.values(), ids=SIZED)
def test_width_and_height_are_never_read_as_corners(text):
    reply = parse_reply(text)
    assert (reply.found, reply.readable) == ([], False)
    assert reply.counts["width and height"] == 1


@pytest.mark.parametrize(
    "text",
    [
        f'{{"bbox_yxyx": {NUMBERS}}}',
        f'{{"y1x1y2x2": {NUMBERS}}}',
        f'As [ymin, xmin, ymax, xmax]: {{"box_2d": {NUMBERS}}}',
    ],
)
def test_another_order_of_the_sides_is_refused(text):
    reply = parse_reply(text)
    assert (reply.found, reply.counts) == ([], {"another order": 1})


@pytest.mark.parametrize(
    "text",
    [
        f'As [x1, y1, x2, y2], not [x, y, w, h]: {{"bbox": {NUMBERS}}}',
        f'The image has a width of 640 and a height of 480. {{"bbox": {NUMBERS}}}',
        f'{{"bbox": {NUMBERS}, "width": 640, "height": 480}}',
        f'{{"image_width": 640, "image_height": 480, "objects": [{{"bbox": {NUMBERS}}}]}}',
        f'{{"format": "xyxy", "bbox": {NUMBERS}}}',
        '{"format": "not xywh", "x1": 10, "y1": 20, "x2": 30, "y2": 40}',
    ],
)
def test_a_width_that_is_not_the_boxs_does_no_harm(text):
    assert [one.box for one in parse_reply(text).found] == [A]


NOTHING = {
    "a region of the picture": '{"image_region": [0, 0, 1000, 1000], "detections": []}',
    "a count": '{"objects_count": [400, 200, 100, 300], "detections": []}',
    "an unknown key": '{"stretch": [400, 200, 100, 300], "objects": []}',
    "an unknown key after": '{"bbox_2d": [], "stretch": [400, 200, 100, 300]}',
    "an empty list after": '{"stretch": [400, 200, 100, 300]}\n[]',
}


@pytest.mark.parametrize("text", NOTHING.values(), ids=NOTHING)
def test_beside_an_empty_answer_no_other_list_is_one(text):
    reply = parse_reply(text)
    assert (reply.found, reply.readable) == ([], True)


REFUSED = [
    '{"objects_count": [400, 200, 100, 300]}',
    '{"image_region": [0, 0, 1000, 1000]}',
    '{"cropBox": [0, 0, 1000, 1000], "imageSize": [640, 480, 1, 2]}',
    '{"stretch": [0, 0, 5, 5], "objects": [{"label": "car"}]}',
    '{"stretch": [0, 0, 5, 5], "objects": [{"label": "car", "bbox": [1, 2, 3]}]}',
    '{"color_rgb": [1, 2, 3, 4], "track ids": [1, 2, 3, 4]}',
    '{"center": [10, 20, 30, 40]}',
    '["car", 10, "dog", 20, 30, 40]',
    '["car", 10, 20, 30]',
    '["car", 10, 20, 30, 40, 50]',
    "car: 10, 20, 30, 40",
    "10, 20, 30, 40, 50",
    "10, 20, 30",
    "Click(10, 20)",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "| car | 10 | 20 | 30 | 40 |",
    "<answer>car</answer>",
]


@pytest.mark.parametrize("text", REFUSED)
def test_nothing_is_guessed_from(text):
    reply = parse_reply(text)
    assert (reply.found, reply.readable) == ([], False)


BOXES = {
    "labels as keys, one empty": (f'{{"car": [{NUMBERS}], "dog": []}}', ONE),
    "an answer in a wrapper": (f"<answer>{NUMBERS}</answer>", BARE),
    "a wrapper after thoughts": (f"<think>[1, 2, 3, 4]</think>\n<answer>{NUMBERS}</answer>", BARE),
    "a wrapper in prose": (f'It is [1, 2, 3, 4]. <answer>{{"bbox_2d": {NUMBERS}}}</answer> Done.', BARE),
    "a wrapper that never closes": (f"So <answer>\n{NUMBERS}", BARE),
    "two wrappers": (f"<answer>{NUMBERS}</answer> <ANSWER>[50, 60, 70, 80]</ANSWER>", [*BARE, (None, B)]),
    "a bare line": ("10, 20, 30, 40", BARE),
    "a bare line without commas": ("```\n10 20 30 40\n```", BARE),
    "a bare line in parentheses": ("(10, 20, 30, 40).", BARE),
    "a bare line in a wrapper": ("<answer>10,20,30,40</answer>", BARE),
    "a bare line with names": ("x1=10, y1=20, x2=30, y2=40", BARE),
    "names in languages": (f'{{"bbox_2d": {NUMBERS}, "names": {{"zh": "汽车", "en": "car"}}}}', ONE),
    "a label in languages": (f'{{"bbox_2d": {NUMBERS}, "label": {{"chinese": "汽车", "english": "car"}}}}', ONE),
    "a list in a container": (f'{{"objects": {NUMBERS}, "count": 1}}', BARE),
    "lists in a container": (f'{{"detections": [{NUMBERS}, [50, 60, 70, 80]]}}', [*BARE, (None, B)]),
    "tags in a JSON string": (json.dumps("<ref>汽车</ref><box>(10,20),(30,40)</box>"), [("汽车", A)]),
    "lists in a JSON string": (json.dumps(f"[\n  {NUMBERS}\n]"), BARE),
    "a caption": (f'{{"bbox_2d": {NUMBERS}, "caption": "car"}}', ONE),
    "a row with a color": ('["car", 10, 20, 30, 40, "red"]', ONE),
    "rows with colors": ('[["car", 10, 20, 30, 40, "red"], ["dog", 50, 60, 70, 80, "blue"]]', TWO),
    "a row with a score": ('["car", 10, 20, 30, 40, 0.9]', ONE),
    "a row with a list and a color": ('["car", [10, 20, 30, 40], "red"]', ONE),
    "labels beside boxes": (f'{{"bboxes": [{NUMBERS}, [50, 60, 70, 80]], "labels": ["car", "dog"]}}', TWO),
    "a label for each box": (f'{{"bbox_2d": [{NUMBERS}, [50, 60, 70, 80]], "label": ["car", "dog"]}}', TWO),
    "a label too many": (f'{{"bbox": [{NUMBERS}, [50, 60, 70, 80]], "label": ["a", "b", "c"]}}', [*BARE, (None, B)]),
    "sides in quotes": ('{"label": "car", "x1": "10", "y1": "20", "x2": "30", "y2": "40"}', ONE),
    "sides from zero": ('{"label": "car", "x0": 10, "y0": 20, "x1": 30, "y1": 40}', ONE),
    "corners by name": ('{"label": "car", "top_left": [10, 20], "bottom_right": [30, 40]}', ONE),
    "an object in an object": (f'{{"region": {{"label": "car", "bbox_2d": {NUMBERS}}}}}', ONE),
    "another box of the object": (f'{{"label": "car", "bbox_2d": {NUMBERS}, "wheel_box": [1, 2, 3, 4]}}', ONE),
    "a table of sides": (
        "| Label | x1 | y1 | x2 | y2 |\n|---|---|---|---|---|\n| car | 10 | 20 | 30 | 40 |\n| dog | 50|60|70|80|",
        TWO,
    ),
    "a table of boxes": ("Here:\n\n| Object | Bounding box |\n|:--|--:|\n| **car** | [10, 20, 30, 40] |\n\nDone", ONE),
    "a table that names its sides": ("Name | Where (x1, y1, x2, y2)\n--- | ---\ncar | 10, 20, 30, 40", ONE),
}


@pytest.mark.parametrize(("text", "expected"), BOXES.values(), ids=BOXES)
def test_boxes_are_read_from(text, expected):
    assert boxes(text) == expected


SPOT = [(None, (447, 81))]
POINTS = {
    "Click": ("Click(447, 81)", SPOT),
    "an action": ("Thought: the bar.\nAction: click(447, 81)", SPOT),
    "pyautogui": ("pyautogui.click(x=447, y=81)", SPOT),
    "UI-TARS": ("Action: click(start_box='(447,81)')", SPOT),
    "UI-TARS 1.5": ("Action: click(point='<point>447 81</point>')", SPOT),
    "a wrapper": ("<answer>(447, 81)</answer>", SPOT),
    "a wrapped list": ("<answer>[447, 81]</answer>", SPOT),
    "a pair": ("(447, 81)", SPOT),
    "a bare pair": ("447, 81", SPOT),
    "x under the key": ('[{"point_2d": 447, "y": 81, "label": "car"}]', [("car", (447, 81))]),
    "x in a list under the key": ('{"label": "car", "point_2d": [447], "y": 81}', [("car", (447, 81))]),
    "y inside the list": ('[{"point_2d": [447, "y": 81], "label": "car"}]', [("car", (447, 81))]),
    "labels beside": ('{"points": [[1, 2], [3, 4]], "labels": ["car", "dog"]}', [("car", (1, 2)), ("dog", (3, 4))]),
}


@pytest.mark.parametrize(("text", "expected"), POINTS.values(), ids=POINTS)
def test_points_are_read_from(text, expected):
    assert spots(text) == expected


@pytest.mark.parametrize("text", ["Click here (447, 81)", "click (447, 81) there", "10, 20, 30, 40", "double 447, 81"])
def test_no_point_is_guessed_from(text):
    assert spots(text) == []


def test_a_label_that_was_cut_off_is_none():
    text = f'[{{"bbox_2d": {NUMBERS}, "label": "sports car"}}]'
    for cut in range(text.index("]") + 1, text.rindex('"') + 1):
        assert boxes(text[:cut]) == BARE, text[:cut]
    assert boxes(text[:-2]) == [("sports car", A)]


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("bboxes", "box"),
        ("predicted_boxes", "box"),
        ("head_box", "unknown"),
        ("kids", "unknown"),
        ("weight", "unknown"),
        ("picture frame", "unknown"),
        ("image_box", "other"),
        ("class_ids", "other"),
        ("bbox3d", "other"),
        ("box_count", "other"),
    ],
)
def test_keys_are_classified_by_their_words(key, kind):
    assert classify_key(key) == kind


# --- mutations ---------------------------------------------------------------------------------

LABELS = ["car", "red car", "汽车", "t-shirt (blue)", "person 2"]
KEYS = ["bbox_2d", "bbox", *BOX_KEYS.split()]


def reply_of(rng):
    """A reply in one of several forms, with its labels and boxes."""
    truth = []
    for _ in range(rng.randint(1, 5)):
        x, y = rng.randrange(0, 900), rng.randrange(0, 900)
        truth.append((rng.choice(LABELS), (x, y, x + rng.randint(5, 99), y + rng.randint(5, 99))))
    key, name = rng.choice(KEYS), rng.choice(["label", "name", "category"])
    objects = [{key: list(box), name: label} for label, box in truth]
    if rng.random() < 0.3:
        objects = [{**one, "confidence": 0.9, "image_size": [640, 480, 1, 1], "id": 7} for one in objects]
    if rng.random() < 0.5:
        objects = [dict(reversed(one.items())) for one in objects]
    forms = [
        lambda: json.dumps(objects, ensure_ascii=False, indent=rng.choice([None, 2])),
        lambda: "\n".join(json.dumps(one, ensure_ascii=False) for one in objects),
        lambda: json.dumps({"image_region": [0, 0, 999, 999], "detections": objects}, ensure_ascii=False),
        lambda: json.dumps([[label, *box] for label, box in truth], ensure_ascii=False),
        lambda: json.dumps(
            {"bboxes": [box for _, box in truth], "labels": [label for label, _ in truth]}, ensure_ascii=False
        ),
    ]
    return rng.choice(forms)(), truth


WRAPPERS = [
    lambda text: text,
    lambda text: f"```json\n{text}\n```",
    lambda text: f"<answer>{text}</answer>",
    lambda text: f"<think>[[1, 2, 3, 4]]</think><answer>\n{text}\n</answer>",
    lambda text: f"Here you are:\n{text}\nThat is all.",
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.sampled_from(range(len(WRAPPERS))))
def test_every_form_keeps_every_label_with_its_box(seed, wrapper):
    rng = random.Random(seed)
    text, truth = reply_of(rng)
    if text.startswith('[["') and wrapper == 4:
        wrapper = 0  # rows in prose are no answer
    assert boxes(WRAPPERS[wrapper](text)) == truth, WRAPPERS[wrapper](text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6))
def test_a_reply_cut_off_anywhere_has_whole_labels_or_none(seed):
    text, truth = reply_of(random.Random(seed))
    for cut in range(0, len(text), 3):
        for label, box in boxes(text[:cut]):
            assert (label, box) in truth or (label is None and box in [one for _, one in truth]), text[:cut]


DECLARED = ["[x, y, w, h]", "(x, y, width, height)", "xywh", "cx, cy, w, h", "[x、y、宽、高]", "COCO format"]


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(DECLARED), st.booleans())
def test_no_form_makes_corners_of_a_declared_width(seed, declared, before):
    text, _ = reply_of(random.Random(seed))
    text = f"Boxes as {declared}:\n{text}" if before else f"{text}\nBoxes as {declared}."
    assert boxes(text) == []
    assert not parse_reply(text).readable


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 3)), max_size=6))
def test_no_damage_makes_a_number_or_takes_long(seed, damage):
    """Marks are deleted, doubled, or the text ends."""
    text, _ = reply_of(random.Random(seed))
    for place, kind in damage:
        at = place % max(1, len(text))
        if kind == 3:
            text = text[: max(at, len(text) // 2)]
        elif text[at : at + 1] in tuple("{}[]\"',:"):
            text = text[:at] + (text[at] * 2 if kind == 2 else "") + text[at + 1 :]
    written = {float(number) for number in re.findall(r"[0-9]+(?:\.[0-9]+)?", text)}
    begun = time.perf_counter()
    reply = parse_reply(text)
    assert time.perf_counter() - begun < 2
    for one in reply.found:
        assert {abs(number) for number in one.box or ()} <= written
    assert reply.readable or not reply.found


MILLION = 1_000_000
LONG = {
    "x, y": "x, y, " * (MILLION // 6),
    "left, top": "left, top, " * (MILLION // 11),
    "spaces after x": "x" + " " * MILLION,
    "answers": "<answer>" * (MILLION // 8),
    "clicks": "click(" * (MILLION // 6),
    "clicks with spaces": "click(" + " " * MILLION,
    "a table": "| a | box |\n|---|---|\n" + "| car | 1, 2, 3 |\n" * (MILLION // 17),
    "rules": "|---" * (MILLION // 4),
    "short rules": ("|---" * 240 + "x\n") * 1000,
    "long keys": '{"' + "box" * (MILLION // 3) + '": [1, 2, 3, 4]}',
    "many keys": "{" + ", ".join(f'"objectbox{number}": [1, 2, 3, 4]' for number in range(30_000)) + "}",
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("wanted", ["boxes", "points"])
def test_time_grows_with_the_length(text, wanted):
    begun = time.perf_counter()
    parse_reply(text[: len(text) // 8], wanted)
    middle = time.perf_counter()
    parse_reply(text[: len(text) // 2], wanted)
    assert time.perf_counter() - middle < 12 * (middle - begun) + 1.0
