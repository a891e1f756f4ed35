"""`maskmill weights list | pull | add | verify | path`."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import click

from maskmill import PipelineError, Problem
from maskmill.files import TEMPORARY_PREFIX, replace, safe_part, write_atomic

from .checkpoints import MODELS, file_sha256, find_checkpoint, obtain, usual_places, weights_folder

_say = functools.partial(click.echo, err=True)
#: Of a file that was added: its sha256 when it was, as the program sha256sum writes it.
RECORD = ".sha256"


@click.group("weights")
def weights() -> None:
    """Weights of Segment Anything: Meta's, and your own."""


@weights.command("list")
def list_() -> None:
    """Say which weights there are, and where."""
    for name, model in MODELS.items():
        path = find_checkpoint(name)
        place = str(path) if path else f"not here; maskmill weights pull {name}"
        click.echo(f"{name}  {model.file}  {model.bytes / 1e6:7,.0f} MB  {place}")
    for path in _added():
        click.echo(f"{'own':5s}  {path.name}  {path.stat().st_size / 1e6:7,.0f} MB  {path}")


@weights.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, type=click.Choice(list(MODELS)))
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Into this folder, not into the cache.")
def pull(models: tuple[str, ...], folder: Path | None) -> None:
    """Download Meta's weights, verified; goes on where it broke off."""
    for name in dict.fromkeys(models):
        path = obtain(name, folder, _say)
        click.echo(str(path))


@weights.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="What it is called from now on; left out: as FILE.")
def add(file: Path, name: str | None) -> None:
    """Take a checkpoint into the cache, such as a fine-tuned one: use it as `checkpoint: NAME`."""
    from .loading import architecture

    model = architecture(file)
    name = name or file.name
    if name != safe_part(name) or Path(name).suffix not in (".pth", ".safetensors"):
        raise PipelineError(Problem(f"{name!r} cannot be the name of a checkpoint", hint="--name my-model.pth"))
    target = weights_folder() / name
    sha256 = file_sha256(file)
    published = next((one for one in MODELS.values() if one.file == name), None)
    if published and sha256 != published.sha256:
        text = f"{file} is not Meta's {name}: its sha256 is {sha256}, not {published.sha256}"
        raise PipelineError(Problem(text, hint="give it another name: --name my-model.pth"))
    if target.exists() and file_sha256(target) != sha256:
        raise PipelineError(Problem(f"{target} exists and is another file", hint="--name another.pth"))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{name}")
    shutil.copyfile(file, temporary)
    replace(temporary, target)
    write_atomic(target.with_name(name + RECORD), f"{sha256}  {name}\n".encode())
    click.echo(f"{target}\nsha256 {sha256}\nbackend: {{use: sam, model: {model}, checkpoint: {name}}}")


@weights.command()
@click.argument("names", metavar="[MODEL|FILE]...", nargs=-1)
@click.pass_context
def verify(context: click.Context, names: tuple[str, ...]) -> None:
    """Compare files with what was published, or with what they were when they were added.

    Exits with 1 if one differs.
    """
    paths = [_named(name) for name in names] if names else list(_all())
    bad = 0
    for path in paths:
        wanted = _wanted(path)
        found = file_sha256(path)
        bad += wanted not in ("", found)
        said = "nothing to compare with" if not wanted else "ok" if wanted == found else f"DAMAGED, expected {wanted}"
        click.echo(f"{path}: sha256 {found}: {said}")
    if not paths:
        click.echo("there are no weights")
    context.exit(1 if bad else 0)


@weights.command("path")
@click.argument("name", metavar="MODEL|NAME")
@click.pass_context
def path_(context: click.Context, name: str) -> None:
    """Print where weights lie, for scripts. Exits with 1 if they are not here."""
    try:
        click.echo(str(_named(name).absolute()))
    except PipelineError as error:
        click.echo(str(error), err=True)
        context.exit(1)


def _named(name: str) -> Path:
    """The file of a model, of an added checkpoint, or at a path."""
    found = find_checkpoint(name) if name in MODELS else None
    candidates = [found] if found else [weights_folder() / name, Path(name)]
    for path in candidates:
        if path.is_file():
            return path
    hint = f"maskmill weights pull {name}" if name in MODELS else "maskmill weights list"
    raise PipelineError(Problem(f"there are no weights {name!r} here", hint=hint))


def _added() -> Iterator[Path]:
    published = {model.file for model in MODELS.values()}
    for path in sorted(weights_folder().glob("*")):
        if path.suffix in (".pth", ".safetensors") and path.name not in published:
            yield path


def _all() -> Iterator[Path]:
    """Everything that `auto` or a name could find, each file once."""
    seen = set()
    for place in usual_places():
        for model in MODELS.values():
            path = place / model.file
            if path.is_file() and path.resolve() not in seen:
                seen.add(path.resolve())
                yield path
    yield from _added()


def _wanted(path: Path) -> str:
    """The sha256 that a file should have, "" if nobody knows."""
    record = path.with_name(path.name + RECORD)
    if record.is_file():
        return record.read_text(encoding="utf-8").split()[0]
    return next((model.sha256 for model in MODELS.values() if model.file == path.name), "")
