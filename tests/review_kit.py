"""A run to review, and servers of `maskmill review` for tests."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import httpx

from maskmill import Pipeline, Run
from maskmill.testing import write_picture

PLUGIN = '''
from dataclasses import replace
from pathlib import Path

from maskmill import Filter, Prompt, PromptSource, hookimpl
from maskmill.plugins.stage import NO_EFFECT
from maskmill.testing import FillPrompt
from pydantic import Field


class Scored(FillPrompt):
    """Fills boxes; the score of an object depends on the image's name and its place. Notes each image in a file."""

    log: Path = Field(json_schema_extra=NO_EFFECT)
    shift: float = 0.0

    def masks(self, image, prompts, embedding=None):
        with self.log.open("a", encoding="utf-8") as out:
            out.write(f"{image.ref.key}\\n")
        number = int(Path(image.ref.key).stem.replace("warm-up", "0"))
        wider = [
            one.box and replace(one, box=type(one.box)(*one.box.xyxy[:3], one.box.y2 + self.shift)) or one
            for one in prompts
        ]
        return [
            replace(mask, prompt=one, score=round(0.9 - number / 100 - place / 20, 3))
            for place, (mask, one) in enumerate(zip(super().masks(image, wider), prompts, strict=True))
        ]


class Boxes(PromptSource):
    """A cat, a dog, and a tree."""

    def prompts(self, image):
        places = {"cat": (8, 8, 40, 40), "dog": (50, 8, 90, 40), "tree": (20, 50, 70, 70)}
        return [Prompt(box=box, label=label) for label, box in places.items()]


class DropTrees(Filter):
    """Drops trees."""

    def apply(self, image, masks):
        return [mask.drop("a tree") if mask.label == "tree" else mask for mask in masks]


@hookimpl
def register_backends(register):
    register("scored", Scored)


@hookimpl
def register_filters(register):
    register("drop-trees", DropTrees)


@hookimpl
def register_prompt_sources(register):
    register("boxes", Boxes)
'''
PIPELINE = """
dataset: photos
prompts: [{use: boxes}]
corrections: p.corrections.jsonl
backend: {use: scored, log: log.txt}
filters: [{use: drop-trees}]
writers: [{use: coco}, {use: png}]
output: out
run: {engine: inline}
"""


def make_run(folder: Path, count: int = 6, pipeline: str = PIPELINE) -> Path:
    """A run of images 00.png, 01.png, ..., each with a cat, a dog and a dropped tree; returns the pipeline file."""
    for number in range(count):
        write_picture(folder / "photos" / f"{number:02}.png", 80, 100, number)
    (folder / "plugins").mkdir(exist_ok=True)
    (folder / "plugins" / "mine.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "p.yaml").write_text(pipeline, encoding="utf-8")
    rerun(folder)
    return folder / "p.yaml"


def rerun(folder: Path, sets=()) -> list[str]:
    """Run the pipeline; returns the images that the backend got."""
    log = folder / "log.txt"
    log.unlink(missing_ok=True)
    Pipeline.load(folder / "p.yaml", sets=sets).run(quiet=True)
    return log.read_text(encoding="utf-8").split() if log.exists() else []


def lines(folder: Path) -> list[dict]:
    """The lines of the corrections."""
    path = folder / "p.corrections.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def copy_run(first, copy):
    """A copy of a run's folder with its photos, whose `run.json` names the copy."""
    shutil.copytree(first, copy)
    about = copy / "out" / "run.json"
    about.write_text(about.read_text(encoding="utf-8").replace(str(first), str(copy)), encoding="utf-8")
    return copy


@contextlib.contextmanager
def reviewing(folder, reviewer="Eva"):
    """A server in a thread of this process; yields a client with `url`, `session` and `queue`."""
    from maskmill.stored.originals import OriginalImages
    from maskmill_plugins.review.corrections_file import CorrectionsFile
    from maskmill_plugins.review.pictures import Pictures
    from maskmill_plugins.review.proposals import load_run_backend
    from maskmill_plugins.review.ratings import RatingCache
    from maskmill_plugins.review.review_queue import ReviewQueue, list_reviewable
    from maskmill_plugins.review.routes import build_review_application
    from maskmill_plugins.review.session import ReviewSession
    from maskmill_plugins.server import process
    from maskmill_plugins.server.settings import Settings

    with (
        Run(folder / "out") as run,
        OriginalImages(run) as originals,
        RatingCache(run.folder) as cache,
        CorrectionsFile(folder / "p.corrections.jsonl") as file,
    ):
        queue = ReviewQueue(run.folder, list_reviewable(run, file.lines()), cache)
        pictures, load = Pictures(originals), partial(load_run_backend, run)
        session = ReviewSession(run.name, run.folder, queue, file, pictures, Settings(), load, reviewer)
        queue.rate_all()
        started = threading.Event()
        found = {}

        def start(server, loop, port):
            found.update(server=server, port=port)
            started.set()

        address = process.ListenAddress("127.0.0.1", 0)
        application = build_review_application(session)
        thread = threading.Thread(target=process.listen, args=(application, session, address, start))
        thread.start()
        assert started.wait(20)
        client = httpx.Client(base_url=f"http://127.0.0.1:{found['port']}", timeout=30, trust_env=False)
        client.session, client.url = session, str(client.base_url)
        try:
            yield client
        finally:
            client.close()
            session.model.close()
            found["server"].should_exit = True
            thread.join(20)


def opened(client, key):
    """An image as the page gets it."""
    answer = client.get("/v1/review/image", params={"key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()


def decide(client, key, verdict="accepted", objects=None, image=None, **more):
    """The response to a decision; by default about the kept objects as they are."""
    image = image or opened(client, key)
    if objects is None:
        objects = [{"id": each["id"], "label": each["label"]} for each in image["objects"] if each["kept"]]
    body = {"revision": image["revision"], "result": image["result"], "verdict": verdict, "objects": objects, **more}
    return client.put("/v1/review/decision", params={"key": key}, json=body)


class Review:
    """`maskmill review` in a process of its own; a context manager."""

    def __init__(self, *arguments, port=0):
        command = [sys.executable, "-m", "maskmill", "review", *map(str, arguments), "--no-browser"]
        self.process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env={**os.environ, "PYTHONUNBUFFERED": "1", "MASKMILL_TOKEN": ""},
        )
        self.said = ""

    def __enter__(self):
        found = None
        while found is None and (line := self.process.stdout.readline()):
            self.said += line
            found = re.search(r"^open (http://[^/]+)(/review/.*)", line)
        if not found:
            self.__exit__()
        assert found, self.said
        self.url, self.page = found[1], found[2]
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.said += self.process.stdout.read()
        self.process.wait(20)
        self.process.stdout.close()
