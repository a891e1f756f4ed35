"""What reading a large COCO file costs: seconds and memory, once, and again when its index is there.

    python benchmarks/annotations.py --annotations 860000

Boxes with polygons of forty corners, seven an image, as in COCO's own training file.
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

from maskmill_plugins._shared.annotations.index import AnnotationIndex

PER_IMAGE = 7


def write(path: Path, count: int) -> None:
    """A COCO file of so many annotations."""
    images = -(-count // PER_IMAGE)
    with path.open("w", encoding="ascii") as file:
        file.write('{"images":[')
        for number in range(images):
            image = {"id": number, "file_name": f"{number:012}.jpg", "height": 480, "width": 640}
            file.write(("," if number else "") + json.dumps(image))
        file.write('],"categories":[{"id":1,"name":"thing"}],"annotations":[')
        polygon = [round(100 + 37.123 * n % 300, 2) for n in range(80)]
        for number in range(count):
            about = {"id": number, "image_id": number % images, "category_id": 1, "iscrowd": 0, "area": 1200.5}
            item = {**about, "bbox": [10.25, 20.5, 100.75, 80.5], "segmentation": [polygon]}
            file.write(("," if number else "") + json.dumps(item))
        file.write("]}")


def opened(path: Path, times: int) -> None:
    """Open the index, and say what that took."""
    process = psutil.Process()
    before = process.memory_info().rss
    for _ in range(times):
        started = time.perf_counter()
        index = AnnotationIndex.of(path, "coco")
        print(f"opened in {time.perf_counter() - started:.2f} s")
    grown = process.memory_info().rss - before
    print(f"memory grown by {grown / 1e6:.0f} MB, database {index.file.stat().st_size / 1e6:.0f} MB")


@click.command()
@click.option("--annotations", type=int, default=860_000, show_default=True)
@click.option("--open", "path", type=click.Path(path_type=Path), hidden=True)
def main(annotations: int, path: Path | None) -> None:
    """Make the file, and read it in a process of its own."""
    if path is not None:
        opened(path, 2)
        return
    with tempfile.TemporaryDirectory() as name:
        file = Path(name, "instances.json")
        write(file, annotations)
        print(f"{platform.machine()}, {annotations:,} annotations, {file.stat().st_size / 1e6:.0f} MB", flush=True)
        environment = {**os.environ, "MASKMILL_CACHE": str(Path(name, "cache"))}
        subprocess.run([sys.executable, __file__, "--open", str(file)], check=True, env=environment)


if __name__ == "__main__":
    main()
