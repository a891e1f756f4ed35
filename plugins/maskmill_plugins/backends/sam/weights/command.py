"""`maskmill weights list | pull | add | verify | path`."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from maskmill import PipelineError
from maskmill.files import sha256_of

from . import published as store
from .checkpoints import MODELS, Model, find_checkpoint, is_verified, mark_verified, obtain, weights_folder

_say = functools.partial(click.echo, err=True)


@click.group("weights")
def weights() -> None:
    """Weights of Segment Anything: Meta's, and your own."""


@weights.command("list")
def list_() -> None:
    """Say which weights there are, where, and whether they have been verified."""
    for name, model in MODELS.items():
        path = find_checkpoint(name)
        place = f"{_state(path, model)}  {path.absolute()}" if path else f"not here; maskmill weights pull {name}"
        click.echo(f"{name}  {model.file}  {model.bytes / 1e6:7,.0f} MB  {place}")
    for path in store.added():
        click.echo(f"{'own':5s}  {path.name}  {path.stat().st_size / 1e6:7,.0f} MB  {_state(path)}  {path}")


def _state(path: Path, published: Model | None = None) -> str:
    size = path.stat().st_size
    if published and size != published.bytes:
        return f"DAMAGED ({size / 1e6:,.0f} MB)"
    return "verified" if is_verified(path, store.expected(path)) else "not verified"


@weights.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Choice(list(MODELS)))
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Into this folder, not into the cache.")
def pull(models: tuple[str, ...], folder: Path | None) -> None:
    """Download Meta's weights, verified; goes on where it broke off."""
    bar = sys.stderr.isatty()
    for name in dict.fromkeys(models):
        path = find_checkpoint(name)
        if folder or path is None or path.parent == weights_folder():
            path = obtain(name, folder, _say, bar)
        elif sha256_of(path) == MODELS[name].sha256:
            mark_verified(path, MODELS[name].sha256)
            _say(f"{name} is here already")
        else:
            _say(f"{path} is not Meta's {name}, and `checkpoint: auto` takes it before others: rename it")
            path = obtain(name, folder, _say, bar)
        click.echo(str(path))


@weights.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What it is called from now on; left out: as FILE.")
def add(file: Path, name: str | None) -> None:
    """Take a checkpoint into the cache, such as a fine-tuned one: use it as `checkpoint: NAME`."""
    path, sha256, model = store.take(file, name or file.name)
    click.echo(f"{path}\nsha256 {sha256}\nbackend: {{use: sam, model: {model}, checkpoint: {path.name}}}")


@weights.command()
@click.argument("names", metavar="[MODEL|FILE]...", nargs=-1)
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...]) -> None:
    """Compare files with what was published, or with what they were when they were added.

    Exits with 1 if one differs.
    """
    paths = [store.find(name) for name in names] if names else list(store.everything())
    good = [_verify(path) for path in paths]
    if not paths:
        click.echo("there are no weights")
    context.exit(0 if all(good) else 1)


def _verify(path: Path) -> bool:
    wanted = store.expected(path)
    try:
        found = sha256_of(path)
    except OSError as error:
        click.echo(f"{path}: DAMAGED, cannot be read: {error.strerror}")
        return False
    if wanted == found:
        mark_verified(path, found)
    said = "nothing to compare with" if not wanted else "ok" if wanted == found else f"DAMAGED, expected {wanted}"
    size = next((one.bytes for one in MODELS.values() if one.file == path.name), path.stat().st_size)
    if path.stat().st_size != size:
        said += f" and {size} bytes, not {path.stat().st_size}"
    click.echo(f"{path}: sha256 {found}: {said}")
    return wanted in ("", found)


@weights.command("path")
@click.argument("name", metavar="MODEL|NAME")
@click.pass_context
def path_(context: click.Context, name: str) -> None:
    """Print where weights lie, for scripts. Exits with 1 if they are not here."""
    try:
        click.echo(str(store.find(name).absolute()))
    except PipelineError as error:
        click.echo(str(error), err=True)
        context.exit(1)
