"""The command `maskmill serve`: its options, the backend to serve, and the address to listen on."""

from __future__ import annotations

import getpass
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from maskmill import Backend, PipelineError, Problem, UsageError
from maskmill.plugins.threads import set_threads
from maskmill_plugins._shared.http.wire import TOKEN_VARIABLE

if TYPE_CHECKING:
    from .settings import Settings

FILE = click.Path(path_type=Path)
PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")
GB = 1e9
#: Seconds after which Python switches from the model thread to the event loop while both can run.
SWITCH_INTERVAL = 0.0005


@click.command("serve")
@click.argument("file", metavar="[PIPELINE.yaml]", type=FILE, required=False)
@click.option("--backend", help="The backend to serve; sam if no file is given.")
@click.option("--model", help="Short for --set model=...")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="An option of the backend.")
@click.option("--plugins", multiple=True, type=FILE, metavar="PATH", help="Load drop-in plugins from here.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="0 for any free port.")
@click.option("--token", help=f"Bearer token to require, or `none`; better set the variable {TOKEN_VARIABLE}.")
@click.option("--allow", multiple=True, metavar="NETWORK", help="Accept only these addresses: 192.168.1.0/24")
@click.option("--tls-cert", type=FILE, help="Certificate, PEM: serve https.")
@click.option("--tls-key", type=FILE, help="Its private key, PEM.")
@click.option("--cors", multiple=True, metavar="ORIGIN", help="Accept requests from web pages of this origin.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads for computing; all cores by default.")
@click.option(
    "--wait",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Refuse requests that would wait longer (429).",
)
@click.option(
    "--deadline",
    type=click.FloatRange(0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Give up requests that take longer (504).",
)
@click.option(
    "--max-upload",
    type=click.FloatRange(0, min_open=True),
    default=200.0,
    show_default=True,
    metavar="MB",
    help="Largest image file.",
)
@click.option("--max-pixels", type=click.IntRange(1), metavar="N", help="Largest image; like `run.max_pixels`.")
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

    The backend is given by --backend or by a pipeline file.
    """
    require_packages()
    set_threads(chosen["threads"])
    settings = build_settings(**chosen)  # before the backend, which takes longer
    name, backend = load_backend(**chosen)
    prepare_backend(name, backend)
    from . import process
    from .compute.service import ModelService
    from .http.request_log import configure_logging

    sys.setswitchinterval(SWITCH_INTERVAL)
    configure_logging(chosen["log_format"], chosen["quiet"])
    service = ModelService(backend, name, settings)
    address = process.ListenAddress(chosen["host"], chosen["port"], chosen["tls_cert"], chosen["tls_key"])

    def announce(port: int) -> None:
        encrypted = address.certificate is not None
        url = f"{'https' if encrypted else 'http'}://{client_host(address.host, by_name=encrypted)}:{port}"
        logging.getLogger("maskmill.server").info("listening on %s", url)
        for line in format_announcement(service.title(), url, settings, encrypted):
            click.echo(line)
        sys.stdout.flush()

    def announce_ready() -> None:
        click.echo(f"ready: {service.title()}")
        sys.stdout.flush()

    process.run(service, address, announce, on_ready=announce_ready)


def format_announcement(title: str, url: str, settings: Settings, encrypted: bool) -> list[str]:
    """The lines printed at the start: the address, and the backend's line for a client's pipeline file."""
    lines = [
        f"{title} at {url} (loading; documentation: {url}/docs)",
        "",
        "backend: {use: remote, url: " + f'"{url}"' + "}",
        "",
    ]
    if settings.token is not None:
        lines.append(f"set {TOKEN_VARIABLE} on the client to the server's token")
    if not settings.local_names and settings.token is None:
        lines.append("warning: anyone who can reach this address can use it (--token none); --allow NETWORK limits it")
    elif not settings.local_names and not encrypted:
        lines.append("note: token and images are sent unencrypted; use --tls-cert and --tls-key to encrypt them")
    return lines


def client_host(host: str, by_name: bool = False) -> str:
    """The host part of the URL for clients.

    Args:
        host: the address that the server listens on.
        by_name: give this machine's name for "all addresses", not its number: certificates are issued for names.
    """
    if host in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        host = socket.gethostname() if by_name else _find_network_address() or socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _find_network_address() -> str | None:
    """This machine's first IPv4 address in a network."""
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        entry.address
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if name in up and entry.family == socket.AF_INET and not entry.address.startswith(("127.", "169.254."))
    ]
    return found[0] if found else None


def find_free_port(host: str, usual: int) -> int:
    """The usual port if it is free, else 0 for any."""
    from .process import ListenAddress

    try:
        ListenAddress(host, usual).open_socket().close()
    except UsageError:  # usually another server of this command
        return 0
    return usual


def current_user() -> str:
    """The name of this process's user, "" if it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def require_packages() -> None:
    """Check that the packages of the extra `server` are installed.

    Raises:
        UsageError: some are not.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        text = f"the server needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed"
        raise UsageError(Problem(text, hint='pip install "maskmill[server]"'))


def build_settings(**chosen: Any) -> Settings:
    """The settings for the options of `serve`.

    Raises:
        UsageError: some options contradict each other or are invalid.
    """
    from maskmill.decoding.decoder import MAX_PIXELS

    from .http.security import is_loopback, parse_networks, resolve_token
    from .settings import MB, Settings

    loopback = is_loopback(chosen["host"])
    token = resolve_token(chosen["token"] or os.environ.get(TOKEN_VARIABLE), loopback)
    for option in ("tls_cert", "tls_key"):
        if chosen[option] is not None and not chosen[option].is_file():
            raise UsageError(f"--{option.replace('_', '-')}: no file '{chosen[option]}'")
    if chosen["tls_key"] and not chosen["tls_cert"]:
        raise UsageError("--tls-key needs --tls-cert")
    upload, stored = int(chosen["max_upload"] * MB), int(chosen["images"] * GB)
    if upload > stored:
        raise UsageError(f"--max-upload {chosen['max_upload']:g} MB is more than --images {chosen['images']:g} GB")
    return Settings(
        token=token,
        allow=parse_networks(chosen["allow"]),
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


def load_backend(
    file: Path | None, backend: str | None, model: str | None, sets: tuple[str, ...], plugins: Sequence[Path], **_: Any
) -> tuple[str, Backend]:
    """The name and the stage of the backend given on the command line, not yet open.

    Raises:
        PipelineError: the pipeline file or an option is wrong.
        PluginError: there is no such backend, or a drop-in cannot be loaded.
    """
    if file is not None and backend is not None:
        raise UsageError("give either --backend or a pipeline file, not both")
    sets = (*([f"model={model}"] if model else []), *sets)
    if file is None:
        return _load_named_backend(backend or "sam", sets, plugins)
    from maskmill.config.load import load_config

    settings = [f"backend.{each}" for each in sets]
    config = load_config(file, sets=settings, dataset=(), plugins=plugins, complete=False)
    stage = config.backend.stage
    assert isinstance(stage, Backend), "the registry gives backends for this role"
    return config.backend.name, stage


def _load_named_backend(name: str, sets: Sequence[str], plugins: Sequence[Path]) -> tuple[str, Backend]:
    from pydantic import ValidationError

    from maskmill.config.option_errors import explain_validation_error
    from maskmill.config.overrides import override, settle_texts
    from maskmill.config.yaml_reader import parse_yaml
    from maskmill.plugins.find import find_drop_ins
    from maskmill.plugins.options import OptionSchema
    from maskmill.plugins.registry import Registry

    registry = Registry.load(find_drop_ins(None, plugins))
    cls = registry.get("backend", name).cls
    document = parse_yaml(b"backend: {}", "--set")
    problems = [
        each for text in sets for each in override(document, f"backend.{text}", label=f"--set {text.partition('=')[0]}")
    ]
    schema = OptionSchema(cls)
    settle_texts(document, lambda loc: schema.at(loc[1:]))
    if problems or document.problems:
        raise PipelineError(*problems, *document.problems)
    options = document.tree["backend"]
    try:
        stage = cls.from_options(options, Path.cwd())
    except ValidationError as error:
        found = explain_validation_error(error, cls, options, f"the backend {name!r}")
        raise PipelineError(*(Problem(str(each), "--set", hint=each.hint) for each in found)) from None
    assert isinstance(stage, Backend), "the registry gives backends for this role"
    return name, stage


def prepare_backend(name: str, backend: Backend) -> None:
    """Check the backend and download what it needs, before anything listens.

    Raises:
        PipelineError: a package or file is missing, or an option is wrong.
    """
    from maskmill.plugins.optional import prepare_stage

    problems = [*(backend.missing() or backend.check())]
    for problem in problems:
        if problem.warning:
            click.echo(str(problem), err=True)
    if errors := [problem for problem in problems if not problem.warning]:
        raise PipelineError(*(Problem(f"the backend {name!r}: {each.message}", hint=each.hint) for each in errors))
    prepare_stage(backend, lambda line: click.echo(line, err=True))
