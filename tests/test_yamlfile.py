"""YAML text to data with places: what is read, what is refused, and in which words."""

import math

import pytest

from maskmill import PipelineError, Problem
from maskmill.config.yaml_reader import load_yaml, parse_yaml

ENVIRON = {"HOST": "10.0.0.1", "TRICK": "a: [b, *c] # d", "EMPTY": ""}
SAME_COLUMN = "keys of one level, and entries of one list, must begin in the same column"


def load(text: str):
    return load_yaml(text.encode(), "p.yaml", ENVIRON)


def refusal(source: str | bytes) -> str:
    with pytest.raises(PipelineError) as caught:
        load_yaml(source.encode() if isinstance(source, str) else source, "p.yaml", ENVIRON)
    assert caught.value.__context__ is None or caught.value.__suppress_context__, "no parser traceback is shown"
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("+1", 1),
        ("010", 10),
        ("0x10", 16),
        ("0o17", 15),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-31", "2024-01-31"),
        ("1e3", 1000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5E-1", -0.25),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("-", [None]),
        ("'12'", "12"),
        ('"true"', "true"),
        ("车辆", "车辆"),
        ("photos/*.jpg", "photos/*.jpg"),
        (r"D:\photos\new", r"D:\photos\new"),
        (r'"D:\\photos"', r"D:\photos"),
        (r"'D:\photos\new'", r"D:\photos\new"),
        ("http://host:80/x", "http://host:80/x"),
        ("[a, {b: 1}]", ["a", {"b": 1}]),
        ("'[a，b]'", "[a，b]"),
        ('"car：red"', "car：red"),
    ],
)
def test_the_core_schema(written: str, read: object) -> None:
    tree = load(f"key:\n  {written}\n" if written == "-" else f"key: {written}\n").tree
    assert tree == {"key": read}
    assert type(tree["key"]) is type(read)


def test_numbers_stay_finite_and_exact() -> None:
    assert load("a: 123456789012345678901234567890").tree["a"] == 123456789012345678901234567890
    assert math.isclose(load("a: 1.5e-7").tree["a"], 1.5e-7)


def test_a_byte_order_mark_is_accepted() -> None:
    document = load_yaml(b"\xef\xbb\xbfname: x\n", "p.yaml")
    assert document.tree == {"name": "x"}
    assert document.find_position(("name",)) == (1, 7)


def test_marks_of_values_keys_and_missing_things() -> None:
    document = load("a: 1\nlist:\n  - x: 车辆\n    y:   [1, two]\nempty:\n")
    assert document.find_position(()) == (1, 1)
    assert document.find_position(("a",)) == (1, 4)
    assert document.find_position(("a",), key=True) == (1, 1)
    assert document.find_position(("list", 0)) == (3, 5)
    assert document.find_position(("list", 0, "y", 1)) == (4, 14)
    assert document.find_position(("list", 0, "y"), key=True) == (4, 5)
    assert document.find_position(("list", 0, "z", "deep")) == (3, 5)
    assert document.find_position(("empty",)) == (5, 7)
    assert document.find_position(("nowhere",), key=True) == (1, 1)


def test_a_problem_says_its_place() -> None:
    document = load("a: 1\nb: 2\n")
    assert str(document.problem(("b",), "wrong", "mend it")) == "p.yaml:2:4: wrong\n  mend it"
    assert str(document.problem(("b",), "wrong", key=True, warning=True)) == "warning: p.yaml:2:1: wrong"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${HOST}", "10.0.0.1"),
        ("http://${HOST}:${EMPTY}80", "http://10.0.0.1:80"),
        ("'${TRICK}'", "a: [b, *c] # d"),
        ("$${HOST}", "${HOST}"),
        ("$$${HOST}", "$${HOST}"),
        ("$HOST", "$HOST"),
        ("a$b{c}", "a$b{c}"),
        ("|\n  x ${HOST}\n  y", "x 10.0.0.1\ny\n"),
        ('["${HOST}"]', ["10.0.0.1"]),
    ],
)
def test_variables_in_values(text: str, value: object) -> None:
    assert load(f"k: {text}\n").tree["k"] == value


def test_a_variable_never_becomes_structure_or_a_number() -> None:
    document = load_yaml(b"a: ${N}\n${N}: b\n", "p.yaml", {"N": "12"})
    assert document.tree == {"a": "12", "${N}": "b"}
    assert document.variables.keys() == {("a",)}


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_TEST_HOST", "here")
    assert load_yaml(b"a: ${MASKMILL_TEST_HOST}", "p.yaml").tree == {"a": "here"}


BROKEN = {
    "empty file": ("", "p.yaml: the file is empty"),
    "only comments": ("# a\n\n# b\n", "p.yaml: the file is empty"),
    "duplicate key": (
        "run: 1\nname: x\nrun: 2\n",
        "p.yaml:3:1: duplicate key 'run'; the first one is in line 1\n  remove one of them",
    ),
    "anchor and alias": (
        "a: &x 1\nb: *x\n",
        "p.yaml:1:4: the anchor '&x' is not allowed: write the value out each time\n"
        '  a text that begins with & needs quotes: "&x"\n'
        "p.yaml:2:4: the alias '*x' is not allowed\n"
        '  if it is a text, put quotes around it: "*x"',
    ),
    "pattern read as an alias": (
        "dataset: *.jpg\n",
        "p.yaml:1:10: a text cannot begin with '*'\n  put quotes around the text: \"*.jpg\"",
    ),
    "merge key": (
        "a:\n  <<: {y: 1}\n",
        "p.yaml:2:3: the merge key '<<' is not allowed: write the values out",
    ),
    "tag": (
        "a: !!python/object:os.system x\n",
        "p.yaml:1:4: the tag '!!python/object:os.system' is not allowed\n"
        '  a text that begins with ! needs quotes: "!!python/object:os.system ..."',
    ),
    "tag on a list": (
        "a: !x [1]\n",
        "p.yaml:1:4: the tag '!x' is not allowed\n  a text that begins with ! needs quotes: \"!x ...\"",
    ),
    "keys that are no text": (
        "1: x\ntrue: y\n? [a]\n: z\n",
        'p.yaml:1:1: a key must be a text, not 1\n  put it in quotes: "1"\n'
        'p.yaml:2:1: a key must be a text, not true\n  put it in quotes: "true"\n'
        "p.yaml:3:3: a key must be a text, not a list or a mapping\n  is there a `:` in the wrong place?",
    ),
    "several documents": (
        "a: 1\n---\nb: 2\n",
        "p.yaml:2:1: a second document begins here ('---')\n  put each pipeline in a file of its own",
    ),
    "tab": (
        "run:\n\tjobs: 1\n",
        "p.yaml:2:1: there is a tab character here\n  replace it with spaces",
    ),
    "gbk": (
        "a: 1\nname: 车辆\n".encode("gbk"),
        "p.yaml:2:7: the file is not UTF-8 here (is it GBK?)\n"
        "  save the file as UTF-8 (in Notepad: Save as, Encoding: UTF-8)",
    ),
    "no encoding at all": (
        "名: x\ny: ".encode() + b"\xff\n",
        "p.yaml:2:4: the file is not UTF-8 here\n  save the file as UTF-8 (in Notepad: Save as, Encoding: UTF-8)",
    ),
    "utf-16": (
        "name: x\n".encode("utf-16"),
        "p.yaml: the file is UTF-16, not UTF-8\n  save the file as UTF-8 (in Notepad: Save as, Encoding: UTF-8)",
    ),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "p.yaml: this is not a text file"),
    "zero byte": ("a: \0\n", "p.yaml:1:4: this is not a text file: it contains a zero byte"),
    "control character": ("a: x\n" + "b: \x07\n", "p.yaml:2:4: the character U+0007 is not allowed here"),
    "full-width colon in the first line": (
        "name： x\nprompts: []\n",
        "p.yaml:1:5: this contains a full-width colon: '：'\n"
        "  use ':' and a space: `name: ...`, or put quotes around the text",
    ),
    "full-width colon below": (
        "name: x\nprompts： []\nrun: {}\n",
        "p.yaml:2:8: this contains a full-width colon: '：'\n"
        "  use ':' and a space: `prompts: ...`, or put quotes around the text",
    ),
    "full-width colon in a list": (
        "prompts:\n  - use： manual\n",
        "p.yaml:2:5: this contains a full-width colon: '：'\n"
        "  use ':' and a space: `use: ...`, or put quotes around the text",
    ),
    "full-width comma": (
        "find: [车辆，行人]\n",
        "p.yaml:1:8: this contains a full-width comma: '，'\n"
        "  use ',' between the entries, or put quotes around the text",
    ),
    "full-width bracket": (
        "find: ［车辆］\n",
        "p.yaml:1:7: this begins with a full-width '［'\n  use '['",
    ),
    "full-width space": (
        "run:\n\u3000\u3000jobs: 1\n",
        "p.yaml:2:1: there is a full-width or non-breaking space before or after this text\n  use a normal space",
    ),
    "full-width comment sign": (
        "＃ 注释\na: 1\n",
        "p.yaml:1:1: this contains a full-width '＃'\n  use the ASCII '#' for comments",
    ),
    "curly quotes": (
        "name: “x”\n",
        'p.yaml:1:7: “ and ” are not quotes in YAML\n  use straight quotes: "x"',
    ),
    "unknown escape": (
        'path: "D:\\photos\\new"\n',
        "p.yaml:1:7: inside double quotes, \\ starts an escape sequence\n"
        "  use single quotes: 'D:\\photos\\new', or forward slashes: \"D:/photos/new\"",
    ),
    "escape of a long character": (
        'path: "C:\\Users\\li"\n',
        "p.yaml:1:7: inside double quotes, \\ starts an escape sequence\n"
        "  use single quotes: 'C:\\Users\\li', or forward slashes: \"C:/Users/li\"",
    ),
    "escapes that are valid and wrong": (
        'path: "D:\\new\\table"\n',
        "p.yaml:1:7: inside double quotes, \\ starts an escape sequence\n"
        "  use single quotes: 'D:\\new\\table', or forward slashes: \"D:/new/table\"",
    ),
    "half a character": (
        'a: "\\ud83d"\n',
        "p.yaml:1:4: this text contains invalid surrogate characters (\\ud800 to \\udfff)",
    ),
    "variable in a flow mapping": (
        "backend: {use: x, token: ${TOKEN}}\n",
        'p.yaml:1:26: ${TOKEN} inside [...] or {...} needs quotes\n  put quotes around it: "${TOKEN}"',
    ),
    "variable in a flow list": (
        "a: [b, ${B}]\n",
        'p.yaml:1:8: ${B} inside [...] or {...} needs quotes\n  put quotes around it: "${B}"',
    ),
    "variables that are not there": (
        "a: ${NOPE}\nb: ${a-b}\nc: x${open\n",
        "p.yaml:1:4: the environment variable NOPE is not set\n"
        "  set it first: export NOPE=...   (in PowerShell: $env:NOPE = '...')\n"
        "p.yaml:2:4: '${a-b}' is not an environment variable: names consist of letters, digits and _\n"
        "  for the characters ${ themselves, write $${\n"
        "p.yaml:3:4: '${' without a closing '}'\n"
        "  for the characters ${ themselves, write $${",
    ),
    "numbers without end": (
        "a: .inf\nb: .NaN\nc: 1e999\n",
        "p.yaml:1:4: expected a finite number, not '.inf'\n"
        "p.yaml:2:4: expected a finite number, not '.NaN'\n"
        "p.yaml:3:4: expected a finite number, not '1e999'",
    ),
    "no space after the colon": (
        "name: x\ndataset:photos\nprompts: []\n",
        "p.yaml:2:8: there is no space after the ':'\n  write `dataset: photos`",
    ),
    "no space after the first colon": (
        "dataset:photos\nprompts: []\n",
        "p.yaml:1:8: there is no space after the ':'\n  write `dataset: photos`",
    ),
    "second colon": (
        "label: a: b\n",
        "p.yaml:1:9: there is a second ': ' in this line\n  put quotes around the text",
    ),
    "no colon": ("a: 1\nhello\nb: 2\n", "p.yaml:2:1: expected `key: value`, got 'hello'"),
    "too far right": (
        "a: 1\n  b: 2\n",
        "p.yaml:2:3: this line is indented too far: the line above already has a value\n  " + SAME_COLUMN,
    ),
    "too far left": (
        "prompts:\n  - use: x\n   b: 2\n",
        "p.yaml:3:4: the indentation does not match the lines above\n  " + SAME_COLUMN,
    ),
    "open bracket": (
        "a: [1, 2\nb: 3\n",
        "p.yaml:2:2: expected ',' or ']' here, to continue or close the '[' in line 1",
    ),
    "open bracket and full-width comma": (
        "a: [1，2\nb: 3\n",
        "p.yaml:2:2: expected ',' or ']' here, to continue or close the '[' in line 1\n"
        "  '，' is a full-width character; use the ASCII one",
    ),
    "open bracket at the end": ("a: [", "p.yaml:1:5: a value is missing here\n  is a '[' or '{' left open?"),
    "bracket too many": (
        "a: ]\n",
        "p.yaml:1:4: unexpected ']'\n  if a text begins with it, put quotes around the text: \"]...\"",
    ),
    "open quote": (
        "a: 'it\nb: 3\n",
        "p.yaml:1:4: the quote ' that starts here is not closed\n"
        "  add ' at the end of the text; inside '...', a ' is written ''",
    ),
    "text after a quote": (
        'a: "x" y\n',
        "p.yaml:1:8: there is more text after the end of the value\n  put quotes around the whole text",
    ),
    "at sign": ("a: @home\n", "p.yaml:1:4: a text cannot begin with '@'\n  put quotes around the text: \"@home\""),
    "too deep": ("a: " + "[" * 5000, "p.yaml: the file is nested too deeply"),
    "sign of a block of text": (
        "a: |x| # y\n",
        "p.yaml:1:4: a text cannot begin with '|'\n  put quotes around the text: \"|x|\"",
    ),
    "list in the line of its key": (
        "prompts: - use: x\n",
        "p.yaml:1:10: a list cannot begin on the line of its key\n  start a new line before the '-'",
    ),
    "first line too far right": (
        "  a: 1\nb: 2\n",
        "p.yaml:2:1: the indentation does not match the lines above\n  " + SAME_COLUMN,
    ),
    "anything else": ("a: ? x\n", "p.yaml:1:4: this is not valid YAML: mapping keys are not allowed here"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_texts(text: str | bytes, said: str) -> None:
    assert refusal(text) == said


def test_a_number_of_endless_digits_is_refused() -> None:
    assert refusal("a: " + "9" * 5000) == f"p.yaml:1:4: expected a finite number, not '{'9' * 40}'"


def test_problems_of_one_file_come_together_by_line() -> None:
    lines = refusal("a: ${NOPE}\nb: &x 1\na: 3\nc: “q”\n").splitlines()
    assert [line.split(": ")[0] for line in lines if line.startswith("p.yaml")] == [
        "p.yaml:1:4",
        "p.yaml:2:4",
        "p.yaml:3:1",
        "p.yaml:4:4",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "images:\n  - package:skimage/data/coins.png\n  - package:skimage/data/cell.png\n b: 1\n",
        "a: http://x:80\n  b: 1\n",
        "a: D:/x\n  b: 1\n",
    ],
    ids=["package", "url", "drive"],
)
def test_a_colon_inside_a_value_is_not_blamed(text: str) -> None:
    assert "no space" not in refusal(text)


def test_parsing_goes_on_past_what_is_refused() -> None:
    document = parse_yaml(b"a: ${NOPE}\nb: 2\nb: 3\nc: {d: 4}\n", "p.yaml", ENVIRON)
    assert document.tree == {"a": "${NOPE}", "b": 2, "c": {"d": 4}}
    assert [problem.line for problem in document.problems] == [1, 3]
    assert document.has_problem(("a",)) and not document.has_problem(("b",))


def test_an_empty_text_may_stand_for_null() -> None:
    assert parse_yaml(b"", "--set x", ENVIRON, empty=True).tree is None


def test_load_raises_problems_with_places() -> None:
    with pytest.raises(PipelineError) as caught:
        load("a: 1\na: 2\n")
    assert caught.value.problems == (
        Problem("duplicate key 'a'; the first one is in line 1", "p.yaml", 2, 1, "remove one of them"),
    )


@pytest.mark.parametrize("key", ["token", "api_key", "'password'", "- secret"])
@pytest.mark.parametrize(
    "value",
    [
        "@hunter2",
        "*hunter2",
        "&hunter2 x",
        "!hunter2 x",
        '"hunter2\\x"',
        '"D:\\hunter2"',
        "“hunter2”",
        "hunter2： x",
        "[${hunter}2",
        "'x' hunter2",
        "1e99999",
        "|hunter2",
        "'hunter2",
    ],
)
def test_what_may_be_a_secret_is_not_repeated(key: str, value: str) -> None:
    said = refusal(f"{key}: {value}\n")
    assert "hunter2" not in said and "1e99999" not in said
    assert "p.yaml:1:" in said


def test_the_name_of_a_variable_is_no_secret() -> None:
    assert "export NOPE=..." in refusal("token: ${NOPE}\n")
    assert 'put quotes around it: "${TOKEN}"' in refusal("{token: ${TOKEN}}\n")
