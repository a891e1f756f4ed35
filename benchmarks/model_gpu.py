"""The speed of the backend `hf` on this machine's GPU, compared with transformers itself.

    python benchmarks/model_gpu.py --models sam2.1-tiny,sam2.1-small --seconds 240

Needs no published weights: random ones of the same architecture take the same time. The variants
take turns until the time is over, so that other load on the machine affects all of them. The
first image of each, which allocates memory, is not counted.
"""

from __future__ import annotations

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


class Ours:
    """The backend `hf`: with the fast decoder or that of transformers."""

    def __init__(self, folder: Path, fast: bool) -> None:
        from maskmill import Image
        from maskmill_plugins.backends.hf import Hf

        self.backend = Hf(model=str(folder), device="cuda", fast=fast)
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
        "ours": lambda: Ours(folder, fast=True),
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


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--models", default="sam2.1-tiny,sam2.1-small", show_default=True, help=f"Of {', '.join(MODELS)}.")
@click.option("--seconds", default=240.0, show_default=True, help="In all, without the time to build the models.")
@click.option("--boxes", "count", default=100, show_default=True)
def main(models: str, seconds: float, count: int) -> None:
    """Measure, and print a report in Markdown."""
    import torch

    if not torch.cuda.is_available():
        click.echo("no GPU here: PyTorch finds no CUDA device, so nothing was measured")
        return
    click.echo(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}. {describe_machine()}\n")
    names = models.split(",")
    for model in names:
        click.echo("\n".join(measure_model(model, seconds / len(names), count)))
        sys.stdout.flush()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
