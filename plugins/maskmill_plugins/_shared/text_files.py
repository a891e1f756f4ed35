"""Text, CSV rows and YAML that other programs or people wrote.

Values stay the text that stands in the file: a class called `no`, `on` or `007` keeps that name.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from maskmill import PipelineError, Problem, PromptError


class _TextLoader(yaml.SafeLoader):
    """YAML in which plain scalars are text, never numbers, dates or booleans; merge keys (`<<`) work."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice in a mapping: its meaning depends on who reads it."""
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in lines:
                    text = f"the key {key.value!r} is there twice, first in line {lines[key.value]}"
                    raise yaml.constructor.ConstructorError(problem=text, problem_mark=key.start_mark)
                lines[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)

    yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012 - PyYAML's own form


@contextmanager
def report_unreadable(path: Path) -> Iterator[None]:
    """Turn errors of opening, reading and decoding a file into a PipelineError that names the file."""
    try:
        yield
    except OSError as error:
        raise PipelineError(Problem(f"cannot be read: {error.strerror}", str(path))) from None
    except UnicodeDecodeError:
        raise PipelineError(Problem("not UTF-8 text; save the file as UTF-8", str(path))) from None


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file without their ends; a byte order mark is skipped.

    Raises:
        PipelineError: the file cannot be read or is not UTF-8.
    """
    return _read_text(path).split("\n")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file: mappings, lists and text; an empty value is "".

    Raises:
        PipelineError: the file cannot be read or is not YAML.
    """
    text = _read_text(path)
    try:
        return yaml.load(text, _TextLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        cause = " ".join(str(getattr(error, "problem", None) or error).split())
        raise PipelineError(Problem(f"not YAML: {cause}", str(path), line, column)) from None


def decode_line(raw: bytes) -> str:
    """A line as text.

    Raises:
        PromptError: it is not UTF-8, or holds several lines ended by CR alone, as old Mac programs write them.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise PromptError("not UTF-8 text; save the file as UTF-8 (in Excel: CSV UTF-8)") from None
    if "\r" in text.rstrip("\r\n"):
        raise PromptError("a carriage return within the line; lines end with LF or CR LF")
    return text


def split_row(line: str) -> list[str]:
    """The fields of one CSV row.

    Raises:
        PromptError: it is not CSV.
    """
    try:
        return next(csv.reader([line.rstrip("\r\n")], strict=True), [])
    except csv.Error as error:
        raise PromptError(f"not CSV: {error}") from None


def to_number(text: str) -> float:
    """The number that a text is, in plain digits: neither `1_000` nor digits of other scripts; it may be infinite.

    Raises:
        ValueError: it is no number.
    """
    value = float(text)
    if "_" in text or not text.isascii():
        raise ValueError(text)
    return value


def _read_text(path: Path) -> str:
    with report_unreadable(path):
        return path.read_text(encoding="utf-8-sig")
