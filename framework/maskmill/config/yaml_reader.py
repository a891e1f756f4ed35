"""Reads YAML into plain data with the position of each value.

The schema is YAML 1.2's core schema: `no` is a text, `010` is ten, `1e3` a number, a date a
text. Features with surprising effects are rejected: duplicate keys, anchors, merge keys, tags.
`${NAME}` in a text value is replaced by the environment variable NAME after parsing, so its
content is never interpreted as YAML.

Reference: YAML 1.2.2, section 10.3, https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import PipelineError, Problem, nearest_name
from .document import Document, Loc
from .yaml_mistakes import decode_text, explain_parser_error, find_typo, redact

__all__ = ["Document", "Loc", "load_yaml", "parse_yaml"]

_PREFIX = "tag:yaml.org,2002:"
_VARIABLE = re.compile(r"\$\$\{|\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def load_yaml(source: bytes, name: str, environ: Mapping[str, str] | None = None) -> Document:
    """Read YAML.

    Args:
        source: the file's bytes, UTF-8 with or without a byte order mark.
        name: the file as the user wrote its name, for messages.
        environ: the variables for `${NAME}`; None means the process's own.

    Raises:
        PipelineError: everything that is wrong with it, up to the point where parsing failed.
    """
    document = parse_yaml(source, name, environ)
    if document.problems:
        raise PipelineError(*document.problems)
    return document


def parse_yaml(source: bytes, name: str, environ: Mapping[str, str] | None = None, empty: bool = False) -> Document:
    """Like `load_yaml`, but problems that do not stop the parser are stored in the document.

    Args:
        source: the file's bytes.
        name: the file as the user wrote its name.
        environ: the variables for `${NAME}`; None means the process's own.
        empty: True reads an empty text as null instead of rejecting it.

    Raises:
        PipelineError: the text cannot be parsed.
    """
    text = decode_text(source, name)
    document = Document(name)
    builder = _Builder(document, text, os.environ if environ is None else environ)
    try:
        builder.build_tree(empty)
    except (yaml.YAMLError, RecursionError) as error:
        raise PipelineError(explain_parser_error(error, text, name)) from None
    document.problems.sort(key=lambda problem: (problem.line, problem.column))
    return document


class _CoreSchemaLoader(yaml.SafeLoader):
    """PyYAML's parser with the core schema's resolvers.

    Anchors, aliases and tags are recorded and removed instead of raised, so that parsing continues
    and the user sees every problem of the file at once.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own protocol

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.rejected: list[tuple[Any, str, str]] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]
            self._reject(
                event,
                f"the alias '*{event.anchor}' is not allowed",
                f'if it is a text, put quotes around it: "*{event.anchor}"',
            )
            return yaml.ScalarNode(_PREFIX + "null", "", event.start_mark, event.end_mark)  # type: ignore[arg-type]
        if event.anchor is not None:
            hint = f'a text that begins with & needs quotes: "&{event.anchor}"'
            self._reject(event, f"the anchor '&{event.anchor}' is not allowed: write the value out each time", hint)
            event.anchor = None
        if event.tag is not None:
            tag = event.tag.replace(_PREFIX, "!!")
            self._reject(
                event, f"the tag '{tag}' is not allowed", f'a text that begins with ! needs quotes: "{tag} ..."'
            )
            event.tag = None
            event.implicit = (True, False) if isinstance(event, yaml.ScalarEvent) else True
        return super().compose_node(parent, index)

    def _reject(self, event: yaml.Event, message: str, hint: str) -> None:
        self.rejected.append((event.start_mark, message, hint))


for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
):
    _CoreSchemaLoader.add_implicit_resolver(_PREFIX + _tag, re.compile(f"(?:{_pattern})$"), _first)


class _Builder:
    """Fills a document from PyYAML's nodes."""

    def __init__(self, document: Document, text: str, environ: Mapping[str, str]) -> None:
        self._document = document
        self._text = text
        self._environ = environ

    def build_tree(self, empty: bool) -> None:
        loader = _CoreSchemaLoader(self._text)
        node = loader.get_single_node()
        for mark, message, hint in loader.rejected:
            self._add_problem(mark, message, hint)
        if node is not None:
            self._document.tree = self._build(node, (), False)
        elif not empty:
            self._document.problems.append(Problem("the file is empty", self._document.name))

    def _add_problem(self, mark: yaml.Mark, message: str, hint: str = "", loc: Loc | None = None) -> None:
        problem = Problem(message, self._document.name, *_position(mark), hint=hint)
        self._document.add_problem(redact(problem, self._text), loc)

    def _build(self, node: yaml.Node, loc: Loc, in_flow: bool) -> Any:
        self._document.values[loc] = _position(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self._build_mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*loc, i), bool(node.flow_style)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode), "a node is a mapping, a sequence or a scalar"
        return self._build_scalar(node, loc, in_flow)

    def _build_mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        built: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self._build_key(key_node)
            if key is None:
                continue
            if (first := self._document.keys.get((*loc, key))) is not None:
                text = f"duplicate key {key!r}; the first one is in line {first[0]}"
                self._add_problem(key_node.start_mark, text, "remove one of them")
                continue
            self._document.keys[*loc, key] = _position(key_node.start_mark)
            built[key] = self._build(value_node, (*loc, key), bool(node.flow_style))
        return built

    def _build_key(self, node: yaml.Node) -> str | None:
        """The text of a key; None, with a problem recorded, if it is not a text."""
        if not isinstance(node, yaml.ScalarNode):
            self._add_problem(
                node.start_mark, "a key must be a text, not a list or a mapping", "is there a `:` in the wrong place?"
            )
        elif node.value == "<<" and node.style is None:
            self._add_problem(node.start_mark, "the merge key '<<' is not allowed: write the values out")
        elif node.tag != _PREFIX + "str":
            hint = f'put it in quotes: "{node.value}"' if node.value else "is the text before the `:` missing?"
            self._add_problem(node.start_mark, f"a key must be a text, not {node.value or 'nothing'}", hint)
        elif node.style is None and (typo := find_typo(node.value)):
            self._add_problem(node.start_mark, *typo)
        else:
            return str(node.value)
        return None

    def _build_scalar(self, node: yaml.ScalarNode, loc: Loc, in_flow: bool) -> Any:
        kind, text = node.tag.removeprefix(_PREFIX), node.value
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            return self._build_number(node, loc, kind)
        source = self._text[node.start_mark.index : node.end_mark.index]
        if typo := find_typo(source if node.style in ('"', "'") else text, node.style, in_flow):
            self._add_problem(node.start_mark, *typo, loc=loc)
        elif not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
            self._add_problem(
                node.start_mark, "this text contains invalid surrogate characters (\\ud800 to \\udfff)", loc=loc
            )
        return self._replace_variables(node, loc)

    def _build_number(self, node: yaml.Node, loc: Loc, kind: str) -> int | float | None:
        text = node.value
        try:
            if kind == "int":
                return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
            number = float(text) if text.lstrip("+-").lower() not in (".inf", ".nan") else math.inf
        except ValueError:  # more digits than Python converts (sys.set_int_max_str_digits)
            number = math.inf
        if not math.isfinite(number):
            self._add_problem(node.start_mark, f"expected a finite number, not '{text[:40]}'", loc=loc)
            return None
        return number

    def _replace_variables(self, node: yaml.ScalarNode, loc: Loc) -> str:
        text, has_variables, mistakes = expand_variables(node.value, self._environ)
        if has_variables:
            self._document.variables[loc] = node.value
        for message, hint in mistakes:
            self._add_problem(node.start_mark, message, hint, loc)
        return text


def expand_variables(text: str, environ: Mapping[str, str]) -> tuple[str, bool, list[tuple[str, str]]]:
    """Replace `${NAME}` by the environment variable NAME, and `$${` by `${`.

    Returns:
        The text; whether a variable (or `$${`) occurs in it; a message and a hint for each that is wrong.
    """
    mistakes: list[tuple[str, str]] = []

    def substitute(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "${"
        if not match[0].endswith("}"):
            mistakes.append(("'${' without a closing '}'", "for the characters ${ themselves, write $${"))
        elif not _NAME.fullmatch(name):
            message = f"'${{{name}}}' is not an environment variable: names consist of letters, digits and _"
            mistakes.append((message, "for the characters ${ themselves, write $${"))
        elif name not in environ:
            hint = f"set it first: export {name}=...   (in PowerShell: $env:{name} = '...')"
            mistakes.append((f"the environment variable {name} is not set", hint))
        else:
            return environ[name]
        return match[0]

    expanded, count = _VARIABLE.subn(substitute, text)
    return expanded, count > 0, mistakes


def _position(mark: yaml.Mark) -> tuple[int, int]:
    return mark.line + 1, mark.column + 1


SUFFIXES = (".yaml", ".yml")


def read_file(file: Path) -> bytes:
    """The bytes of a pipeline file.

    Raises:
        PipelineError: it does not exist or cannot be read; suggests the nearest name.
    """
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        raise PipelineError(_explain_read_error(file, error)) from None


def _explain_read_error(file: Path, error: OSError | ValueError) -> Problem:
    if os.path.isdir(file):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        return Problem(f"'{file}' is a folder; expected a pipeline file", hint=_list_files(file))
    if isinstance(error, FileNotFoundError):
        return _explain_missing_file(file)
    reason = error.strerror if isinstance(error, OSError) else error
    return Problem(f"cannot read the pipeline file '{file}': {reason}")


def _explain_missing_file(file: Path) -> Problem:
    message = f"there is no pipeline file '{file}'"
    if not file.parent.is_dir():
        return Problem(message, hint=f"the folder '{file.parent}' does not exist")
    stems = {path.stem.lower(): path for path in _find_files(file.parent)}
    wanted = (file.stem if file.suffix.lower() in SUFFIXES else file.name).lower()
    close = nearest_name(wanted, stems)
    return Problem(message, hint=f"did you mean '{stems[close]}'?" if close else _list_files(file.parent))


def _list_files(folder: Path) -> str:
    names = [path.name for path in _find_files(folder)]
    if not names:
        return f"there is no .yaml file in '{folder}'"
    return f"the pipeline files in '{folder}' are: {', '.join(names[:10])}" + (", ..." if len(names) > 10 else "")


def _find_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError:
        return []
