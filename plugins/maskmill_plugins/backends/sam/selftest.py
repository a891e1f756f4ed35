"""`maskmill selftest IMAGE`: compare the fast implementation with `segment_anything` on the user's machine."""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import numpy as np
import numpy.typing as npt

from maskmill import Box, Image, ImageRef, PipelineError, Point, Prompt
from maskmill.wording import count_noun

from .backend import Sam
from .segment.segmenter import FloatArray, stack_prompts
from .weights.checkpoints import file_sha256
from .weights.published import MODELS

if TYPE_CHECKING:
    from segment_anything import SamPredictor

    from .segment.fast import FastSegmenter

#: Largest difference explained by rounding for values up to 1; for larger values it grows in proportion.
EMBEDDING, LOGITS, SCORES = 2e-5, 1e-5, 1e-4


@dataclass
class Difference:
    """The largest difference between two computations of the same numbers.

    Attributes:
        allowed: difference explained by rounding, for values up to 1.
        largest: the largest difference found.
        scale: the largest absolute value, at least 1.
    """

    allowed: float
    largest: float = 0.0
    scale: float = 1.0

    def add(self, found: npt.ArrayLike, expected: npt.NDArray[np.float32]) -> None:
        """Compare more numbers; NaN, once found, stays the largest difference."""
        self.largest = float(np.maximum(self.largest, np.abs(np.asarray(found) - expected).max(initial=0)))
        self.scale = float(np.maximum(self.scale, np.abs(expected).max(initial=0)))

    @property
    def limit(self) -> float:
        """The largest difference explained by rounding."""
        return self.allowed * self.scale

    @property
    def is_rounding(self) -> bool:
        """Whether no difference exceeds the limit."""
        return self.largest <= self.limit


@dataclass
class SelftestResult:
    """The comparison of both implementations on one image.

    Attributes:
        embedding: outputs of the encoders.
        logits: low-resolution outputs of the decoders, both from the same embedding.
        scores: predicted IoUs, each from the implementation's own embedding, as the masks.
        masks: number of masks compared.
        pixels: number of pixels of all masks.
        differing: pixels that are in the mask of only one implementation.
        beyond: those of them whose logit is further from the threshold than rounding explains.
        seconds: by (implementation, step), the shortest of all rounds.
    """

    embedding: Difference = field(default_factory=lambda: Difference(EMBEDDING))
    logits: Difference = field(default_factory=lambda: Difference(LOGITS))
    scores: Difference = field(default_factory=lambda: Difference(SCORES))
    masks: int = 0
    pixels: int = 0
    differing: int = 0
    beyond: int = 0
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether the implementations differ by rounding only."""
        differences = (self.embedding, self.logits, self.scores)
        return self.masks > 0 and not self.beyond and all(difference.is_rounding for difference in differences)

    def record_time(self, implementation: str, step: str, since: float) -> None:
        """Keep the time from `since` until now if it is the shortest so far."""
        seconds, key = time.perf_counter() - since, (implementation, step)
        self.seconds[key] = min(seconds, self.seconds.get(key, seconds))


def make_prompts(height: int, width: int) -> list[Prompt]:
    """A box, a point, several points, and a box with a background point, in an image of this size."""
    box = Box(width * 0.25, height * 0.25, width * 0.75, height * 0.75)
    middle, corner = Point(width * 0.5, height * 0.5), Point(width * 0.3, height * 0.3, 0)
    return [
        Prompt(box=box),
        Prompt(points=(middle,)),
        Prompt(points=(middle, Point(width * 0.6, height * 0.4), corner)),
        Prompt(points=(corner,), box=box),
    ]


def compare_implementations(stock: SamPredictor, fast: FastSegmenter, image: Image, rounds: int) -> SelftestResult:
    """Encode and decode an image with both implementations, in turns.

    Args:
        stock: the predictor of `segment_anything`.
        fast: the fast implementation of the same model.
        image: any image.
        rounds: at least 1; the differences are those of the last round.
    """
    prompts = make_prompts(*image.size)
    result = SelftestResult()
    for _ in range(rounds):
        result = SelftestResult(seconds=result.seconds)
        start = time.perf_counter()
        stock.set_image(image.pixels)
        result.record_time("stock", "encoder", start)
        start = time.perf_counter()
        embedding = fast.embed(image.pixels)
        result.record_time("fast", "encoder", start)
        result.embedding.add(embedding, stock.features.numpy())
        _compare_masks(stock, fast, embedding, prompts, result)
    return result


def _compare_masks(
    stock: SamPredictor, fast: FastSegmenter, embedding: FloatArray, prompts: Sequence[Prompt], result: SelftestResult
) -> None:
    """Compare three masks of each prompt, each implementation with its own embedding."""
    size = stock.original_size
    start = time.perf_counter()
    found = iter(fast.masks(embedding, size, prompts, "all"))
    result.record_time("fast", "masks", start)
    shared = fast.decoder.prepare_image(stock.features)
    spent = 0.0
    expected_masks = []
    for prompt in prompts:
        points, labels, box = (None if part is None else part[0] for part in stack_prompts([prompt]))
        start = time.perf_counter()
        logits, scores, low = stock.predict(points, labels, box, return_logits=True)
        spent += time.perf_counter() - start
        found_low, _ = fast.decoder(shared, fast.embed_prompts([prompt], size), "three")
        result.logits.add(found_low[0].numpy(), low)
        expected_masks.append((logits, scores))
    result.record_time("stock", "masks", time.perf_counter() - spent)
    for logits, scores in expected_masks:
        for expected, score in zip(logits, scores, strict=True):
            mask = next(found)
            result.scores.add(mask.score or 0.0, score)
            differs = mask.array != (expected > fast.threshold)
            result.masks += 1
            result.pixels += differs.size
            result.differing += int(differs.sum())
            result.beyond += int((differs & (np.abs(expected - fast.threshold) > result.logits.limit)).sum())


def format_report(result: SelftestResult) -> str:
    """Differences, times and verdict as text."""
    lines = [f"{'largest difference':>44s} {'rounding':>10s}"]
    for name, one in (
        ("image embedding", result.embedding),
        ("low-resolution logits", result.logits),
        ("predicted IoUs", result.scores),
    ):
        remark = "" if one.is_rounding else "  MORE THAN ROUNDING"
        lines.append(f"{name:24s} {one.largest:19.1e} {one.limit:10.1e}{remark}")
    masks = count_noun(result.masks, "mask")
    lines.append(f"{masks}: {result.differing} of {result.pixels} pixels differ, {result.beyond} of them")
    lines[-1] += " by more than rounding explains"
    lines.append(f"\n{'':24s} {'stock':>10s} {'fast':>10s}")
    for step in ("encoder", "masks"):
        stock, fast = result.seconds["stock", step], result.seconds["fast", step]
        lines.append(f"{step:24s} {stock:8.2f} s {fast:8.2f} s  {stock / fast:.2f}×")
    if result.is_equal:
        lines.append("\nEQUAL: the fast implementation and segment_anything differ by rounding only.")
    else:
        lines.append("\nNOT EQUAL: use `fast: false`, and please report this together with the lines above.")
    return "\n".join(lines)


@click.command("selftest")
@click.argument("image_path", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option("--model", type=click.Choice(list(MODELS)), default="vit_b", show_default=True, help="Size of the model.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The weights; default: as `checkpoint: auto`.")
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="How often to measure; the shortest time is shown.",
)
def selftest(
    image_path: Path, model: Literal["vit_b", "vit_l", "vit_h"], checkpoint: Path | None, rounds: int
) -> Literal[0, 1]:
    """Compare the fast implementation of the backend sam with segment_anything on IMAGE, on the CPU.

    Exits with 0 if the masks differ by rounding only, with 1 if not.
    """
    stage = Sam(model=model, checkpoint=checkpoint or "auto", device="cpu")
    if problems := [problem for problem in stage.missing() or stage.check() if not problem.warning]:
        raise PipelineError(*problems)
    image = Image.load(ImageRef(str(image_path), image_path.name))
    stage.prepare(functools.partial(click.echo, err=True))
    import torch
    from segment_anything import SamPredictor

    from .model.loading import load_model
    from .segment.fast import FastSegmenter

    path = stage.checkpoint_path()
    sam = load_model(path)
    click.echo(f"{path.name}, {model}, sha256 {file_sha256(path)}")
    click.echo(f"{image_path.name}, {image.width}×{image.height} pixels; {torch.get_num_threads()} threads")
    click.echo(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}\n")
    result = compare_implementations(SamPredictor(sam), FastSegmenter(sam), image, rounds)
    click.echo(format_report(result))
    return 0 if result.is_equal else 1
