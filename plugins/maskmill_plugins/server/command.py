"""`maskmill serve`: which backend, where, for whom."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maskmill import Backend, PipelineError, Problem, UsageError
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE

if TYPE_CHECKING:
    from .settings import Settings

FILE = click.Path(path_type=Path)
PACKAGES = {"fastapi": "fastapi", "uvicorn": "uvicorn", "prometheus_client": "prometheus_client"}
GB = 1e9
#: Seconds after which the thread that computes lets the one that answers go on, as far as Python holds both.
SWITCH = 0.0005


@click.command("serve")
@click.argument("file", metavar="[PIPELINE.yaml]", type=FILE, required=False)
@click.option("--backend", help="The backend to serve; sam if no file is given.")
@click.option("--model", help="Short for --set model=...")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="An option of the backend.")
@click.option("--plugins", multiple=True, type=FILE, metavar="PATH", help="Load drop-in plugins from here.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all.")
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0 is any free one.")
@click.option("--token", help=f"Ask for this bearer token, or none; better in the variable {TOKEN_VARIABLE}.")
@click.option("--allow", multiple=True, metavar="NETWORK", help="Answer to these addresses only: 192.168.1.0/24")
@click.option("--tls-cert", type=FILE, help="Certificate, PEM: serve https.")
@click.option("--tls-key", type=FILE, help="Its private key, PEM.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Let web pages of this origin ask.")
@click.option("--threads", type=click.IntRange(1), help="Processor threads that compute; all cores if left out.")
@click.option(
    "--wait",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Requests that would wait longer are sent away (429).",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Requests that took longer are given up (504).",
)
@click.option(
    "--max-upload",
    type=click.FloatRange(0, min_open=True),
    default=200.0,
    show_default=True,
    metavar="MB",
    help="Size of an image file.",
)
@click.option("--max-pixels", type=click.IntRange(1), metavar="N", help="Size of an image; as `run.max_pixels`.")
@click.option(
    "--images",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="GB",
    help="Memory for uploaded files; half as much again for pixels.",
)
@click.option(
    "--embeddings",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    metavar="GB",
    help="Memory for embeddings.",
)
@click.option("--log", "log_format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("-q", "--quiet", is_flag=True, help="Log warnings only.")
def serve(**chosen: Any) -> None:
    """Serve a backend over HTTP, for `backend: {use: remote, url: ...}` on other machines.

    The backend is named by --backend, or is that of a pipeline file.
    """
    need_packages()
    if chosen["threads"]:
        os.environ["MASKMILL_THREADS"] = str(chosen["threads"])
    settings = chosen_settings(**chosen)  # before the backend: it takes longer
    name, backend = chosen_backend(**chosen)
    ready_backend(name, backend)
    from . import process as serving
    from .compute.host import Host
    from .http.log import log, set_up

    sys.setswitchinterval(SWITCH)
    set_up(chosen["log_format"], chosen["quiet"])
    host = Host(backend, name, settings)
    place = serving.Place(chosen["host"], chosen["port"], chosen["tls_cert"], chosen["tls_key"])

    def listening(port: int) -> None:
        encrypted = place.certificate is not None
        url = f"{'https' if encrypted else 'http'}://{address(place.host, named=encrypted)}:{port}"
        log.info("listening on %s", url)
        for line in announcement(host.title(), url, settings, encrypted):
            click.echo(line)
        sys.stdout.flush()

    serving.run(host, place, listening)


def announcement(title: str, url: str, settings: Settings, encrypted: bool) -> list[str]:
    """What the start prints: the address, and what a client's pipeline file says."""
    lines = [f"{title} at {url} (try {url}/docs)", "", "backend: {use: remote, url: " + f'"{url}"' + "}", ""]
    if settings.token is not None:
        lines.append(f"with the token in the client's variable {TOKEN_VARIABLE}")
    if not settings.local_names and settings.token is None:
        lines.append("warning: whoever reaches this address may use it (--token none); --allow NETWORK narrows that")
    elif not settings.local_names and not encrypted:
        lines.append("note: token and images travel unencrypted; --tls-cert and --tls-key encrypt them")
    return lines


def address(host: str, named: bool = False) -> str:
    """The name under which clients reach an address that is listened on, fit for a URL.

    Args:
        host: the address.
        named: by this machine's name rather than by a number: that is what certificates are for.
    """
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        host = socket.gethostname() if named else _outward() or socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _outward() -> str | None:
    """This machine's first address in a network."""
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if name in up and entry.family == socket.AF_INET and not entry.address.startswith(("127.", "169.254."))
    ]
    return found[0] if found else None


def need_packages() -> None:
    """Find out whether what the server needs is installed.

    Raises:
        UsageError: it is not.
    """
    missing = [name for name in (*PACKAGES, "python_multipart") if importlib.util.find_spec(name) is None]
    if missing:
        text = f"the server needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        raise UsageError(Problem(text, hint='pip install "maskmill[server]"'))


def chosen_settings(**chosen: Any) -> Settings:
    """The settings that the options of `serve` ask for.

    Raises:
        UsageError: some do not go together, or cannot be had.
    """
    from maskmill.decoding import MAX_PIXELS

    from .http.security import checked_token, is_loopback, networks
    from .settings import MB, Settings

    loopback = is_loopback(chosen["host"])
    token = checked_token(chosen["token"] or os.environ.get(TOKEN_VARIABLE), loopback)
    for option in ("tls_cert", "tls_key"):
        if chosen[option] is not None and not chosen[option].is_file():
            raise UsageError(f"--{option.replace('_', '-')}: there is no file {chosen[option]}")
    if chosen["tls_key"] and not chosen["tls_cert"]:
        raise UsageError("--tls-key needs --tls-cert")
    upload, stored = int(chosen["max_upload"] * MB), int(chosen["images"] * GB)
    if upload > stored:
        raise UsageError(f"--max-upload {chosen['max_upload']:g} MB is more than --images {chosen['images']:g} GB")
    return Settings(
        token=token,
        allow=networks(chosen["allow"]),
        local_names=loopback and token is None,
        cors=chosen["cors"],
        wait=chosen["wait"],
        deadline=max(chosen["deadline"], chosen["wait"]),
        upload=upload,
        receiving=4 * upload,
        pixels=chosen["max_pixels"] or MAX_PIXELS,
        stored=stored,
        decoded=stored // 2,
        embeddings=int(chosen["embeddings"] * GB),
    )


def chosen_backend(
    file: Path | None, backend: str | None, model: str | None, sets: tuple[str, ...], plugins: Sequence[Path], **_: Any
) -> tuple[str, Backend]:
    """The name and the stage that the command line asks for."""
    if file is not None and backend is not None:
        raise UsageError("give --backend or a pipeline file, not both")
    sets = (*([f"model={model}"] if model else []), *sets)
    if file is None:
        return _named(backend or "sam", sets, plugins)
    from maskmill.config.load import load_config

    config = load_config(file, sets=[f"backend.{each}" for each in sets], plugins=plugins, complete=False)
    stage = config.backend.stage
    assert isinstance(stage, Backend), "the registry gives backends for this role"
    return config.backend.name, stage


def _named(name: str, sets: Sequence[str], plugins: Sequence[Path]) -> tuple[str, Backend]:
    from pydantic import ValidationError

    from maskmill.config.option_errors import explain_validation_error
    from maskmill.config.overrides import override
    from maskmill.config.yaml_reader import parse_yaml
    from maskmill.plugins.find import find_drop_ins
    from maskmill.plugins.registry import Registry

    registry = Registry.load(find_drop_ins(None, plugins))
    cls = registry.get("backend", name).cls
    document = parse_yaml(b"backend: {}", "--set")
    problems = [
        each for text in sets for each in override(document, f"backend.{text}", label=f"--set {text.partition('=')[0]}")
    ]
    if problems:
        raise PipelineError(*problems)
    options = document.tree["backend"]
    try:
        stage = cls.from_options(options, Path.cwd())
    except ValidationError as error:
        found = explain_validation_error(error, cls, options, f"the backend {name!r}")
        raise PipelineError(*(Problem(str(each), "--set", hint=each.hint) for each in found)) from None
    assert isinstance(stage, Backend), "the registry gives backends for this role"
    return name, stage


def ready_backend(name: str, backend: Backend) -> None:
    """Find what is wrong, and get what is missing, before anything listens."""
    from maskmill.plugins.optional import prepare_stage

    problems = [*(backend.missing() or backend.check())]
    for problem in problems:
        if problem.warning:
            click.echo(str(problem), err=True)
    if errors := [problem for problem in problems if not problem.warning]:
        raise PipelineError(*(Problem(f"the backend {name!r}: {each.message}", hint=each.hint) for each in errors))
    prepare_stage(backend, lambda line: click.echo(line, err=True))
