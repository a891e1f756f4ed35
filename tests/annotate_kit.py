"""Servers of `maskmill annotate` for tests."""

import contextlib
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import httpx
from serve_kit import Running, picture, until


def folder_of(path: Path, count=3, **size) -> Path:
    """A folder of pictures 000.png, 001.png, ..."""
    path.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (path / f"{number:03}.png").write_bytes(picture(number, **size))
    return path


@contextlib.contextmanager
def annotating(folder, backend=None, settings=None, prompts=None, filters=None, **more):
    """A server in a thread of this process, annotating a folder; yields it, with `session`.

    `filters` are those of the pipeline, with their names.
    """
    from maskmill.dataset.dataset import Dataset
    from maskmill_plugins.annotate.filter_preview import FilterPreview
    from maskmill_plugins.annotate.image_list import ImageList
    from maskmill_plugins.annotate.prompts_file import PromptsFile
    from maskmill_plugins.annotate.routes import add_routes
    from maskmill_plugins.annotate.session import AnnotationSession

    with PromptsFile(prompts or folder / "prompts.jsonl") as file:
        running = Running(backend, settings, add=lambda app, service: add_routes(app, running.session), **more)
        images = ImageList(list(Dataset((str(folder),), folder)))
        running.session = AnnotationSession(folder.name, images, file, running.service, "reviewer")
        running.session.filters = FilterPreview(filters, "fake") if filters else None
        with running:
            yield running


def opened(running, key):
    """The response to opening an image."""
    answer = running.http.get("/v1/annotate/image", params={"key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()


def save(running, key, *prompts, revision=None, status=None, **more):
    """The response to saving prompts of an image."""
    revision = revision or opened(running, key)["revision"]
    body = {
        "revision": revision,
        "status": status or ("done" if prompts else "empty"),
        "prompts": list(prompts),
        **more,
    }
    return running.http.put("/v1/annotate/entry", params={"key": key}, json=body)


class Annotate:
    """`maskmill annotate` in a process of its own; a context manager."""

    def __init__(self, *arguments, ready=True, port=0):
        command = [sys.executable, "-m", "maskmill", "annotate", *map(str, arguments)]
        command += ["--no-browser", "--port", str(port)]
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env={**os.environ, "PYTHONUNBUFFERED": "1", "MASKMILL_TOKEN": ""},
        )
        self._ready = ready
        self._rest = None
        self.said = ""
        self.http = httpx.Client(timeout=30, trust_env=False)

    def __enter__(self):
        found = None
        while found is None and (line := self.process.stdout.readline()):
            self.said += line
            found = re.search(r"^open (http://[^/]+)(/annotate/.*)", line)
        if not found:
            self.__exit__()
        assert found, self.said
        self.url, self.page = found[1], found[2]
        self._rest = threading.Thread(target=self._read, daemon=True)
        self._rest.start()
        self.http.base_url = self.url
        if self._ready:
            until(lambda: self.http.get("/readyz").status_code == 200)
        return self

    def _read(self):
        for line in self.process.stdout:
            self.said += line

    def __exit__(self, *_):
        self.http.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(20)
        if self._rest:
            self._rest.join(5)
        self.process.stdout.close()
