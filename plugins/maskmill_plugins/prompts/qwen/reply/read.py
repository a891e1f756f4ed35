"""From a model's reply to the objects in it: every answer that is there, and none that is not.

Attempts, in this order; the first that finds something, or an empty list, ends it:

1. What the model thought (`<think>`, closed or not, or only closed) is left out, never read; a reply
   that is one JSON text is read as what it says.
2. Tags of the first generations: `<ref>label</ref><box>(x1,y1),(x2,y2)</box>` (Qwen-VL) and
   `<|object_ref_start|>label<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>` (Qwen2-VL).
3. `<points x1="..." y1="..." alt="label">` (Qwen2.5-VL).
4. JSON, however broken (`scanning`): objects with a known key (`keys`) for boxes or points, anywhere,
   also in prose and in tool calls; where there is none, lists of numbers under other keys, which then
   are labels; lists of numbers without any key, where they are an answer (`lists`).
5. `label(x1,y1),(x2,y2)`: tags whose tokens a server swallowed.

Numbers in prose are never read. Coordinates are as the model wrote them, none is computed: a box of
a corner and a size is not read. `coordinates` knows what they mean.
"""

from __future__ import annotations

import re

from .found import Found, Reading, Wanted
from .objects import Objects
from .scan import scan
from .tags import points_tags, swallowed, tags, without_thoughts

__all__ = ["Found", "Reading", "Wanted", "read"]

_TOKENS = re.compile(r"<\|(?:im_end|im_start|endoftext)\|>")
_PLAIN_QUOTE = re.compile(r'(?<!\\)"')


def read(text: str, wanted: Wanted = "boxes", blind: bool = False) -> Reading:
    """Read a reply; never fails.

    Args:
        text: the reply, as it came.
        wanted: what was asked for; decides what two pairs of numbers without a name are.
        blind: no picture was sent.
    """
    reading = Reading()
    answer = _unquoted(_TOKENS.sub(" ", without_thoughts(text)).strip())
    reading.readable = (
        tags(answer, reading)
        or points_tags(answer, reading)
        or _values(answer, reading, Objects(wanted, blind, reading))
        or swallowed(answer, reading)
    )
    reading.counts = +reading.counts
    return reading


def _values(text: str, reading: Reading, objects: Objects) -> bool:
    found = scan(text)
    reading.truncated |= found.truncated
    return objects.take(text, found)


def _unquoted(text: str) -> str:
    """What a text says whose quotes all are escaped or doubled: JSON in a text of JSON, or of a table."""
    inner = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if '""' in inner and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    if '\\"' not in inner or _PLAIN_QUOTE.search(inner):
        return text
    return inner.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
