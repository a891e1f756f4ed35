"""What the way to a server and back costs: the backend `remote` against `maskmill serve` with an instant backend.

    python benchmarks/remote_overhead.py [--count 500] [--side 1024]

Starts a server on 127.0.0.1 whose backend answers at once with the same mask of about a quarter of the picture,
and prints: seconds of one prompt on an image that the server knows (p50, p95), of 64 prompts in one request,
of an image that it does not know yet, and the bytes that went over the wire for each.
"""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from maskmill import Box, Image, Prompt
from maskmill.testing import write_picture
from maskmill_plugins.backends.remote import Remote

PLUGIN = '''
import functools
import numpy as np
from maskmill import Backend, Mask, hookimpl

@functools.cache
def counts(size):
    """A disc, as run lengths."""
    y, x = np.ogrid[: size[0], : size[1]]
    return Mask.from_array((x - size[1] / 2) ** 2 + (y - size[0] / 2) ** 2 < (0.28 * min(size)) ** 2).counts

class Instant(Backend):
    def accepts(self):
        return frozenset({"box"})

    def masks(self, image, prompts, embedding=None):
        return [Mask(image.size, counts(image.size), score=0.9, prompt=prompt) for prompt in prompts]

@hookimpl
def register_backends(register):
    register("instant", Instant)
'''


class Wire(threading.Thread):
    """Passes connections on to a server and counts their bytes.

    Attributes:
        port: to connect to.
        sent: bytes from the client.
        received: bytes from the server.
    """

    def __init__(self, target: int) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._target = target
        self.port = self._listener.getsockname()[1]
        self.sent = self.received = 0
        self.start()

    def run(self) -> None:
        """Accept connections, for ever."""
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(("127.0.0.1", self._target))
            for name, source, drain in (("sent", client, server), ("received", server, client)):
                drain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(name, source, drain), daemon=True).start()

    def _pump(self, name: str, source: socket.socket, drain: socket.socket) -> None:
        while data := source.recv(65536):
            setattr(self, name, getattr(self, name) + len(data))
            drain.sendall(data)
        drain.close()


@contextmanager
def server(folder: Path) -> Iterator[int]:
    """The port of a server with the instant backend."""
    plugin = folder / "instant.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    command = [sys.executable, "-m", "maskmill", "serve", "--backend", "instant", "--plugins", plugin, "--port", "0"]
    process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stdout is not None
    try:
        found = next(filter(None, (re.search(r"http://127.0.0.1:(\d+)", line) for line in process.stdout)))
        yield int(found[1])
    finally:
        process.terminate()
        process.wait()


def timed(count: int, ask: Callable[[int], object]) -> str:
    """Milliseconds of a call, p50 and p95."""
    seconds = []
    for number in range(count):
        started = time.perf_counter()
        ask(number)
        seconds.append(time.perf_counter() - started)
    p95 = statistics.quantiles(seconds, n=20)[-1]
    return f"p50 {1e3 * statistics.median(seconds):6.2f} ms, p95 {1e3 * p95:6.2f} ms"


def bytes_of(port: int, ask: Callable[[Remote], object], before: Callable[[Remote], object]) -> str:
    """Bytes to and from the server for one call, after another one."""
    wire = Wire(port)
    stage = Remote(url=f"http://127.0.0.1:{wire.port}")
    stage.open()
    before(stage)
    time.sleep(0.1)
    sent, received = wire.sent, wire.received
    ask(stage)
    time.sleep(0.1)
    stage.close()
    return f"{wire.sent - sent} bytes sent, {wire.received - received} received"


@click.command()
@click.option("--count", default=500, show_default=True, help="Calls of each kind.")
@click.option("--side", default=1024, show_default=True, help="Pixels along a side of the pictures.")
def main(count: int, side: int) -> None:
    """Measure and print."""
    prompts = [Prompt(box=Box(10 + n, 10, 0.8 * side, 0.8 * side)) for n in range(64)]
    with tempfile.TemporaryDirectory() as name, server(folder := Path(name)) as port:
        new = [Image.load(write_picture(folder / f"{n}.jpg", side, side, n)) for n in range(min(count, 60) + 2)]
        known = new.pop()
        stage = Remote(url=f"http://127.0.0.1:{port}")
        stage.open()
        stage.masks(known, prompts)
        print(f"pictures of {side}×{side} pixels, {known.ref.path.stat().st_size} bytes each, {count} calls")
        one, warm = prompts[:1], _asks(known, prompts[1:2])
        said = timed(count, lambda n: stage.masks(known, prompts[n % 64 : n % 64 + 1]))
        print(f"1 prompt, known image:   {said}; {bytes_of(port, _asks(known, one), warm)}")
        said = timed(count, lambda n: stage.masks(known, prompts))
        print(f"64 prompts, known image: {said}; {bytes_of(port, _asks(known, prompts), warm)}")
        said = timed(len(new) - 1, lambda n: stage.masks(new[n], one))
        print(f"1 prompt, new image:     {said}; {bytes_of(port, _asks(new[-1], one), warm)}")
        stage.close()


def _asks(image: Image, prompts: list[Prompt]) -> Callable[[Remote], object]:
    return lambda stage: stage.masks(image, prompts)


if __name__ == "__main__":
    main()
