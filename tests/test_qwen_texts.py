"""The wordings of the questions: content, language, and the user's own template."""

import pytest

from maskmill import PipelineError
from maskmill_plugins.prompts.qwen.asking import questions as texts

KINDS = ["boxes", "points", "blind boxes", "blind points"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ({"vehicle": ""}, False),
        ({"vehicle": "cars, trucks", "person": ""}, False),
        ({"all vehicles in the picture": ""}, True),
        ({"车辆": "轿车、卡车"}, False),
        ({"车辆": "", "行人": ""}, False),
        ({"图中所有车辆": ""}, True),
        ({"{odd} {0} }{": ""}, False),
    ],
    ids=["one", "several", "sentence", "one in Chinese", "several in Chinese", "sentence in Chinese", "braces"],
)
def test_a_question_names_what_is_wanted(kind, classes, sentence):
    text = texts.write_question(kind, classes, (480, 640), sentence=sentence)
    for name, description in classes.items():
        assert name in text
        assert description in text
    assert "JSON" in text
    chinese = any("\u4e00" <= sign <= "\u9fff" for name in classes for sign in name)
    assert ("图" in text) == chinese
    assert ("640" in text and "480" in text) == kind.startswith("blind")


@pytest.mark.parametrize("name", ["vehicle", "车辆"])
@pytest.mark.parametrize(("kind", "key"), [("boxes", '"bbox_2d": [x1, y1, x2, y2]'), ("points", '"point_2d": [x, y]')])
@pytest.mark.parametrize("thousandths", [True, False])
@pytest.mark.parametrize("form", ["one", "several", "sentence"])
def test_a_question_states_key_order_unit_and_what_is_said_of_nothing(name, kind, key, thousandths, form):
    classes = {name: "", "another": ""} if form == "several" else {name: ""}
    text = texts.write_question(kind, classes, (1, 1), sentence=form == "sentence", thousandths=thousandths)
    unit = {("vehicle", True): "integers from 0 to 1000", ("vehicle", False): "integers in pixels"}
    unit |= {("车辆", True): "0到1000的整数", ("车辆", False): "像素整数"}
    nothing = "If there is none, answer []." if name == "vehicle" else "如果没有，回答[]。"
    only = "only the JSON list" if name == "vehicle" else "只输出JSON列表"
    assert all(words in text for words in (key, unit[name, thousandths], nothing, only))


def test_the_first_wording_is_as_it_was():
    text = texts.write_question("boxes", {"car": ""}, (1, 1), wording=1)
    assert text == "Locate every car in the image and output the bbox coordinates in JSON format."


def test_the_questions_differ():
    asked = {texts.write_question(kind, {name: ""}, (1, 1)) for kind in KINDS for name in ("car", "车")}
    assert len(asked) == 8


def test_a_template_replaces_the_wording():
    template = 'Find {classes} in {width}x{height}: {{"bbox_2d": [..]}}'
    texts.check_template(template)
    text = texts.write_question("boxes", {"car": "any", "dog": ""}, (480, 640), template=template)
    assert text == 'Find car (any), dog in 640x480: {"bbox_2d": [..]}'


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("Find {things}", "{things}"),
        ("Find {}", "{}"),
        ("Find {classes", "}"),
        ("Find {classes} as {'box': 1}", "'box'"),
        ("Find {classes.x}", "{classes.x}"),
        ("Find {classes:d}", "format"),
        ("Find cars", "{classes} is missing"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_refused(template, complaint):
    with pytest.raises(PipelineError) as caught:
        texts.check_template(template)
    assert complaint in str(caught.value)
    assert "{width}" in str(caught.value)
