"""`maskmill qwen`: calibrate a model's coordinates; list, measure and clear the stored answers."""

from __future__ import annotations

import datetime
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import click

from maskmill import PipelineError, UsageError

from . import calibrate
from .calls.answer_store import AnswerStore, find_answers_folder
from .calls.endpoint import Provider
from .source import Qwen

_folder = click.option(
    "--folder", type=click.Path(path_type=Path), help="The folder in `cache:` of the pipeline file, if it is set."
)
#: Characters of an answer that are shown.
SHOWN = 100


@click.group("qwen")
def qwen() -> None:
    """Calibrate a Qwen model's coordinates; manage its stored answers."""


@qwen.command("calibrate")
@click.option("--model", required=True, help="Its name on the server.")
@click.option("--provider", type=click.Choice(get_args(Provider)), help="As in a pipeline file.")
@click.option("--base-url", help="As in a pipeline file.")
@click.option("--region", help="As in a pipeline file.")
@click.option("--key-variable", metavar="NAME", help="The environment variable with the API key.")
@click.option("--timeout", type=float, help="Seconds to wait for the answer.")
def calibrate_(model: str, key_variable: str | None, **options: Any) -> Literal[0, 1]:
    """Find out what a model's coordinates mean, with one call about a generated image.

    Exits with 0 if a convention fits, with 1 if none does.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if key_variable is not None:
        given["api_key"] = os.environ.get(key_variable, "")
    stage = Qwen.from_options({"find": [calibrate.SUBJECT], "model": model, "coords": "abs_sent", **given})
    if problems := stage.missing() or stage.check():
        raise PipelineError(*problems)
    plan = stage.build_plan()
    found, sent, text = calibrate.ask_for_shape(plan, stage.timeout, lambda line: click.echo(line, err=True))
    fits = calibrate.rank_conventions(found, sent)
    (height, width), (sent_height, sent_width) = calibrate.SIZE, sent
    click.echo(
        f"an image of {width}×{height} pixels was sent at {sent_width}×{sent_height}; {model} answered:\n{text}\n"
    )
    for coords, error in fits:
        click.echo(f"{coords:14} error {error:.2%}")
    if not fits or fits[0][1] > calibrate.TOLERANCE:
        click.echo("\nNo convention fits: the model did not find the rectangle, or uses another format.")
        return 1
    click.echo(f"\nSet: coords: {fits[0][0]}")
    return 0


@qwen.group("cache")
def cache() -> None:
    """Manage the stored answers, which are never paid for again."""


@cache.command("list")
@_folder
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Number of answers to show.")
@click.option("--raw", is_flag=True, help="Show whole answers, unchanged.")
def list_(folder: Path | None, limit: int, raw: bool) -> None:
    """Show the latest answers: time, model, tokens, text."""
    with _open_answers(folder) as answers:
        for question, model, asked, reply in answers.list_latest(limit):
            text = reply.text if raw else " ".join(reply.text.split())[:SHOWN]
            click.echo(f"{_format_time(asked)}  {question[:12]}  {model}  {reply.tokens} tokens  {reply.finish}")
            click.echo(f"  {text}")


@cache.command()
@_folder
def size(folder: Path | None) -> None:
    """Show where the answers are stored, how many per model, and their size on disk."""
    with _open_answers(folder) as answers:
        click.echo(str(answers.path))
        click.echo(f"{answers.measure_size() / 1e6:.2f} MB")
        for model, count, first, last in answers.list_models():
            click.echo(f"{count:,} answers of {model}, {_format_time(first)} to {_format_time(last)}")


@cache.command()
@_folder
@click.option("--model", help="Remove only the answers of this model.")
def clear(folder: Path | None, model: str | None) -> None:
    """Remove the stored answers; they must be paid for again when needed."""
    with _open_answers(folder) as answers:
        try:
            count = answers.clear(model)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"cannot clear the answers in {answers.path}: {error}") from None
        click.echo(f"{count:,} answers removed from {answers.path}")


def _open_answers(folder: Path | None) -> closing[AnswerStore]:
    return closing(AnswerStore(find_answers_folder(folder)))


def _format_time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
