"""The stage: options, checks, and which of the two ways to compute is taken."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from maskmill import NO_EFFECT, Backend, Image, Mask, PipelineError, Problem, Prompt, hookimpl
from maskmill.stages import worker_threads

from .checkpoints import MODELS, file_sha256, find_checkpoint
from .loading import load_model, pick_device
from .segmenter import FloatArray, Multimask, Segmenter


class Sam(Backend):
    """Segment Anything (SAM), computed on this machine with Meta's published weights."""

    requires: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "segment_anything")
    extra: ClassVar[str] = "sam"

    model: Literal["vit_b", "vit_l", "vit_h"] = Field(
        "vit_b", description="size of the model: vit_b is the fastest, vit_h the best"
    )
    checkpoint: Literal["auto"] | Path = Field(
        "auto",
        description="the weights, a .pth or .safetensors file; auto looks for the published file beside the pipeline"
        " file, in the working directory, in weights/ and checkpoints/ there, and in torch hub's cache",
        json_schema_extra=NO_EFFECT,  # the file's content counts, by model_id, not where it lies
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto",
        description="where it computes; auto takes cuda, then mps, then cpu, as far as there is one",
        json_schema_extra=NO_EFFECT,
    )
    multimask: Multimask = Field(
        "auto",
        description="auto: of a single point's three candidate masks the one with the best predicted IoU, and one mask"
        " for every other prompt; all: the three candidates of every prompt; off: one mask a prompt",
    )
    fast: bool = Field(
        True,
        description="the same sums in a faster order: equal to segment_anything but for pixels whose logit is within"
        " rounding of the threshold; false, and always on mps: segment_anything itself, bit for bit",
    )

    _folder: Path | None = PrivateAttr(None)
    _segmenter: Segmenter | None = PrivateAttr(None)

    def model_post_init(self, context: Any, /) -> None:
        """Keep the pipeline file's folder: `checkpoint: auto` looks there first."""
        self._folder = (context or {}).get("base")

    def accepts(self) -> frozenset[str]:
        """Points and boxes, also together, and everything mode."""
        return frozenset({"points", "box", "everything"})

    def check(self) -> list[Problem]:
        """The checkpoint must exist, and what reads it be installed."""
        try:
            path = self.checkpoint_path()
        except PipelineError as error:
            return list(error.problems)
        if path.suffix == ".safetensors" and importlib.util.find_spec("safetensors") is None:
            return [Problem(f"{path} needs the package 'safetensors'", hint="pip install safetensors")]
        return []

    def model_id(self) -> str:
        """SHA-256 of the checkpoint file.

        Raises:
            PipelineError: there is no such file.
        """
        return file_sha256(self.checkpoint_path())

    def memory_per_worker(self) -> int:
        """Peak of a process that works on one image with this model, measured on a CPU."""
        model = MODELS[self.model]
        return model.memory if self.fast else model.stock_memory

    def checkpoint_path(self) -> Path:
        """The weights' file.

        Raises:
            PipelineError: it does not exist; says where it was looked for and where to get it.
        """
        if self.checkpoint == "auto":
            return find_checkpoint(self.model, self._folder)
        if not self.checkpoint.is_file():
            raise PipelineError(
                Problem(
                    f"the checkpoint '{self.checkpoint}' does not exist",
                    hint=f"Meta's {self.model} is published at {MODELS[self.model].url}",
                )
            )
        return self.checkpoint

    def open(self) -> None:
        """Load the model.

        Raises:
            PipelineError: no checkpoint, one of another model, or no such device here.
        """
        import torch

        torch.set_num_threads(worker_threads())
        device = pick_device(self.device)
        sam = load_model(self.model, self.checkpoint_path()).to(device)
        if self.fast and device.type != "mps":  # never tried there
            from .fast import FastSegmenter

            self._segmenter = FastSegmenter(sam)
        else:
            from .stock import StockSegmenter

            self._segmenter = StockSegmenter(sam)

    def close(self) -> None:
        """Release the model."""
        self._segmenter = None

    def embed(self, image: Image) -> FloatArray:
        """The image encoder's output, float32 (1, 256, 64, 64).

        Raises:
            ImageError: the image is so long and thin that SAM's input would have no pixel across.
        """
        return self._opened().embed(image.pixels)

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """Points and boxes: one mask a prompt, in order; three a prompt, in SAM's order, with `multimask: all`.

        Everything mode: the masks that `SamAutomaticMaskGenerator` finds. `score` is SAM's predicted IoU.
        """
        segmenter = self._opened()
        found: list[Mask] = []
        for is_grid, group in itertools.groupby(prompts, key=lambda prompt: prompt.grid is not None):
            if embedding is None and (not is_grid or segmenter.grids_use_embedding):
                embedding = self.embed(image)
            if is_grid:
                found += [mask for prompt in group for mask in segmenter.everything(embedding, image.pixels, prompt)]
            else:
                found += segmenter.masks(embedding, image.size, list(group), self.multimask)
        return found

    def _opened(self) -> Segmenter:
        if self._segmenter is None:
            raise RuntimeError("open() must come before the first image")
        return self._segmenter


@hookimpl
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer `sam`, also under the name `local`."""
    register("sam", Sam)
    register("local", Sam)
