"""maskmill: a YAML file turns a folder of images into masks.

The names below are the public API. They are imported when first used, so that
`import maskmill` and the command line's help cost nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .errors import (
        DatasetError,
        ImageError,
        ImageReadError,
        MaskmillError,
        OutputError,
        PipelineError,
        PluginError,
        Problem,
        PromptError,
        StopRun,
        Transient,
        UsageError,
    )
    from .hookspecs import hookimpl
    from .images import Image, ImageRef
    from .inventory import Item, Survey
    from .masks import Mask
    from .pipeline import Pipeline, segment
    from .prompts import Box, Grid, Point, Prompt
    from .results import Artifact, Failure, ImageResult, RunReport, read_run, save
    from .run.record import RunInfo
    from .runs import Run
    from .stage import NO_EFFECT
    from .stages import Backend, Filter, PromptSource, Writer

_HOMES = {
    "errors": (
        "DatasetError ImageError ImageReadError MaskmillError OutputError PipelineError PluginError"
        " Problem PromptError StopRun Transient UsageError"
    ),
    "hookspecs": "hookimpl",
    "images": "Image ImageRef",
    "inventory": "Item Survey",
    "masks": "Mask",
    "pipeline": "Pipeline segment",
    "prompts": "Box Grid Point Prompt",
    "results": "Artifact Failure ImageResult RunReport read_run save",
    "run.record": "RunInfo",
    "runs": "Run",
    "stage": "NO_EFFECT",
    "stages": "Backend Filter PromptSource Writer",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "NO_EFFECT",
    "Artifact",
    "Backend",
    "Box",
    "DatasetError",
    "Failure",
    "Filter",
    "Grid",
    "Image",
    "ImageError",
    "ImageReadError",
    "ImageRef",
    "ImageResult",
    "Item",
    "Mask",
    "MaskmillError",
    "OutputError",
    "Pipeline",
    "PipelineError",
    "PluginError",
    "Point",
    "Problem",
    "Prompt",
    "PromptError",
    "PromptSource",
    "Run",
    "RunInfo",
    "RunReport",
    "StopRun",
    "Survey",
    "Transient",
    "UsageError",
    "Writer",
    "__version__",
    "hookimpl",
    "read_run",
    "save",
    "segment",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
