"""What the writers cost and lose: masks/s, size on disk, IoU lost, peak memory; and a COCO file of 100,000 masks.

    python benchmarks/formats.py --masks 10000
    python benchmarks/formats.py --masks 100000 --only coco

The masks are blobs with ragged borders, every third with a hole, every fourth of two parts, ten an image of
640 × 480 pixels. Each writer runs in a process of its own. `write` stands for the work of one worker, `finish`
for that of the driver at the end. Peak memory is that of the process, with its libraries.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import psutil

from maskmill import Image, ImageRef, ImageResult, Mask, Point, Prompt, Writer
from maskmill.plugins.stage import collecting
from maskmill.testing import write_picture
from maskmill_plugins.writers.coco import Coco
from maskmill_plugins.writers.cvat import Cvat
from maskmill_plugins.writers.fiftyone import FiftyOne
from maskmill_plugins.writers.huggingface import HuggingFace
from maskmill_plugins.writers.labelme import Labelme
from maskmill_plugins.writers.labelstudio import LabelStudio
from maskmill_plugins.writers.panoptic import Panoptic
from maskmill_plugins.writers.parquet import Parquet
from maskmill_plugins.writers.png import Png
from maskmill_plugins.writers.semantic import Semantic
from maskmill_plugins.writers.voc import Voc
from maskmill_plugins.writers.yolo import Yolo

HEIGHT, WIDTH, PER_IMAGE = 480, 640, 10
LABELS = tuple(f"class {number}" for number in range(20))
WRITERS: dict[str, Writer] = {
    "coco": Coco(),
    "coco, polygons": Coco(format="polygons"),
    "yolo": Yolo(images="none"),
    "yolo, classes given": Yolo(images="none", classes=LABELS),
    "labelme": Labelme(),
    "labelme, mask": Labelme(shapes="mask"),
    "labelstudio": LabelStudio(),
    "labelstudio, polygons": LabelStudio(shapes="polygons"),
    "cvat": Cvat(),
    "cvat, polygons": Cvat(shapes="polygons"),
    "fiftyone": FiftyOne(images="link"),
    "huggingface": HuggingFace(images="link"),
    "panoptic": Panoptic(),
    "semantic": Semantic(),
    "parquet": Parquet(),
    "voc": Voc(),
    "png, indexed": Png(layout="indexed"),
}


def blob(random: np.random.Generator, number: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """A mask bool (H, W) about 100 pixels wide."""
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    for part in range(2 if number % 4 == 0 else 1):
        centre = random.uniform((60, 60), (WIDTH - 60, HEIGHT - 60))
        angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        radii = random.uniform(20, 55) * (1 + 0.1 * np.cumsum(random.normal(0, 0.3, 60)) / 4)
        points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        cv2.fillPoly(picture, [points.astype(np.int32)], 1)
        if number % 3 == 0 and part == 0:
            cv2.circle(picture, [int(value) for value in centre], 9, 0, -1)
    return picture.astype(bool)


def results(masks: int) -> Iterator[ImageResult]:
    """Results of that many masks, made of 200 different ones."""
    random = np.random.default_rng(0)
    made = [
        Mask.from_array(
            blob(random, number), score=0.9, prompt=Prompt(points=(Point(1, 1),), label=LABELS[number % 20])
        )
        for number in range(200)
    ]
    for first in range(0, masks, PER_IMAGE):
        chosen = tuple(made[(first + number) % 200] for number in range(min(PER_IMAGE, masks - first)))
        yield ImageResult(f"{first:09d}.jpg", "done", (HEIGHT, WIDTH), masks=chosen)


def measure(name: str, masks: int) -> dict[str, Any]:
    """Write that many masks with a writer, in this process."""
    writer = WRITERS[name]
    total = lowest = 0.0
    seen = 0
    with tempfile.TemporaryDirectory() as folder:
        output, photo = Path(folder, "out"), Path(folder, "shown.png")
        write_picture(photo, HEIGHT, WIDTH)
        shown = Image.load(ImageRef(str(photo), "shown.jpg"))
        writer.open()
        started = time.perf_counter()
        for result in results(masks):
            notes: dict[str, Any] = {}
            with collecting(notes):
                writer.write(shown, result, output)
            if "iou" in notes:
                total += notes["iou"]["mean"] * notes["iou"]["masks"]
                lowest = min(lowest or 1.0, notes["iou"]["min"])
                seen += notes["iou"]["masks"]
        between = time.perf_counter()
        for _ in writer.finish(results(masks), output):  # it may be a generator
            pass
        ended = time.perf_counter()
        files = [path.stat() for path in output.rglob("*") if path.is_file()]
        figures = {
            "write": between - started,
            "finish": ended - between,
            "bytes": sum(about.st_size for about in files if about.st_nlink == 1),  # without links to images
            "iou": f"{total / seen:.4f} (lowest {lowest:.3f})" if seen else "1",
            "memory": peak_memory(),
        }
        if name == "coco":
            figures["load"] = loading(output / "instances.json")
    return figures


def loading(file: Path) -> dict[str, Any]:
    """Seconds and memory of pycocotools, in a process of its own, for the file and for all its masks."""
    return ask("--load", str(file))


def load(file: str) -> dict[str, Any]:
    """Load a COCO file with pycocotools and decode every mask."""
    from pycocotools.coco import COCO

    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(file)
    loaded = time.perf_counter()
    pixels = sum(int(coco.annToMask(annotation).sum()) for annotation in coco.dataset["annotations"])
    return {
        "masks": len(coco.anns),
        "pixels": pixels,
        "load": loaded - started,
        "decode": time.perf_counter() - loaded,
        "memory": peak_memory(),
    }


def peak_memory() -> int:
    """Bytes of this process at its peak."""
    about = psutil.Process().memory_info()
    if hasattr(about, "peak_wset"):
        return int(about.peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def ask(*arguments: str) -> dict[str, Any]:
    """Run this script in another process; what it measured."""
    answer = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
    return dict(json.loads(answer.stdout))


@click.command()
@click.option("--masks", default=10_000, show_default=True)
@click.option("--only", default="", help="names of writers, with semicolons between them")
@click.option("--one", hidden=True)
@click.option("--load", "file", hidden=True)
def main(masks: int, only: str, one: str | None, file: str | None) -> None:
    """Measure the writers."""
    if file:
        print(json.dumps(load(file)))
        return
    if one:
        print(json.dumps(measure(one, masks)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{masks} masks, {PER_IMAGE} an image of {WIDTH} × {HEIGHT}\n")
    print("| writer | write, masks/s | finish, masks/s | bytes a mask | IoU | peak memory |\n|---|---|---|---|---|---|")
    for name in only.split(";") if only else WRITERS:
        found = ask("--masks", str(masks), "--one", name)
        seconds = (found["write"], found["finish"])
        rates = [f"{masks / spent:,.0f}" if spent > 0.001 else "" for spent in seconds]  # else it does nothing there
        cells = [name, *rates, f"{found['bytes'] / masks:,.0f}", found["iou"], f"{found['memory'] / 2**20:.0f} MiB"]
        print(f"| {' | '.join(cells)} |", flush=True)
        if "load" in found:
            print(f"  pycocotools: {found['load']}, file {found['bytes'] / 1e6:.1f} MB, finish {found['finish']:.1f} s")


if __name__ == "__main__":
    main()
