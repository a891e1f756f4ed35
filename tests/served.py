"""`maskmill serve` in a process of its own, for tests of its clients."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path


class Served:
    """A server on 127.0.0.1.

    Attributes:
        url: its address.
        said: its lines of output.

    Args:
        options: of the command.
        port: 0 takes a free one.
        environment: variables in addition to those of the tests.
        ready: wait until the model is loaded.
    """

    def __init__(self, *options, port=0, environment=None, ready=True):
        command = [sys.executable, "-m", "maskmill", "serve", "--port", str(port), *map(str, options)]
        variables = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.said = []
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", env=variables
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.url = self._line(r"https?://127\.0\.0\.1:\d+")
            if ready:
                self.wait_until_ready()
        except AssertionError:
            self.kill()
            raise

    @property
    def port(self):
        return int(self.url.rpartition(":")[2])

    def _read(self):
        for line in self.process.stdout:
            self.said.append(line)

    def _line(self, pattern, seconds=60):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and self.process.poll() is None:
            for line in list(self.said):
                if found := re.search(pattern, line):
                    return found[0]
            time.sleep(0.02)
        raise AssertionError("the server did not start:\n" + "".join(self.said))

    def wait_until_ready(self, seconds=60):
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                if self.get("/readyz"):
                    return
            time.sleep(0.05)
        raise AssertionError("the server did not get ready:\n" + "".join(self.said))

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return answer.read().decode()

    def metric(self, beginning):
        """Sum of the metrics whose line starts with this text."""
        lines = [line for line in self.get("/metrics").splitlines() if line.startswith(beginning)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def kill(self):
        """Kill the process."""
        self.process.kill()
        self.end()

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.end()


def plugin(folder: Path) -> Path:
    """A slow drop-in backend: `--set seconds=...`."""
    path = folder / "slow_backend.py"
    path.write_text(
        "import time\n"
        "from maskmill import Backend, hookimpl\n"
        "from maskmill.testing import FillPrompt\n"
        "class Slow(FillPrompt):\n"
        "    seconds: float = 0.0\n"
        "    def masks(self, image, prompts, embedding=None):\n"
        "        time.sleep(self.seconds)\n"
        "        return super().masks(image, prompts)\n"
        "@hookimpl\n"
        "def register_backends(register):\n"
        "    register('slow-fill', Slow)\n",
        encoding="utf-8",
    )
    return path
