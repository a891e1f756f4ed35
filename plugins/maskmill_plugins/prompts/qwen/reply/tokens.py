"""The tokens of JSON-like text: two expressions, for what stands in a value and for what stands between values.

No part of them tries again what it has read, except in short texts: time grows with the length.
"""

from __future__ import annotations

import re

from .tags import NUMBER

#: What may follow a quote that ends a text; other quotes in a text belong to it.
_END = r"""\s*+(?:[,:}\])"'/#，：]|\Z)"""


def _quoted(quote: str) -> str:
    """Texts in such quotes: clean ones; with quotes inside, not long; with nothing at their end that should be there.

    A quote right after a letter or digit begins nothing: it is an apostrophe, or inches. A quote
    after a bracket, comma or colon does not stand inside a text: the text's own end is missing.
    """
    sign = rf"[^{quote}\\\n]"
    inner = rf"(?<![\[{{,:])(?<![\[{{,:]\s){quote}(?!{_END})"
    return (
        rf"(?<!\w){quote}(?:{sign}|\\.)*+{quote}(?={_END})"
        rf"|(?<!\w){quote}(?:{sign}|\\.|{inner}){{0,150}}+{quote}(?={_END})"
        rf"|(?<!\w){quote}(?:[^{quote}\\\n\[\]{{}}:]|\\.)*+{quote}"
    )


_FENCE = r"(?P<fence> ```[ \t]*[a-zA-Z0-9]* )"
#: In values. The groups name the kinds of tokens; every text has one at every place.
INSIDE = re.compile(
    rf"""
    (?P<space>   \s++ )
  | (?P<comment> (?<!:)//[^\n]* | /\*.{{0,200}}?\*/ | (?<=[\s,\[{{])\#[^\n]* )
  | {_FENCE}
  | (?P<string>  {_quoted('"')} | {_quoted("'")} | “[^“”\n]{{0,300}}+” )
  | (?P<number>  (?<![\w.])(?!-?0[0-9]){NUMBER}(?![\w.]) )
  | (?P<open>    [\[{{(] )
  | (?P<close>   [\]}})] )
  | (?P<mark>    [,:，：] )
  | (?P<word>    \w++ )
  | (?P<quiet>   ["'“”`\\;；、….] )
  | (?P<junk>    . )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Between values, where quotes mean nothing and parentheses are punctuation.
OUTSIDE = re.compile(
    rf"""
    (?P<comment> (?<!\S)//[^\n]* )
  | {_FENCE}
  | (?P<open>    [\[{{] )
  | (?P<word>    \w++ )
  | (?P<quiet>   [^\w\[{{`/]++ | . )
    """,
    re.VERBOSE | re.DOTALL,
)
