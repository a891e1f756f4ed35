"""XML with the line of each element, parsed by the standard library's expat; entity declarations are rejected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from maskmill import PipelineError, Problem
from maskmill_plugins._shared.text_files import report_unreadable


@dataclass
class Node:
    """An element: its tag, its line in the file, its own text, its children and its attributes."""

    tag: str
    line: int
    text: str = ""
    children: list[Node] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)

    def all(self, tag: str) -> Iterator[Node]:
        """Its children with this tag."""
        return (node for node in self.children if node.tag == tag)

    def first(self, tag: str) -> Node | None:
        """Its first child with this tag."""
        return next(self.all(tag), None)

    def value(self, tag: str) -> str:
        """The text of its first child with this tag, "" if there is none."""
        node = self.first(tag)
        return "" if node is None else node.text.strip()


def read_xml(path: Path) -> Node:
    """The root of an XML file.

    Raises:
        PipelineError: the file cannot be read, is not XML, or declares entities, which could fill
            the memory or read other files; with line and column.
    """
    top = Node("", 0)
    stack = [top]
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        node = Node(tag, parser.CurrentLineNumber, attributes=attributes)
        stack[-1].children.append(node)
        stack.append(node)

    def end(_: str) -> None:
        stack.pop()

    def text(data: str) -> None:
        stack[-1].text += data

    def entity(*_: object) -> None:
        where = parser.CurrentLineNumber, parser.CurrentColumnNumber + 1
        raise PipelineError(
            Problem("declares entities, which are not supported; remove the DOCTYPE", str(path), *where)
        )

    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.EntityDeclHandler = parser.SkippedEntityHandler = entity
    try:
        with report_unreadable(path), path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, ValueError, LookupError) as error:
        cause = expat.ErrorString(error.code) if isinstance(error, expat.ExpatError) else str(error)
        where = parser.ErrorLineNumber, parser.ErrorColumnNumber + 1
        hint = "" if _is_utf8(path) else "the file is not UTF-8 text; save it as UTF-8"
        raise PipelineError(Problem(f"not XML: {cause}", str(path), *where, hint=hint)) from None
    return top.children[0]


def _is_utf8(path: Path) -> bool:
    try:
        path.read_text(encoding="utf-8")
    except ValueError:
        return False
    return True
