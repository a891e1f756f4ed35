"""Latency of the annotation page: from releasing the mouse button to the mask on the screen.

    python benchmarks/annotate_latency.py --seconds 0.02
    python benchmarks/annotate_latency.py --images 20000

A real Chromium drags boxes on the page of a real `maskmill annotate`, whose backend takes the given time and fills
an ellipse. Measured in the browser, from the time stamp of `pointerup` to the frame in which the mask of exactly
that box is on the canvas. With `--images`, the times in a folder of so many images instead: until the page is usable,
to the end of the list, of a search, to the next image. Needs the extras `server` and `dev`, and Chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from playwright.sync_api import Page, sync_playwright

BACKEND = '''
import time
import numpy as np
from pycocotools import mask as coco_mask
from maskmill import Backend, Mask, hookimpl
from maskmill.testing import FillPrompt


class Timed(FillPrompt):
    """The ellipse in a box, after a pause."""

    seconds: float = 0.02

    def masks(self, image, prompts, embedding=None):
        time.sleep(self.seconds)
        (x1, y1, x2, y2), turn = prompts[0].box.xyxy, np.linspace(0, 2 * np.pi, 200)
        x, y = (x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(turn), (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(turn)
        (rle,) = coco_mask.frPyObjects([np.stack([x, y], 1).ravel().tolist()], *image.size)
        return [Mask(image.size, rle["counts"].decode(), 0.9, prompt=prompt) for prompt in prompts]


@hookimpl
def register_backends(register):
    register("timed", Timed)
'''
#: Images that are gone through one by one.
LOOKED_AT = 20
MEASURED = """() => performance.getEntriesByName("maskmill-mask").map((entry) => entry.duration)"""
PLACE = """([x, y]) => {
    const canvas = document.getElementById("canvas");
    const { left, top } = canvas.getBoundingClientRect();
    const { scale, x: offsetX, y: offsetY } = canvas.dataset;
    return [left + x * scale + Number(offsetX), top + y * scale + Number(offsetY)];
}"""


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=0.02, help="that the backend takes for a mask")
    parser.add_argument("--drags", type=int, default=60)
    parser.add_argument("--size", type=int, nargs=2, default=(3000, 4000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--images", type=int, help="measure a folder of so many instead of drags")
    return parser.parse_args()


def main() -> None:
    """Print the figures."""
    chosen = options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures(folder / "photos", chosen)
        began = time.perf_counter()
        with serving(folder, chosen.seconds) as url, opened(url) as page:
            if chosen.images:
                print(f"from the command to a page that can be used: {time.perf_counter() - began:.1f} s")
                report_list(page, chosen.images)
            else:
                report(*measured(page, chosen))


def pictures(folder: Path, chosen: argparse.Namespace) -> None:
    """Images of noise: as many as are opened; the others are links to one of them."""
    folder.mkdir()
    height, width = chosen.size
    for number in range(chosen.images or 1):
        path = folder / f"image-{number:05}.jpg"
        if number > LOOKED_AT:
            path.hardlink_to(folder / "image-00000.jpg")
            continue
        noise = np.random.default_rng(number).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
        PIL.Image.fromarray(noise).resize((width, height)).save(path)


@contextmanager
def serving(folder: Path, seconds: float) -> Iterator[str]:
    """The address of a real `maskmill annotate`."""
    (folder / "timed.py").write_text(BACKEND, encoding="utf-8")
    command = [sys.executable, "-m", "maskmill", "annotate", str(folder / "photos"), "--no-browser"]
    command += ["--backend", "timed", "--plugins", str(folder / "timed.py"), "--set", f"seconds={seconds}"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    try:
        assert server.stdout is not None
        yield next(found[1] for line in server.stdout if (found := re.search(r"^open (\S+)", line)))
    finally:
        server.kill()
        server.wait()


@contextmanager
def opened(url: str) -> Iterator[Page]:
    """The page in a browser, as soon as it is usable."""
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_selector("body[data-ready=true]")
        yield page
        browser.close()


def report_list(page: Page, images: int) -> None:
    """Times of the list: to its end, of a search, to the next image."""
    last = f"image-{images - 1:05}.jpg"
    began = time.perf_counter()
    page.evaluate("(box => { box.scrollTop = box.scrollHeight; })(document.getElementById('list'))")
    page.wait_for_selector(f"#list .row[title^='{last}']")
    print(f"to the end of the list: {1000 * (time.perf_counter() - began):.0f} ms")
    began = time.perf_counter()
    page.fill("#search", last[:-4])
    page.wait_for_function("() => document.querySelectorAll('#list .row').length === 1")
    print(f"a search, from the last letter: {1000 * (time.perf_counter() - began):.0f} ms")
    waits = []
    for number in range(1, LOOKED_AT + 1):
        began = time.perf_counter()
        page.locator("#canvas").press("n")
        page.wait_for_function(
            "name => document.getElementById('name').textContent === name"
            " && document.getElementById('canvas').dataset.scale",
            arg=f"image-{number:05}.jpg",
        )
        waits.append(time.perf_counter() - began)
        page.wait_for_timeout(1500)  # a person looks; meanwhile the next image is prefetched
    print(f"the next image: median {1000 * statistics.median(waits):.0f} ms, longest {1000 * max(waits):.0f} ms")


def measured(page: Page, chosen: argparse.Namespace) -> tuple[list[float], list[int], list[int]]:
    """Milliseconds of each drag, and its masks and bytes while the button was down."""
    masks: list[int] = []
    sent: list[int] = []
    under_way: list[Any] = []
    page.on("requestfinished", lambda request: under_way.append(request))  # noqa: PLW0108 - a handler has attributes
    for number in range(chosen.drags):
        under_way.clear()
        drag(page, number, chosen)
        page.wait_for_function("count => performance.getEntriesByName('maskmill-mask').length >= count", arg=number + 1)
        asked = [request for request in under_way if request.url.endswith("/masks")]
        masks.append(len(asked))
        sent.append(sum(sum(request.sizes().values()) for request in asked))
        page.keyboard.press("Delete")
    return page.evaluate(MEASURED), masks, sent


def drag(page: Page, number: int, chosen: argparse.Namespace) -> None:
    """Half a second with sixty moves per second, like a person."""
    height, width = chosen.size
    begin = page.evaluate(PLACE, [width * (0.1 + 0.003 * number), height * 0.1])
    end = page.evaluate(PLACE, [width * (0.6 + 0.004 * number), height * 0.85])
    page.mouse.move(*begin)
    page.mouse.down()
    for step in range(1, 31):
        page.mouse.move(*(a + (b - a) * step / 30 for a, b in zip(begin, end, strict=True)))
        page.wait_for_timeout(16)
    page.mouse.up()


def report(durations: list[float], masks: list[int], sent: list[int]) -> None:
    """The figures of all drags."""
    middle, most = statistics.median(durations), statistics.quantiles(durations, n=20)[18]
    print(f"{len(durations)} drags; pointerup to mask drawn: p50 {middle:.0f} ms, p95 {most:.0f} ms")
    print(f"masks a drag: median {statistics.median(masks):.0f}")
    print(f"bytes a drag, headers and both ways: median {statistics.median(sent) / 1000:.1f} kB")


if __name__ == "__main__":
    main()
