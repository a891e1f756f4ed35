"""How long a person waits on the annotation page: from letting go of the mouse to the mask on the screen.

    python benchmarks/annotate_latency.py --seconds 0.02

A real Chromium drags boxes on the page of a real `maskmill annotate`, whose backend takes the time that is
given and fills an ellipse. Measured in the browser, from the time stamp of `pointerup` to the frame in which
the mask of exactly that box is on the canvas. Needs the extras `server` and `dev`, and Chromium.
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
    """The ellipse in a box, after a while."""

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
    return parser.parse_args()


def main() -> None:
    """Print the figures."""
    chosen = options()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        (folder / "timed.py").write_text(BACKEND, encoding="utf-8")
        noise = np.random.default_rng(0).integers(0, 255, (chosen.size[0] // 8, chosen.size[1] // 8, 3), np.uint8)
        PIL.Image.fromarray(noise).resize(chosen.size[::-1]).save(folder / "photos" / "a.jpg")
        command = [sys.executable, "-m", "maskmill", "annotate", str(folder / "photos"), "--no-browser"]
        command += ["--backend", "timed", "--plugins", str(folder / "timed.py"), "--set", f"seconds={chosen.seconds}"]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        server = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
        try:
            assert server.stdout is not None
            url = next(found[1] for line in server.stdout if (found := re.search(r"^open (\S+)", line)))
            report(*measured(url, chosen))
        finally:
            server.kill()
            server.wait()


def measured(url: str, chosen: argparse.Namespace) -> tuple[list[float], list[int], list[int]]:
    """Milliseconds of each drag, and its masks and bytes while the button was down."""
    with sync_playwright() as playwright:
        found = shutil.which("chromium") or shutil.which("google-chrome") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.wait_for_selector("body[data-ready=true]")
        masks: list[int] = []
        sent: list[int] = []
        under_way: list[Any] = []
        page.on("requestfinished", lambda request: under_way.append(request))  # noqa: PLW0108 - a handler has attributes
        for number in range(chosen.drags):
            under_way.clear()
            drag(page, number, chosen)
            page.wait_for_function(
                "count => performance.getEntriesByName('maskmill-mask').length >= count", arg=number + 1
            )
            asked = [request for request in under_way if request.url.endswith("/masks")]
            masks.append(len(asked))
            sent.append(sum(sum(request.sizes().values()) for request in asked))
            page.keyboard.press("Delete")
        durations = page.evaluate(MEASURED)
        browser.close()
    return durations, masks, sent


def drag(page: Page, number: int, chosen: argparse.Namespace) -> None:
    """Half a second, sixty moves a second, as a hand does it."""
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
