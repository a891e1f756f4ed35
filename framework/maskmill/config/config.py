"""`Config`, the validated content of a pipeline file.

`load.load_config` makes a `Config`; `Config.chain_spec` and `build_stages` carry its plugins into
another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..chain.check_prompts import CONFLICT_IOU
from ..chain.fingerprint import Fingerprints
from ..corrections import load_corrections
from ..decoding.bit_depth import Conversion, HighBitDepth
from ..decoding.decoder import MAX_PIXELS
from ..display import brief
from ..errors import PluginError, Problem
from ..images import PACKAGE
from ..output.mirror import Mirror
from ..plugins.messages import ChainSpec, ModelIds, PluginSpec
from ..plugins.optional import recall_survey
from ..plugins.registry import RegisteredPlugin, Registry
from ..plugins.roles import Backend, Filter, PromptSource, Stages, Writer
from ..plugins.stage import Stage
from ..results import require_doubt
from ..storage import StorageOptions, hide_query, is_address, is_bucket, options_to_json
from .document import Document, Loc

Combine = Literal["first", "all"]


def _not_zero(jobs: int) -> int:
    if jobs == 0:
        raise ValueError("expected 'auto' or a whole number other than 0, such as 2, or -1 for one worker per core")
    return jobs


DoubtCode = Annotated[str, AfterValidator(require_doubt)]


class ImageOptions(BaseModel):
    """The options under `images:`, which affect results."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    high_bit_depth: HighBitDepth = Field(
        "full",
        description="what becomes black and white of 16-bit and floating-point values:"
        " full: all that the type can hold; minmax: the lowest and highest; percentile: the 1st and 99th percentile",
    )
    page: Annotated[int, Field(ge=1)] | None = Field(
        None, description="which page of TIFF files with several pages, from 1; null: they fail"
    )

    def as_conversion(self) -> Conversion:
        """The options as the decoder takes them."""
        return Conversion(self.high_bit_depth, self.page)


class StorageModel(BaseModel):
    """The options under `storage:`, for addresses such as s3://bucket/photos; they do not affect results."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/@?#]+/?$")] | None = Field(
        None,
        description="address of a service that is compatible with S3, such as https://minio.example.org:9000;"
        " without it that of AWS, or of AWS_ENDPOINT_URL",
    )
    region: Annotated[str, Field(min_length=1)] | None = Field(
        None, description="region of the bucket; without it AWS_REGION, or us-east-1"
    )
    anonymous: bool = Field(False, description="read a public bucket without credentials")
    virtual_hosted: bool = Field(
        False, description="the bucket's name is part of the host name, as Alibaba's OSS demands"
    )

    def as_options(self) -> StorageOptions:
        """The options as `maskmill.storage` takes them."""
        return StorageOptions(self.endpoint, self.region, self.anonymous, self.virtual_hosted)


class RunOptions(BaseModel):
    """The options under `run:`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    jobs: Annotated[int, AfterValidator(_not_zero)] | Literal["auto"] = Field(
        "auto",
        description="images at once; -1: one per core, -2: all cores but one; auto: as many as cores and memory allow",
    )
    engine: str | dict[str, Any] = Field("joblib", description="what runs the workers: a name, or {use: NAME, ...}")
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="threads per worker; auto: the cores divided by the workers"
    )
    timeout: float = Field(
        1800.0,
        gt=0,
        allow_inf_nan=False,
        description="time limit for one image in seconds, not including loading the model",
    )
    max_failures: (
        Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^(100|\d{1,2})(\.\d+)?%$", examples=["5%"])] | None
    ) = Field(None, description="stop when more images than this have failed: a number or a percentage; null: no limit")
    same_failures: Annotated[int, Field(ge=1)] | None = Field(
        10, description="stop when the first so many images all fail for the same reason; null: never"
    )
    fail_on: tuple[DoubtCode, ...] = Field((), description="doubts that fail an image, such as truncated, conflict")
    conflict_iou: float | None = Field(
        CONFLICT_IOU,
        gt=0,
        le=1,
        description="doubt `conflict`: boxes with at least this IoU and different labels; null: not compared",
    )
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="images with more pixels fail without being decoded")


@dataclass(frozen=True)
class PluginUse:
    """One `use:` of a pipeline file.

    Attributes:
        role: a key of `plugins.ROLES`.
        name: the value of `use:`.
        options: plain data, environment variables replaced; may contain secrets.
        stage: the plugin with these options, not yet open.
        entry: where the plugin comes from.
        loc: its place in the file.
        folder: a writer's folder below the output, else "".
        base: the folder that relative paths in its options start from.
    """

    role: str
    name: str
    options: Mapping[str, Any] = field(repr=False)
    stage: Stage
    entry: RegisteredPlugin
    loc: Loc
    folder: str = ""
    base: Path = field(kw_only=True)


@dataclass(frozen=True)
class Config:
    """A validated pipeline file.

    Attributes:
        file: the file, as the user wrote its name; None for a pipeline that was given in Python.
        base: the file's folder, absolute; relative paths in the file are relative to it (see `PluginUse.base`).
        name: of the pipeline.
        dataset: the entries of `dataset:`, as written.
        dataset_base: the folder that relative parts of `dataset` are relative to.
        prompts: the prompt sources, in order.
        corrections: the file of what people decided, absolute; None if the pipeline names none.
        combine: "first" takes the first source with an answer for an image, "all" the prompts of all sources.
        backend: the plugin that makes masks.
        filters: in order.
        writers: in order, each with its own folder.
        engine: the plugin that runs the workers.
        output: the folder that the run works in, absolute; unless there is a `destination`, that is the output folder.
        destination: where the files are copied to from there: an address in object storage, or a folder on a drive
            that machines share; None: nowhere.
        images: the options of `images:`.
        storage: the options of `storage:`.
        run: the other options of `run:`.
        drop_ins: the drop-in plugin files that were loaded.
        registry: every plugin that was found.
        document: the parsed file.
        deferred: keys that only a run needs and that are missing, each with the problem for the run.
    """

    file: Path | None
    base: Path
    name: str
    dataset: tuple[str, ...]
    dataset_base: Path
    prompts: tuple[PluginUse, ...]
    corrections: Path | None
    combine: Combine
    backend: PluginUse
    filters: tuple[PluginUse, ...]
    writers: tuple[PluginUse, ...]
    engine: PluginUse
    output: Path
    destination: str | None
    images: ImageOptions
    storage: StorageOptions
    run: RunOptions
    drop_ins: tuple[Path, ...]
    registry: Registry = field(repr=False)
    document: Document = field(repr=False)
    deferred: tuple[tuple[str, Problem], ...] = ()

    def __repr__(self) -> str:
        return f"<Config {brief(self.name)}: {brief(str(self.file or 'given in Python'))}>"

    def uses(self) -> Iterator[PluginUse]:
        """Every plugin in use, in the order in which an image passes them, the engine last."""
        yield from (*self.prompts, self.backend, *self.filters, *self.writers, self.engine)

    def problem(self, loc: Sequence[str | int], message: str, hint: str = "", warning: bool = False) -> Problem:
        """A problem located at `loc` in the file, or at the `--set` that set it."""
        return self.document.problem(loc, message, hint, warning=warning)

    def stages(self) -> Stages:
        """The plugins as `Chain` takes them."""
        return Stages(
            [(use.name, cast(PromptSource, use.stage)) for use in self.prompts],
            self.combine,
            (self.backend.name, cast(Backend, self.backend.stage)),
            [(use.name, cast(Filter, use.stage)) for use in self.filters],
            [(use.folder, cast(Writer, use.stage)) for use in self.writers],
        )

    def fingerprints(self, models: ModelIds) -> Fingerprints:
        """The fingerprints of this pipeline's results.

        Args:
            models: `Stages.model_ids()`.
        """
        return Fingerprints(
            [
                (use.entry.code + model, cast(PromptSource, use.stage))
                for use, model in zip(self.prompts, models.sources, strict=True)
            ],
            self.combine,
            (self.backend.entry.code, self.backend.stage),
            models.backend,
            [(use.entry.code, use.stage) for use in self.filters],
            [(use.entry.code, use.folder, use.stage) for use in self.writers],
            self.images.as_conversion(),
            None if self.corrections is None else load_corrections(self.corrections),
        )

    @property
    def shared_output(self) -> Path:
        """The folder that users find the output in and all workers have to see; with a bucket, the one here."""
        return self.output if self.destination is None or is_bucket(self.destination) else Path(self.destination)

    def mirror(self) -> Mirror | None:
        """The folder that the run works in with its copy elsewhere; None for an output like any other."""
        return None if self.destination is None else Mirror(self.output, self.destination, self.storage)

    def chain_spec(self, memories: Sequence[Any] = ()) -> ChainSpec:
        """What another process needs for `build_stages`; may hold secrets, never store it.

        Args:
            memories: what each prompt source is given back there, () if none was shown the dataset.
        """
        return ChainSpec(
            drop_ins={str(path): self.registry.drop_ins[path] for path in self.drop_ins},
            combine=self.combine,
            prompts=tuple(map(_spec_of, self.prompts)),
            memories=tuple(memories),
            backend=_spec_of(self.backend),
            filters=tuple(map(_spec_of, self.filters)),
            writers=tuple(map(_spec_of, self.writers)),
        )

    def _resolve_entry(self, text: str) -> str:
        if is_address(text):
            return hide_query(text)
        return text if text.startswith(PACKAGE) else str(self.dataset_base / text)

    def resolved(self) -> dict[str, Any]:
        """The pipeline with every option and default, in the form of its file; secrets are masked."""
        run = self.run.model_dump(mode="json")
        run["engine"] = _dump_masked(self.engine)
        return {
            "name": self.name,
            "plugins": [str(path) for path in self.drop_ins],
            "dataset": [self._resolve_entry(part) for part in self.dataset],
            **({"corrections": str(self.corrections)} if self.corrections else {}),
            "prompts": [_dump_masked(use) for use in self.prompts],
            "combine": self.combine,
            "backend": _dump_masked(self.backend),
            "filters": [_dump_masked(use) for use in self.filters],
            "writers": [_dump_masked(use) for use in self.writers],
            "output": self.destination or str(self.output),
            "images": self.images.model_dump(mode="json"),
            **({"storage": storage} if (storage := options_to_json(self.storage)) else {}),
            "run": run,
        }


def _spec_of(use: PluginUse) -> PluginSpec:
    return PluginSpec(use.name, dict(use.options), str(use.base), use.folder)


def _dump_masked(use: PluginUse) -> dict[str, Any]:
    return {"use": use.name, **use.stage.model_dump(mode="json", by_alias=True)}


def build_stages(spec: ChainSpec) -> Stages:
    """Build a pipeline's plugins from `Config.chain_spec`, in another process.

    Raises:
        PluginError: a plugin cannot be loaded, or its file changed since the pipeline was loaded.
    """
    registry = Registry.load(Path(path) for path in spec.drop_ins)
    for path, sha256 in spec.drop_ins.items():
        if registry.drop_ins[Path(path)] != sha256:
            raise PluginError(Problem("the plugin file changed during the run", path, hint="start the run again"))

    def build(role: str, plugin: PluginSpec) -> Stage:
        return registry.build(role, {**plugin.options, "use": plugin.use}, Path(plugin.base))

    sources = [(plugin.use, cast(PromptSource, build("prompt source", plugin))) for plugin in spec.prompts]
    for (_, source), memory in zip(sources, spec.memories, strict=False):
        if memory is not None:
            recall_survey(source, memory)
    return Stages(
        sources,
        spec.combine,
        (spec.backend.use, cast(Backend, build("backend", spec.backend))),
        [(plugin.use, cast(Filter, build("filter", plugin))) for plugin in spec.filters],
        [(plugin.folder, cast(Writer, build("writer", plugin))) for plugin in spec.writers],
    )
