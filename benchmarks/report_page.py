"""What the writer `report` costs: the page of many images, made and opened in Chromium.

    python benchmarks/report_page.py --images 10000

Thumbnails are drawn for 50 pictures and copied; results are made up, two masks an image. Prints seconds and peak
memory of making the page, its size, and with Chromium and playwright the seconds until it is painted and can be
used, its JavaScript heap, and how long a frame takes while it is scrolled from end to end.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from maskmill import Image, ImageResult, testing
from maskmill.plugins.stage import collecting
from maskmill_plugins.writers.report import Report
from maskmill_plugins.writers.report.gallery import thumbnail_path

PICTURES = 50
SCROLL = """async () => {
  const times = [];
  let before = performance.now();
  const top = document.documentElement.scrollHeight;
  for (let n = 0; n < 120; n++) {
    scrollTo(0, top * n / 120);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    times.push(now - before);
    before = now;
  }
  times.sort((a, b) => a - b);
  return [times[60], times[113]];
}"""


def images() -> Iterator[Image]:
    """Photo-like noise: thumbnails of it are larger than those of most photos."""
    for seed in range(PICTURES):
        random = np.random.default_rng(seed)
        coarse = random.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        picture = np.kron(coarse, np.ones((40, 40, 1), np.uint8)) // 2 + random.integers(0, 60, (480, 640, 3), np.uint8)
        yield Image.from_array(picture.astype(np.uint8), f"{seed}.jpg")


def results(count: int, pattern: list[ImageResult]) -> Iterator[ImageResult]:
    """So many results with scores that differ."""
    for number in range(count):
        result = pattern[number % PICTURES]
        masks = tuple(replace(mask, score=0.5 + (number * 37 % 500) / 1000) for mask in result.masks[:2])
        yield replace(result, key=key(number), masks=masks)


def key(number: int) -> str:
    """The key of an image."""
    return f"folder_{number // 1000:03d}/photo_{number:06d}.jpg"


def look(page: Path) -> None:
    """Open the page and print how that went."""
    from playwright.sync_api import sync_playwright

    browser_path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page()
        started = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_selector("#shown:not(:empty)", state="attached")
        usable = time.perf_counter() - started
        tab.wait_for_load_state("load", timeout=120_000)
        loaded = time.perf_counter() - started
        paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
        frames = tab.evaluate(SCROLL)
        heap = tab.evaluate("performance.memory.usedJSHeapSize / 1e6")
        click.echo(f"painted {paint:.2f} s, usable {usable:.2f} s, loaded {loaded:.2f} s, JS heap {heap:.0f} MB")
        click.echo(f"scrolling: a frame {frames[0]:.0f} ms, the slowest twentieth from {frames[1]:.0f} ms")
        browser.close()


@click.command()
@click.option("--images", "count", default=10_000, show_default=True)
@click.option("--memory", is_flag=True, help="Trace memory too (several times slower).")
@click.option("--browser/--no-browser", default=True)
def main(count: int, memory: bool, browser: bool) -> None:
    """Make a page and open it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "report"
        report = Report(gallery=count)
        pattern: list[ImageResult] = []
        files: list[Path] = []
        spent = 0.0
        for image in images():
            result, notes = testing.result(image, testing.masks(image)), dict[str, Any]()
            started = time.perf_counter()
            with collecting(notes):
                files.append(folder / report.write(image, result, folder)[0].path)
            spent += time.perf_counter() - started
            pattern.append(replace(result, notes={"report": notes}))
        click.echo(f"a thumbnail and its outlines: {1000 * spent / PICTURES:.1f} ms")
        for number in range(count):
            target = thumbnail_path(folder, key(number))
            target.parent.mkdir(exist_ok=True)
            target.hardlink_to(files[number % PICTURES]) if number >= PICTURES else shutil.copy(files[number], target)
        if memory:
            tracemalloc.start()
        started = time.perf_counter()
        report.finish(results(count, pattern), folder)
        seconds = time.perf_counter() - started
        peak = f", peak {tracemalloc.get_traced_memory()[1] / 1e6:.1f} MB" if memory else ""
        size = (folder / "report.html").stat().st_size
        click.echo(f"{count} images: page of {size / 1e6:.1f} MB in {seconds:.1f} s{peak}")
        if browser:
            look(folder / "report.html")


if __name__ == "__main__":
    main()
