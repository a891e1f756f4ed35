"""The command `maskmill annotate`: the images, the prompts file, and the backend."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from maskmill import Backend, DatasetError, Filter, ImageRef, PipelineError, Problem, UsageError
from maskmill.dataset.dataset import Dataset
from maskmill.files import quote_command
from maskmill.output.folder import is_run
from maskmill.plugins.threads import set_threads
from maskmill.wording import count_noun
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE

from ..server.command import (
    FILE,
    SWITCH_INTERVAL,
    build_settings,
    client_host,
    current_user,
    find_free_port,
    load_backend,
    prepare_backend,
    require_packages,
    serve,
)

if TYPE_CHECKING:
    from .filter_preview import FilterPreview
    from .image_list import ImageList
    from .session import AnnotationSession

PIPELINES = (".yaml", ".yml")
PROMPTS = "prompts.jsonl"
#: The same at every start, so that a page that is still open reconnects.
PORT = 5020


@dataclass(frozen=True)
class AnnotationTask:
    """What is to be annotated.

    Attributes:
        name: of the folder or the pipeline.
        dataset: its images.
        prompts: the prompts file to write.
        filters: of the pipeline, with their names.
    """

    name: str
    dataset: Dataset
    prompts: Path
    filters: tuple[tuple[str, Filter], ...] = ()


@click.command("annotate")
@click.argument("target", metavar="FOLDER | PIPELINE.yaml", type=FILE)
@click.option("--backend", help="The backend; sam, or that of the pipeline file.")
@click.option("--model", help="Short for --set model=...")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="An option of the backend.")
@click.option("--plugins", multiple=True, type=FILE, metavar="PATH", help="Load drop-in plugins from here.")
@click.option("--prompts", type=FILE, metavar="FILE", help=f"The prompts file; FOLDER/{PROMPTS}, or the pipeline's.")
@click.option("--labels", default="", metavar="A,B", help="Labels to offer, in addition to those in the file.")
@click.option("--reviewer", metavar="NAME", help="Who annotates; this user's name by default.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), help="0 for any free port; 5020 by default, if free.")
@click.option("--token", help=f"Bearer token to require, or `none`; better set the variable {TOKEN_VARIABLE}.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads for computing; all cores by default.")
@click.option("--no-browser", is_flag=True, help="Print the address only.")
def annotate(target: Path, **chosen: Any) -> None:
    """Draw prompts on images in the browser, see the masks, and save the prompts for a batch run.

    The images are those of a folder or of a pipeline file. The prompts are saved in a file that the
    prompt source `file` reads.
    """
    require_packages()
    set_threads(chosen["threads"])
    from ..server.compute.service import ModelService
    from ..server.http.request_log import configure_logging
    from .image_list import ImageList
    from .prompts_file import PromptsFile
    from .session import AnnotationSession

    configure_logging("text", True)
    task = find_task(target, chosen["prompts"], chosen["plugins"])
    images = ImageList(list_images(task))
    settings = build_settings(**_serve_options(chosen))
    name, backend = _load_backend(target, chosen)
    labels = list(filter(None, (label.strip() for label in chosen["labels"].split(","))))
    with PromptsFile(task.prompts, lambda line: click.echo(line, err=True), images.find_key) as file:
        if missing := images.missing(file.lines()):
            click.echo(_describe_missing(task.prompts, missing, images), err=True)
        service = ModelService(backend, name, settings)
        reviewer = chosen["reviewer"] or current_user()
        with _preview_filters(task, name, chosen) as filters:
            _serve(AnnotationSession(task.name, images, file, service, reviewer, labels, filters), chosen)


@contextlib.contextmanager
def _preview_filters(task: AnnotationTask, backend: str, chosen: dict[str, Any]) -> Iterator[FilterPreview | None]:
    """The pipeline's filters; None where there are none, or where another backend makes the masks."""
    from .filter_preview import FilterPreview

    if not task.filters or chosen["backend"] is not None:
        yield None
        return
    for name, stage in task.filters:
        for problem in stage.missing() or stage.check():
            click.echo(f"warning: the filter {name!r}: {problem.message}", err=True)
    preview = FilterPreview(task.filters, backend)
    try:
        yield preview
    finally:
        preview.close()


def _describe_missing(file: Path, names: Sequence[str], images: ImageList) -> str:
    """A line about images of the prompts file that are not in the dataset, with near names."""
    from maskmill.images import KeySample

    from .._shared.prompt_files.matching import Examples

    sample, found = KeySample(), Examples()
    for ref in images.refs:
        sample.add(ref.key)
    for name in names:
        found.add(name)
    many = f"{found.count:,} of the images in {file.name} {'is' if found.count == 1 else 'are'}"
    return f"warning: {many} not in the dataset: {found.describe(sample.suggest)}"


def find_task(target: Path, prompts: Path | None, plugins: Sequence[Path]) -> AnnotationTask:
    """The images and the prompts file given on the command line.

    Raises:
        UsageError: there is no such folder or file, or the prompts file has another format.
    """
    if prompts is not None and prompts.suffix.lower() != ".jsonl":  # a batch run infers the format from the ending
        raise _wrong_format(prompts, prompts.suffix.lower().lstrip(".") or "a file without an ending")
    if target.suffix.lower() not in PIPELINES:
        if not target.is_dir():
            raise UsageError(
                Problem(f"'{target}' is neither a folder nor a pipeline file", hint="name a folder of images")
            )
        folder = target.absolute()
        if is_run(folder):
            text = f"'{target}' is the output folder of a run"
            raise UsageError(
                Problem(text, hint=f"review its results: {quote_command(['maskmill', 'review', str(target)])}")
            )
        return AnnotationTask(folder.name, Dataset((str(folder),), Path.cwd()), prompts or folder / PROMPTS)
    from maskmill.config.load import load_config

    config = load_config(target, plugins=plugins, complete=False)
    dataset = Dataset(config.dataset, config.dataset_base)
    filters = tuple((use.name, cast(Filter, use.stage)) for use in config.filters)
    return AnnotationTask(config.name, dataset, prompts or _find_prompts_file(config), filters)


def _find_prompts_file(config: Any) -> Path:
    """The file of the pipeline's source `file`; else one beside the pipeline."""
    for use in config.prompts:
        if use.name != "file":
            continue
        stage = use.stage
        kind = stage.path.suffix.lower().lstrip(".") if stage.format == "auto" else stage.format
        if kind != "jsonl" or stage.units != "pixels":
            raise _wrong_format(stage.path, kind if kind != "jsonl" else "relative units")
        return Path(stage.path)
    return Path(config.base) / PROMPTS


def _wrong_format(path: Path, what: str) -> UsageError:
    hint = "give --prompts FILE.jsonl, and name that file in the pipeline"
    return UsageError(Problem(f"prompts are saved as jsonl in pixels, not as {what}", str(path), hint=hint))


def list_images(task: AnnotationTask) -> list[ImageRef]:
    """The images of the dataset.

    Raises:
        DatasetError: there are none.
    """
    if problems := [problem for problem in task.dataset.check() if not problem.warning]:
        raise DatasetError(*problems)
    refs = list(task.dataset)
    for line in task.dataset.warnings:
        click.echo(line, err=True)
    return refs


def _serve_options(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options of `serve` for this command's options; beyond this machine with a new token."""
    from ..server.http.security import is_loopback

    options = serve.make_context("serve", []).params
    token = chosen["token"] or os.environ.get(TOKEN_VARIABLE)
    if not token and not is_loopback(chosen["host"]):
        token = secrets.token_urlsafe(16)
    return {**options, "images": 2.0, "host": chosen["host"], "token": token}


def _load_backend(target: Path, chosen: dict[str, Any]) -> tuple[str, Backend]:
    file = target if target.suffix.lower() in PIPELINES and chosen["backend"] is None else None
    name, backend = load_backend(file, chosen["backend"], chosen["model"], chosen["sets"], chosen["plugins"])
    try:
        prepare_backend(name, backend)
    except PipelineError as error:
        if name == "grabcut":
            raise
        other = Problem(
            "another backend works without it", hint="use --backend grabcut, which needs no further package"
        )
        raise PipelineError(*error.problems, other) from None
    return name, backend


def _serve(session: AnnotationSession, chosen: dict[str, Any]) -> None:
    from ..server import process
    from .routes import add_routes

    sys.setswitchinterval(SWITCH_INTERVAL)
    port = chosen["port"] if chosen["port"] is not None else find_free_port(chosen["host"], PORT)
    address = process.ListenAddress(chosen["host"], port)
    service = session.service

    def announce(port: int) -> None:
        token = "" if service.settings.token is None else f"#token={service.settings.token}"
        url = f"http://{client_host(address.host)}:{port}/annotate/{token}"
        path = session.prompts_file.path
        maker = service.title()
        if session.filters is not None:
            names = session.filters.names
            maker += f" and the {'filter' if len(names) == 1 else 'filters'} {', '.join(names)}"
        click.echo(f"{count_noun(len(session.images), 'image')} of {session.name}, with {maker}; saved in {path}")
        click.echo(f"open {url}")
        click.echo('press Ctrl-C to stop; everything shown as "Saved" on the page is on disk')
        sys.stdout.flush()
        if not chosen["no_browser"]:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    process.run(service, address, announce, lambda app: add_routes(app, session))
