"""The pipelines of `compare FILE --vary KEY=VALUE,VALUE`, one for each value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from maskmill import OutputError, Pipeline, PipelineError, Problem, UsageError
from maskmill.files import safe_part
from maskmill.output.ledger import NAME as LEDGER, Ledger
from maskmill.run.plan import check_same_backend

#: The folder of the comparison, beside those of the runs.
COMPARISON = "comparison"
#: Options whose values name what is varied, without their keys.
_TELLING = ("use", "model")
#: Characters of a name that is made of options.
MAX_NAME = 40
_HINT = 'for example: --vary backend.model=vit_b,vit_h or --vary "backend={b: {use: sam}, c: {use: grabcut}}"'


@dataclass(frozen=True)
class Variant:
    """The pipeline with one of the values.

    Attributes:
        name: the name given to the value; else the last part of the key and the value, such as `model=vit_b`.
        setting: its `--set` value.
        pipeline: checked, not yet run.
    """

    name: str
    setting: str
    pipeline: Pipeline


@dataclass(frozen=True)
class _Value:
    """One value of `--vary`.

    Attributes:
        folder: the last part of its output folder, unsafe characters included.
        name: for people.
        text: as it would be given to `--set`.
    """

    folder: str
    name: str
    text: str


def load_variants(file: Path, vary: str, output: Path | None, sets: Sequence[str], **load: Any) -> list[Variant]:
    """Load and check the pipelines of `--vary`; nothing runs if one of them is wrong.

    Args:
        file: the pipeline file.
        vary: KEY=VALUE,VALUE,... with values as in `--set`, or KEY={NAME: VALUE, ...}; commas in brackets or
            quotes do not separate.
        output: the folder for the runs, with a subfolder for each value; None: the pipeline's own
            output with `-compared` appended to its name.
        sets: `--set` values of all of them.
        load: further arguments of `Pipeline.load`.

    Raises:
        PipelineError: there are fewer than two values, or everything that is wrong with the pipelines.
    """
    key, values = parse_vary(vary)
    problems: list[Problem] = []
    if output is None:
        try:
            own = Pipeline.load(file, sets=[*sets, f"{key}={values[0].text}"], **load).config.output
        except UsageError:  # said below, with what is wrong with the other values
            own = Path("output")
        output = own.with_name(f"{own.name}-compared")
    found = []
    for value in values:
        setting = f"{key}={value.text}"
        try:
            pipeline = Pipeline.load(file, sets=[*sets, setting], output=output / safe_part(value.folder), **load)
            found.append(Variant(value.name, setting, pipeline))
            new = list(_refusals(pipeline))
        except UsageError as error:
            new = [problem for problem in error.problems if not problem.warning]
        problems += [_name_value(problem, key, value) for problem in new]
    if problems:
        raise PipelineError(*dict.fromkeys(problems))
    return found


def _refusals(pipeline: Pipeline) -> Iterator[Problem]:
    """Why the run of a pipeline would not start."""
    errors = [problem for problem in pipeline.check() if not problem.warning]
    yield from errors
    config = pipeline.config
    if errors or not (config.output / LEDGER).is_file():
        return
    try:
        with Ledger.open_existing(config.output) as ledger:
            models = config.stages().model_ids()
            if models.backend:  # else it is known after a download, and the run checks it
                check_same_backend(ledger, config.fingerprints(models).masks, config)
    except OutputError as error:  # a damaged ledger is made anew by the run
        yield from [problem for problem in error.problems if LEDGER not in problem.message]


def _name_value(problem: Problem, key: str, value: _Value) -> Problem:
    """The problem; if it is one of the varied option, with the value instead of `--set`."""
    label = f"--set {key}"
    if problem.file == label or problem.file.startswith(f"{label}."):
        return replace(problem, file=f"--vary {problem.file.removeprefix('--set ')} ({value.name})")
    return problem


def parse_vary(vary: str) -> tuple[str, list[_Value]]:
    """The key of `--vary`, and its values.

    Raises:
        PipelineError: it has another form, fewer than two values, or two with the same name.
    """
    key, equals, text = vary.partition("=")
    parts = list(dict.fromkeys(split_values(text)))
    named = _parse_named(parts[0]) if len(parts) == 1 else None
    if named is not None:
        values = [_Value(name, name, value) for name, value in named]
    elif (short := _describe_mappings(parts)) is not None:
        values = [_Value(name, name, part) for name, part in zip(short, parts, strict=True)]
    else:
        values = [_Value(part, f"{key.rpartition('.')[2]}={part}", part) for part in parts]
    if not equals or not re.fullmatch(r"\S+", key) or len(values) < 2:
        form = "KEY=VALUE,VALUE or KEY={NAME: VALUE, NAME: VALUE}"
        raise PipelineError(Problem(f"--vary: expected {form}, found {vary!r}", hint=_HINT))
    taken = {COMPARISON}
    for value in values:
        if (folder := safe_part(value.folder).lower()) in taken:
            raise PipelineError(Problem(f"--vary: the name {value.folder!r} is taken; give another one", hint=_HINT))
        taken.add(folder)
    return key, values


def _parse_named(text: str) -> list[tuple[str, str]] | None:
    """The names and values of {NAME: VALUE, ...}; None if it is no such mapping."""
    if not (text.startswith("{") and text.endswith("}")):
        return None
    pairs = []
    for part in split_values(text[1:-1]):
        name, colon, value = part.partition(":")
        if not colon or not value.strip() or name.strip() == "use":
            return None
        pairs.append((_unquote(name.strip()), _unquote(value.strip())))
    return pairs


def _unquote(text: str) -> str:
    """The text in quotes, or any other text as it is."""
    if text[:1] not in ("'", '"'):
        return text
    try:
        return str(yaml.safe_load(text))
    except yaml.YAMLError:
        return text


def _describe_mappings(texts: Sequence[str]) -> list[str] | None:
    """Short names for values such as `{use: sam, model: vit_b}`, made of the options in which they differ.

    Returns:
        One for each, "1", "2", ... if they differ in nothing short; None if they are not all mappings.
    """
    try:
        mappings = [yaml.safe_load(text) for text in texts]
    except yaml.YAMLError:
        return None
    if not all(isinstance(mapping, Mapping) for mapping in mappings):
        return None
    keys = dict.fromkeys(key for mapping in mappings for key in mapping)
    names = ["" for _ in mappings]
    for key in sorted(keys, key=lambda key: key not in _TELLING):
        parts = [_describe_option(key, mapping.get(key)) for mapping in mappings]
        if len(set(parts)) > 1:
            names = ["-".join(filter(None, pair)) for pair in zip(names, parts, strict=True)]
        if len(set(names)) == len(names) and all(0 < len(name) <= MAX_NAME for name in names):
            return names
    return [str(number) for number, _ in enumerate(mappings, 1)]


def _describe_option(key: object, value: object) -> str:
    """An option in a name; "" if it is too long for one, or may be a secret."""
    if isinstance(value, (int, float)):
        return f"{key}={str(value).lower()}"
    return value if isinstance(value, str) and key in _TELLING else ""


def split_values(text: str) -> list[str]:
    """Split at commas, except in brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
