"""The pipelines of `compare FILE --vary KEY=VALUE,VALUE`, one for each value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskmill import Pipeline, PipelineError, Problem
from maskmill.files import safe_part

_FORM = re.compile(r"[^\s=]+=.*", re.DOTALL)


@dataclass(frozen=True)
class Variant:
    """The pipeline with one of the values.

    Attributes:
        name: the last part of the key and the value, such as `model=vit_b`.
        setting: its `--set` value.
        pipeline: checked, not yet run.
    """

    name: str
    setting: str
    pipeline: Pipeline


def load_variants(file: Path, vary: str, output: Path | None, sets: Sequence[str], **load: Any) -> list[Variant]:
    """Load the pipelines of `--vary`; all are validated before any of them runs.

    Args:
        file: the pipeline file.
        vary: KEY=VALUE,VALUE,... with values as in `--set`; commas in brackets or quotes do not separate.
        output: the folder for the runs, with a subfolder for each value; None: the pipeline's own
            output with `-compared` appended to its name.
        sets: `--set` values of all of them.
        load: further arguments of `Pipeline.load`.

    Raises:
        PipelineError: there are fewer than two values, or a pipeline is invalid.
    """
    key, _, text = vary.partition("=")
    values = list(dict.fromkeys(split_values(text)))
    if not _FORM.fullmatch(vary) or len(values) < 2:
        hint = "for example: --vary backend.model=vit_b,vit_h"
        raise PipelineError(Problem(f"--vary: expected KEY=VALUE,VALUE, found {vary!r}", hint=hint))
    if output is None:
        own = Pipeline.load(file, sets=[*sets, f"{key}={values[0]}"], **load).config.output
        output = own.with_name(f"{own.name}-compared")
    found = []
    for value in values:
        setting = f"{key}={value}"
        pipeline = Pipeline.load(file, sets=[*sets, setting], output=output / safe_part(value), **load)
        found.append(Variant(f"{key.rpartition('.')[2]}={value}", setting, pipeline))
    for variant in found:
        if problems := [problem for problem in variant.pipeline.check() if not problem.warning]:
            raise PipelineError(*problems)
    return found


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
