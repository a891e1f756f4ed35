"""`maskmill selftest IMAGE`: with the user's weights, on the user's machine, is the fast way equal to stock?"""

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

from .backend import Sam
from .segment.segmenter import FloatArray, as_arrays
from .weights.checkpoints import MODELS, file_sha256

if TYPE_CHECKING:
    from segment_anything import SamPredictor

    from .segment.fast import FastSegmenter

#: What rounding may change, for values up to 1; of larger ones it changes as much more.
EMBEDDING, LOGITS, SCORES = 2e-5, 1e-5, 1e-4


@dataclass
class Difference:
    """How far two ways to compute the same numbers are apart.

    Attributes:
        allowed: for values up to 1.
        largest: the largest difference found.
        scale: the largest value, at least 1.
    """

    allowed: float
    largest: float = 0.0
    scale: float = 1.0

    def add(self, found: npt.ArrayLike, expected: npt.NDArray[np.float32]) -> None:
        """Compare more numbers; one that is not a number stays the largest difference."""
        self.largest = float(np.maximum(self.largest, np.abs(np.asarray(found) - expected).max(initial=0)))
        self.scale = float(np.maximum(self.scale, np.abs(expected).max(initial=0)))

    @property
    def limit(self) -> float:
        """The largest difference that is rounding."""
        return self.allowed * self.scale

    @property
    def is_rounding(self) -> bool:
        """Whether no difference is larger than that."""
        return self.largest <= self.limit


@dataclass
class Comparison:
    """Both ways, on one image.

    Attributes:
        embedding: the encoders' outputs.
        logits: the decoders', at low resolution, from the same embedding.
        scores: predicted IoUs, from pixels on, as the masks.
        masks: how many were compared.
        pixels: of all masks.
        differing: pixels that only one of both ways has in its mask.
        beyond: of these, the pixels whose logit is further from the threshold than rounding explains.
        seconds: by (way, part of the work), the shortest of all rounds.
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
        """Whether rounding is all that differs."""
        differences = (self.embedding, self.logits, self.scores)
        return self.masks > 0 and not self.beyond and all(one.is_rounding for one in differences)

    def took(self, way: str, part: str, since: float) -> None:
        """Keep the time from `since` until now, if it is the shortest."""
        seconds = time.perf_counter() - since
        self.seconds[way, part] = min(seconds, self.seconds.get((way, part), seconds))


def prompts_for(height: int, width: int) -> list[Prompt]:
    """A box, a point, points on and off, a box with a point off, in an image of this size."""
    box = Box(width * 0.25, height * 0.25, width * 0.75, height * 0.75)
    middle, corner = Point(width * 0.5, height * 0.5), Point(width * 0.3, height * 0.3, 0)
    return [
        Prompt(box=box),
        Prompt(points=(middle,)),
        Prompt(points=(middle, Point(width * 0.6, height * 0.4), corner)),
        Prompt(points=(corner,), box=box),
    ]


def compare(stock: SamPredictor, fast: FastSegmenter, image: Image, rounds: int) -> Comparison:
    """Encode and decode in both ways, in turns.

    Args:
        stock: `segment_anything`'s.
        fast: with the same model.
        image: any.
        rounds: at least 1; the differences are those of the last one.
    """
    prompts = prompts_for(*image.size)
    result = Comparison()
    for _ in range(rounds):
        result = Comparison(seconds=result.seconds)
        start = time.perf_counter()
        stock.set_image(image.pixels)
        result.took("stock", "encoder", start)
        start = time.perf_counter()
        embedding = fast.embed(image.pixels)
        result.took("fast", "encoder", start)
        result.embedding.add(embedding, stock.features.numpy())
        _compare_masks(stock, fast, embedding, prompts, result)
    return result


def _compare_masks(
    stock: SamPredictor, fast: FastSegmenter, embedding: FloatArray, prompts: Sequence[Prompt], result: Comparison
) -> None:
    """Three masks of each prompt; each way from its own embedding."""
    size = stock.original_size
    start = time.perf_counter()
    found = iter(fast.masks(embedding, size, prompts, "all"))
    result.took("fast", "masks", start)
    shared = fast.decoder.image_side(stock.features)
    spent = 0.0
    answers = []
    for prompt in prompts:
        points, labels, box = (None if part is None else part[0] for part in as_arrays([prompt]))
        start = time.perf_counter()
        logits, scores, low = stock.predict(points, labels, box, return_logits=True)
        spent += time.perf_counter() - start
        mine, _ = fast.decoder(shared, fast._embed_prompts([prompt], size), "three")
        result.logits.add(mine[0].numpy(), low)
        answers.append((logits, scores))
    result.took("stock", "masks", time.perf_counter() - spent)
    for logits, scores in answers:
        for expected, score in zip(logits, scores, strict=True):
            mask = next(found)
            result.scores.add(mask.score or 0.0, score)
            differs = mask.array != (expected > fast.threshold)
            result.masks += 1
            result.pixels += differs.size
            result.differing += int(differs.sum())
            result.beyond += int((differs & (np.abs(expected - fast.threshold) > result.logits.limit)).sum())


def report(result: Comparison) -> str:
    """Differences, seconds, and the verdict."""
    lines = [f"{'largest difference':>44s} {'rounding':>10s}"]
    for name, one in (
        ("image embedding", result.embedding),
        ("low-resolution logits", result.logits),
        ("predicted IoUs", result.scores),
    ):
        said = "" if one.is_rounding else "  MORE THAN ROUNDING"
        lines.append(f"{name:24s} {one.largest:19.1e} {one.limit:10.1e}{said}")
    lines.append(f"{result.masks} masks: {result.differing} of {result.pixels} pixels differ, {result.beyond} of them")
    lines[-1] += " further from the threshold than rounding explains"
    lines.append(f"\n{'':24s} {'stock':>10s} {'fast':>10s}")
    for part in ("encoder", "masks"):
        stock, fast = result.seconds["stock", part], result.seconds["fast", part]
        lines.append(f"{part:24s} {stock:8.2f} s {fast:8.2f} s  {stock / fast:.2f}×")
    if result.is_equal:
        lines.append("\nEQUAL: the fast way and segment_anything differ by rounding only.")
    else:
        lines.append("\nNOT EQUAL: use `fast: false`, and please report this with all that stands above.")
    return "\n".join(lines)


@click.command("selftest")
@click.argument("picture", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option("--model", type=click.Choice(list(MODELS)), default="vit_b", show_default=True, help="Size of the model.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="The weights; left out: as `auto`.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True, help="Times; the shortest is shown.")
def selftest(
    picture: Path, model: Literal["vit_b", "vit_l", "vit_h"], checkpoint: Path | None, rounds: int
) -> Literal[0, 1]:
    """Compare the fast way of the backend sam with segment_anything itself, on IMAGE and the CPU.

    Exits with 0 if both make the same masks but for rounding, with 1 if not.
    """
    stage = Sam(model=model, checkpoint=checkpoint or "auto", device="cpu")
    if problems := [one for one in stage.missing() or stage.check() if not one.warning]:
        raise PipelineError(*problems)
    image = Image.load(ImageRef(str(picture), picture.name))
    stage.prepare(functools.partial(click.echo, err=True))
    import torch
    from segment_anything import SamPredictor

    from .model.loading import load_model
    from .segment.fast import FastSegmenter

    path = stage.checkpoint_path()
    sam = load_model(model, path)
    click.echo(f"{path.name}, {model}, sha256 {file_sha256(path)}")
    click.echo(f"{picture.name}, {image.width}×{image.height} pixels; {torch.get_num_threads()} threads")
    click.echo(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}\n")
    result = compare(SamPredictor(sam), FastSegmenter(sam), image, rounds)
    click.echo(report(result))
    return 0 if result.is_equal else 1
