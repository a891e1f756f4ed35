"""The web server process: listens, loads the model meanwhile, finishes what was begun when it shall end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from maskmill import MaskmillError, PluginError, Problem, UsageError

from .compute.host import Host
from .http.app import application
from .http.log import log
from .http.observing import Observing

#: Seconds that newcomers are still told that the server ends.
LINGER = 0.5
#: Seconds that a connection may be idle.
KEEP_ALIVE = 60
BACKLOG = 2048


@dataclass(frozen=True)
class Place:
    """Where the server listens.

    Attributes:
        host: name or address.
        port: 0 takes any free one.
        certificate: PEM file, None for plain HTTP.
        key: PEM file of its private key, None if the certificate's file has it.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    def listen(self) -> socket.socket:
        """An open socket.

        Raises:
            UsageError: the address cannot be had.
        """
        try:
            family, *_, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            return _listening(family, str(address[0]), self.port)
        except OSError as error:
            text = f"cannot listen on {self.host}:{self.port}: {error.strerror or error}"
            raise UsageError(Problem(text, hint="another --port, or --port 0 for any that is free")) from None


def _listening(family: int, address: str, port: int) -> socket.socket:
    # With the protocol named: asyncio turns the 40 ms pauses of Nagle's algorithm off for such sockets only.
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


class Server(uvicorn.Server):
    """uvicorn, but the first signal lets it finish what was begun, answering 503 to what comes.

    Args:
        config: uvicorn's.
        host: is told.
        seen: counts requests.
    """

    def __init__(self, config: uvicorn.Config, host: Host, seen: Observing) -> None:
        super().__init__(config)
        self._host = host
        self._seen = seen
        self._since = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; the second signal ends the server as uvicorn does."""
        if self._host.draining:
            super().handle_exit(sig, frame)
            return
        self._host.draining = True
        self._since = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to end."""
        ended = await super().on_tick(counter)
        if not self._host.draining:
            return ended
        if counter % 10 == 0:
            log.info("draining, %d requests to answer", self._seen.in_flight)
        since = time.monotonic() - self._since
        idle = not self._seen.in_flight and since > LINGER
        return ended or idle or since > self._host.settings.deadline + LINGER


def run(
    host: Host, place: Place, listening: Callable[[int], None], add: Callable[[FastAPI], None] | None = None
) -> None:
    """Serve until a signal comes.

    Args:
        host: what is served.
        place: where.
        listening: called with the port once requests are taken.
        add: adds further routes to the application.

    Raises:
        UsageError: the address cannot be had, or the backend cannot be opened.
    """
    _, seen = application(host, add)
    opened = place.listen()
    config = uvicorn.Config(
        seen,
        log_config=None,
        access_log=False,
        proxy_headers=False,  # else a header could name another address than the caller's
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
        ssl_certfile=place.certificate,
        ssl_keyfile=place.key,
        lifespan="off",
    )
    try:
        config.load()
    except OSError as error:
        raise UsageError(Problem(f"--tls-cert, --tls-key: {error}", hint="PEM files are wanted")) from None
    server = Server(config, host, seen)
    try:
        asyncio.run(_serve(server, host, opened, listening))
    finally:
        host.close()
    if host.computing.error is not None:
        raise _not_opened(host.computing.error)


async def _serve(server: Server, host: Host, opened: socket.socket, listening: Callable[[int], None]) -> None:
    loop = asyncio.get_running_loop()

    def changed() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_changed, server, host)

    listening(int(opened.getsockname()[1]))
    host.computing.start(changed)
    await server.serve(sockets=[opened])


def _changed(server: Server, host: Host) -> None:
    if host.computing.state == "failed":
        server.should_exit = True
    elif host.computing.state == "ready":
        log.info("ready: %s, %s", host.title(), host.computing.model_id[:16])


def _not_opened(error: BaseException) -> MaskmillError:
    text = str(error) if isinstance(error, MaskmillError) else f"{type(error).__name__}: {error}"
    failure = PluginError(f"the backend cannot be opened: {text}")
    failure.__cause__ = error
    return failure
