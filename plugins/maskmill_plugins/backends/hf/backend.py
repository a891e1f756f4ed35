"""The backend: options, checks, and which model computes what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, PrivateAttr

from maskmill import NO_EFFECT, Backend, Image, ImageError, Mask, PipelineError, Problem, Prompt
from maskmill.plugins.packages import is_installed
from maskmill.plugins.stage import ONLY_IF_SET, Network
from maskmill.plugins.threads import worker_threads
from maskmill_plugins._shared.hub.download import download_model
from maskmill_plugins._shared.hub.identity import compute_model_id
from maskmill_plugins._shared.hub.snapshot import ModelFiles, ModelName, list_weights
from maskmill_plugins._shared.sam.device import Device, Precision, may_use_cuda, pick_device
from maskmill_plugins._shared.sam.embedding_cache import EmbeddingCache, embeddings_folder, entry_name
from maskmill_plugins._shared.sam.prompts import FloatArray, Multimask

from .families import CONCEPTS, Family, Task, find_family

#: Memory of a worker whose model is not on this machine yet, so that its kind is unknown.
UNKNOWN_MEMORY = 5_000_000_000


class Hf(Backend):
    """SAM, SAM-HQ, SAM 2, SAM 2.1, EdgeTAM and SAM 3, from the Hugging Face hub or a folder, by transformers."""

    requires: ClassVar[tuple[str, ...]] = ("torch", "torchvision", "transformers", "safetensors", "segment_anything")
    extra: ClassVar[str] = "hf"

    model: ModelName = Field(
        description="name on the Hugging Face hub, such as facebook/sam2.1-hiera-tiny, or a folder with config.json"
        " and model.safetensors; downloaded into the hub's cache if it is missing",
        json_schema_extra=NO_EFFECT,  # the content of the files counts, in model_id
    )
    revision: str | None = Field(
        None, description="commit, tag or branch on the hub; without it, main", json_schema_extra=NO_EFFECT
    )
    task: Task = Field(
        "auto",
        description="instances: a mask of each box or set of points; concepts: all objects of a text, with SAM 3 only;"
        " auto: concepts with SAM 3, else instances",
    )
    device: Device = Field(
        "auto",
        description="where to compute; auto: the first of cuda, mps and cpu that is available",
        json_schema_extra=NO_EFFECT,
    )
    precision: Precision = Field(
        "float32",
        description="of the image encoder; bfloat16 and float16 are meant for cuda, where they take less time;"
        " masks may differ along their border",
        json_schema_extra=ONLY_IF_SET,
    )
    multimask: Multimask = Field(
        "auto",
        description="auto: for a single point, the one of three candidate masks with the best predicted IoU, and one"
        " mask for every other prompt; all: the three candidates of every prompt; off: one mask per prompt",
    )
    hq_token_only: bool = Field(
        False, description="SAM-HQ: the mask of the high-quality token alone, instead of its sum with SAM's own"
    )
    fast: bool = Field(
        True,
        description="compute masks with a faster decoder where it gives those of transformers, except for pixels whose"
        " logit is within rounding of the threshold (all but SAM-HQ); false, and always on mps: transformers itself",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="concepts: lowest score of an object")
    cache: bool | Path = Field(
        False,
        description="store each image's embedding on disk, so that a later run with other prompts does not encode it"
        " again; true: in the cache folder of this user, or the path of a folder",
        json_schema_extra=NO_EFFECT,
    )
    cache_size: float = Field(
        10.0,
        gt=0,
        description="size of the cache in GB (an embedding takes 4 MB with SAM, 17 with SAM-HQ, SAM 2 and EdgeTAM, 113"
        " with SAM 3); the least recently used ones are removed",
        json_schema_extra=NO_EFFECT,
    )
    cache_precision: Literal["fp32", "fp16"] = Field(
        "fp32",
        description="fp16 rounds the embeddings, cached or not, and halves their size on disk;"
        " masks may differ along their border",
    )

    _segmenter: Any = PrivateAttr(None)
    _cache: EmbeddingCache | None = PrivateAttr(None)
    _cached_as: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def files(self) -> ModelFiles:
        """The files of the model."""
        return ModelFiles(self.model, self.revision)

    def accepts(self) -> frozenset[str]:
        """Texts and exemplars with `task: concepts`; else points, boxes, and everything mode if a generator is known.

        Of a model that is not on this machine yet, whatever the backend can take.
        """
        found = self._find_family()
        if found is None:
            return frozenset({"points", "box", "text", "exemplars", "everything"})
        family, is_concepts = found
        if is_concepts:
            return frozenset({"text", "exemplars"})
        return frozenset({"points", "box", "everything"} if family.has_generator else {"points", "box"})

    def _find_family(self) -> tuple[Family, bool] | None:
        """The model's family, and whether it works on texts; None if it has to be downloaded first."""
        try:
            config = self.files.read_config()
            return None if config is None else find_family(config, self.files.spelling, self.task)
        except PipelineError:  # reported by `check`
            return None

    def check(self) -> list[Problem]:
        """The model must be on this machine or on the hub, of a supported type, and the options must fit it."""
        if self.revision is not None and self.files.is_folder:
            return [Problem("revision: applies to models of the hub, and `model` is a folder", hint="remove it")]
        problems = self.files.check()
        if any(not problem.warning for problem in problems):
            return problems
        try:
            config = self.files.read_config()
            found = None if config is None else find_family(config, self.files.spelling, self.task)
        except PipelineError as error:
            return list(error.problems)
        return problems if found is None else [*problems, *self._check_options(*found)]

    def _check_options(self, family: Family, is_concepts: bool) -> list[Problem]:
        if "EdgeTam" in family.model and not is_installed("timm"):
            return [Problem("EdgeTAM needs the package 'timm', which is not installed", hint="pip install timm")]
        if self.hq_token_only and family.keeps_order:
            return [Problem("hq_token_only: applies to SAM-HQ only", hint="remove it")]
        if self.hq_token_only and self.multimask == "all":
            return [Problem("hq_token_only: true gives one mask per prompt, so `multimask: all` cannot be used")]
        if not is_concepts and "threshold" in self.model_fields_set:
            kinds = ", ".join(CONCEPTS)
            return [Problem(f"threshold: applies to texts only, with models of the types {kinds}", hint="remove it")]
        return []

    def reaches(self) -> Network:
        """The internet, if the model has to be downloaded."""
        return self.files.reaches()

    def prepare(self, say: Callable[[str], None]) -> None:
        """Download the model if it is missing.

        Raises:
            PipelineError: it cannot be downloaded, or is of a kind that is not supported.
        """
        if self.files.find() is None:
            download_model(self.files, say)
            if problems := [problem for problem in self.check() if not problem.warning]:
                raise PipelineError(*problems)

    def model_id(self) -> str:
        """SHA-256 over the model's files; "" before it is downloaded.

        Raises:
            PipelineError: a file is missing in the folder.
        """
        return compute_model_id(self.files.folder()) if self.files.find() else ""

    def memory_per_worker(self) -> int:
        """Peak memory of a process that works on one image with this model, measured on a CPU."""
        found, folder = self._find_family(), self.files.find()
        if found is None or folder is None:
            return UNKNOWN_MEMORY
        return sum(path.stat().st_size for path in list_weights(folder)) + found[0].memory

    def uses_gpu(self) -> bool:
        """On cuda, and with `device: auto` if PyTorch was built for it."""
        return may_use_cuda(self.device)

    def input_side(self) -> int | None:
        """Width and height of the model's input in pixels; None until it is loaded."""
        return getattr(self._segmenter, "side", None)

    def open(self) -> None:
        """Load the model.

        Raises:
            PipelineError: the model is missing or damaged, or the device is not available.
        """
        import torch

        from .loading import load_image_processor, load_model

        folder = self.files.folder()
        family, is_concepts = find_family(self.files.read_config() or {}, self.files.spelling, self.task)
        torch.set_num_threads(worker_threads())
        model = load_model(folder, family, pick_device(self.device))
        if is_concepts:
            from .concepts import ConceptSegmenter, load_processor

            self._segmenter = ConceptSegmenter(model, load_processor(folder), self.threshold, self.precision)
        else:
            from .instances import InstanceSegmenter

            self._segmenter = InstanceSegmenter(
                model,
                load_image_processor(folder, family),
                family,
                self.hq_token_only,
                fast=self.fast and model.device.type != "mps",  # untested there
                threads=worker_threads(),
                precision=self.precision,
            )
        if self.cache is not False:
            # These values name the stored files: renaming a key would orphan every cached embedding.
            way = family.model if self.precision == "float32" else f"{family.model} {self.precision}"
            self._cached_as = {"model": self.model_id(), "way": way, "precision": self.cache_precision}
            folder = embeddings_folder(None if self.cache is True else self.cache)
            self._cache = EmbeddingCache(folder, int(self.cache_size * 1e9))

    def close(self) -> None:
        """Release the model."""
        if self._segmenter is not None:
            self._segmenter.close()
        self._segmenter = self._cache = None

    def embed(self, image: Image) -> list[FloatArray]:
        """The image encoder's output, float32 arrays, from the cache if possible.

        Raises:
            ImageError: the image is so narrow that its shorter side would vanish in the model's input, or its values
                exceed the range of float16.
        """
        segmenter, cache = self._get_segmenter(), self._cache
        name = entry_name(image.pixels_id, image.size, **self._cached_as)
        if cache and (cached := cache.get(name)):
            return cached
        embedding: list[FloatArray] = segmenter.embed(image.pixels)
        if self.precision != "float32" and not all(np.isfinite(part).all() for part in embedding):
            raise ImageError(f"this image exceeds the range of {self.precision}; use `precision: float32`")
        if self.cache_precision == "fp16":
            stored = [part.astype(np.float16) for part in embedding]
            # Rounded even without a cache: results must not depend on what it contains.
            embedding = [part.astype(np.float32) for part in stored]
        else:
            stored = list(embedding)  # type: ignore[arg-type]
        if cache:
            cache.put(name, stored)
        return embedding

    def masks(self, image: Image, prompts: Sequence[Prompt], embedding: Any = None) -> list[Mask]:
        """Points and boxes: one mask per prompt, in order; with `multimask: all` three.

        Texts and exemplars: the objects found, whose `score` is the model's confidence. Everything mode: the masks
        of the generator that the model's authors published. Else `score` is the predicted IoU.

        Raises:
            PromptError: a text is too long, or a prompt picks a candidate of a model that sorts them.
        """
        segmenter = self._get_segmenter()
        if embedding is None:
            embedding = self.embed(image)
        if any(prompt.text or prompt.exemplars for prompt in prompts):
            found: list[Mask] = segmenter.masks(
                embedding, image.size, prompts, lambda line: self.doubt("truncated", line)
            )
            return found
        return [mask for group in _group_grids(prompts) for mask in self._segment(image, group, embedding)]

    def _segment(self, image: Image, prompts: Sequence[Prompt], embedding: Sequence[FloatArray]) -> list[Mask]:
        from maskmill_plugins._shared.sam.everything_mode import find_all_masks

        segmenter = self._get_segmenter()
        if prompts[0].grid is not None:
            return [mask for prompt in prompts for mask in find_all_masks(segmenter, image.pixels, embedding, prompt)]
        multimask = "off" if self.hq_token_only else self.multimask
        found: list[Mask] = segmenter.masks(embedding, image.size, prompts, multimask)
        return found

    def _get_segmenter(self) -> Any:
        if self._segmenter is None:
            raise RuntimeError("open() must be called before the first image")
        return self._segmenter


def _group_grids(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """Neighbouring prompts with a grid, or without one, together."""
    groups: list[list[Prompt]] = []
    for prompt in prompts:
        if groups and (groups[-1][0].grid is None) == (prompt.grid is None):
            groups[-1].append(prompt)
        else:
            groups.append([prompt])
    return groups
