"""The stage: options, checks, and which of the two ways to compute is taken."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from maskmill import NO_EFFECT, Backend, Image, Mask, PipelineError, Problem, Prompt
from maskmill.plugins.stage import Network, worker_threads

from .embedding_cache.cache import EmbeddingCache, embeddings_folder, entry_name
from .model.loading import load_model, pick_device
from .segment.segmenter import FloatArray, Multimask, Segmenter, picked
from .weights.checkpoints import MODELS, file_sha256, find_checkpoint, obtain, weights_folder


class Sam(Backend):
    """Segment Anything (SAM), computed on this machine with Meta's published weights."""

    requires: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "segment_anything")
    extra: ClassVar[str] = "sam"

    model: Literal["vit_b", "vit_l", "vit_h"] = Field(
        "vit_b", description="size of the model: vit_b is the fastest, vit_h the best"
    )
    checkpoint: Literal["auto"] | Path = Field(
        "auto",
        description="the weights: a .pth or .safetensors file, or the name of one added by `maskmill weights add`; auto"
        " looks for the published file beside the pipeline file, in the working directory, in weights/ and checkpoints/"
        " there, in torch hub's cache and in ours, and downloads it if it is nowhere",
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

    half: bool = Field(
        False,
        description="the encoder in half precision (float16), on cuda only: less memory and time;"
        " masks may differ along their border",
    )
    compile: bool = Field(
        False, description="the encoder by torch.compile, on cuda only: the first image of each worker takes minutes"
    )
    cache: bool | Path = Field(
        False,
        description="keep each image's embedding on disk, so that a later run with other prompts does not encode it"
        " again: true: in this user's cache folder, or a folder; false: no",
        json_schema_extra=NO_EFFECT,
    )
    cache_size: float = Field(
        10.0,
        gt=0,
        description="GB that the cache may take (an embedding takes 4 MB); those unused for longest make room",
        json_schema_extra=NO_EFFECT,
    )
    cache_precision: Literal["fp32", "fp16"] = Field(
        "fp32",
        description="fp16 rounds the embeddings, cached or not, and halves the room they take;"
        " masks may differ along their border",
    )

    _folder: Path | None = PrivateAttr(None)
    _segmenter: Segmenter | None = PrivateAttr(None)
    _cache: EmbeddingCache | None = PrivateAttr(None)
    _cached_as: dict[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        """Keep the pipeline file's folder: `checkpoint: auto` looks there first."""
        self._folder = (context or {}).get("base")

    def accepts(self) -> frozenset[str]:
        """Points and boxes, also together, and everything mode."""
        return frozenset({"points", "box", "everything"})

    def check(self) -> list[Problem]:
        """The checkpoint must exist, and what reads it be installed; some options need a GPU."""
        if self._for_gpu and not self.fast:
            return [Problem(f"{self._for_gpu}: true is part of the fast way", hint="remove `fast: false`")]
        if self._for_gpu and self.device not in ("auto", "cuda"):
            return [self._needs_cuda(self.device)]
        if self.compile and importlib.util.find_spec("triton") is None:
            return [Problem("compile: true needs the package 'triton', which PyTorch brings along on Linux")]
        if self._to_download():
            return self._download_announced()
        try:
            path = self.checkpoint_path()
        except PipelineError as error:
            return list(error.problems)
        if path.suffix == ".safetensors" and importlib.util.find_spec("safetensors") is None:
            return [Problem(f"{path} needs the package 'safetensors'", hint="pip install safetensors")]
        return []

    def reaches(self) -> Network:
        """The internet, if weights have to be downloaded."""
        return "internet" if self._to_download() else "none"

    def prepare(self, say: Callable[[str], None]) -> None:
        """Download the weights that `auto` did not find.

        Raises:
            PipelineError: they cannot be had.
        """
        if self._to_download():
            obtain(self.model, None, say)

    def model_id(self) -> str:
        """SHA-256 of the checkpoint file, also of one that is still to be downloaded.

        Raises:
            PipelineError: there is no such file.
        """
        return MODELS[self.model].sha256 if self._to_download() else file_sha256(self.checkpoint_path())

    def memory_per_worker(self) -> int:
        """Peak of a process that works on one image with this model, measured on a CPU."""
        model = MODELS[self.model]
        return model.memory if self.fast else model.stock_memory

    def checkpoint_path(self) -> Path:
        """The weights' file.

        Raises:
            PipelineError: it does not exist.
        """
        if self.checkpoint == "auto":
            found = find_checkpoint(self.model, self._folder)
            if found is None:
                raise PipelineError(Problem(f"there are no weights for {self.model}", hint=self._by_hand()))
            return found
        if self.checkpoint.is_file():
            return self.checkpoint
        added = weights_folder() / self.checkpoint.name
        if self.checkpoint.parent == (self._folder or Path()) and added.is_file():
            return added
        raise PipelineError(Problem(f"the checkpoint '{self.checkpoint}' does not exist", hint=self._by_hand()))

    def _to_download(self) -> bool:
        return self.checkpoint == "auto" and find_checkpoint(self.model, self._folder) is None

    def _download_announced(self) -> list[Problem]:
        published = MODELS[self.model]
        if importlib.util.find_spec("httpx") is None:
            text = f"{published.file} is nowhere, and without the package 'httpx' it cannot be downloaded"
            return [Problem(text, hint=f"pip install httpx, or {self._by_hand()}")]
        text = f"{published.file} ({published.bytes / 1e6:.0f} MB) will be downloaded from {published.url}"
        return [Problem(f"{text} into {weights_folder()}", hint=self._by_hand(), warning=True)]

    def _by_hand(self) -> str:
        return f"{MODELS[self.model].file} may also be put into {Path('weights').absolute()}"

    def open(self) -> None:
        """Load the model.

        Raises:
            PipelineError: no checkpoint, one of another model, or no such device here.
        """
        import torch

        torch.set_num_threads(worker_threads())
        device = pick_device(self.device)
        if self._for_gpu and device.type != "cuda":
            raise PipelineError(self._needs_cuda(device.type))
        sam = load_model(self.model, self.checkpoint_path()).to(device)
        if self.fast and device.type != "mps":  # never tried there
            from .segment.fast import FastSegmenter

            self._segmenter = fast = FastSegmenter(sam)
            if self._for_gpu:
                from .model.gpu import TunedEncoder

                fast.encoder = TunedEncoder(sam.image_encoder, self.half, self.compile)
        else:
            from .segment.stock import StockSegmenter

            self._segmenter = StockSegmenter(sam)
        if self.cache is not False:
            way = f"{type(self._segmenter).__name__} {self._for_gpu}".strip()
            self._cached_as = {"model": self.model_id(), "way": way, "precision": self.cache_precision}
            folder = embeddings_folder(None if self.cache is True else self.cache)
            self._cache = EmbeddingCache(folder, int(self.cache_size * 1e9))

    def close(self) -> None:
        """Release the model."""
        self._segmenter = self._cache = None

    def embed(self, image: Image) -> FloatArray:
        """The image encoder's output, float32 (1, 256, 64, 64); from the cache if it is there.

        Raises:
            ImageError: the image is so long and thin that SAM's input would have no pixel across.
        """
        segmenter, cache = self._opened(), self._cache
        name = entry_name(image.sha256, image.size, **self._cached_as)
        embedding = cache.get(name) if cache else None
        if embedding is None:
            embedding = segmenter.embed(image.pixels)
            short = embedding.astype(np.float16) if self.cache_precision == "fp16" else None
            if cache:
                cache.put(name, embedding if short is None else short)
            if short is not None:  # also without a cache: results must not depend on what it holds
                embedding = short.astype(np.float32)
        return embedding

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """Points and boxes: one mask a prompt, in order; three a prompt, in SAM's order, with `multimask: all`.

        Everything mode: the masks that `SamAutomaticMaskGenerator` finds. A prompt's `pick` takes one of
        its three candidates. `score` is SAM's predicted IoU.
        """
        segmenter = self._opened()
        found: list[Mask] = []
        for is_grid, group in itertools.groupby(prompts, key=lambda prompt: prompt.grid is not None):
            if embedding is None and (not is_grid or segmenter.grids_use_embedding):
                embedding = self.embed(image)
            if is_grid:
                found += [mask for prompt in group for mask in segmenter.everything(embedding, image.pixels, prompt)]
            else:
                found += picked(segmenter.masks(embedding, image.size, list(group), self.multimask), self.multimask)
        return found

    @property
    def _for_gpu(self) -> str:
        """Which of the options are set that need a GPU, "" if none."""
        return "/".join(name for name in ("half", "compile") if getattr(self, name))

    def _needs_cuda(self, device: str) -> Problem:
        return Problem(
            f"{self._for_gpu}: true computes on a CUDA device only, and this is {device}",
            hint="remove it",
        )

    def _opened(self) -> Segmenter:
        if self._segmenter is None:
            raise RuntimeError("open() must come before the first image")
        return self._segmenter
