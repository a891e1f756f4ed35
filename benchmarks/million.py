"""What a folder of a million images costs before the first one is worked on.

    python benchmarks/million.py --entries 1000000

Makes the folder, flat and spread over folders of 1,000, out of hard links, and prints time and peak
memory of each step: listing, `check`, `run --dry-run`, and the time until the first image of a run
is done (which is ended then). The temporary folder is removed afterwards.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import psutil
from overhead import PIPELINE, PLUGIN

from maskmill.testing import write_picture

#: Names for one file: what NTFS allows is 1023.
LINKS = 1000
LIST = """
import sys, time
from pathlib import Path
from maskmill.dataset.dataset import Dataset
images = iter(Dataset(("photos",), Path(sys.argv[1])))
next(images)
print(sum(1 for _ in images) + 1)
"""


def make(folder: Path, entries: int, spread: bool) -> None:
    """A project with so many images, all of them the same picture of 8 × 8 pixels."""
    content = write_picture(folder / "one.png", 8, 8).path.read_bytes()
    source = Path()
    for number in range(entries):
        below = folder / "photos" / (f"{number // LINKS:05}" if spread else "")
        path = below / f"IMG_{number:07}.png"
        if number % LINKS == 0:
            below.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            source = path
        else:
            os.link(source, path)
    (folder / "plugins").mkdir()
    (folder / "plugins" / "nothing.py").write_text(PLUGIN, encoding="utf-8")
    (folder / "p.yaml").write_text(PIPELINE.format(engine="joblib", jobs=2), encoding="utf-8")


def measured(command: list[str], done: Callable[[], bool] = lambda: False) -> tuple[float, float]:
    """Seconds until it ended, or `done`; its peak memory in MiB until then, without its children."""
    started = time.perf_counter()
    process = psutil.Popen([sys.executable, *command], stdout=sys.stderr)
    peak = 0
    while process.poll() is None and not done():
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.Error:
            break
        time.sleep(0.01)
    seconds = time.perf_counter() - started
    if process.poll() is None:
        process.terminate()
    elif process.returncode:
        raise SystemExit(f"{command} failed with exit code {process.returncode}")
    process.wait()
    return seconds, peak / 2**20


def measure(folder: Path) -> None:
    """Print a line for each step."""
    results = folder / "out" / "results"

    def one_done() -> bool:
        return results.exists() and any(True for _ in results.rglob("*.json"))

    run = ["-m", "maskmill", "run", str(folder / "p.yaml"), "-q"]
    steps: dict[str, tuple[list[str], Callable[[], bool]]] = {
        "list": (["-c", LIST, str(folder)], lambda: False),
        "check": (["-m", "maskmill", "check", str(folder / "p.yaml")], lambda: False),
        "run --dry-run": ([*run, "--dry-run"], lambda: False),
        "run, first image": (run, one_done),
        "run --limit 1": ([*run, "--fresh", "--limit", "1"], lambda: False),
    }
    for name, (command, done) in steps.items():
        seconds, peak = measured(command, done)
        click.echo(f"  {name:18} {seconds:7.2f} s {peak:6.0f} MiB")


@click.command()
@click.option("--entries", type=int, default=1_000_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Where to make it, instead of the temporary folder.")
def main(entries: int, folder: Path | None) -> None:
    """Measure, flat and spread."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    click.echo(f"{platform.platform()}, {os.cpu_count()} cores, load {load:.1f}, {entries:,} images")
    for spread in (False, True):
        with tempfile.TemporaryDirectory(prefix="million-", dir=folder) as made:
            free = shutil.disk_usage(made).free
            if free < entries * 1000:
                raise click.ClickException(f"{free / 2**20:.0f} MiB free in {made}: too few for so many names")
            started = time.perf_counter()
            make(Path(made), entries, spread)
            kind = f"folders of {LINKS:,}" if spread else "one folder"
            click.echo(f"{kind}, made in {time.perf_counter() - started:.0f} s")
            measure(Path(made))


if __name__ == "__main__":
    main()
