"""`maskmill annotate`: which images, which backend, which file."""

from __future__ import annotations

import getpass
import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from maskmill import Backend, DatasetError, PipelineError, Problem, UsageError
from maskmill.dataset.dataset import Dataset
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE

from ..server.command import FILE, SWITCH, address, chosen_backend, chosen_settings, need_packages, ready_backend, serve

PIPELINES = (".yaml", ".yml")
PROMPTS = "prompts.jsonl"
#: The same at every start, so that a page that is still open finds the server again.
PORT = 5020


@dataclass(frozen=True)
class Work:
    """What is to be annotated.

    Attributes:
        name: of the folder or the pipeline.
        dataset: its images.
        prompts: the file to write.
    """

    name: str
    dataset: Dataset
    prompts: Path


@click.command("annotate")
@click.argument("target", metavar="FOLDER | PIPELINE.yaml", type=FILE)
@click.option("--backend", help="The backend; sam, or that of the pipeline file.")
@click.option("--model", help="Short for --set model=...")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="An option of the backend.")
@click.option("--plugins", multiple=True, type=FILE, metavar="PATH", help="Load drop-in plugins from here.")
@click.option("--prompts", type=FILE, metavar="FILE", help=f"The prompts file; FOLDER/{PROMPTS}, or the pipeline's.")
@click.option("--labels", default="", metavar="A,B", help="Labels to offer, besides those in the file.")
@click.option("--reviewer", metavar="NAME", help="Who annotates; this user's name if left out.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 is any free one; 5020 if left out and free.")
@click.option("--token", help=f"Ask for this bearer token, or none; better in the variable {TOKEN_VARIABLE}.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads that compute; all cores if left out.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
def annotate(target: Path, **chosen: Any) -> None:
    """Draw prompts on images in the browser, see the masks, and keep the prompts for a batch.

    The images are those of a folder or of a pipeline file. The prompts go into a file that the prompt
    source `file` replays.
    """
    need_packages()
    if chosen["threads"]:
        os.environ["MASKMILL_THREADS"] = str(chosen["threads"])
    from ..server.http.log import set_up

    set_up("text", True)
    work = found(target, chosen["prompts"], chosen["plugins"])
    index = listed(work)
    settings = chosen_settings(**_all(chosen))
    name, backend = _backend(target, chosen)
    from .prompts_file import Store
    from .session import Desk

    labels = list(filter(None, (label.strip() for label in chosen["labels"].split(","))))
    with Store(work.prompts, lambda line: click.echo(line, err=True)) as store:
        desk = Desk(work.name, index, store, chosen["reviewer"] or _user(), labels)
        _serve(desk, name, backend, settings, chosen)


def found(target: Path, prompts: Path | None, plugins: Sequence[Path]) -> Work:
    """The images and the prompts file that the command line means.

    Raises:
        UsageError: there is no such folder or file, or its prompts file is of another format.
    """
    if prompts is not None and prompts.suffix.lower() != ".jsonl":  # a batch tells the format by the ending
        raise _other_format(prompts, prompts.suffix.lower().lstrip(".") or "a file without an ending")
    if target.suffix.lower() not in PIPELINES:
        if not target.is_dir():
            raise UsageError(
                Problem(f"'{target}' is neither a folder nor a pipeline file", hint="name a folder of images")
            )
        folder = target.absolute()
        return Work(folder.name, Dataset((str(folder),), Path.cwd()), prompts or folder / PROMPTS)
    from maskmill.config.load import load_config

    config = load_config(target, plugins=plugins, complete=False)
    return Work(config.name, Dataset(config.dataset, config.dataset_base), prompts or _of_source(config))


def _of_source(config: Any) -> Path:
    for use in config.prompts:
        if use.name != "file":
            continue
        stage = use.stage
        kind = stage.path.suffix.lower().lstrip(".") if stage.format == "auto" else stage.format
        if kind != "jsonl" or stage.units != "pixels":
            raise _other_format(stage.path, kind if kind != "jsonl" else "relative units")
        return Path(stage.path)
    return Path(config.base) / PROMPTS


def _other_format(path: Path, what: str) -> UsageError:
    hint = "give --prompts FILE.jsonl, and name that file in the pipeline"
    return UsageError(Problem(f"prompts are kept as jsonl in pixels, not as {what}", str(path), hint=hint))


def listed(work: Work) -> Any:
    """The index of the images.

    Raises:
        DatasetError: there are none.
    """
    from .image_list import Index

    if problems := [problem for problem in work.dataset.check() if not problem.warning]:
        raise DatasetError(*problems)
    index = Index.of(work.dataset)
    for line in work.dataset.warnings:
        click.echo(line, err=True)
    return index


def _all(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options of `serve`, with what this command was told."""
    from ..server.http.security import is_loopback

    options = serve.make_context("serve", []).params
    token = chosen["token"] or os.environ.get(TOKEN_VARIABLE)
    if not token and not is_loopback(chosen["host"]):
        token = secrets.token_urlsafe(16)
    return {**options, "images": 2.0, "host": chosen["host"], "token": token}


def _backend(target: Path, chosen: dict[str, Any]) -> tuple[str, Backend]:
    file = target if target.suffix.lower() in PIPELINES and chosen["backend"] is None else None
    name, backend = chosen_backend(file, chosen["backend"], chosen["model"], chosen["sets"], chosen["plugins"])
    try:
        ready_backend(name, backend)
    except PipelineError as error:
        if name == "grabcut":
            raise
        other = Problem("masks can also be made without it", hint="--backend grabcut needs nothing else")
        raise PipelineError(*error.problems, other) from None
    return name, backend


def _usual_port(host: str) -> int:
    from ..server.process import Place

    try:
        Place(host, PORT).listen().close()
    except UsageError:  # another `maskmill annotate`, as a rule
        return 0
    return PORT


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name
        return ""


def _serve(desk: Any, name: str, backend: Backend, settings: Any, chosen: dict[str, Any]) -> None:
    from ..server import process as serving
    from ..server.compute.host import Host
    from .routes import install

    sys.setswitchinterval(SWITCH)
    host = Host(backend, name, settings)
    port = chosen["port"] if chosen["port"] is not None else _usual_port(chosen["host"])
    place = serving.Place(chosen["host"], port)

    def listening(port: int) -> None:
        token = "" if settings.token is None else f"#token={settings.token}"
        url = f"http://{address(place.host)}:{port}/annotate/{token}"
        click.echo(f"{len(desk.index)} images of {desk.name}, with {host.title()}; saved in {desk.store.path}")
        click.echo(f"open {url}")
        click.echo("Ctrl-C ends it; what the page shows as saved is on disk")
        sys.stdout.flush()
        if not chosen["no_browser"]:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    serving.run(host, place, listening, lambda app: install(app, host, desk))
