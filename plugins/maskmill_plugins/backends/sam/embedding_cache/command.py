"""`maskmill cache info | clear`: the embeddings kept on disk."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from maskmill import UsageError

from .cache import EmbeddingCache, embeddings_folder

_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="What `cache:` of the pipeline file names, if it is a folder.",
)


@click.group("cache")
def cache() -> None:
    """Embeddings kept on disk by `cache: true` of the backend sam."""


@cache.command()
@_folder
def info(folder: Path | None) -> None:
    """Say where they are, how many, and how much room they take."""
    place = embeddings_folder(folder)
    try:
        entries = EmbeddingCache(place, 0).entries()
    except OSError as error:
        raise UsageError(f"cannot read the embedding cache {place}: {error.strerror}") from None
    click.echo(str(place))
    click.echo(f"{len(entries)} embeddings, {sum(entry.bytes for entry in entries) / 1e6:.1f} MB")
    if entries:
        oldest = datetime.datetime.fromtimestamp(entries[0].used / 1e9).astimezone()
        click.echo(f"unused for longest: since {oldest:%Y-%m-%d %H:%M}")


@cache.command()
@_folder
def clear(folder: Path | None) -> None:
    """Remove them all; they are computed again when needed."""
    place = embeddings_folder(folder)
    try:
        freed = EmbeddingCache(place, 0).clear()
    except OSError as error:
        raise UsageError(f"cannot clear the embedding cache {place}: {error.strerror or error}") from None
    click.echo(f"{freed / 1e6:.1f} MB freed in {place}")
