"""The web server process: listens while the model loads, and finishes started requests at shutdown."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import uvicorn
from fastapi import FastAPI

from maskmill import MaskmillError, PluginError, Problem, UsageError

from .compute.service import ModelService
from .http.app import build_application
from .http.request_log import RequestLog
from .settings import Settings

#: Seconds during which an idle server that shuts down still answers new requests with 503.
LINGER = 0.5
#: Seconds that a connection may be idle.
KEEP_ALIVE = 60
BACKLOG = 2048
_log = logging.getLogger("maskmill.server")


@dataclass(frozen=True)
class ListenAddress:
    """Where the server listens.

    Attributes:
        host: name or address.
        port: 0 takes any free one.
        certificate: PEM file, None for plain HTTP.
        key: PEM file of its private key, None if the certificate's file contains it.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    def open_socket(self) -> socket.socket:
        """A listening socket.

        Raises:
            UsageError: the address is not available.
        """
        try:
            family, *_, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            return _open_socket(family, str(address[0]), self.port)
        except OSError as error:
            text = f"cannot listen on {self.host}:{self.port}: {error.strerror or error}"
            raise UsageError(Problem(text, hint="use another --port, or --port 0 for any free port")) from None


def _open_socket(family: int, address: str, port: int) -> socket.socket:
    # With an explicit protocol: asyncio disables Nagle's algorithm (pauses of 40 ms) for such sockets only.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows it would let two servers share a port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and hasattr(socket, "IPV6_V6ONLY"):
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind((address, port))
        opened.listen(BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


class Service(Protocol):
    """What a server needs to know of the service behind its routes.

    Attributes:
        draining: True once the server is shutting down: started requests are finished, new ones refused.
    """

    draining: bool

    @property
    def settings(self) -> Settings:
        """Limits and access."""


class DrainingServer(uvicorn.Server):
    """uvicorn that finishes started requests after the first signal and answers new ones with 503.

    Args:
        config: uvicorn's.
        service: its `draining` is set by the signal.
        requests: counts the requests in flight.
        on_started: called with the server once it accepts requests.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        requests: RequestLog,
        on_started: Callable[[DrainingServer], None],
    ) -> None:
        super().__init__(config)
        self._on_started = on_started
        self._service = service
        self._requests = requests
        self._since = 0.0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept requests; only then is the server announced, since from here on a signal ends it in an orderly way."""
        await super().startup(sockets)
        self._on_started(self)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain; the second signal stops the server as uvicorn does."""
        if self._service.draining:
            super().handle_exit(sig, frame)
            return
        self._service.draining = True
        self._since = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Whether the server should stop."""
        ended = await super().on_tick(counter)
        if not self._service.draining:
            return ended
        if counter % 10 == 0:
            _log.info("draining, %d requests in flight", self._requests.in_flight)
        since = time.monotonic() - self._since
        idle = not self._requests.in_flight and since > LINGER
        return ended or idle or since > self._service.settings.deadline + LINGER


def run(
    service: ModelService,
    address: ListenAddress,
    on_listening: Callable[[int], None],
    add_routes: Callable[[FastAPI], None] | None = None,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve a model until a signal arrives.

    Args:
        service: what the routes work with.
        address: where to listen.
        on_listening: called with the port once requests are accepted.
        add_routes: adds further routes to the application.
        on_ready: called once the model is loaded.

    Raises:
        UsageError: the address is not available.
        PluginError: the backend cannot be opened.
    """
    _, requests = build_application(service, add_routes)
    is_started = False

    def start(server: DrainingServer, loop: asyncio.AbstractEventLoop, port: int) -> None:
        nonlocal is_started
        is_started = True

        def on_state_change() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has already ended
                loop.call_soon_threadsafe(_handle_state, server, service, on_ready)

        on_listening(port)
        service.model_thread.start(on_state_change)

    try:
        listen(requests, service, address, start)
    finally:
        service.close()
        is_main = threading.current_thread() is threading.main_thread()  # else the process is not ours to end
        if is_started and is_main and service.model_thread.state in ("loading", "ready"):
            end_while_computing()
    if (cause := service.model_thread.error) is not None:
        text = str(cause) if isinstance(cause, MaskmillError) else f"{type(cause).__name__}: {cause}"
        raise PluginError(f"cannot open the backend: {text}") from cause


def listen(
    requests: RequestLog,
    service: Service,
    address: ListenAddress,
    start: Callable[[DrainingServer, asyncio.AbstractEventLoop, int], None],
) -> None:
    """Serve an application until a signal arrives.

    Args:
        requests: the application.
        service: what its routes work with.
        address: where to listen.
        start: called with the server, its loop and the port once requests are accepted.

    Raises:
        UsageError: the address is not available.
    """
    opened = address.open_socket()
    config = uvicorn.Config(
        requests,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # else a client could fake its address in a header
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        ssl_certfile=address.certificate,
        ssl_keyfile=address.key,
        lifespan="off",
    )
    try:
        config.load()
    except OSError as error:
        raise UsageError(Problem(f"--tls-cert, --tls-key: {error}", hint="both must be PEM files")) from None
    port = int(opened.getsockname()[1])
    server = DrainingServer(config, service, requests, lambda server: start(server, asyncio.get_running_loop(), port))
    asyncio.run(server.serve(sockets=[opened]))


def end_while_computing() -> None:
    """Let the process end at its exit although a backend is still being loaded, or computes longer than one waits for.

    Python would end that thread in the middle of native code, which aborts the process.
    """
    atexit.register(_end_now)


def _end_now() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _handle_state(server: DrainingServer, service: ModelService, on_ready: Callable[[], None] | None) -> None:
    if service.model_thread.state == "failed":
        server.should_exit = True
    elif service.model_thread.state == "ready":
        _log.info("ready: %s, %s", service.title(), service.model_thread.model_id[:16])
        if on_ready is not None:
            on_ready()
