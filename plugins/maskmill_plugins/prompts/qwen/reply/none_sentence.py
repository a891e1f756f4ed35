"""Recognizes a reply that says in words that nothing is there: "There are no cars in this image."

The whole reply has to be that one sentence, about the objects that were asked for, all of them. Anything else
("There is no image", "I cannot see images", "There are no cars, but a truck") is not an answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from .labels import contains_name, is_same_name

#: A longer reply is more than that sentence.
_LONGEST = 300
_PICTURE = r"(?:the|this|that|your)(?: \w+)? (?:image|picture|photo|photograph|scene|frame)|it|here"
_WHERE = rf"(?:,? (?:in|on|within|from|inside|of) (?:{_PICTURE})|,? (?:shown|depicted)(?: here)?)?"
_STATE = r"(?: (?:that (?:are|is) )?(?:present|visible|found|detected|seen|shown|identified|depicted|located))?"
_LEAD = (
    r"(?:sorry|unfortunately|after (?:carefully )?(?:examining|inspecting|analy[sz]ing|reviewing) (?:the|this) image"
    r"|based on (?:the|this) (?:image|picture)|(?:in|on) (?:the|this) (?:image|picture|photo)|upon inspection)?,? ?"
)
_NO = r"(?:no|not any|n't any|zero)"
_SEES = r"(?:see|find|detect|observe|spot|locate|notice)"
_SUBJECT = r"(?P<subject>[^.!?:;\[\]{}0-9]{1,120}?)"
_SENTENCES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_LEAD}there (?:are|is|were|was|appear to be|seem to be)(?: currently)? ?{_NO} {_SUBJECT}{_STATE}{_WHERE}",
        rf"{_LEAD}there (?:aren't|isn't|weren't|wasn't|(?:do|does)(?: not|n't) (?:appear|seem) to be) (?:any|an?)"
        rf" {_SUBJECT}{_STATE}{_WHERE}",
        rf"{_LEAD}no {_SUBJECT} (?:are|is|were|was|can be|could be|have been)?"
        rf" ?(?:present|visible|found|detected|seen|shown|identified|located){_WHERE}",
        rf"{_LEAD}no {_SUBJECT}",
        rf"{_LEAD}no {_SUBJECT} (?:in|on) (?:{_PICTURE})",
        rf"{_LEAD}(?:i|we) (?:do not|don't|did not|didn't|could not|couldn't|cannot|can't|can not) {_SEES}"
        rf" (?:any|an?) {_SUBJECT}{_STATE}(?: in| on) (?:{_PICTURE})",
        rf"{_LEAD}(?:the|this) (?:image|picture|photo|scene) (?:does not|doesn't|did not) (?:contain|show|have|include"
        rf"|depict) (?:any|an?) {_SUBJECT}",
        rf"{_LEAD}(?:the|this) (?:image|picture|photo|scene) (?:contains|shows|has|includes|depicts) no {_SUBJECT}",
        rf"(?:the |an? |any )?{_SUBJECT} (?:is|are|was|were) not"
        rf" (?:present|visible|found|detected|seen|shown)(?: (?:in|on) (?:{_PICTURE}))?",
        r"(?:在?(?:这张|该|此|本)?(?:图像|图片|照片|图|画面)(?:中|里|上|内)?,?)(?:并?没有|不存在|不包含|未包含|无)"
        r"(?:任何|发现|看到|检测到|找到|出现)*(?P<subject>[^。,!0-9]{1,60}?)(?:的?(?:存在|出现|目标|物体))?",
        r"(?:未|没有?)(?:能)?(?:检测|发现|找|看|识别)(?:到|出)?(?:任何)?(?P<subject>[^。,!0-9]{1,60}?)",
    )
)
_NOTHING = frozenset({"none", "none found", "none detected", "nothing found", "没有", "无", "未找到", "未检测到"})
#: Words that stand for whatever was asked for.
_ANY = ("object", "such object", "matching object", "instance", "target", "match", "目标", "物体", "对象")
_VIEWS = ("image", "picture", "photo", "图像", "图片", "照片")
_FILLERS = re.compile(
    r"^(?:(?:any|visible|clear|clearly visible|discernible|obvious|apparent|such|instances? of|objects? of)\s+)+|^任何"
)
_AND = re.compile(r"\s*(?:,|/|\band\b|\bor\b|\bnor\b|、|或者?|和|以及)\s*")


def says_none(text: str, classes: Collection[str], sentence: bool = False) -> bool:
    """Return whether a reply says in one sentence that there are none of the objects asked for.

    Args:
        text: the reply, without thinking.
        classes: the names that were asked for in this question.
        sentence: there is one name, and it is a free sentence: "all cars on the left".
    """
    plain = _simplify(text)
    if not plain or len(plain) > _LONGEST:
        return False
    if plain in _NOTHING:
        return True
    for pattern in _SENTENCES:
        match = pattern.fullmatch(plain)
        if match is not None and _names_all(match["subject"], classes, sentence):
            return True
    return False


def _simplify(text: str) -> str:
    """Return a text in lower case on one line, without marks around it."""
    text = re.sub(r"```\w*|</?answer>|[*_`\"“”]", " ", text.replace("’", "'").replace("，", ","))
    return " ".join(text.casefold().split()).strip(" .!。")


def _names_all(subject: str, classes: Collection[str], sentence: bool) -> bool:
    """Return whether the words name each class, or whatever was asked for."""
    parts = [_FILLERS.sub("", part.strip()) for part in _AND.split(subject) if part.strip()]
    whole = _FILLERS.sub("", subject.strip())
    if not parts:
        return False
    if any(is_same_name(whole, one) for one in _ANY):
        return True
    if sentence:
        (asked,) = classes
        return all(contains_name(asked, part) and not any(is_same_name(part, one) for one in _VIEWS) for part in parts)
    if len(classes) == 1:
        parts = [whole]
    every_class = all(any(is_same_name(part, one) for part in parts) for one in classes)
    return every_class and all(any(is_same_name(part, one) for one in classes) for part in parts)
