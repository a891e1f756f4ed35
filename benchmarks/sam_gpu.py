"""How fast the `sam` backend is on this machine's GPU, beside `segment_anything`.

    python benchmarks/sam_gpu.py --models vit_b,vit_l,vit_h --rounds 5

Needs no published weights: random ones cost the same time. The ways take turns, image by
image, so that whatever else the machine does hits all of them; the first image of each, in
which memory is asked for and kernels are compiled, is not counted. Reported are images a
second from medians, from pixels to the encoder's output and to masks of boxes, and how far
each way's embedding is from the stock one, as a part of its largest value.
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
from sam_contenders import boxes, photo
from sam_cpu import GFLOP, machine, random_checkpoint, say

#: name -> options of the backend; None is `segment_anything` itself.
WAYS: dict[str, dict[str, bool] | None] = {
    "stock": None,
    "ours": {},
    "ours, half": {"half": True},
    "ours, half, compile": {"half": True, "compile": True},
}


@dataclass
class Measured:
    """One way with one model.

    Attributes:
        encode: seconds of each encoder pass, from pixels.
        masks: seconds of each image from pixels to the masks of all boxes.
        apart: largest difference from the stock embedding, as a part of its largest value.
        memory: bytes of GPU memory at the peak of this way.
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
        self.pixels = photo()

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
        corners = predictor.transform.apply_boxes(boxes(count), self.pixels.shape[:2])
        given = torch.as_tensor(corners, dtype=torch.float, device="cuda")
        masks, _, _ = predictor.predict_torch(None, None, given, multimask_output=False)
        for mask in masks[:, 0].cpu().numpy():
            coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


class Ours:
    """maskmill's `sam` with some options."""

    def __init__(self, model: str, checkpoint: Path, **options: Any) -> None:
        from maskmill import Image
        from maskmill_plugins.backends.sam import Sam

        self.stage = Sam(model=model, checkpoint=checkpoint, device="cuda", **options)
        self.stage.open()
        self.image = Image.from_array(photo())

    def encode(self) -> np.ndarray:
        """The embedding, float32 (1, C, G, G)."""
        return np.asarray(self.stage.embed(self.image))

    def masks(self, count: int) -> None:
        """From pixels to run-length encoded masks."""
        from maskmill import Box, Prompt

        self.stage.masks(self.image, [Prompt(box=Box(*box)) for box in boxes(count).tolist()])


def timed(job: Callable[[], Any]) -> tuple[float, int]:
    """Seconds until the GPU has finished, and the memory it needed at its peak, in bytes."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    job()
    torch.cuda.synchronize()
    return time.perf_counter() - start, torch.cuda.max_memory_allocated() - before


def measure(model: str, checkpoint: Path, names: list[str], rounds: int, count: int) -> dict[str, Measured]:
    """All ways with one model, in turns."""
    ways: dict[str, Stock | Ours] = {}
    results = {name: Measured() for name in names}
    expected = np.zeros(0, dtype=np.float32)
    for name in names:
        options = WAYS[name]
        ways[name] = Stock(model, checkpoint) if options is None else Ours(model, checkpoint, **options)
        say(f"{model}, {name}: the first image")
        embedding = ways[name].encode()
        ways[name].masks(count)
        expected = embedding if options is None else expected
        results[name].apart = float(np.abs(embedding - expected).max() / np.abs(expected).max())
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds, _ = timed(ways[name].encode)
            results[name].encode.append(seconds)
            seconds, memory = timed(lambda way=ways[name]: way.masks(count))  # type: ignore[misc]
            results[name].masks.append(seconds)
            results[name].memory = max(memory, results[name].memory)
    return results


def table(model: str, results: dict[str, Measured], count: int) -> list[str]:
    """Markdown: a way a line."""
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
@click.option("--boxes", "count", default=10, show_default=True, help="Boxes an image.")
def main(models: str, rounds: int, count: int) -> None:
    """Measure, and print a report in Markdown."""
    if importlib.util.find_spec("torch") is None:
        raise click.ClickException('PyTorch is not installed: pip install "maskmill[sam]"')
    import torch

    if not torch.cuda.is_available():
        click.echo("no GPU here: PyTorch finds no CUDA device, so nothing was measured")
        return
    names = list(WAYS)
    if importlib.util.find_spec("triton") is None:
        say("no triton here: compile is left out")
        names.remove("ours, half, compile")
    click.echo(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; {rounds} rounds. {machine()}\n")
    for model in models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            results = measure(model, random_checkpoint(model, Path(folder)), names, rounds, count)
            click.echo("\n".join(table(model, results, count)))
            sys.stdout.flush()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
