"""What a pipeline file says, validated: which plugins with which options, over which images, into which folder.

`config.load_config` makes a `Config`; `Config.worker_data` and `stages_from` carry its
plugins into another process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from ..chain.fingerprint import Fingerprints
from ..decoding import MAX_PIXELS
from ..errors import PluginError, Problem
from ..images import PACKAGE
from ..plugins.optional import recall_survey
from ..plugins.registry import RegisteredPlugin, Registry
from ..plugins.roles import Backend, Filter, PromptSource, Stages, Writer
from ..plugins.stage import Stage
from .document import Document, Loc

Combine = Literal["first", "all"]


def _not_zero(jobs: int) -> int:
    if jobs == 0:
        raise ValueError("expected 'auto' or a whole number other than 0: 2 workers, or -1 for one on each core")
    return jobs


class RunOptions(BaseModel):
    """What stands under `run:`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    jobs: Annotated[int, AfterValidator(_not_zero)] | Literal["auto"] = Field(
        "auto",
        description="how many images at once; -1: one on each core, -2: all cores but one; auto: as memory allows",
    )
    engine: str | dict[str, Any] = Field("joblib", description="what runs the workers: a name, or {use: NAME, ...}")
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="threads of each worker; auto shares the cores among the workers"
    )
    timeout: float = Field(
        1800.0, gt=0, allow_inf_nan=False, description="seconds one image may take, loading of the model not counted"
    )
    max_failures: (
        Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^(100|\d{1,2})(\.\d+)?%$", examples=["5%"])] | None
    ) = Field(None, description="stop when more images than this have failed, a number or a percentage; null: go on")
    max_pixels: int = Field(MAX_PIXELS, ge=1, description="images of more pixels fail without being decoded")


@dataclass(frozen=True)
class PluginUse:
    """One `use:` of a pipeline file.

    Attributes:
        role: a key of `plugins.ROLES`.
        name: what stands under `use:`.
        options: plain data, environment variables replaced; may hold secrets.
        stage: the plugin with these options, not yet open.
        entry: where the plugin comes from.
        loc: where it stands in the file.
        folder: a writer's folder below the output, else "".
    """

    role: str
    name: str
    options: Mapping[str, Any] = field(repr=False)
    stage: Stage
    entry: RegisteredPlugin
    loc: Loc
    folder: str = ""


@dataclass(frozen=True)
class Config:
    """A validated pipeline file.

    Attributes:
        file: the file, as the user wrote its name.
        base: the file's folder, absolute; relative paths in the file are relative to it.
        name: of the pipeline.
        dataset: what lists the images, as written.
        dataset_base: the folder that relative parts of `dataset` are relative to.
        prompts: the prompt sources, in order.
        combine: "first" asks until a source answers, "all" joins what all of them say.
        backend: what makes masks.
        filters: in order.
        writers: in order, each with its own folder.
        engine: what runs the workers.
        output: the output folder, absolute.
        run: the rest of `run:`.
        drop_ins: the drop-in plugin files that were loaded.
        registry: every plugin that was found.
        document: the parsed file.
    """

    file: Path
    base: Path
    name: str
    dataset: tuple[str, ...]
    dataset_base: Path
    prompts: tuple[PluginUse, ...]
    combine: Combine
    backend: PluginUse
    filters: tuple[PluginUse, ...]
    writers: tuple[PluginUse, ...]
    engine: PluginUse
    output: Path
    run: RunOptions
    drop_ins: tuple[Path, ...]
    registry: Registry = field(repr=False)
    document: Document = field(repr=False)

    def uses(self) -> Iterator[PluginUse]:
        """Every plugin in use, in the order of the work, the engine last."""
        yield from (*self.prompts, self.backend, *self.filters, *self.writers, self.engine)

    def problem(self, loc: Sequence[str | int], message: str, hint: str = "", warning: bool = False) -> Problem:
        """A problem at the place of `loc` in the file, or at the `--set` that it comes from."""
        return self.document.problem(loc, message, hint, warning=warning)

    def stages(self) -> Stages:
        """The plugins as a chain takes them."""
        return Stages(
            [(use.name, cast(PromptSource, use.stage)) for use in self.prompts],
            self.combine,
            (self.backend.name, cast(Backend, self.backend.stage)),
            [(use.name, cast(Filter, use.stage)) for use in self.filters],
            [(use.folder, cast(Writer, use.stage)) for use in self.writers],
        )

    def writer_folders(self) -> list[tuple[PluginUse, str]]:
        """Each writer with the name of its folder below the output."""
        return [(use, use.folder) for use in self.writers]

    def fingerprints(self, model_id: str) -> Fingerprints:
        """What results of this pipeline depend on.

        Args:
            model_id: what computes, from the backend.
        """
        return Fingerprints(
            [(use.entry.code, cast(PromptSource, use.stage)) for use in self.prompts],
            self.combine,
            (self.backend.entry.code, self.backend.stage),
            model_id,
            [(use.entry.code, use.stage) for use in self.filters],
            [(use.entry.code, use.folder, use.stage) for use in self.writers],
        )

    def worker_data(self, memories: Sequence[Any] = ()) -> dict[str, Any]:
        """What another process needs for `stages_from`: JSON data; may hold secrets, never store it.

        Args:
            memories: what each prompt source has to recall there, () if none was shown the dataset.
        """
        return {
            "base": str(self.base),
            "drop_ins": {str(path): self.registry.drop_ins[path] for path in self.drop_ins},
            "combine": self.combine,
            "prompts": [_plain(use) for use in self.prompts],
            "memories": list(memories),
            "backend": _plain(self.backend),
            "filters": [_plain(use) for use in self.filters],
            "writers": [_plain(use) for use in self.writers],
        }

    def resolved(self) -> dict[str, Any]:
        """The pipeline with every option and default, shaped as its file; secrets are masked."""
        run = self.run.model_dump(mode="json")
        run["engine"] = _shown(self.engine)
        return {
            "name": self.name,
            "plugins": [str(path) for path in self.drop_ins],
            "dataset": [part if part.startswith(PACKAGE) else str(self.dataset_base / part) for part in self.dataset],
            "prompts": [_shown(use) for use in self.prompts],
            "combine": self.combine,
            "backend": _shown(self.backend),
            "filters": [_shown(use) for use in self.filters],
            "writers": [_shown(use) for use in self.writers],
            "output": str(self.output),
            "run": run,
        }


def _plain(use: PluginUse) -> dict[str, Any]:
    return {"use": use.name, "options": dict(use.options), "folder": use.folder}


def _shown(use: PluginUse) -> dict[str, Any]:
    return {"use": use.name, **use.stage.model_dump(mode="json", by_alias=True)}


def stages_from(data: Mapping[str, Any]) -> Stages:
    """Build a pipeline's plugins from `Config.worker_data`, in another process.

    Raises:
        PluginError: a plugin cannot be loaded, or its file changed since the pipeline was loaded.
    """
    registry = Registry.load(Path(path) for path in data["drop_ins"])
    for path, sha256 in data["drop_ins"].items():
        if registry.drop_ins[Path(path)] != sha256:
            raise PluginError(Problem("the plugin changed while the pipeline was running", path, hint="start it again"))

    def build(role: str, plain: Mapping[str, Any]) -> Stage:
        return registry.build(role, {**plain["options"], "use": plain["use"]}, Path(data["base"]))

    sources = [(plain["use"], cast(PromptSource, build("prompt source", plain))) for plain in data["prompts"]]
    for (_, source), memory in zip(sources, data["memories"], strict=False):
        if memory is not None:
            recall_survey(source, memory)
    return Stages(
        sources,
        data["combine"],
        (data["backend"]["use"], cast(Backend, build("backend", data["backend"]))),
        [(plain["use"], cast(Filter, build("filter", plain))) for plain in data["filters"]],
        [(plain["folder"], cast(Writer, build("writer", plain))) for plain in data["writers"]],
    )
