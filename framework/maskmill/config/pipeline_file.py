"""The top level of a pipeline file: its keys, their defaults, and what each allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..plugins.options import OptionSchema, Schema
from .config import RunOptions
from .document import Loc

Text = Annotated[str, Field(min_length=1)]

#: Used by a file that names no backend, no engine.
DEFAULT_BACKEND: Mapping[str, Any] = {"use": "sam", "model": "vit_b"}
DEFAULTS: Mapping[Loc, Mapping[str, Any]] = {("backend",): DEFAULT_BACKEND, ("run", "engine"): {"use": "joblib"}}


class PipelineFile(BaseModel):
    """The top level of a pipeline file; the plugins in it are validated by their own models."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Text | None = Field(None, description="name of the pipeline; by default the name of the file")
    extends: Text | None = Field(None, description="another pipeline file, whose settings hold where this one has none")
    plugins: Text | list[Text] = Field([], description="plugin files or folders to load")
    dataset: Text | Annotated[list[Text], Field(min_length=1)] | None = Field(
        None, description="the images: a folder, a pattern, a list file, or package:NAME/PATH; or a list of these"
    )
    prompts: Annotated[list[Any], Field(min_length=1)] = Field(
        [], description="what to segment: a list of prompt sources, such as `- use: manual`"
    )
    corrections: Text | None = Field(
        None, description="the file of what people decided about images; it comes before every prompt source"
    )
    combine: Literal["first", "all"] = Field(
        "first", description="first: the first source with an answer for the image; all: the prompts of all sources"
    )
    backend: Any = Field(DEFAULT_BACKEND, description="the model that makes the masks")
    filters: list[Any] = Field([], description="which masks to keep")
    writers: list[Any] = Field([], description="which files to write")
    output: Text | None = Field(None, description="the output folder, or an address such as s3://bucket/masks")
    images: dict[str, Any] = Field({}, description="how image files are read: high bit depths, pages")
    storage: dict[str, Any] = Field({}, description="for addresses of object storage: endpoint, region")
    run: dict[str, Any] = Field({}, description="workers, time limit and other settings of the run")

    @property
    def entries(self) -> list[str]:
        """`dataset` as a list."""
        return [self.dataset] if isinstance(self.dataset, str) else self.dataset or []


def find_top_schemas(loc: Loc) -> Sequence[Schema] | None:
    """What the option at a path allows; None for the options of a plugin, which are not known yet."""
    nothing: Schema = {"type": "null"}  # a key without a value counts as missing
    if loc[0] in ("prompts", "filters", "writers"):
        place = loc[2:] if len(loc) > 1 else None
    elif loc[0] == "backend" or loc[:2] == ("run", "engine"):
        place = loc[1:] if loc[0] == "backend" else loc[2:]
    else:
        place = None
    if place == ():
        return [{"type": "string"}, {"type": "object"}, nothing]
    if place is not None:
        return [{"type": "string"}, nothing] if place == ("use",) else None
    model, inside = (RunOptions, loc[1:]) if loc[0] == "run" and len(loc) > 1 else (PipelineFile, loc)
    found = OptionSchema(model).at(inside)
    return [*found, nothing] if found else []
