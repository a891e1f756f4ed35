"""The Chinese README matches the English one: commands, examples, links, names."""

import re
from collections import Counter
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
LANGUAGES = {"README.md", "README.zh-CN.md"}


def blocks(page):
    """(language, lines without comments and blank lines) of each fenced block."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [(language, without_comments(text)) for language, text in found]


def without_comments(text):
    lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in text.splitlines())
    return [line for line in lines if line]


def prose(page):
    return re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)


def headings(page):
    return re.findall(r"^(#+) (.+)$", prose(page), re.MULTILINE)


def test_comments_are_no_part_of_a_block():
    page = "```yaml\n# first\na: b#c   # second\n\nd: e\n```\n"
    assert blocks(page) == [("yaml", ["a: b#c", "d: e"])]


def test_the_code_blocks_are_the_same():
    assert len(blocks(ENGLISH)) > 5
    for english, chinese in zip_longest(blocks(ENGLISH), blocks(CHINESE)):
        assert chinese == english


def test_the_sections_are_the_same():
    assert [level for level, _ in headings(CHINESE)] == [level for level, _ in headings(ENGLISH)]


def test_the_tables_have_the_same_rows():
    rows = [
        [line.count("|") for line in prose(page).splitlines() if line.startswith("|")] for page in (ENGLISH, CHINESE)
    ]
    assert rows[1] == rows[0]


def test_the_links_are_the_same():
    links = [Counter(set(re.findall(r"\]\((.+?)\)", page)) - LANGUAGES) for page in (ENGLISH, CHINESE)]
    assert links[1] == links[0]


def test_what_is_named_in_the_text_is_the_same():
    names = [set(re.findall(r"`([^`\n]+)`", prose(page))) for page in (ENGLISH, CHINESE)]
    assert names[1] == names[0]


@pytest.mark.parametrize("page", [ENGLISH, CHINESE], ids=["en", "zh"])
def test_links_within_the_page_lead_somewhere(page):
    anchors = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _, text in headings(page)}
    assert set(re.findall(r"\]\(#(.+?)\)", page)) <= anchors
