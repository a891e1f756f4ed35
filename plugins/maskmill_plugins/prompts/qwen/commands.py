"""`maskmill qwen`: calibrate a model's coordinates; list, measure and clear the answers kept on disk."""

from __future__ import annotations

import datetime
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import click

from maskmill import Image, PipelineError, UsageError

from .asking.picture import picture
from .calls.answer_store import Answers, answers_folder
from .calls.client import Caller, client_for
from .calls.rate_limits import Limits
from .calls.servers import Provider
from .coordinates import calibrate
from .coordinates.convert import Size
from .cost.budget import Budget, Purse, Spent
from .reply.read import Found
from .source import Qwen

_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="What `cache:` of the pipeline file names, if it is a folder.",
)
#: Characters of an answer that are shown.
SHOWN = 100


@click.group("qwen")
def qwen() -> None:
    """Ask a Qwen model where things are: its answers on disk, its coordinates."""


@qwen.command("calibrate")
@click.option("--model", required=True, help="Its name at the server.")
@click.option("--provider", type=click.Choice(get_args(Provider)), help="As in a pipeline file.")
@click.option("--base-url", help="As in a pipeline file.")
@click.option("--region", help="As in a pipeline file.")
@click.option("--key-variable", metavar="NAME", help="The environment variable that holds the key, if another.")
@click.option("--timeout", type=float, help="Seconds to wait for the answer.")
def calibrate_(model: str, key_variable: str | None, **options: Any) -> Literal[0, 1]:
    """Find out what the coordinates of a model mean: send it one generated picture, a single call.

    Exits with 0 if a convention fits, with 1 if none does.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if key_variable is not None:
        given["api_key"] = os.environ.get(key_variable, "")
    stage = Qwen.from_options({"find": [calibrate.SUBJECT], "model": model, "coords": "abs_sent", **given})
    if problems := stage.missing() or stage.check():
        raise PipelineError(*problems)
    found, sent, text = _answer(stage)
    fits = calibrate.fit(found, sent)
    click.echo(f"a picture of {_sides(calibrate.SIZE)} pixels was sent at {_sides(sent)}; {model} answered:\n{text}\n")
    for coords, error in fits:
        click.echo(f"{coords:14} {error:8.2%} off")
    if not fits or fits[0][1] > calibrate.TOLERANCE:
        click.echo("\nNone fits: this model does not find a plain rectangle, or answers in another way.")
        return 1
    click.echo(f"\nWrite: coords: {fits[0][0]}")
    return 0


def _answer(stage: Qwen) -> tuple[Sequence[Found], Size, str]:
    """What the model finds in the generated picture, the size that was sent, and the reply as it came."""
    terms = stage.terms()
    image = Image.from_array(calibrate.picture())
    view, (ask,) = terms.view(image.size), terms.asks
    made = picture(image, view.sent)
    question = replace(terms.question(ask.text(view)), picture=made.data, media=made.media)
    caller = Caller(
        client_for(terms.server, stage.timeout, 1), terms.server, Limits(1, None, None), Purse(Budget(), None)
    )
    try:
        reply = caller.ask(question, Spent(1), Spent(1), lambda line: click.echo(line, err=True))
    finally:
        caller.close()
    reading = terms.read(reply)
    return [] if reading is None else reading.found, view.sent, reply.text


def _sides(size: Size) -> str:
    return f"{size[1]}×{size[0]}"


@qwen.group("cache")
def cache() -> None:
    """Answers kept on disk: none of them is paid for again."""


@cache.command("list")
@_folder
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The latest so many.")
@click.option("--raw", is_flag=True, help="Whole answers, as they came.")
def list_(folder: Path | None, limit: int, raw: bool) -> None:
    """Show the latest answers: when, by which model, how many tokens, what."""
    with _answers(folder) as answers:
        for question, model, asked, reply in answers.latest(limit):
            text = reply.text if raw else " ".join(reply.text.split())[:SHOWN]
            click.echo(f"{_when(asked)}  {question[:12]}  {model}  {reply.tokens} tokens  {reply.finish}")
            click.echo(f"  {text}")


@cache.command()
@_folder
def size(folder: Path | None) -> None:
    """Say where the answers are, how many of which model, and how much room they take."""
    with _answers(folder) as answers:
        click.echo(str(answers.path))
        click.echo(f"{answers.size() / 1e6:.2f} MB")
        for model, count, first, last in answers.models():
            click.echo(f"{count:,} answers of {model}, {_when(first)} to {_when(last)}")


@cache.command()
@_folder
@click.option("--model", help="Only the answers of this model.")
def clear(folder: Path | None, model: str | None) -> None:
    """Remove the answers; they are asked for, and paid for, again when needed."""
    with _answers(folder) as answers:
        try:
            count = answers.clear(model)
        except (OSError, sqlite3.Error) as error:
            raise UsageError(f"cannot clear the answers in {answers.path}: {error}") from None
        click.echo(f"{count:,} answers removed from {answers.path}")


def _answers(folder: Path | None) -> closing[Answers]:
    return closing(Answers(answers_folder(folder)))


def _when(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
