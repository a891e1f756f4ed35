"""Whether the memory of an `hf` worker depends on the number of boxes, or grows with the images it has seen.

    python benchmarks/steady_memory.py --boxes 100 --boxes 300
    python benchmarks/steady_memory.py --images 500

Boxes: the peak of a process that computes so many masks of one picture of 4000 × 3000 pixels with a
random model of a published size. Images: the memory of one process after each tenth of the images,
pictures of 100 to 1500 pixels with ten boxes each, with the small random model of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import psutil
from model_contenders import MODELS

SCRIPT = Path(__file__).with_name("model_contenders.py")
TESTS = Path(__file__).parents[1] / "tests"


def open_backend(folder: str) -> Any:
    """The backend, configured as in a worker with one thread."""
    os.environ["MASKMILL_THREADS"] = "1"
    from maskmill.run.memory import keep_freed_memory
    from maskmill_plugins.backends.hf import Hf

    keep_freed_memory()
    backend = Hf(model=folder, device="cpu")
    backend.open()
    return backend


def make_work(height: int, width: int, count: int, seed: int) -> tuple[Any, list[Any]]:
    """A smooth random image and boxes in it."""
    from maskmill import Box, Image, Prompt

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = np.stack([np.sin(x / rng.uniform(20, 90) + y / rng.uniform(20, 90)) for _ in range(3)], -1)
    corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), 1) * [width - 2, height - 2] + [[0, 0], [2, 2]]
    boxes = [Prompt(box=Box(*map(float, corner.ravel()))) for corner in corners]
    return Image.from_array((127 + 100 * waves).astype(np.uint8)), boxes


def measure_boxes(folder: str, count: int) -> None:
    """Compute the masks of one large picture in this process and print its peak memory."""
    import resource

    backend = open_backend(folder)
    image, boxes = make_work(3000, 4000, count, 0)
    masks = backend.masks(image, boxes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    size = sum(len(mask.counts) for mask in masks) / 1e6
    print(f"{count} boxes: peak {peak:.2f} GB, of which {size:.1f} MB are the run-length encoded masks")


def measure_images(count: int) -> None:
    """Compute so many pictures in this process and print its memory now and then."""
    sys.path.insert(0, str(TESTS))
    import hf_models

    with tempfile.TemporaryDirectory() as folder:
        hf_models.save("sam2_video", Path(folder) / "model")
        backend = open_backend(str(Path(folder) / "model"))
        for number in range(1, count + 1):
            height, width = np.random.default_rng(number).integers(100, 1500, 2)
            backend.masks(*make_work(int(height), int(width), 10, number))
            if number % (count // 10) == 0:
                print(f"{number} images: {psutil.Process().memory_info().rss / 1e6:.0f} MB", flush=True)


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--model", type=click.Choice(MODELS), default="sam2.1-tiny", show_default=True)
@click.option("--boxes", multiple=True, type=click.IntRange(1), help="Can be repeated.")
@click.option("--images", type=click.IntRange(10), help="How many.")
@click.option("--folder", hidden=True, help="Of the model, in the process of one measurement.")
def main(model: str, boxes: tuple[int, ...], images: int | None, folder: str | None) -> None:
    """Measure, each number of boxes in a process of its own."""
    if folder:
        measure_boxes(folder, boxes[0])
        return
    if images:
        measure_images(images)
    if boxes:
        with tempfile.TemporaryDirectory() as written:
            subprocess.run([sys.executable, str(SCRIPT), "write", model, written], check=True)
            for count in boxes:
                command = [sys.executable, __file__, "--folder", written, "--boxes", str(count)]
                subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
