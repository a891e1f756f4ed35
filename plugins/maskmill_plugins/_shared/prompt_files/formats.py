"""Prompts as JSON Lines and CSV, read line by line; `_shared.annotations` has the formats of other tools."""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskmill import Box, PipelineError, Problem, Prompt, PromptError
from maskmill.tables import PROMPTS_CSV, unescape_cell
from maskmill.wording import count_noun
from maskmill_plugins._shared.text_files import decode_line, report_unreadable, split_row, to_number

from .line_reader import ImagePrompts, LineReader, PromptReader, PromptRecord

#: The value of "image" in a line of JSON that may be broken.
_IMAGE_FIELD = re.compile(r'"image"\s*:\s*("(?:[^"\\]|\\.)*")')
TODO = "the image is marked as not finished"


class JsonLinesReader(LineReader):
    """A line is `{"image": key, "prompts": [...], "size": [h, w], "sha256": ...}`; the last line of a key counts."""

    def _parse_line(self, text: str) -> tuple[str, Any] | None:
        if not text.strip():
            return None
        try:
            data = json.loads(text)
            if "\\u" in text:  # a lone surrogate could not be written again
                json.dumps(data, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise PromptError(f"not JSON: {error}") from None
        if not isinstance(data, Mapping) or not isinstance(data.get("image"), str):
            raise PromptError('expected {"image": key, "prompts": [...]}')
        return data["image"], data

    def _guess_name(self, text: str) -> str | None:
        found = _IMAGE_FIELD.findall(text)
        try:
            return str(json.loads(found[0])) if len(found) == 1 else None
        except ValueError:
            return None

    def _combine(self, rows: Sequence[Any]) -> ImagePrompts:
        data = rows[-1]
        if isinstance(data, PromptError):
            return ImagePrompts((), errors=(str(data),))
        found = list(self._prompts(data))
        prompts = tuple(prompt for _, prompt, _ in found if prompt is not None)
        errors = tuple(f"{place}: {error}" if len(found) > 1 else error for place, _, error in found if error)
        size, sha256 = data.get("size"), data.get("sha256") or ""
        status: Any = data.get("status") if data.get("status") in ("todo", "rejected") else ""
        height_width = None if size is None else (size[0], size[1])
        reviewer = str(data.get("reviewer") or "")
        return ImagePrompts(prompts, height_width, str(sha256), errors=errors, status=status, reviewer=reviewer)

    def _line_records(self, row: Any, rank: int, last: bool) -> Iterator[PromptRecord]:
        """The prompts of a line; only the errors if a later line replaces it."""
        skipped = TODO if row.get("status") == "todo" else ""
        try:
            for place, prompt, error in self._prompts(row):
                if last or error:
                    ref = (prompt and prompt.ref) or place
                    yield PromptRecord("", ref, "", 0, place, prompt, error=error, skipped=skipped)
        except PromptError as error:
            yield PromptRecord("", "", "", error=str(error), skipped=skipped)

    def _prompts(self, data: Mapping[str, Any]) -> Iterator[tuple[str, Prompt | None, str]]:
        """(place, prompt, error) of each prompt of a line; PromptError if the line itself is invalid."""
        if data.get("schema", 1) != 1:
            raise PromptError(f"schema {data['schema']!r} is not supported; this version of maskmill reads schema 1")
        prompts, size = data.get("prompts"), data.get("size")
        if not isinstance(prompts, list) or not all(isinstance(item, Mapping) for item in prompts):
            raise PromptError('"prompts" must be a list of objects, [] for an empty image')
        if size is not None and not (isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)):
            raise PromptError(f'"size" must be [height, width], not {size!r}')
        refs: set[str] = set()
        for number, item in enumerate(prompts, 1):
            place = f"prompt {number}"
            try:
                prompt = _parse_prompt(item)
                prompt = prompt if prompt.ref else replace(prompt, ref=place)
                if prompt.ref in refs:
                    raise PromptError(f"its ref {prompt.ref!r} is already used by an earlier prompt")
                refs.add(str(prompt.ref))
            except PromptError as error:
                yield place, None, str(error)
            else:
                yield place, prompt, ""


class CsvReader(LineReader):
    """Columns `image`, `x1`, `y1`, `x2`, `y2`, optional `label` and `id`; one box per row, none for an empty image."""

    header_lines = 1

    def _read_header(self) -> None:
        with report_unreadable(self._path), self._path.open("rb") as file:
            raw = file.readline().removeprefix(BOM_UTF8)
        try:
            self._columns = [column.strip().lower() for column in split_row(decode_line(raw))]
        except PromptError as error:
            raise PipelineError(Problem(str(error), str(self._path), 1)) from None
        self._ours = tuple(self._columns) == PROMPTS_CSV
        if missing := [name for name in ("image", "x1", "y1", "x2", "y2") if name not in self._columns]:
            text = f"the first line must name the columns image,label,x1,y1,x2,y2; {missing[0]!r} is missing"
            hint = "separate the columns with commas" if b";" in raw or b"\t" in raw else ""
            raise PipelineError(Problem(text, str(self._path), 1, hint=hint))
        if twice := [name for name in self._columns if name and self._columns.count(name) > 1]:
            raise PipelineError(Problem(f"the first line names the column {twice[0]!r} twice", str(self._path), 1))

    def _parse_line(self, text: str) -> tuple[str, Any] | None:
        fields = split_row(text)
        if not any(field.strip() for field in fields):  # Excel writes rows of commas only
            return None
        if len(fields) != len(self._columns):
            raise PromptError(f"expected {count_noun(len(self._columns), 'column')}, found {len(fields)}")
        fields = [unescape_cell(field.strip()) if self._ours else field.strip() for field in fields]
        row = dict(zip(self._columns, fields, strict=True))
        if not row["image"]:
            raise PromptError("the image name is missing")
        return row["image"], row

    def _guess_name(self, text: str) -> str | None:
        try:
            fields = split_row(text)
        except PromptError:
            return None
        at = self._columns.index("image")
        return fields[at].strip() if at < len(fields) else None

    def _combine(self, rows: Sequence[Any]) -> ImagePrompts:
        prompts, errors = [], []
        for rank, row in enumerate(rows, 1):
            try:
                if isinstance(row, PromptError):
                    raise row
                prompts.append(_parse_row(row, rank))
            except PromptError as error:
                errors.append(str(error))
        return ImagePrompts(tuple(prompt for prompt in prompts if prompt is not None), errors=tuple(errors))

    def _line_records(self, row: Any, rank: int, last: bool) -> Iterator[PromptRecord]:
        try:
            if (prompt := _parse_row(row, rank)) is not None:
                yield PromptRecord("", str(prompt.ref), "", prompt=prompt)
        except PromptError as error:
            yield PromptRecord("", f"prompt {rank}", "", error=str(error))


#: Formats that are read line by line.
READERS: Mapping[str, Callable[[Path], PromptReader]] = {"jsonl": JsonLinesReader, "csv": CsvReader}


def _parse_row(row: Mapping[str, str], rank: int) -> Prompt | None:
    """The prompt of a CSV row, None for an empty image; its ref is its `id`, or its number within the image."""
    corners = [row[name] for name in ("x1", "y1", "x2", "y2")]
    if not any(corners):
        return None
    try:
        numbers = [to_number(corner) for corner in corners]
    except ValueError:
        raise PromptError(f"x1,y1,x2,y2 must be numbers, not {','.join(corners)}") from None
    return Prompt(box=Box(*numbers), label=row.get("label") or None, ref=row.get("id") or f"prompt {rank}")


def _parse_prompt(data: Mapping[str, Any]) -> Prompt:
    try:
        return Prompt.from_json(data)
    except TypeError as error:
        raise PromptError(f"a value has the wrong type: {error}") from None
