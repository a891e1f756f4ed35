"""The wordings of the questions, with a version that enters the id of a question.

They follow the advice of the Qwen team: "locate every ..., output ... in JSON format".
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Literal

from maskmill import PipelineError, Problem

#: Version 1 leaves key, order and unit to the model; version 2 states them, and what to answer if there is none. A
#: changed wording gets a new version: stored answers and results belong to the version they were asked with.
Wording = Literal[1, 2]
LATEST: Wording = 2

Kind = Literal["boxes", "points", "blind boxes", "blind points"]
Language = Literal["en", "zh"]

_ONE: Mapping[tuple[Language, Kind], str] = {
    ("en", "boxes"): "Locate every {classes} in the image and output the bbox coordinates in JSON format.",
    ("en", "points"): "Locate every {classes} in the image and output the point coordinates in JSON format.",
    ("en", "blind boxes"): (
        "There is an image of {width} × {height} pixels (width × height), x to the right, y down. It shows {classes}."
        " Guess the most likely bounding box and output only JSON:"
        ' {{"bbox_2d": [x1, y1, x2, y2], "label": "..."}} in pixels.'
    ),
    ("en", "blind points"): (
        "There is an image of {width} × {height} pixels (width × height), x to the right, y down. It shows {classes}."
        " Guess likely points on it (foreground) and beside it (background) and output only JSON:"
        ' {{"foreground": [[x, y], ...], "background": [[x, y], ...]}} in pixels.'
    ),
    ("zh", "boxes"): "定位图中每一个{classes}，以JSON格式输出边界框坐标（bbox_2d）。",
    ("zh", "points"): "定位图中每一个{classes}，以JSON格式输出点坐标（point_2d）。",
    ("zh", "blind boxes"): (
        "有一张图像，宽{width}像素，高{height}像素，x向右，y向下，图中有{classes}。"
        '请推测最可能的边界框，只输出JSON：{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}，单位为像素。'
    ),
    ("zh", "blind points"): (
        "有一张图像，宽{width}像素，高{height}像素，x向右，y向下，图中有{classes}。"
        "请推测位于其上的前景点和位于其外的背景点，只输出JSON："
        '{{"foreground": [[x, y], ...], "background": [[x, y], ...]}}，单位为像素。'
    ),
}
_SEVERAL: Mapping[tuple[Language, Kind], str] = {
    ("en", "boxes"): (
        "Locate every instance of these categories in the image: {classes}. Output the bbox coordinates in JSON"
        " format, with the category as label."
    ),
    ("en", "points"): (
        "Locate every instance of these categories in the image: {classes}. Output the point coordinates in JSON"
        " format, with the category as label."
    ),
    (
        "zh",
        "boxes",
    ): "定位图中属于以下类别的每一个目标：{classes}。以JSON格式输出边界框坐标（bbox_2d），label为类别名。",
    ("zh", "points"): "定位图中属于以下类别的每一个目标：{classes}。以JSON格式输出点坐标（point_2d），label为类别名。",
}
_SENTENCE: Mapping[tuple[Language, Kind], str] = {
    ("en", "boxes"): "Locate {classes} and output the bbox coordinates in JSON format.",
    ("en", "points"): "Locate {classes} and output the point coordinates in JSON format.",
    ("zh", "boxes"): "定位{classes}，以JSON格式输出边界框坐标（bbox_2d）。",
    ("zh", "points"): "定位{classes}，以JSON格式输出点坐标（point_2d）。",
}
_UNITS: Mapping[tuple[Language, bool], str] = {
    ("en", True): "as integers from 0 to 1000",
    ("en", False): "as integers in pixels",
    ("zh", True): "坐标为0到1000的整数",
    ("zh", False): "坐标为像素整数",
}
_FORMS: Mapping[str, str] = {
    "boxes": '{{"bbox_2d": [x1, y1, x2, y2], "label": "..."}}',
    "points": '{{"point_2d": [x, y], "label": "..."}}',
}
_LOCATE: Mapping[tuple[Language, str], str] = {
    ("en", "one"): "Locate every {classes} in the image.",
    ("en", "several"): "Locate every instance of these categories in the image: {classes}.",
    ("en", "sentence"): "Locate {classes}.",
    ("zh", "one"): "定位图中每一个{classes}。",
    ("zh", "several"): "定位图中属于以下类别的每一个目标：{classes}。",
    ("zh", "sentence"): "定位{classes}。",
}
#: Appended to a question whose first reply could not be parsed.
AGAIN: Mapping[Language, str] = {
    "en": " Output only a JSON list, nothing else; if there is none, output [].",
    "zh": "只输出JSON列表，不要输出其他内容；如果没有，输出[]。",
}
PLACEHOLDERS = ("classes", "width", "height")


def detect_language(text: str) -> Language:
    """Return Chinese if there are Chinese characters in the text, otherwise English."""
    return "zh" if any("\u3400" <= sign <= "\u9fff" for sign in text) else "en"


def list_classes(classes: Mapping[str, str], language: Language) -> str:
    """Return the class names as written in a question, with their descriptions in brackets."""
    before, after = ("（", "）") if language == "zh" else (" (", ")")
    parts = [f"{name}{before}{text}{after}" if text else name for name, text in classes.items()]
    return ("、" if language == "zh" else ", ").join(parts)


def write_question(
    kind: Kind,
    classes: Mapping[str, str],
    size: tuple[int, int],
    *,
    sentence: bool = False,
    template: str | None = None,
    wording: Wording = LATEST,
    thousandths: bool = True,
) -> str:
    """Return the text of a question.

    Args:
        kind: what to ask for.
        classes: names with their descriptions, "" without; a free sentence is the only name.
        size: (height, width) that the text mentions.
        sentence: the user wrote a sentence, not class names.
        template: the user's own wording, or None.
        wording: version of the built-in wordings; questions without an image are the same in all.
        thousandths: whether the model answers in thousandths of the image, otherwise in pixels.
    """
    language = detect_language("".join(classes))
    form = "sentence" if sentence else "several" if len(classes) > 1 else "one"
    if template is None and (wording == 1 or kind not in _FORMS):
        table = {"sentence": _SENTENCE, "several": _SEVERAL, "one": _ONE}[form]
        template = table.get((language, kind)) or _ONE[language, kind]
    elif template is None:
        template = _write_template(language, kind, form, thousandths)
    return template.format(classes=list_classes(classes, language), width=size[1], height=size[0])


def _write_template(language: Language, kind: Kind, form: str, thousandths: bool) -> str:
    """Return the template of version 2: it states key, order, unit, and what to answer if there is none."""
    locate, unit = _LOCATE[language, form], _UNITS[language, thousandths]
    if language == "zh":
        label = "，label为类别名" if form == "several" else ""
        return f"{locate}只输出JSON列表，每个目标一项：{_FORMS[kind]}{label}，x向右，y向下，{unit}。如果没有，回答[]。"
    label = ", with the category as label" if form == "several" else ""
    return (
        f"{locate} Output only the JSON list, with one item for each object: {_FORMS[kind]}{label}; x to the right,"
        f" y down, {unit}. If there is none, answer []."
    )


def check_template(template: str) -> None:
    """Check that a template can be filled in.

    Raises:
        PipelineError: it cannot; the hint lists the placeholders.
    """
    hint = "the placeholders are " + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS) + "; write {{ and }} for braces"
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
        if unknown := [name for name in names if name not in PLACEHOLDERS]:
            raise PipelineError(Problem(f"prompt_template: unknown placeholder {{{unknown[0]}}}", hint=hint))
        template.format(classes="", width=1, height=1)
    except (ValueError, LookupError) as error:
        raise PipelineError(Problem(f"prompt_template: {error}", hint=hint)) from None
    if "classes" not in names:
        raise PipelineError(Problem("prompt_template: {classes} is missing", hint=hint))
