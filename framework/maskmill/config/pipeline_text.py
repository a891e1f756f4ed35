"""The text of a pipeline file for a configuration that was not read from one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ..files import path_from
from ..images import PACKAGE
from ..plugins.options import OptionSchema
from ..plugins.stage import PATH_OR_NAME
from .config import Config
from .document import Loc

_BREAKS = frozenset("\n\r\x85\u2028\u2029")
#: Takes the place of a value that must not be written.
_SECRET = object()


def format_pipeline(config: Config, folder: Path, head: str) -> str:
    """The pipeline as a file in another folder: the same images, prompts, plugins and options.

    Environment variables stay as they were written; secrets are left out, with a comment.

    Args:
        config: its document was made by the program.
        folder: the folder of the file; `output` is relative to it, as all other relative paths.
        head: a comment for the first line.
    """
    writer = _Writer(config, folder)
    tree = writer.write(config.document.tree, ())
    used = [use.entry.origin for use in config.uses() if use.entry.code]
    plugins = {Path(path).resolve(): path for path in used}
    given = tree.pop("plugins", [])
    for text in [given] if isinstance(given, str) else given:
        plugins.pop((folder / text).resolve(), None)
    named = [
        *([given] if isinstance(given, str) else given),
        *(writer.path_to(Path(path)) for path in plugins.values()),
    ]
    tree = {**({"plugins": named} if named else {}), **tree, "output": writer.path_to(config.output)}
    comments = [head, *(f"Left out, because it is a secret: {name}" for name in writer.secrets)]
    text = yaml.dump(
        tree, Dumper=_Dumper, allow_unicode=True, sort_keys=False, default_flow_style=None, width=1_000_000
    )
    return "".join(f"# {line}\n" for line in comments) + text


class _Writer:
    """Turns the values of a document back into what a file in `folder` has to say."""

    def __init__(self, config: Config, folder: Path) -> None:
        self._document = config.document
        self._schemas = [(use.loc, OptionSchema(use.entry.cls)) for use in config.uses()]
        self._folder = folder
        self.secrets: list[str] = []

    def write(self, value: Any, loc: Loc) -> Any:
        """A value as it is to be written."""
        if isinstance(value, dict):
            return dict(self._write_items(value.items(), loc))
        if isinstance(value, list):
            return [inner for _, inner in self._write_items(enumerate(value), loc)]
        if not isinstance(value, str):
            return value
        variable = self._document.variables.get(loc)
        schema, inside = self._find_schema(loc)
        if value and variable is None and schema is not None and schema.is_secret(inside):
            self.secrets.append(ascii(".".join(map(str, loc))).strip("'"))
            return _SECRET
        text = value.replace("${", "$${") if variable is None else variable
        is_path = loc[0] == "plugins" or (loc[0] == "dataset" and not value.startswith(PACKAGE))
        is_path = is_path or (schema is not None and self._takes_path(schema, inside, value))
        return self.relative(text, value) if is_path else text

    def _write_items(self, items: Any, loc: Loc) -> Iterator[tuple[Any, Any]]:
        for key, inner in items:
            if (written := self.write(inner, (*loc, key))) is not _SECRET:
                yield key, written

    def _find_schema(self, loc: Loc) -> tuple[OptionSchema | None, Loc]:
        """The options of the plugin to which a value belongs, and its path in them."""
        for place, schema in self._schemas:
            inside = loc[len(place) :]
            if loc == (*place, *inside) and inside and inside != ("use",):
                return schema, inside
        return None, ()

    def relative(self, text: str, value: str) -> str:
        """A path of the document as a path from `folder`; absolute ones stay.

        Args:
            text: as it will be written, with its variables.
            value: without variables.
        """
        if value.startswith("~") or Path(value).is_absolute():
            return text
        base = self._document.folder
        return self.path_to(base / value) if text == value else f"{self.path_to(base)}/{text}"

    def _takes_path(self, schema: OptionSchema, loc: Loc, value: str) -> bool:
        """Whether the option takes paths, and this is one: not a word such as `auto`, nor a name on a hub."""
        allowed = schema.at(loc)
        words = [word for each in allowed for word in (each.get("const"), *each.get("enum", ()))]
        if any(each.get("format") == PATH_OR_NAME for each in allowed):
            return (self._document.folder / value).exists()
        return value not in words and any("path" in each.get("format", "") for each in allowed)

    def path_to(self, path: Path) -> str:
        """A path as it is written in the file."""
        try:
            return path_from(self._folder, path)
        except ValueError:  # on another drive
            return path.as_posix()


class _Dumper(yaml.SafeDumper):
    """Puts every text in quotes that could be read as anything but this text."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = text.isidentifier() and text.isascii() and text.lower() not in ("null", "true", "false")
    style = '"' if _BREAKS & set(text) else "'"  # a line break in single quotes is read as a space
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else style)


_Dumper.add_representer(str, _represent_text)
