"""Drop-in plugins that do what the name of the image says; copied beside a pipeline by `mill`."""

import asyncio
import ctypes
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from pydantic import Field

import maskmill.chain.plugin_call
from maskmill import NO_EFFECT, Box, Prompt, PromptSource, StopRun, Transient, Writer, hookimpl, save
from maskmill.testing import FillPrompt

maskmill.chain.plugin_call.PAUSES = (0.05, 0.05)


class OwnError(Exception):
    """Lives in a drop-in, and cannot be made from its `args`."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


class MuteError(Exception):
    """Has no text."""

    def __str__(self):
        raise ValueError("not even this")


def counted(role, key):
    """How often this was called for this image, this time included."""
    folder = os.environ.get("MILL_COUNTS")
    if not folder:
        return 1
    path = Path(folder, role + "~" + key.replace("/", "_"))
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(handle, b"x")
        return os.fstat(handle).st_size
    finally:
        os.close(handle)


def balloon():
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (200 << 20), before[1]))
    try:
        return [bytearray(50 << 20) for _ in range(20)]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def deep(number):
    return deep(number + 1) + 1


def act(stage, key, tries):
    """Misbehave; returns what the plugin has to return, or None for its usual answer."""
    name = key.split("/")[-1].split(".")[0].split("-")[0]
    if name == "poison" or (name == "flaky" and tries < 3) or (name == "once" and tries < 2):
        os.kill(os.getpid(), signal.SIGKILL)
    elif name == "hang":
        while True:
            time.sleep(60)
    elif name == "hangc":
        ctypes.PyDLL(None).sleep(600)  # PyDLL keeps the interpreter's lock
    elif name == "osexit":
        os._exit(0)
    elif name == "raise":
        raise RuntimeError("as told")
    elif name == "own":
        raise OwnError(1, 2)
    elif name == "cargo":
        raise RuntimeError(threading.Lock(), lambda: 0)
    elif name == "mute":
        raise MuteError
    elif name == "surrogate":
        raise RuntimeError("bad name \udcff\ud800")
    elif name == "huge":
        raise RuntimeError("x" * 5_000_000)
    elif name == "deep":
        deep(0)
    elif name == "sysexit":
        sys.exit(0)
    elif name == "cancelled":
        raise asyncio.CancelledError
    elif name == "transient" and tries < 3:
        raise Transient("busy")
    elif name == "always":
        raise Transient("busy for ever")
    elif name == "stop":
        raise StopRun("budget spent")
    elif name == "balloon":
        balloon()
    elif name == "note":
        stage.note("thing", object())
    elif name == "nothing":
        return 17
    elif name == "strange":
        return ["a mask?"]
    return None


def opened(how):
    """Get ready, or not: `first` and `others` are those processes that are killed meanwhile."""
    if how in ("slow", "hang"):
        time.sleep(0.5 if how == "slow" else 3600)
    elif how == "raise":
        raise ValueError("no such weights")
    elif how == "exit":
        sys.exit(0)
    elif how in ("first", "others") and (counted("open", how) == 1) is (how == "first"):
        os.kill(os.getpid(), signal.SIGKILL)
    counted("ready", str(os.getpid()))


class Middle(PromptSource):
    """One box in the middle."""

    def prompts(self, image):
        x, y = image.width / 4, image.height / 4
        return [Prompt(box=Box(x, y, 3 * x, 3 * y), label="thing")]


class Ahead(Middle):
    """The same from far away; misbehaves for images in the folder `lane`."""

    waits = True
    opening: str = Field("", json_schema_extra=NO_EFFECT)
    seconds: float = Field(0.0, json_schema_extra=NO_EFFECT)
    threads: int = Field(4, json_schema_extra=NO_EFFECT)
    many: int = 1

    def open(self):
        opened(self.opening)

    def at_once(self):
        return self.threads

    def prompts(self, image):
        tries = counted("lane", image.ref.key)
        time.sleep(self.seconds)
        found = act(self, image.ref.key, tries) if image.ref.key.startswith("lane/") else None
        return super().prompts(image) * self.many if found is None else found


class Work(FillPrompt):
    """Fills boxes, in some time; misbehaves for all images but those in the folder `lane`."""

    seconds: float = Field(0.0, json_schema_extra=NO_EFFECT)
    opening: str = Field("", json_schema_extra=NO_EFFECT)
    closing: float = Field(0.0, json_schema_extra=NO_EFFECT)

    def open(self):
        opened(self.opening)

    def close(self):
        time.sleep(self.closing)

    def masks(self, image, prompts, embedding=None):
        tries = counted("backend", image.ref.key)
        time.sleep(self.seconds)
        found = None if image.ref.key.startswith(("lane/", "writer/")) else act(self, image.ref.key, tries)
        return super().masks(image, prompts) if found is None else found


class Notes(Writer):
    """Two files an image; at the end, all keys in one. Misbehaves between them for the folder `writer`."""

    finish_seconds: float = Field(0.0, json_schema_extra=NO_EFFECT)
    size: int = 0

    def write(self, image, result, folder):
        areas = repr([mask.area for mask in result.kept]).encode() + b"." * self.size
        first = save(folder, result.key, areas, ".txt")
        found = None
        if image.ref.key.startswith("writer/"):
            if Path(result.key).stem in ("poison", "hang", "hangc", "osexit"):
                (folder / "writer" / ".mm-0123456789abcdef").write_bytes(b"half")
            found = act(self, image.ref.key, counted("writer", image.ref.key))
        return [first, save(folder, result.key, image.sha256.encode(), ".sha")] if found is None else found

    def finish(self, results, folder):
        lines = []
        for result in results:
            time.sleep(self.finish_seconds)
            lines.append(f"{result.key} {result.status}")
        return [save(folder, "all", "\n".join(lines).encode(), ".list")]


@hookimpl
def register_prompt_sources(register):
    register("centre", Middle)
    register("ahead", Ahead)


@hookimpl
def register_backends(register):
    register("work", Work)


@hookimpl
def register_writers(register):
    register("notes", Notes)
