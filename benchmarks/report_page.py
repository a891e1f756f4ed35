"""What the writer `report` costs: the page of many images, made and opened in Chromium.

    python benchmarks/report_page.py --images 10000
    python benchmarks/report_page.py --changes 400000

Thumbnails are drawn for 50 pictures and copied; results are made up, two masks an image. Prints seconds and peak
memory of making the page, its size, and with Chromium and playwright the seconds until it is painted and can be
used, its JavaScript heap, and how long a frame takes while it is scrolled from end to end. `--changes` only compares so
many images with those of the report before, and prints the seconds of each and the peak memory of the process.
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

from maskmill import Image, ImageResult, Mask, testing
from maskmill.plugins.stage import collecting
from maskmill.results import LedgerRow
from maskmill_plugins._shared.doubt_rating import DoubtRating
from maskmill_plugins._shared.result_pages.layers import encode_outlines
from maskmill_plugins.writers.report import Report
from maskmill_plugins.writers.report.changes import Changes
from maskmill_plugins.writers.report.gallery import thumbnail_path
from maskmill_plugins.writers.report.picture import choose_masks

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


def time_outlines() -> None:
    """Print what the outlines of three large masks with ragged edges cost in a photo of 12 megapixels."""
    rows, columns = np.ogrid[:3000, :4000]
    ragged = 1 + 0.02 * np.sin(columns / 7) * np.cos(rows / 5)
    masks = []
    for index, (x, y) in enumerate([(900, 900), (2900, 1000), (2000, 2200)]):
        pixels = ((columns - x) / 800) ** 2 + ((rows - y) / 780) ** 2 < ragged
        masks.append(replace(Mask.from_array(pixels), index=index))
    started = time.process_time()
    encode_outlines(masks)
    share = sum(mask.area for mask in masks) / 12e6
    spent = 1000 * (time.process_time() - started)
    click.echo(f"outlines of three masks that cover {share:.0%} of 12 megapixels: {spent:.0f} ms of CPU time")


def compare(count: int) -> None:
    """Print what it costs to compare so many images with the report before."""
    import resource

    image = next(images())
    result = testing.result(image, testing.masks(image))
    row = LedgerRow(result.key, result.status, "masks/model/filters", 1, 1, 1, 0.1, 1)
    with tempfile.TemporaryDirectory() as name:
        for again in (False, True):
            started = time.perf_counter()
            with Changes(Path(name), keep=True) as changes:
                for number in range(count):
                    found = DoubtRating((number * 37 + again * (number % 50 == 0)) % 500 / 1000)
                    changes.add(replace(result, key=key(number)), row, found)
                changes.end()
                changes.save()
            spent = (time.perf_counter() - started) / count
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"{count} images compared: {1e6 * spent:.0f} µs each, peak of the process {peak:.0f} MiB")


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


def make_page(count: int, memory: bool, browser: bool) -> None:
    """Make a page, print what it costs, and open it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "report"
        report = Report(gallery=count)
        pattern: list[ImageResult] = []
        files: list[Path] = []
        spent = outlines = 0.0
        for image in images():
            result, notes = testing.result(image, testing.masks(image)), dict[str, Any]()
            started = time.process_time()
            with collecting(notes):
                files.append(folder / report.write(image, result, folder)[0].path)
            spent += time.process_time() - started
            started = time.process_time()
            encode_outlines(choose_masks(result))
            outlines += time.process_time() - started
            pattern.append(replace(result, notes={"report": notes}))
        alone = 1000 * outlines / PICTURES
        each = 1000 * spent / PICTURES
        click.echo(f"CPU time of a thumbnail: {each - alone:.1f} ms, of its outlines: {alone:.1f} ms")
        time_outlines()
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


@click.command()
@click.option("--images", "count", default=10_000, show_default=True)
@click.option("--memory", is_flag=True, help="Trace memory too (several times slower).")
@click.option("--browser/--no-browser", default=True)
@click.option("--changes", default=0, help="Only compare so many images with the report before.")
def main(count: int, memory: bool, browser: bool, changes: int) -> None:
    """Make a page and open it."""
    if changes:
        compare(changes)
    else:
        make_page(count, memory, browser)


if __name__ == "__main__":
    main()
