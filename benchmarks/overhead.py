"""What the framework itself costs: a do-nothing backend and writer over tiny images.

    python benchmarks/overhead.py --images 10000 --images 100000 --jobs 2

Prints, for each size: images/s, the driver's peak memory, the time of a rerun that has
nothing to do, and its peak memory. The images are copies of one file of 8 × 8 pixels.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import psutil

from maskmill.testing import write_picture

PLUGIN = '''
from maskmill import Backend, Filter, Mask, Writer, hookimpl

class Nothing(Backend):
    """Answers each prompt with the same small mask."""

    def accepts(self):
        return frozenset({"box"})

    def masks(self, image, prompts, embedding=None):
        return [Mask(image.size, "13l1", prompt=prompt) for prompt in prompts]

class Silent(Writer):
    """Writes nothing."""

@hookimpl
def register_backends(register):
    register("nothing", Nothing)

@hookimpl
def register_writers(register):
    register("silent", Silent)
'''
PIPELINE = """
dataset: photos
prompts: [{{use: manual, box: [1, 1, 7, 7]}}]
backend: {{use: nothing}}
writers: [{{use: silent}}]
output: out
run: {{engine: {engine}, jobs: {jobs}, threads: 1}}
"""


def make(folder: Path, images: int, engine: str, jobs: int) -> Path:
    """A dataset of that many images, with the plugin and the pipeline file beside it."""
    (folder / "plugins").mkdir()
    (folder / "plugins" / "nothing.py").write_text(PLUGIN, encoding="utf-8")
    content = write_picture(folder / "one.png", 8, 8).path.read_bytes()
    for number in range(images):
        path = folder / "photos" / f"{number // 1000:04}" / f"{number:07}.png"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(content)
    file = folder / "p.yaml"
    file.write_text(PIPELINE.format(engine=engine, jobs=jobs), encoding="utf-8")
    return file


def timed(file: Path) -> tuple[float, float]:
    """Seconds of one run, start of the interpreter included, and its driver's peak memory in MiB."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, "-m", "maskmill", "run", str(file), "-q"])
    peak = 0
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.02)
    if process.wait() != 0:
        raise SystemExit(f"the run failed with exit code {process.returncode}")
    return time.perf_counter() - started, peak / 2**20


@click.command()
@click.option("--images", multiple=True, type=int, default=(1_000, 10_000), show_default=True)
@click.option("--jobs", type=int, default=2, show_default=True)
@click.option("--engine", default="joblib", show_default=True)
def main(images: tuple[int, ...], jobs: int, engine: str) -> None:
    """Measure, one size after the other."""
    click.echo(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {engine}, {jobs} jobs")
    click.echo(f"{'images':>8} {'images/s':>9} {'driver MiB':>11} {'rerun s':>8} {'rerun MiB':>10}")
    for count in images:
        with tempfile.TemporaryDirectory() as folder:
            file = make(Path(folder), count, engine, jobs)
            _, peak = timed(file)
            report = json.loads((Path(folder) / "out" / "run.json").read_bytes())
            again, peak_again = timed(file)
            rate = report["images_per_second"]
            click.echo(f"{count:8} {rate:9.0f} {peak:11.0f} {again:8.2f} {peak_again:10.0f}")


if __name__ == "__main__":
    subprocess.run(["sync"], check=False)
    main()
