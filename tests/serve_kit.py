"""A real server for tests: in a thread of this process, or in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
from pydantic import PrivateAttr

from maskmill import testing
from maskmill_plugins._shared.http.wire import image_id

#: A drop-in with backends for servers in processes of their own.
BACKENDS = '''
import time
from maskmill import hookimpl
from maskmill.testing import FillPrompt


class Slow(FillPrompt):
    """A slow backend."""

    seconds: float = 0.0
    loading: float = 0.0
    refuse: bool = False

    def open(self):
        time.sleep(self.loading)
        if self.refuse:
            raise ValueError("no such weights")

    def masks(self, image, prompts, embedding=None):
        time.sleep(self.seconds)
        return super().masks(image, prompts, embedding)


@hookimpl
def register_backends(register):
    register("slow", Slow)
'''


class Fake(testing.FillAnything):
    """Fills prompts; counts its calls, sleeps, and waits at a gate."""

    seconds: float = 0.0
    encode: float = 0.0
    embeds: bool = True

    _passes: list[str] = PrivateAttr(default_factory=list)
    _calls: list[tuple[str, int]] = PrivateAttr(default_factory=list)
    _gate: threading.Event = PrivateAttr(default_factory=threading.Event)
    _at_gate: threading.Event = PrivateAttr(default_factory=threading.Event)
    _error: Exception | None = PrivateAttr(None)

    def model_post_init(self, context):
        self._gate.set()

    def embed(self, image):
        self._passes.append(image.sha256)
        time.sleep(self.encode)
        return image.pixels[:1].copy() if self.embeds else None

    def masks(self, image, prompts, embedding=None):
        self._at_gate.set()
        assert self._gate.wait(20)
        self._calls.append((image.sha256, len(prompts)))
        time.sleep(self.seconds)
        if self._error is not None:
            raise self._error
        return super().masks(image, prompts, embedding)


class Running:
    """A server in a thread of this process; a context manager.

    `add` is called with the application and the service, to add routes.

    Attributes:
        service: what the routes work with.
        url: where it listens.
        http: a client with this base URL.
    """

    def __init__(self, backend=None, settings=None, wait=True, name="fake", add=None, **http):
        from maskmill_plugins.server.compute.service import ModelService
        from maskmill_plugins.server.settings import Settings

        self.backend = backend or Fake()
        self.service = ModelService(self.backend, name, settings or Settings())
        self._options = http
        self._wait = wait
        self._add = add and (lambda app: add(app, self.service))

    def __enter__(self):
        from maskmill_plugins.server import process as serving

        ports: list[int] = []
        self.up = threading.Event()

        def listening(port):
            ports.append(port)
            self.up.set()

        def serve():
            with contextlib.suppress(Exception):
                serving.run(self.service, serving.ListenAddress("127.0.0.1", 0), listening, self._add)
            self.up.set()

        self._thread = threading.Thread(target=serve)
        self._thread.start()
        assert self.up.wait(20) and ports
        self.url = f"http://127.0.0.1:{ports[0]}"
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False, **self._options)
        if self._wait:
            until(lambda: self.service.model_thread.state == "ready")
            self.backend.__dict__.get("_passes", [])
            if isinstance(self.backend, Fake):
                self.backend._passes.clear()
                self.backend._calls.clear()
                self.backend._at_gate.clear()
        return self

    def __exit__(self, *_):
        self.http.close()
        if isinstance(self.backend, Fake):
            self.backend._gate.set()
        self.service.draining = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    def upload(self, data):
        answer = self.http.post("/v1/images", content=data)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["id"]

    def masks(self, image, *prompts, **more):
        return self.http.post(f"/v1/images/{image}/masks", json={"prompts": list(prompts), **more})

    def metric(self, name):
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0


class Process:
    """`maskmill serve` in a process of its own; a context manager."""

    def __init__(self, folder: Path, *arguments: str, ready: bool = True, **environ: str) -> None:
        plugins = folder / "backends.py"
        plugins.write_text(BACKENDS, encoding="utf-8")
        command = [sys.executable, "-m", "maskmill", "serve", "--plugins", str(plugins), "--port", "0", *arguments]
        self._log = (folder / "server.log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._log,
            encoding="utf-8",
            env={**os.environ, "PYTHONUNBUFFERED": "1", "MASKMILL_TOKEN": "", **environ},
        )
        self._ready = ready

    def __enter__(self):
        self.printed = self.process.stdout.readline()
        found = re.search(r"https?://[^ ]+:(\d+)", self.printed)
        assert found, self.log()
        self.port = int(found[1])
        self.url = f"http://127.0.0.1:{self.port}"
        while "use: remote" not in self.printed:
            self.printed += self.process.stdout.readline()
        if self._ready:
            until(lambda: httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200)
        return self

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def log(self) -> str:
        self._log.flush()
        return Path(self._log.name).read_text(encoding="utf-8")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        self.process.stdout.close()
        self._log.close()


def until(true, seconds=20.0):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "the condition did not become true"
        time.sleep(0.02)


def picture(seed=0, height=48, width=64) -> bytes:
    """A PNG file's bytes."""
    import io

    import PIL.Image

    buffer = io.BytesIO()
    PIL.Image.fromarray(testing.pixels(height, width, seed)).save(buffer, "PNG")
    return buffer.getvalue()


def id_of(data: bytes) -> str:
    """The id that the server gives these bytes."""
    import hashlib

    return image_id(hashlib.sha256(data).hexdigest())


def free_port() -> int:
    """A free port."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


BOX = {"box": [10.0, 10.0, 30.0, 30.0]}
POINT = {"points": [[32.0, 24.0, 1]]}
