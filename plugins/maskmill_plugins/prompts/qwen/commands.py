"""`maskmill qwen`: calibrate a model's coordinates; list, measure and clear the stored answers."""

from __future__ import annotations

import datetime
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, get_args

import click

from maskmill import PipelineError, UsageError
from maskmill.wording import count_noun

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
@click.option("--ca", type=click.Path(path_type=Path), help="As in a pipeline file.")
@click.option("--square", is_flag=True, help="Send a square image, too.")
def calibrate_(model: str, key_variable: str | None, square: bool, **options: Any) -> Literal[0, 1]:
    """Find out what a model's coordinates mean, with one call each about a landscape and a portrait image.

    Exits with 0 if a convention fits both, with 1 if none does.
    """
    given = {name: value for name, value in options.items() if value is not None}
    if key_variable is not None:
        given["api_key"] = os.environ.get(key_variable, "")
    # The first wording names no unit: the model is to answer in its own.
    fixed = {"find": [calibrate.SUBJECT], "model": model, "coords": "abs_sent", "wording": 1}
    stage = Qwen.from_options(fixed | given)
    if problems := stage.missing() or stage.check():
        raise PipelineError(*problems)
    plan = stage.build_plan()
    names = [*calibrate.USUAL, *(["square"] if square else [])]
    with closing(calibrate.open_client(plan, stage.timeout, stage.ca)) as client:
        replies = calibrate.ask_for_shapes(plan, names, client, lambda line: click.echo(line, err=True))
    for reply in replies:
        _show_reply(model, reply)
    chosen = calibrate.choose_convention(replies)
    if chosen is None:
        click.echo(f"\n{_explain_refusal(replies)}")
        return 1
    click.echo(f"\nSet: coords: {chosen}")
    return 0


def _show_reply(model: str, reply: calibrate.CalibrationReply) -> None:
    (height, width), (sent_height, sent_width) = reply.size, reply.sent
    click.echo(
        f"{reply.name}: an image of {width}×{height} pixels was sent at {sent_width}×{sent_height}; {model} answered:"
        f"\n{reply.text}"
    )
    for fit in calibrate.fit_conventions(reply):
        click.echo(f"  {fit.coords:14} error x {fit.x:7.2%}   y {fit.y:7.2%}")


def _explain_refusal(replies: Sequence[calibrate.CalibrationReply]) -> str:
    """Return why no convention is recommended."""
    if blind := [reply.name for reply in replies if not reply.boxes]:
        return (
            f"No convention fits: there is no box in the answer about the {' and the '.join(blind)} image: the model"
            " did not find the rectangle, or uses another format."
        )
    text = "No convention fits all images on both axes, so that none is recommended."
    if cause := calibrate.find_likely_cause(replies):
        return (
            f"{text} Likely the server changes images before the model sees them: {cause}. Turn this off in the server,"
            " or use another one; the model is not at fault."
        )
    best = {reply.name: calibrate.fit_conventions(reply)[0] for reply in replies}
    if any(fit.error <= calibrate.TOLERANCE for fit in best.values()):
        found = ", ".join(f"{name}: {fit.coords} ({fit.error:.2%})" for name, fit in best.items())
        return f"{text} The images disagree ({found}): likely the server resizes or crops images of some shapes."
    return f"{text} The model did not find the rectangle, or uses another format."


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
            click.echo(
                f"{_format_time(asked)}  {question[:12]}  {model}  {count_noun(reply.tokens, 'token')}  {reply.finish}"
            )
            click.echo(f"  {text}")


@cache.command()
@_folder
def size(folder: Path | None) -> None:
    """Show where the answers are stored, how many per model, and their size on disk."""
    with _open_answers(folder) as answers:
        click.echo(str(answers.path))
        click.echo(f"{answers.measure_size() / 1e6:.2f} MB")
        for model, count, first, last in answers.list_models():
            click.echo(f"{count_noun(count, 'answer')} of {model}, {_format_time(first)} to {_format_time(last)}")


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
        click.echo(f"{count_noun(count, 'answer')} removed from {answers.path}")


def _open_answers(folder: Path | None) -> closing[AnswerStore]:
    return closing(AnswerStore(find_answers_folder(folder)))


def _format_time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"
