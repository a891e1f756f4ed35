"""The backend: options, checks, and the choice between the fast and the original implementation."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from maskmill import NO_EFFECT, Backend, Image, Mask, PipelineError, Problem, Prompt
from maskmill.files import hash_once
from maskmill.plugins.stage import ONLY_IF_SET, Network
from maskmill.plugins.threads import worker_threads
from maskmill_plugins._shared.sam.device import Device, may_use_cuda, pick_device
from maskmill_plugins._shared.sam.embedding_cache import EmbeddingCache, embeddings_folder, entry_name
from maskmill_plugins._shared.sam.file_kind import recognize
from maskmill_plugins._shared.sam.prompts import FloatArray, Multimask, keep_picked

from .model.loading import load_model
from .segment.segmenter import Segmenter
from .weights.checkpoints import find_published, require_published, weights_folder
from .weights.download import download_model
from .weights.published import MODELS

#: Checkpoints smaller than this many bytes are much smaller than vit_b, and so is the memory they need.
SMALL, SMALL_MEMORY = 100_000_000, 1_000_000_000


class Sam(Backend):
    """Segment Anything (SAM), computed on this machine with Meta's published weights."""

    requires: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "segment_anything")
    extra: ClassVar[str] = "sam"

    model: Literal["vit_b", "vit_l", "vit_h"] = Field(
        "vit_b",
        description="size of Meta's model, for `checkpoint: auto`: vit_b is the fastest, vit_h the best; with the path"
        " of a checkpoint its own size counts",
    )
    checkpoint: Literal["auto"] | Path = Field(
        "auto",
        description="the weights: a .pth or .safetensors file, searched beside the pipeline file, then in weights/ of"
        " the cache folder; auto: the published file, searched beside the pipeline file, in the working directory, in"
        " weights/ and checkpoints/ of both, in torch hub's cache and in ours, downloaded if it is missing, refused if"
        " its size or sha256 is not the published one",
        json_schema_extra=NO_EFFECT,  # the content of the file counts, in model_id, not its path
    )
    device: Device = Field(
        "auto",
        description="where to compute; auto: the first of cuda, mps and cpu that is available",
        json_schema_extra=NO_EFFECT,
    )
    multimask: Multimask = Field(
        "auto",
        description="auto: for a single point, the one of three candidate masks with the best predicted IoU, and one"
        " mask for every other prompt; all: the three candidates of every prompt; off: one mask per prompt",
    )
    decoder_heads: int | None = Field(
        None,
        ge=1,
        description="heads of the mask decoder's attention, of a checkpoint that neither has Meta's 8 nor names them",
        json_schema_extra=ONLY_IF_SET,
    )
    fast: bool = Field(
        True,
        description="the faster implementation: the masks of segment_anything, except for pixels whose logit is within"
        " rounding of the threshold; false, and always on mps: segment_anything itself, bit for bit",
    )
    half: bool = Field(
        False,
        description="compute the encoder in half precision (float16), on cuda only: less memory and time;"
        " masks may differ along their border",
    )
    compile: bool = Field(
        False,
        description="use torch.compile for the encoder, on cuda only: the first image of each worker takes minutes",
    )
    cache: bool | Path = Field(
        False,
        description="store each image's embedding on disk, so that a later run with other prompts does not encode it"
        " again; true: in the cache folder of this user, or the path of a folder",
        json_schema_extra=NO_EFFECT,
    )
    cache_size: float = Field(
        10.0,
        gt=0,
        description="size of the cache in GB (an embedding takes 4 MB); the least recently used ones are removed",
        json_schema_extra=NO_EFFECT,
    )
    cache_precision: Literal["fp32", "fp16"] = Field(
        "fp32",
        description="fp16 rounds the embeddings, cached or not, and halves their size on disk;"
        " masks may differ along their border",
    )

    _folder: Path | None = PrivateAttr(None)
    _segmenter: Segmenter | None = PrivateAttr(None)
    _cache: EmbeddingCache | None = PrivateAttr(None)
    _cached_as: dict[str, str] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any, /) -> None:
        """Remember the pipeline file's folder, where `checkpoint: auto` searches first."""
        self._folder = (context or {}).get("base")

    def accepts(self) -> frozenset[str]:
        """Points, boxes, both together, and everything mode."""
        return frozenset({"points", "box", "everything"})

    def check(self) -> list[Problem]:
        """The checkpoint must exist, the packages that read it be installed, and some options need a GPU."""
        if self._gpu_options and not self.fast:
            return [Problem(f"{self._gpu_options}: true needs `fast: true`", hint="remove `fast: false`")]
        if self._gpu_options and self.device not in ("auto", "cuda"):
            return [self._make_cuda_problem(self.device)]
        if self.compile and importlib.util.find_spec("triton") is None:
            return [Problem("compile: true needs the package 'triton', which PyTorch installs on Linux")]
        if self._must_download():
            return self._announce_download()
        try:
            path = self.checkpoint_path()
        except PipelineError as error:
            return list(error.problems)
        if reason := recognize(path):
            return [Problem(f"the checkpoint {path} cannot be used: {reason}")]
        if path.suffix == ".safetensors" and importlib.util.find_spec("safetensors") is None:
            return [Problem(f"{path} needs the package 'safetensors'", hint="pip install safetensors")]
        return []

    def speed_advice(self) -> str:
        """A smaller model, or a GPU, if it does not have them already."""
        model = "" if self.checkpoint == "auto" and self.model == "vit_b" else "a smaller model, "
        gpu = ", or a machine with a GPU" if pick_device(self.device).type == "cpu" else ""
        return f"{model}fewer prompts per image{gpu}"

    def reaches(self) -> Network:
        """The internet, if weights have to be downloaded."""
        return "internet" if self._must_download() else "none"

    def prepare(self, say: Callable[[str], None]) -> None:
        """Download the weights if `auto` did not find them.

        Raises:
            PipelineError: they cannot be downloaded.
        """
        if self._must_download():
            download_model(self.model, say)

    def model_id(self) -> str:
        """SHA-256 of the checkpoint file, known even before it is downloaded.

        Raises:
            PipelineError: the file does not exist, or is another one under a published name.
        """
        if self._must_download():
            return MODELS[self.model].sha256
        path = self.checkpoint_path()
        return MODELS[self.model].sha256 if self.checkpoint == "auto" else hash_once(path)

    def memory_per_worker(self) -> int:
        """Peak memory of a process that works on one image with this model, measured on a CPU.

        A checkpoint of another size takes about as much as the next larger published one.
        """
        model = MODELS[self.model]
        if self.checkpoint != "auto" and self.checkpoint.is_file():
            size = self.checkpoint.stat().st_size
            if size < SMALL:
                return SMALL_MEMORY
            model = next((one for one in MODELS.values() if size <= one.bytes), MODELS["vit_h"])
        return model.memory if self.fast else model.stock_memory

    def uses_gpu(self) -> bool:
        """On cuda, and with `device: auto` if PyTorch was built for it."""
        return may_use_cuda(self.device)

    def input_side(self) -> int | None:
        """Longer side of the model's input in pixels: 1024 for the published models; None until it is loaded."""
        return None if self._segmenter is None else self._segmenter.sam.image_encoder.img_size

    def checkpoint_path(self) -> Path:
        """The checkpoint file; what `auto` finds by its name has the published content.

        Raises:
            PipelineError: it does not exist, or is another file under a published name.
        """
        if self.checkpoint == "auto":
            found = find_published(self.model, self._folder)
            if found is None:
                raise PipelineError(Problem(f"the weights of {self.model} are missing", hint=self._suggest_placing()))
            require_published(found, self.model)
            return found
        if self.checkpoint.is_file():
            return self.checkpoint
        shared = weights_folder() / self.checkpoint.name
        if self.checkpoint.parent == (self._folder or Path()) and shared.is_file():
            return shared
        hint = "check the path, or use `checkpoint: auto` for Meta's weights"
        raise PipelineError(Problem(f"the checkpoint '{self.checkpoint}' does not exist", hint=hint))

    def _must_download(self) -> bool:
        return self.checkpoint == "auto" and find_published(self.model, self._folder) is None

    def _announce_download(self) -> list[Problem]:
        published = MODELS[self.model]
        if importlib.util.find_spec("httpx") is None:
            text = f"{published.file} is missing, and downloading it needs the package 'httpx'"
            return [Problem(text, hint=f"pip install httpx, or {self._suggest_placing()}")]
        text = f"{published.file} ({published.bytes / 1e6:.0f} MB) will be downloaded from {published.url}"
        return [Problem(f"{text} into {weights_folder()}", hint=self._suggest_placing(), warning=True)]

    def _suggest_placing(self) -> str:
        return f"put {MODELS[self.model].file} into {Path('weights').absolute()}"

    def open(self) -> None:
        """Load the model.

        Raises:
            PipelineError: the checkpoint is missing or of another model, or the device is not available.
        """
        import torch

        torch.set_num_threads(worker_threads())
        device = pick_device(self.device)
        if self._gpu_options and device.type != "cuda":
            raise PipelineError(self._make_cuda_problem(device.type))
        sam = load_model(self.checkpoint_path(), self.decoder_heads).to(device)
        if self.fast and device.type != "mps":  # the fast implementation is untested there
            from .segment.fast import FastSegmenter

            self._segmenter = fast = FastSegmenter(sam, threads=worker_threads())
            if self._gpu_options:
                from .model.encoder import GpuEncoder

                fast.encoder = GpuEncoder(sam.image_encoder, self.half, self.compile)
        else:
            from .segment.stock import StockSegmenter

            self._segmenter = StockSegmenter(sam)
        if self.cache is not False:
            # These values name the stored files: renaming a class or a key would orphan every cached embedding.
            way = f"{type(self._segmenter).__name__} {self._gpu_options}".strip()
            self._cached_as = {"model": self.model_id(), "way": way, "precision": self.cache_precision}
            folder = embeddings_folder(None if self.cache is True else self.cache)
            self._cache = EmbeddingCache(folder, int(self.cache_size * 1e9))

    def close(self) -> None:
        """Release the model, also from the memory of a GPU that torch would keep for this process."""
        on_gpu = self._segmenter is not None and self._segmenter.sam.device.type == "cuda"
        if self._segmenter is not None:
            self._segmenter.close()
        self._segmenter = self._cache = None
        if on_gpu:
            import torch

            torch.cuda.empty_cache()

    def embed(self, image: Image) -> FloatArray:
        """The image encoder's output, float32 (1, 256, 64, 64), from the cache if possible.

        Raises:
            ImageError: the image is so narrow that its shorter side would vanish in SAM's input.
        """
        segmenter, cache = self._get_segmenter(), self._cache
        name = entry_name(image.pixels_id, image.size, **self._cached_as)
        if cache and (cached := cache.get(name)):
            return cached[0]
        embedding = segmenter.embed(image.pixels)
        stored = embedding.astype(np.float16) if self.cache_precision == "fp16" else embedding
        if cache:
            cache.put(name, [stored])
        # Rounded even without a cache: results must not depend on what it contains.
        return stored.astype(np.float32, copy=False)

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """Points and boxes: one mask per prompt, in order; with `multimask: all` three, in SAM's order.

        Everything mode: the masks of `SamAutomaticMaskGenerator`. A prompt's `pick` selects one of its
        three candidates. `score` is SAM's predicted IoU, a little outside of 0 to 1 at times.
        """
        segmenter = self._get_segmenter()
        found: list[Mask] = []
        for is_grid, group in itertools.groupby(prompts, key=lambda prompt: prompt.grid is not None):
            if embedding is None and (not is_grid or segmenter.grids_use_embedding):
                embedding = self.embed(image)
            if is_grid:
                found += [mask for prompt in group for mask in segmenter.everything(embedding, image.pixels, prompt)]
            else:
                found += keep_picked(
                    segmenter.masks(embedding, image.size, list(group), self.multimask), self.multimask
                )
        return found

    @property
    def _gpu_options(self) -> str:
        """The enabled options that need a GPU, joined by "/"; "" if none."""
        return "/".join(name for name in ("half", "compile") if getattr(self, name))

    def _make_cuda_problem(self, device: str) -> Problem:
        text = f"{self._gpu_options}: true needs a CUDA device, and this is {device}"
        return Problem(text, hint=f"remove `{self._gpu_options}`, or use a machine with a CUDA device")

    def _get_segmenter(self) -> Segmenter:
        if self._segmenter is None:
            raise RuntimeError("open() must be called before the first image")
        return self._segmenter
