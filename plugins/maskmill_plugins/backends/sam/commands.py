"""`maskmill weights list | pull | verify | path` and `maskmill cache info | clear`."""

from __future__ import annotations

import datetime
import functools
import sys
from pathlib import Path

import click

from maskmill import PipelineError, UsageError
from maskmill.files import sha256_of
from maskmill.wording import count_noun

from .embedding_cache import EmbeddingCache, embeddings_folder
from .weights import checkpoints
from .weights.checkpoints import find_published, is_verified, mark_verified, read_expected_sha256, weights_folder
from .weights.download import download_model
from .weights.published import MODELS, PublishedModel

_say = functools.partial(click.echo, err=True)


@click.group("weights")
def weights() -> None:
    """Weights of Segment Anything: Meta's, and your own."""


@weights.command("list")
def list_() -> None:
    """List the weights on this machine, and whether they have been verified."""
    for name, model in MODELS.items():
        path = find_published(name)
        place = f"{_state(path, model)}  {path.absolute()}" if path else f"missing; maskmill weights pull {name}"
        click.echo(f"{name}  {model.file}  {model.bytes / 1e6:7,.0f} MB  {place}")
    for path in checkpoints.list_own():
        click.echo(f"{'own':5s}  {path.name}  {path.stat().st_size / 1e6:7,.0f} MB  {_state(path)}  {path}")


def _state(path: Path, published: PublishedModel | None = None) -> str:
    size = path.stat().st_size
    if published and size != published.bytes:
        return f"DAMAGED ({size / 1e6:,.0f} MB)"
    return "verified" if is_verified(path, read_expected_sha256(path)) else "not verified"


@weights.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Choice(list(MODELS)))
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Store in this folder instead of the cache.")
def pull(models: tuple[str, ...], folder: Path | None) -> None:
    """Download and verify Meta's weights; an interrupted download is continued."""
    bar = sys.stderr.isatty()
    for name in dict.fromkeys(models):
        path = find_published(name)
        if folder or path is None or path.parent == weights_folder():
            path = download_model(name, _say, folder, bar)
        elif sha256_of(path) == MODELS[name].sha256:
            mark_verified(path, MODELS[name].sha256)
            _say(f"{name} is already on this machine")
        else:
            _say(f"{path} is not Meta's {name}, but `checkpoint: auto` finds it first: rename it")
            path = download_model(name, _say, None, bar)
        click.echo(str(path))


@weights.command()
@click.argument("names", metavar="[MODEL|FILE]...", nargs=-1)
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...]) -> None:
    """Compare weights with the published sha256, or with the one in FILE.sha256.

    Exits with 1 if one differs.
    """
    paths = [checkpoints.find_checkpoint(name) for name in names] if names else list(checkpoints.list_checkpoints())
    good = [_verify(path) for path in paths]
    if not paths:
        click.echo("there are no weights")
    context.exit(0 if all(good) else 1)


def _verify(path: Path) -> bool:
    expected = read_expected_sha256(path)
    try:
        found = sha256_of(path)
    except OSError as error:
        click.echo(f"{path}: DAMAGED, cannot be read: {error.strerror}")
        return False
    if expected == found:
        mark_verified(path, found)
    verdict = (
        "ok" if expected == found else f"DAMAGED, expected {expected}" if expected else "no sha256 to compare with"
    )
    size = next((model.bytes for model in MODELS.values() if model.file == path.name), path.stat().st_size)
    if path.stat().st_size != size:
        verdict += f" and {size} bytes, not {path.stat().st_size}"
    click.echo(f"{path}: sha256 {found}: {verdict}")
    return expected in ("", found)


@weights.command("path")
@click.argument("name", metavar="MODEL|NAME")
@click.pass_context
def path_(context: click.Context, name: str) -> None:
    """Print the path of a weights file, for scripts. Exits with 1 if it is missing."""
    try:
        click.echo(str(checkpoints.find_checkpoint(name).absolute()))
    except PipelineError as error:
        click.echo(str(error), err=True)
        context.exit(1)


_folder_option = click.option(
    "--folder", type=click.Path(path_type=Path), help="The folder that `cache:` names in the pipeline file."
)


@click.group("cache")
def cache() -> None:
    """Embeddings stored on disk by `cache: true` of the backend sam."""


@cache.command()
@_folder_option
def info(folder: Path | None) -> None:
    """Show where the embeddings are, how many there are, and their size."""
    place = embeddings_folder(folder)
    try:
        entries = EmbeddingCache(place, 0).entries()
    except OSError as error:
        raise UsageError(f"cannot read the embedding cache {place}: {error.strerror}") from None
    click.echo(str(place))
    click.echo(f"{count_noun(len(entries), 'embedding')}, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB")
    if entries:
        oldest = datetime.datetime.fromtimestamp(entries[0].used / 1e9).astimezone()
        click.echo(f"least recently used: {oldest:%Y-%m-%d %H:%M}")


@cache.command()
@_folder_option
def clear(folder: Path | None) -> None:
    """Remove all embeddings; they are computed again when needed."""
    place = embeddings_folder(folder)
    try:
        freed = EmbeddingCache(place, 0).clear()
    except OSError as error:
        raise UsageError(f"cannot clear the embedding cache {place}: {error.strerror or error}") from None
    click.echo(f"{freed / 1e6:.1f} MB freed in {place}")
