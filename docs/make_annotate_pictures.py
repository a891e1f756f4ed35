"""Create the pictures of docs/annotate.md with a real browser and a real server, using GrabCut.

Only photos with suitable licences: coffee and chelsea (CC0), rocket (public domain), coins (no known restrictions).
Requires the extras `server`, `samples` and `dev`, and Chromium.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import skimage
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "images"
PHOTOS = ("chelsea.png", "coffee.png", "coins.png", "rocket.jpg")
TO_PAGE = """([x, y]) => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => {
    const canvas = document.getElementById("canvas");
    const { left, top } = canvas.getBoundingClientRect();
    const { scale, x: offsetX, y: offsetY } = canvas.dataset;
    done([left + x * scale + Number(offsetX), top + y * scale + Number(offsetY)]);
})))"""
IDLE = """() => document.body.dataset.ready === "true" && !document.querySelector("#objects .wait")
    && document.getElementById("save-state").dataset.state === "saved" && document.getElementById("busy").hidden"""


@contextmanager
def run_server(folder: Path) -> Iterator[str]:
    """Start a server for the photos; yields its address."""
    for name in PHOTOS:
        shutil.copy(Path(skimage.__file__).parent / "data" / name, folder)
    command = [sys.executable, "-m", "maskmill", "annotate", str(folder), "--backend", "grabcut", "--no-browser"]
    command += ["--port", "0", "--labels", "cup,spoon,saucer"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    try:
        assert server.stdout is not None
        yield next(found[1] for line in server.stdout if (found := re.search(r"^open (\S+)", line)))
    finally:
        server.kill()
        server.wait()


def drag(page: Page, x1: float, y1: float, x2: float, y2: float) -> None:
    """Draw a box, in pixels of the image."""
    page.mouse.move(*page.evaluate(TO_PAGE, [x1, y1]))
    page.mouse.down()
    page.mouse.move(*page.evaluate(TO_PAGE, [x2, y2]), steps=8)
    page.mouse.up()


def click(page: Page, x: float, y: float, button: Any = "left") -> None:
    """Draw a point, in pixels of the image."""
    page.mouse.click(*page.evaluate(TO_PAGE, [x, y]), button=button)


def draw(page: Page) -> None:
    """Draw prompts for a cup with its saucer, and for a spoon."""
    drag(page, 76, 17, 481, 391)
    for x, y in ((280, 355), (150, 300), (400, 330)):
        click(page, x, y)
    for x, y in ((92, 330), (118, 365), (462, 338), (430, 372), (88, 150)):
        click(page, x, y, "right")
    page.keyboard.press("1")
    drag(page, 324, 224, 408, 327)
    for x, y in ((352, 262), (380, 290)):
        click(page, x, y)
    click(page, 328, 322, "right")
    page.keyboard.press("2")
    page.wait_for_function(IDLE)


def main() -> None:
    """Take screenshots in light mode, in dark mode with Chinese texts, and in the size of a phone."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name) / "photos"
        folder.mkdir()
        found = shutil.which("chromium") or shutil.which("google-chrome") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        with run_server(folder) as url:
            address = f"{url}#image=coffee.png"
            page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light", locale="en-US")
            page.goto(address)
            page.wait_for_function(IDLE)
            draw(page)
            page.screenshot(path=IMAGES / "annotate.jpg", type="jpeg", quality=82)
            dark = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="dark", locale="zh-CN")
            dark.goto(address)
            dark.wait_for_function(IDLE)
            dark.keyboard.press("?")
            dark.screenshot(path=IMAGES / "annotate-help.jpg", type="jpeg", quality=80)
            phone: Any = {"viewport": {"width": 400, "height": 760}, "has_touch": True, "is_mobile": True}
            small = browser.new_page(**phone, color_scheme="light", locale="en-US")
            small.goto(address)
            small.wait_for_function(IDLE)
            small.screenshot(path=IMAGES / "annotate-phone.jpg", type="jpeg", quality=82)
        browser.close()


if __name__ == "__main__":
    main()
