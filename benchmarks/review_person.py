"""A person reviews a run with planted faults: how soon all are found, and how long the machine takes for an image.

    python benchmarks/review_person.py --count 500

Draws scenes, spoils one box of every twentieth, and segments them with the small SAM of the tests. Two people with
Chromium, a real mouse and real keys then work through the queue of a real `maskmill review`: they reject an image with
a wrong mask, with a reason, and accept every other one. On the way the server and one browser are killed. At the end,
every decision that was shown as saved must be in the file, no image may have been given to both, and a run with
another model must not change what was accepted. Needs the extras `sam`, `server` and `dev`, and Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from maskmill import Mask, Pipeline, Run
from maskmill.masks import iou

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "tests" / "data" / "scene_sam" / "scene_sam.pth"
#: One image of so many is spoiled.
EVERY = 20
#: A mask with a lower IoU with the object that was meant is wrong.
WRONG = 0.5
PIPELINE = """
dataset: images
prompts: [{{use: file, path: spoiled.jsonl}}]
corrections: p.corrections.jsonl
backend: {{use: sam, checkpoint: {checkpoint}}}
output: out
run: {{engine: inline}}
"""


class Spoiled(NamedTuple):
    """A box that was made wrong: how, its number among the prompts of its image, and what it was, (x1, y1, x2, y2)."""

    kind: str
    number: int
    box: Sequence[float]


def spoil(lines: list[dict[str, Any]], seed: int = 3) -> dict[str, Spoiled]:
    """Make one box of every twentieth image wrong; returns them by image."""
    chance, spoiled = random.Random(seed), {}
    for number, line in enumerate(line for line in lines if line["prompts"]):
        if number % EVERY == EVERY // 2:
            height, width = line["size"]
            prompt = chance.choice(line["prompts"])
            x1, y1, x2, y2 = prompt["box"]
            wide, high = x2 - x1, y2 - y1
            kind = chance.choice(["too large", "beside"])
            if kind == "too large":
                box = [x1 - wide, y1 - high, x2 + wide, y2 + high]
            else:
                right = 0.6 * wide * (1 if x2 + wide < width else -1)
                down = 0.6 * high * (1 if y2 + high < height else -1)
                box = [x1 + right, y1 + down, x2 + right, y2 + down]
            limits = (width, height, width, height)
            prompt["box"] = [round(min(max(0, at), most)) for at, most in zip(box, limits, strict=True)]
            spoiled[line["image"]] = Spoiled(kind, line["prompts"].index(prompt), (x1, y1, x2, y2))
    return spoiled


def make_run(scenes: Path, folder: Path) -> dict[str, str]:
    """Spoil some boxes of drawn scenes and segment them; returns the images with a wrong mask, and what was wrong."""
    folder.mkdir(exist_ok=True)
    shutil.copytree(scenes / "images", folder / "images")
    lines = [json.loads(line) for line in (scenes / "boxes.jsonl").read_text(encoding="utf-8").splitlines()]
    spoiled = spoil(lines)
    text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)
    (folder / "spoiled.jsonl").write_text(text, encoding="utf-8")
    (folder / "p.yaml").write_text(PIPELINE.format(checkpoint=CHECKPOINT.as_posix()), encoding="utf-8")
    Pipeline.load(folder / "p.yaml").run(quiet=True)
    wrong = find_wrong(scenes, folder, spoiled)
    print(f"{len(spoiled)} boxes of {len(lines)} images were spoiled; {len(wrong)} masks are wrong")
    return wrong


def find_wrong(scenes: Path, folder: Path, spoiled: dict[str, Spoiled]) -> dict[str, str]:
    """The images whose spoiled box led to a wrong mask: the model finds some objects all the same."""
    truth = json.loads((scenes / "truth.json").read_text(encoding="utf-8"))
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    wrong = {}
    with Run(folder / "out") as run:
        for key, (kind, number, (x1, y1, x2, y2)) in spoiled.items():
            drawn = [one for one in truth["annotations"] if names[one["image_id"]] == key]
            box = (x1, y1, x2 - x1, y2 - y1)
            near = min(drawn, key=lambda one: max(abs(a - b) for a, b in zip(one["bbox"], box, strict=True)))
            true = Mask(tuple(near["segmentation"]["size"]), near["segmentation"]["counts"])
            result = run.result(run.find(key))
            masks = [mask for mask in result.kept if mask.prompt == result.prompts[number]]
            if not masks or iou(masks, [true]).max() < WRONG:
                wrong[key] = kind
    return wrong


@dataclass
class Person:
    """Somebody with a page.

    Attributes:
        name: of the reviewer.
        wrong: the images that they recognise as wrong.
        page: Playwright's.
        given: the images that were shown, in their order.
        saved: the images whose decision was shown as saved.
        seconds: from the key to the next image, of each accepted one.
    """

    name: str
    wrong: dict[str, str]
    page: Page
    given: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def open(self, url: str) -> None:
        """Open the page, and give the name if it asks."""
        self.page.goto(f"{url}/review/")
        self.page.wait_for_selector("dialog[open] input, body[data-ready=true]")
        if self.page.locator("dialog[open] input").count():
            self.page.keyboard.type(self.name)
            self.page.keyboard.press("Enter")
        self.page.wait_for_selector("body[data-ready=true]")

    def look(self) -> str:
        """The image that is shown, "" if nothing is left."""
        self.page.wait_for_selector("body[data-shown], #blank:not([hidden])")
        key = self.page.get_attribute("body", "data-shown") or ""
        if key and (not self.given or self.given[-1] != key):
            self.given.append(key)
        return key

    def decide(self) -> bool:
        """Decide about the image that is shown, and wait for the next one; False if nothing is left."""
        key = self.look()
        if not key:
            return False
        keyboard = self.page.keyboard
        if key in self.wrong:
            keyboard.press("r")
            keyboard.type("wrong mask")
        began = time.perf_counter()
        keyboard.press("Enter")
        self.page.wait_for_function("(key) => document.body.dataset.shown !== key", arg=key)
        if key not in self.wrong:
            self.seconds.append(time.perf_counter() - began)
        self.page.wait_for_selector('#save-state[data-state="saved"]')
        self.saved.append(key)
        return True


@contextmanager
def serve(folder: Path, port: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server of `maskmill review`, and its address."""
    command = [sys.executable, "-m", "maskmill", "review", str(folder / "out"), "--no-browser", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert server.stdout is not None
        yield server, next(found[1] for line in server.stdout if (found := re.match(r"open (http://[^/]+)", line)))
    finally:
        server.kill()
        server.wait()


def start_browser(playwright: Playwright) -> tuple[Browser, list[psutil.Process]]:
    """Chromium, and its processes."""
    before = set(psutil.Process().children(recursive=True))
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
    return browser, [one for one in psutil.Process().children(recursive=True) if one not in before]


def work(people: list[Person], most: int) -> None:
    """Let people decide in turns, about `most` images in all."""
    left = most
    while left > 0:
        decided = [person.decide() for person in people]
        if not any(decided):
            return
        left -= sum(decided)


def review_all(folder: Path, wrong: dict[str, str], count: int) -> list[Person]:
    """Review a run: two people, the server killed after a third, a browser after two thirds."""
    with sync_playwright() as playwright:
        first, _ = start_browser(playwright)
        second, processes = start_browser(playwright)
        eva, tom = (Person(name, wrong, browser.new_page()) for name, browser in (("Eva", first), ("Tom", second)))
        with serve(folder, 0) as (server, url):
            for person in (eva, tom):
                person.open(url)
            work([eva, tom], count // 3)
            server.kill()
            eva.page.keyboard.press("Enter")  # is not saved, and is shown so
            eva.page.wait_for_selector('#save-state[data-state="unsaved"]')
        with serve(folder, int(url.rpartition(":")[2])) as (server, url):
            for person in (eva, tom):
                person.page.wait_for_selector("#try-now", state="hidden", timeout=60_000)
            work([eva, tom], count // 3)
            for process in processes:
                process.kill()
            third, _ = start_browser(playwright)
            ann = Person("Ann", wrong, third.new_page())
            ann.open(url)
            work([eva, ann], 2 * count)  # what Tom had open is free after ten minutes
        return [eva, tom, ann]


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """The decisions in the file."""
    return [json.loads(line) for line in (folder / "p.corrections.jsonl").read_text(encoding="utf-8").splitlines()]


def check(folder: Path, people: list[Person]) -> None:
    """What must hold at the end."""
    decided = [line["image"] for line in read_lines(folder)]
    assert len(decided) == len(set(decided)), "an image was decided about twice"
    lost = {key for person in people for key in person.saved} - set(decided)
    assert not lost, f"shown as saved, and not in the file: {lost}"
    given = [key for person in people for key in dict.fromkeys(person.given)]
    assert len(given) == len(set(given)), "an image was given to two"
    before = {result.key: [mask.counts for mask in result.kept] for result in Run(folder / "out").results()}
    Pipeline.load(folder / "p.yaml", sets=["backend.multimask=all", "output=other"]).run(quiet=True)
    with Run(folder / "other") as run:
        after = {result.key: [mask.counts for mask in result.kept] for result in run.results()}
    accepted = {line["image"] for line in read_lines(folder) if line["verdict"] == "accepted"}
    changed = {key for key in accepted if after[key] != before[key]}
    assert not changed, f"another model changed accepted images: {changed}"
    print(f"{len(accepted)} accepted images are the same bit for bit after a run with another model")


def main() -> None:
    """Review as many scenes as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        os.environ["MASKMILL_CACHE"] = str(folder / "cache")
        draw = [sys.executable, str(ROOT / "datasets" / "make_scenes.py"), str(folder / "scenes")]
        subprocess.run([*draw, "--count", str(count), "--seed", "21"], check=True)
        wrong = make_run(folder / "scenes", folder / "run")
        people = review_all(folder / "run", wrong, count)
        order = [line["image"] for line in read_lines(folder / "run")]
        print(f"{len(order)} of {count} images decided")
        for kind in sorted(set(wrong.values())):
            places = sorted(order.index(key) + 1 for key in wrong if wrong[key] == kind and key in order)
            found = sum(place <= count / 10 for place in places)
            print(f"box {kind}: {found} of {len(places)} found in the first {count // 10}; as numbers {places}")
        seconds = sorted(one for person in people for one in person.seconds)
        median, late = statistics.median(seconds), seconds[len(seconds) * 95 // 100]
        print(f"key to next image: median {median:.3f} s, 95 % below {late:.3f} s, all {seconds[-1]:.3f} s")
        check(folder / "run", people)


if __name__ == "__main__":
    main()
