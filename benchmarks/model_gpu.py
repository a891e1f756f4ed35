"""The speed of the backend `hf` on this machine's GPU, compared with transformers itself.

    python benchmarks/model_gpu.py --models sam2.1-tiny,sam2.1-small --seconds 240

Needs no published weights: random ones of the same architecture take the same time. First, the
variants take turns for two thirds of the time, so that other load on the machine affects all of
them; the first image of each, which allocates memory, is not counted. Then whole runs with the
first model show how many workers keep the GPU busy, from the first finished image to the last.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from model_contenders import MODELS
from sam_contenders import make_boxes, make_photo
from sam_cpu import describe_machine, log
from sam_gpu import measure_time

SCRIPT = Path(__file__).with_name("model_contenders.py")
#: Rounds that are measured of each model even if the time is over.
LEAST_ROUNDS = 2
#: Share of the time that the variants take; the rest is for whole runs.
SHARE = 2 / 3
#: Boxes of each image in whole runs.
FEW_BOXES = 10


class Ours:
    """The backend `hf`.

    Args:
        folder: of the model.
        options: of the backend.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        from maskmill import Image
        from maskmill_plugins.backends.hf import Hf

        self.backend = Hf(model=str(folder), device="cuda", **options)
        self.backend.open()
        self.image = Image.from_array(make_photo())

    def encode(self) -> Any:
        """From pixels to the encoder's output."""
        return self.backend.embed(self.image)

    def masks(self, embedding: Any, count: int) -> None:
        """From the encoder's output to run-length encoded masks of boxes."""
        from maskmill import Box, Prompt

        self.backend.masks(self.image, [Prompt(box=Box(*box)) for box in make_boxes(count).tolist()], embedding)


class Transformers:
    """The calls that its documentation shows: all boxes of an image in one call."""

    def __init__(self, folder: Path) -> None:
        from model_contenders import Transformers as OnCpu

        self.stock = OnCpu(folder)
        self.stock.model = self.stock.model.to("cuda")

    def encode(self) -> Any:
        """See `Ours.encode`."""
        stock = self.stock
        prepared = stock.processor(images=stock.pixels, return_tensors="pt")["pixel_values"].to("cuda")
        with stock.torch.inference_mode():
            return stock.model.get_image_embeddings(prepared)

    def masks(self, embedding: Any, count: int) -> None:
        """See `Ours.masks`."""
        from pycocotools import mask as coco_mask

        stock = self.stock
        size = [stock.pixels.shape[:2]]
        given = stock.processor(input_boxes=[make_boxes(count).tolist()], original_sizes=size, return_tensors="pt")
        with stock.torch.inference_mode():
            boxes = given["input_boxes"].float().to("cuda")
            answer = stock.model(image_embeddings=embedding, input_boxes=boxes, multimask_output=False)
            masks = stock.processor.post_process_masks(answer.pred_masks.cpu(), size)[0]
        for mask in masks[:, 0].numpy():
            coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def make_variants(folder: Path) -> dict[str, Callable[[], Ours | Transformers]]:
    """The variants by name; each is built when it is called."""
    return {
        "ours": lambda: Ours(folder),
        "ours, bfloat16": lambda: Ours(folder, precision="bfloat16"),
        "ours, float16": lambda: Ours(folder, precision="float16"),
        "ours, fast: false": lambda: Ours(folder, fast=False),
        "transformers": lambda: Transformers(folder),
    }


def measure_model(model: str, seconds: float, count: int) -> list[str]:
    """Measure all variants with one model, in turns: the lines of a table in Markdown."""
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, str(SCRIPT), "write", model, folder], check=True)
        variants = {name: build() for name, build in make_variants(Path(folder)).items()}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        memory = dict.fromkeys(variants, 0)
        for name, variant in variants.items():
            log(f"{model}, {name}: the first image")
            variant.masks(variant.encode(), count)
        while time.monotonic() < until or len(times["ours"]) < LEAST_ROUNDS:
            for name, variant in variants.items():
                encode, _ = measure_time(variant.encode)
                embedding = variant.encode()
                masks, used = measure_time(lambda one=variant, of=embedding: one.masks(of, count))  # type: ignore[misc]
                times[name].append((encode, masks))
                memory[name] = max(memory[name], used)
    lines = [f"| {model} | encoder | {count} boxes | working memory |", "|---|---|---|---|"]
    for name, measured in times.items():
        encode, masks = (statistics.median(values) for values in zip(*measured, strict=True))
        lines.append(f"| {name} | {encode * 1000:.0f} ms | {masks * 1000:.0f} ms | {memory[name] / 1e9:.2f} GB |")
    return [*lines, f"({len(times['ours'])} rounds)", ""]


def measure_runs(model: str, device: str, images: int, workers: list[int]) -> list[str]:
    """Measure whole runs over pictures on disk with each number of workers: the lines of a table in Markdown."""
    from PIL import Image as Picture

    lines = [f"| {model}, {images} images, {FEW_BOXES} boxes each | images/s |", "|---|---|"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, str(SCRIPT), "write", model, str(folder / "model")], check=True)
        (folder / "photos").mkdir()
        Picture.fromarray(make_photo()).save(folder / "photos/0000.jpg")
        for number in range(1, images):
            shutil.copy(folder / "photos/0000.jpg", folder / f"photos/{number:04}.jpg")
        for count in workers:
            log(f"{model}: a run with {count} workers")
            lines.append(f"| {count} workers | {_measure_run(folder, device, count):.2f} |")
    return [*lines, ""]


def _measure_run(folder: Path, device: str, workers: int) -> float:
    """Images per second, without the time until each worker has finished an image."""
    from maskmill import Pipeline

    run = {
        "dataset": "photos",
        "prompts": [{"use": "manual", "boxes": make_boxes(FEW_BOXES).tolist()}],
        "backend": {"use": "hf", "model": "./model", "device": device},
        "writers": [{"use": "coco"}],
        "output": f"out-{workers}",
        "run": {"jobs": workers},
    }
    report = Pipeline.from_dict(run, base=folder).run()
    assert not report.counts["failed"], "no image may fail"
    ended = sorted(path.stat().st_mtime for path in (report.output / "results").rglob("*.json"))[workers - 1 :]
    return (len(ended) - 1) / (ended[-1] - ended[0])


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--models", default="sam2.1-tiny,sam2.1-small", show_default=True, help=f"Of {', '.join(MODELS)}.")
@click.option("--seconds", default=240.0, show_default=True, help="In all, without the time to build the models.")
@click.option("--boxes", "count", default=100, show_default=True)
@click.option("--images", default=60, show_default=True, help="Of each whole run.")
@click.option("--workers", default="1,2,4", show_default=True, help="Numbers of workers of the whole runs.")
def main(models: str, seconds: float, count: int, images: int, workers: str) -> None:
    """Measure, and print a report in Markdown."""
    import torch

    if not torch.cuda.is_available():
        click.echo("no GPU here: PyTorch finds no CUDA device, so nothing was measured")
        return
    click.echo(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}. {describe_machine()}\n")
    names = models.split(",")
    for model in names:
        click.echo("\n".join(measure_model(model, SHARE * seconds / len(names), count)))
        sys.stdout.flush()
        torch.cuda.empty_cache()
    click.echo("\n".join(measure_runs(names[0], "cuda", images, [int(each) for each in workers.split(",")])))


if __name__ == "__main__":
    main()
