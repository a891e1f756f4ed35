"""Maps the names in a model's reply to the user's class names."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

Words = tuple[str, ...]

_WORD = re.compile(r"[^\W_]+")
_DROPPED = frozenset({"a", "an", "the"})
#: Begins a description of the object named before it: "car on the left".
_REST = re.compile(
    r"[(\[,;:/|]|\b(?:with|on|in|of|at|by|near|behind|under|over|beside|next|from|to|for|that|which|who|whose"
    r"|wearing|holding|carrying|riding|driving|sitting|standing|walking|parked)\b"
)
#: Begins what a class does not include, in its description.
_NOT = re.compile(r"\b(?:not|no|but|without|except|excluding|other than)\b|不包括|不含|除了|而不是|不是")
_IRREGULAR = {"people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse"}
_IRREGULAR |= {"feet": "foot", "teeth": "tooth", "geese": "goose", "persons": "person"}


def match_class(names: Sequence[str], classes: Mapping[str, str], asked: str | None = None) -> str | None:
    """Return the class of an object, by the first of these rules that applies:

    1. A name equals a class, ignoring case, character width, spaces and hyphens; else also articles, a
       number after it, and plural. A name that equals two classes, as "type 3" does "type 1" and "type 2"
       without their numbers, is of neither. In a question about one class, an object that matches another
       class is dropped: that class has its own question.
    2. In a question about one class, or if there is only one: that class. The model answered that
       question, so a "car" is a "vehicle".
    3. The name ends with a class: "red car (parked)" is a "car", "car door" is not; the longest such class.
    4. The name, with or without its first words, is in the description of exactly one class: with
       `vehicle: cars, trucks and buses, not bicycles`, a "red truck" is a "vehicle", a "bicycle" is not.
    5. Otherwise None: the object is dropped and counted.

    Args:
        names: of the object in the reply; may be empty.
        classes: the user's names, each with a description or "".
        asked: the class in this question, None if it asked for all.

    Returns:
        One of `classes`, or None.
    """
    equal = _find_equal(names, classes)
    if equal:
        return equal[0] if len(equal) == 1 and asked in (None, equal[0]) else None
    if asked is not None:
        return asked
    if len(classes) == 1:
        return next(iter(classes))
    subjects = [split_words(_REST.split(_normalize(name), maxsplit=1)[0]) for name in names]
    for subject in filter(None, subjects):
        ending = [one for one in classes if _ends_with(subject, split_words(one))]
        if ending:
            return max(ending, key=lambda one: len("".join(split_words(one))))
    described = {one: _NOT.split(_normalize(text))[0] for one, text in classes.items() if text}
    longest = max((len(_WORD.findall(text)) for text in described.values()), default=0)
    for subject in filter(None, subjects):
        for start in range(max(0, len(subject) - max(1, longest)), len(subject)):  # a longer rest is in none
            fitting = [one for one, text in described.items() if _contains(text, subject[start:])]
            if fitting:
                return fitting[0] if len(fitting) == 1 else None
    return None


def find_other_name(names: Sequence[str], asked: str) -> str:
    """Return the name under which an object came that was taken for the class asked for, "" if it is that class's.

    An object without any name is nobody else's.
    """
    named = [name for name in names if split_words(name)]
    if not named or _find_equal(named, [asked]):
        return ""
    return named[0]


def is_same_name(one: str, other: str) -> bool:
    """Return whether two names are the same except for case, width, articles, a number at the end, and plural."""
    return bool(words := split_words(one)) and _is_same(words, split_words(other))


def contains_name(text: str, name: str) -> bool:
    """Return whether a text contains a name, as consecutive words."""
    return bool(words := split_words(name)) and _contains(_normalize(text), words)


def split_words(text: str) -> Words:
    """Return the words of a text without case, width, articles and punctuation, and without a number at the end.

    An article that stands alone is a name, such as the letter A.
    """
    words = _split_all(text)
    found = [word for word in words if word not in _DROPPED] or list(words)
    while len(found) > 1 and found[-1].isdecimal():
        found.pop()
    if found and _is_chinese(found[-1]):
        found[-1] = found[-1].rstrip("0123456789") or found[-1]
    return tuple(found)


def _normalize(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _split_all(text: str) -> Words:
    return tuple(_WORD.findall(_normalize(text)))


def _find_equal(names: Sequence[str], classes: Iterable[str]) -> list[str]:
    """Return the classes that a name equals: with every word and number; else without; else except for plural."""
    tests: tuple[tuple[Callable[[str], Words], Callable[[Words, Words], bool]], ...] = (
        (_split_all, Words.__eq__),
        (split_words, Words.__eq__),
        (split_words, _is_same),
    )
    for split, test in tests:
        named = [words for name in names if (words := split(name))]
        equal = [one for one in classes if any(test(words, split(one)) for words in named)]
        if equal:
            return equal
    return []


def _is_same(some: Words, others: Words) -> bool:
    """Return whether two phrases are the same except for plural."""
    return len(some) == len(others) and all(map(_is_same_word, some, others))


def _is_same_word(one: str, other: str) -> bool:
    one, other = _IRREGULAR.get(one, one), _IRREGULAR.get(other, other)
    return one == other or one in _list_plurals(other) or other in _list_plurals(one)


def _list_plurals(word: str) -> set[str]:
    """Return possible English plurals of a word, for comparison."""
    found = {word + "es" if word.endswith(("s", "x", "z", "ch", "sh")) else word + "s"}
    if word.endswith("o"):
        found.add(word + "es")
    for end, plural in (("y", "ies"), ("f", "ves"), ("fe", "ves")):
        if word.endswith(end):
            found.add(word.removesuffix(end) + plural)
    return found


def _ends_with(subject: Words, one: Words) -> bool:
    """Return whether a name ends with a class; Chinese has no spaces between words."""
    if not one:
        return False
    if len(one) == 1 and _is_chinese(one[0]):
        return subject[-1].endswith(one[0])
    return _is_same(subject[-len(one) :], one)


def _contains(text: str, subject: Words) -> bool:
    """Return whether a description contains a name, as consecutive words."""
    if len(subject) == 1 and _is_chinese(subject[0]):
        return subject[0] in text
    found = _WORD.findall(text)
    return any(_is_same(tuple(found[at : at + len(subject)]), subject) for at in range(len(found) - len(subject) + 1))


def _is_chinese(word: str) -> bool:
    return any("\u3400" <= sign <= "\u9fff" for sign in word)
