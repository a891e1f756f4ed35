"""Every hook that a plugin can implement. Mark implementations with `@maskmill.hookimpl`.

`register_*` hooks receive a function and call it once for each class:
`register(name, Class)`. The name is what users write after `use:`.
Observer hooks run in the main process only and cannot change prompts or masks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import click

    from ..results import ImageResult, RunInfo, RunReport
    from .engine import Engine
    from .roles import Backend, Filter, PromptSource, Writer

hookspec = pluggy.HookspecMarker("maskmill")
hookimpl = pluggy.HookimplMarker("maskmill")


@hookspec
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Register prompt sources, listed under `prompts:`."""


@hookspec
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Register backends, selected under `backend:`."""


@hookspec
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Register filters, listed under `filters:`."""


@hookspec
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Register writers, listed under `writers:`."""


@hookspec
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Register engines, selected under `run: {engine: ...}`. Not stable before 1.0."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to `maskmill`, with `cli.add_command(command)`."""


@hookspec
def run_started(run: RunInfo) -> None:
    """A run starts; called once, before the first image."""


@hookspec
def image_finished(run: RunInfo, result: ImageResult) -> None:
    """The result of an image has been recorded; called in the order in which images finish."""


@hookspec
def run_finished(run: RunInfo, report: RunReport) -> None:
    """A run ended, complete or not; called once, after the dataset-wide files are written."""
