"""What carrying images to workers costs: joblib, Dask and Ray, one image a message or several, with tiny images.

    python benchmarks/cluster.py --images 4000 --jobs 2

Prints for each engine images/s and the driver's own CPU time for 1,000 images. Starting the engine is taken out:
images/s count from the result of the 64th image to that of the last; the CPU time is the difference to a run of 64
images. All workers are on this machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click
import psutil
from overhead import make

#: Images until all workers are at work; a run of so many shows what starting costs.
FEW = 64
VARIANTS = {
    "joblib": "joblib",
    "Dask, one by one": "{use: dask, chunk: 1}",
    "Dask, in messages of several": "dask",
    "Ray, one by one": "{use: ray, chunk: 1}",
    "Ray, in messages of several": "ray",
}


def timed(file: Path) -> tuple[float, float]:
    """Images/s of one run after the first `FEW`, and the seconds of its driver's CPU."""
    process = psutil.Popen([sys.executable, "-m", "maskmill", "run", str(file), "-q"])
    cpu = 0.0
    while process.poll() is None:
        try:
            used = process.cpu_times()
            cpu = max(cpu, used.user + used.system)
        except psutil.Error:
            break
        time.sleep(0.02)
    if process.wait() != 0:
        raise click.ClickException("the run failed")
    stored = sorted(path.stat().st_mtime for path in (file.parent / "out" / "results").rglob("*.json"))
    return (len(stored) - FEW) / max(stored[-1] - stored[FEW - 1], 1e-9), cpu


@click.command()
@click.option("--images", default=4000, show_default=True)
@click.option("--jobs", default=2, show_default=True)
@click.option("--only", default="", help="only the variants whose name begins so")
def main(images: int, jobs: int, only: str) -> None:
    """Time each engine."""
    for name, engine in VARIANTS.items():
        if not name.startswith(only):
            continue
        measured = []
        for count in (FEW, FEW + images):
            with tempfile.TemporaryDirectory() as folder:
                measured.append(timed(make(Path(folder), count, engine, jobs)))
        (_, few), (speed, most) = measured
        cpu = 1000 * (most - few) / images
        click.echo(f"{name:<30} {speed:7.0f} images/s  {cpu:6.2f} s driver CPU for 1,000 images")


if __name__ == "__main__":
    main()
