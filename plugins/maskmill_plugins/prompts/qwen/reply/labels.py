"""From what a model calls a thing to the user's own class name, by rules that can be looked up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence

Words = tuple[str, ...]

_WORD = re.compile(r"[^\W_]+")
_DROPPED = frozenset({"a", "an", "the"})
#: What follows one of these tells more about the thing named before it: "car on the left".
_REST = re.compile(
    r"[(\[,;:/|]|\b(?:with|on|in|of|at|by|near|behind|under|over|beside|next|from|to|for|that|which|who|whose"
    r"|wearing|holding|carrying|riding|driving|sitting|standing|walking|parked)\b"
)
#: What follows one of these in a description is what the class is not.
_NOT = re.compile(r"\b(?:not|no|but|without|except|excluding|other than)\b|不包括|不含|除了|而不是|不是")
_IRREGULAR = {"people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse"}
_IRREGULAR |= {"feet": "foot", "teeth": "tooth", "geese": "goose", "persons": "person"}


def match(names: Sequence[str], classes: Mapping[str, str], asked: str | None = None) -> str | None:
    """The class that an object belongs to. The first rule that decides counts:

    1. A name equals a class, but for case, width of characters, spaces, hyphens, articles, a number
       behind it, and plural. In a call for one class, an object that so belongs to another class is
       left out: that class has a call of its own.
    2. In a call for one class, or where there is only one: it is that class. The model answered
       that question, so a "car" is a "vehicle".
    3. The thing named is a class with something before it: "red car (parked)" is a "car", "car door"
       is none; the longest such class.
    4. The thing named, with or without what stands before it, is among the words of one class's
       description alone: with `vehicle: cars, trucks and buses, not bicycles`, a "red truck" is a
       "vehicle", a "bicycle" is not.
    5. None: it is left out and counted.

    Args:
        names: what the model calls it; may be empty.
        classes: the user's names, each with a description or "".
        asked: the class that this call asked for, None if it asked for all.

    Returns:
        One of `classes`, or None.
    """
    equal = _equal([words(name) for name in names], classes)
    if equal:
        return equal[0] if asked is None or asked in equal else None
    if asked is not None:
        return asked
    if len(classes) == 1:
        return next(iter(classes))
    things = [words(_REST.split(_folded(name))[0]) for name in names]
    for thing in filter(None, things):
        ending = [one for one in classes if _ends(thing, words(one))]
        if ending:
            return max(ending, key=lambda one: len("".join(words(one))))
    described = {one: _NOT.split(_folded(text))[0] for one, text in classes.items() if text}
    for thing in filter(None, things):
        for start in range(len(thing)):
            fitting = [one for one, text in described.items() if _holds(text, thing[start:])]
            if fitting:
                return fitting[0] if len(fitting) == 1 else None
    return None


def words(text: str) -> Words:
    """The words of a text without case, width, articles and punctuation, and without a number behind them."""
    found = [word for word in _WORD.findall(_folded(text)) if word not in _DROPPED]
    while len(found) > 1 and found[-1].isdecimal():
        found.pop()
    if found and _chinese(found[-1]):
        found[-1] = found[-1].rstrip("0123456789") or found[-1]
    return tuple(found)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _equal(named: Sequence[Words], classes: Iterable[str]) -> list[str]:
    """Classes that a name equals; only if none does to the letter, those but for plural."""
    tests: tuple[Callable[[Words, Words], bool], ...] = (Words.__eq__, _same)
    for test in tests:
        equal = [one for one in classes if any(name and test(name, words(one)) for name in named)]
        if equal:
            return equal
    return []


def _same(some: Words, others: Words) -> bool:
    """Whether two phrases are the same but for plural."""
    return len(some) == len(others) and all(map(_same_word, some, others))


def _same_word(one: str, other: str) -> bool:
    one, other = _IRREGULAR.get(one, one), _IRREGULAR.get(other, other)
    return one == other or one in _plurals(other) or other in _plurals(one)


def _plurals(word: str) -> set[str]:
    """English plurals of a word, as they may be: good enough to compare by."""
    found = {word + "es" if word.endswith(("s", "x", "z", "ch", "sh")) else word + "s"}
    if word.endswith("o"):
        found.add(word + "es")
    for end, plural in (("y", "ies"), ("f", "ves"), ("fe", "ves")):
        if word.endswith(end):
            found.add(word.removesuffix(end) + plural)
    return found


def _ends(thing: Words, one: Words) -> bool:
    """Whether a thing's name ends with a class; Chinese has no spaces between words."""
    if not one:
        return False
    if len(one) == 1 and _chinese(one[0]):
        return thing[-1].endswith(one[0])
    return _same(thing[-len(one) :], one)


def _holds(text: str, thing: Words) -> bool:
    """Whether a description has a thing among its words, side by side."""
    if len(thing) == 1 and _chinese(thing[0]):
        return thing[0] in text
    found = _WORD.findall(text)
    return any(_same(tuple(found[at : at + len(thing)]), thing) for at in range(len(found) - len(thing) + 1))


def _chinese(word: str) -> bool:
    return any("\u3400" <= sign <= "\u9fff" for sign in word)
