"""From a model's reply to the objects in it.

These steps are tried in order, until one finds objects or an empty list:

1. Thinking (`<think>`, closed or not, or only closed) is removed, never parsed; `<answer>..</answer>` and a
   reply that is one JSON string are replaced by their content.
2. Tags of the first generations: `<ref>label</ref><box>(x1,y1),(x2,y2)</box>` (Qwen-VL) and
   `<|object_ref_start|>label<|object_ref_end|><|box_start|>(x1,y1),(x2,y2)<|box_end|>` (Qwen2-VL).
3. `<points x1="..." y1="..." alt="label">` (Qwen2.5-VL).
4. JSON, even if broken (`scan`): objects with a known key (`json_keys`) for boxes or points, anywhere, also
   in prose and in tool calls; otherwise lists of numbers under other keys, which are then labels; lists of
   numbers without a key, if they are an answer (`bare_lists`).
5. Tables of Markdown (`tables`), if a column says what it is.
6. `label(x1,y1),(x2,y2)`: tags whose special tokens the server removed.
7. A reply that is nothing but one line of four numbers, or a call that clicks where points were asked for
   (`whole_text`).

Numbers in prose are never used. Coordinates are kept as written, none is computed: a box with a width and a
height, by its keys or by the words of the reply (`formats`), is only counted. The folder `coordinates` converts them.
"""

from __future__ import annotations

import json
import re

from .formats import find_declared_format
from .objects import ObjectCollector
from .parsed_reply import FoundObject, ParsedReply, Wanted
from .scan import scan_text
from .tables import parse_tables
from .tags import parse_bare_tags, parse_points_tags, parse_tags, remove_thinking
from .whole_text import parse_whole_text, unwrap_answer

__all__ = ["FoundObject", "ParsedReply", "Wanted", "parse_reply"]

_TOKENS = re.compile(r"<\|(?:im_end|im_start|endoftext)\|>")
_PLAIN_QUOTE = re.compile(r'(?<!\\)"')


def parse_reply(text: str, wanted: Wanted = "boxes", blind: bool = False) -> ParsedReply:
    """Parse a reply; never fails.

    Args:
        text: the raw reply.
        wanted: what was asked for; decides what two pairs of numbers without a key are.
        blind: no image was sent.
    """
    parsed = ParsedReply()
    answer = _unquote(unwrap_answer(_TOKENS.sub(" ", remove_thinking(text))).strip())
    parsed.corners = find_declared_format(answer)
    parsed.readable = (
        parse_tags(answer, parsed)
        or parse_points_tags(answer, parsed)
        or _parse_values(answer, parsed, ObjectCollector(wanted, blind, parsed))
        or parse_tables(answer, parsed)
        or parse_bare_tags(answer, parsed)
        or parse_whole_text(answer, wanted, parsed)
    )
    if parsed.refused and not parsed.found:  # an empty list beside them does not say that there are none
        parsed.readable = False
    parsed.counts = +parsed.counts
    return parsed


def _parse_values(text: str, parsed: ParsedReply, collector: ObjectCollector) -> bool:
    scanned = scan_text(text)
    parsed.truncated |= scanned.truncated
    return collector.collect(text, scanned)


def _unquote(text: str) -> str:
    """Return the content of a JSON string, or of a text whose quotes are all escaped or doubled."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        try:
            return str(json.loads(text, strict=False)).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        except ValueError:
            pass
    inner = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if '""' in inner and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    if '\\"' not in inner or _PLAIN_QUOTE.search(inner):
        return text
    return inner.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
