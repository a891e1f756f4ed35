"""Seconds until the queue of `maskmill review` is open, and until the next image comes.

    python benchmarks/review_queue.py 20000

Makes a run of results with four masks each, starts the command twice (without and with its cache of ratings), and
accepts images.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import PIL.Image

from maskmill import Box, ImageResult, Mask, Prompt
from maskmill.files import sha256_of
from maskmill.output.ledger import Ledger
from maskmill.output.records import write_run
from maskmill.output.store import stat_result, store_result
from maskmill.results import LedgerRow

SIDE, OBJECTS, ACCEPTED = 1024, 4, 200


def make_run(folder: Path, count: int) -> None:
    """Store the results of `count` images, of which all are one picture."""
    photos, output = folder / "photos", folder / "out"
    photos.mkdir()
    random = np.random.default_rng(0)
    picture = PIL.Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).resize((SIDE, SIDE))
    picture.save(photos / "original.jpg", quality=85)
    sha256 = sha256_of(photos / "original.jpg")
    shapes = [_draw_shape(random) for _ in range(64)]
    output.mkdir()
    with Ledger.create(output) as ledger:
        ledger.begin_listing()
        for number in range(count):
            key = f"{number:06}.jpg"
            os.link(photos / "original.jpg", photos / key)
            masks = []
            for index in range(OBJECTS):
                prompt = Prompt(box=Box(10, 10, 200, 200), label=f"class {index}")
                shape = shapes[int(random.integers(len(shapes)))]
                score = float(round(random.uniform(0.5, 1), 4))
                masks.append(Mask(shape.size, shape.counts, score, None, prompt, index))
            result = ImageResult.done_or_empty(key, (SIDE, SIDE), sha256, [mask.prompt for mask in masks], masks)
            store_result(output, result)
            row = LedgerRow(key, "done", "", 0, 0, 1, 0.1, 1)
            ledger.record(row, (), stat_result(output, key))
        ledger.end_listing()
        ledger.commit()
    write_run(output, {"name": "big", "file": str(folder / "p.yaml"), "pipeline": {"dataset": [str(photos)]}}, None)


def _draw_shape(random: np.random.Generator) -> Mask:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    y, x = random.uniform(200, 800, 2)
    angle = np.arctan2(rows - y, columns - x)
    radius = random.uniform(60, 180) * (1 + 0.15 * np.sin(9 * angle + random.uniform(0, 6)))
    return Mask.from_array(np.hypot(rows - y, columns - x) < radius)


def measure(folder: Path, name: str) -> None:
    """Start the command, wait for all ratings, and accept images."""
    command = [sys.executable, "-m", "maskmill", "review", str(folder / "out"), "--no-browser", "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as server:
        assert server.stdout is not None
        url = next(found[1] for line in server.stdout if (found := re.match(r"open (http://[^/]+)", line)))
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            page = http.get("/v1/review/queue").json()
            print(f"{name}: queue open after {time.perf_counter() - began:.2f} s, {page['pending']:,} results unread")
            while http.get("/v1/review/queue", params={"limit": 1}).json()["pending"]:
                time.sleep(0.2)
            print(f"{name}: every result read after {time.perf_counter() - began:.1f} s")
            nexts, saves = [], []
            for _ in range(ACCEPTED):
                start = time.perf_counter()
                image = http.post("/v1/review/next", json={"holder": "benchmark"}).json()["image"]
                taken = time.perf_counter()
                objects = [{"id": each["id"], "label": each["label"]} for each in image["objects"]]
                body = {"revision": image["revision"], "result": image["result"], "verdict": "accepted"}
                body |= {"objects": objects}
                reply = http.put("/v1/review/decision", params={"key": image["item"]["key"]}, json=body)
                assert reply.status_code == 200, reply.text
                nexts.append(taken - start)
                saves.append(time.perf_counter() - taken)
            for what, found in (("next image", nexts), ("decision saved", saves)):
                found.sort()
                print(
                    f"{name}: {what}: median {1000 * statistics.median(found):.0f} ms,"
                    f" 95 % below {1000 * found[len(found) * 95 // 100]:.0f} ms"
                )
        server.terminate()


def main() -> None:
    """Measure with the number of images on the command line."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["MASKMILL_CACHE"] = str(folder / "cache")
        make_run(folder, count)
        (folder / "p.yaml").write_text("# of the benchmark\n", encoding="utf-8")
        for about in ("first start", "second start"):
            measure(folder, about)


if __name__ == "__main__":
    main()
