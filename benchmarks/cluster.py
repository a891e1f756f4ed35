"""What carrying images to workers costs: joblib, Dask and Ray, one image a message or several, with tiny images.

    python benchmarks/cluster.py --images 4000 --jobs 2

Prints for each engine images/s and the driver's own CPU time for 1,000 images. Starting the engine is taken out: both
are the difference of two runs, one of them of few images. All workers are on this machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import click
import psutil
from overhead import make

#: Images of the run that only shows what starting costs.
FEW = 64
VARIANTS = {
    "joblib": "joblib",
    "Dask, one by one": "{use: dask, chunk: 1}",
    "Dask, in messages of several": "dask",
    "Ray, one by one": "{use: ray, chunk: 1}",
    "Ray, in messages of several": "ray",
}


def timed(file: Path) -> tuple[float, float]:
    """Seconds of one run, and of its driver's CPU."""
    started = time.perf_counter()
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
    return time.perf_counter() - started, cpu


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
        seconds, cpu = (most - few for few, most in zip(*measured, strict=True))
        click.echo(f"{name:<30} {images / seconds:7.0f} images/s  {1000 * cpu / images:6.2f} s driver CPU for 1,000")


if __name__ == "__main__":
    main()
