"""The speed of the `sam` backend on this machine's GPU, compared with `segment_anything`.

    python benchmarks/sam_gpu.py --models vit_b,vit_l,vit_h --rounds 5

Needs no published weights: random ones take the same time. The variants take turns, image by
image, so that other load on the machine affects all of them. The first image of each, which
allocates memory and compiles kernels, is not counted. Reports the median images per second from
pixels to the encoder's output and to the masks of boxes, and the largest difference between each
variant's embedding and the original one, relative to the largest value of the latter.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
from sam_contenders import make_boxes, make_photo
from sam_cpu import GFLOP, describe_machine, log, write_random_checkpoint

#: name -> options of the backend; None is `segment_anything` itself.
VARIANTS: dict[str, dict[str, bool] | None] = {
    "stock": None,
    "ours": {},
    "ours, half": {"half": True},
    "ours, half, compile": {"half": True, "compile": True},
}


@dataclass
class Measured:
    """The measurements of one variant with one model.

    Attributes:
        encode: seconds of each encoder pass, from pixels.
        masks: seconds of each image from pixels to the masks of all boxes.
        apart: largest difference from the original embedding, relative to its largest value.
        memory: peak GPU memory in bytes.
    """

    encode: list[float] = field(default_factory=list)
    masks: list[float] = field(default_factory=list)
    apart: float = 0.0
    memory: int = 0


class Stock:
    """`segment_anything` on the GPU: all boxes of an image at once."""

    def __init__(self, model: str, checkpoint: Path) -> None:
        from segment_anything import SamPredictor, sam_model_registry

        self.predictor = SamPredictor(sam_model_registry[model](checkpoint).to("cuda"))
        self.pixels = make_photo()

    def encode(self) -> np.ndarray:
        """The embedding, float32 (1, C, G, G)."""
        self.predictor.set_image(self.pixels)
        return self.predictor.features.cpu().numpy()

    def masks(self, count: int) -> None:
        """From pixels to run-length encoded masks."""
        import torch
        from pycocotools import mask as coco_mask

        predictor = self.predictor
        predictor.set_image(self.pixels)
        corners = predictor.transform.apply_boxes(make_boxes(count), self.pixels.shape[:2])
        given = torch.as_tensor(corners, dtype=torch.float, device="cuda")
        masks, _, _ = predictor.predict_torch(None, None, given, multimask_output=False)
        for mask in masks[:, 0].cpu().numpy():
            coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


class Ours:
    """The `sam` backend with some options."""

    def __init__(self, model: str, checkpoint: Path, **options: Any) -> None:
        from maskmill import Image
        from maskmill_plugins.backends.sam import Sam

        self.stage = Sam(model=model, checkpoint=checkpoint, device="cuda", **options)
        self.stage.open()
        self.image = Image.from_array(make_photo())

    def encode(self) -> np.ndarray:
        """The embedding, float32 (1, C, G, G)."""
        return np.asarray(self.stage.embed(self.image))

    def masks(self, count: int) -> None:
        """From pixels to run-length encoded masks."""
        from maskmill import Box, Prompt

        self.stage.masks(self.image, [Prompt(box=Box(*box)) for box in make_boxes(count).tolist()])


def measure_time(job: Callable[[], Any]) -> tuple[float, int]:
    """Measure the seconds until the GPU has finished, and its peak memory in bytes."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    job()
    torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() - before


def measure(model: str, checkpoint: Path, names: list[str], rounds: int, count: int) -> dict[str, Measured]:
    """Measure all variants with one model, in turns."""
    variants: dict[str, Stock | Ours] = {}
    results = {name: Measured() for name in names}
    expected = np.zeros(0, dtype=np.float32)
    for name in names:
        options = VARIANTS[name]
        variants[name] = Stock(model, checkpoint) if options is None else Ours(model, checkpoint, **options)
        log(f"{model}, {name}: the first image")
        embedding = variants[name].encode()
        variants[name].masks(count)
        expected = embedding if options is None else expected
        results[name].apart = float(np.abs(embedding - expected).max() / np.abs(expected).max())
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds, _ = measure_time(variants[name].encode)
            results[name].encode.append(seconds)
            seconds, memory = measure_time(lambda variant=variants[name]: variant.masks(count))  # type: ignore[misc]
            results[name].masks.append(seconds)
            results[name].memory = max(memory, results[name].memory)
    return results


def format_table(model: str, results: dict[str, Measured], count: int) -> list[str]:
    """Markdown with one row per variant."""
    stock = results["stock"]
    lines = [
        f"| {model} | encoder, images/s | with {count} boxes, images/s | embedding apart | working memory |",
        "|---|---|---|---|---|",
    ]
    for name, one in results.items():
        cells = []
        for mine, theirs in ((one.encode, stock.encode), (one.masks, stock.masks)):
            ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
            cells.append(f"{1 / statistics.median(mine):.2f}" + ("" if name == "stock" else f" ({ratio:.2f}×)"))
        lines.append(f"| {name} | {' | '.join(cells)} | {one.apart:.1e} | {one.memory / 1e9:.2f} GB |")
    return [*lines, ""]


@click.command(help=__doc__, context_settings={"max_content_width": 100})
@click.option("--models", default=",".join(GFLOP), show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--boxes", "count", default=10, show_default=True, help="Boxes per image.")
def main(models: str, rounds: int, count: int) -> None:
    """Measure, and print a report in Markdown."""
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException('PyTorch is not installed: pip install "maskmill[sam]"')
    import torch

    if not torch.cuda.is_available():
        click.echo("no GPU here: PyTorch finds no CUDA device, so nothing was measured")
        return
    names = list(VARIANTS)
    if importlib.util.find_spec("triton") is None:
        log("triton is not installed: skipping compile")
        names.remove("ours, half, compile")
    click.echo(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; {rounds} rounds. {describe_machine()}\n")
    for model in models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            results = measure(model, write_random_checkpoint(model, Path(folder)), names, rounds, count)
            click.echo("\n".join(format_table(model, results, count)))
            sys.stdout.flush()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
