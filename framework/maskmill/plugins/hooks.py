"""Every hook a plugin can implement. Mark implementations with `@maskmill.hookimpl`.

`register_*` hooks receive a function and call it once for each thing they offer:
`register(name, Class)`. The name is what users write under `use:`.
Observers run in the driver only; none of them can change prompts or masks.
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
    """Offer prompt sources: what stands under `prompts:`."""


@hookspec
def register_backends(register: Callable[[str, type[Backend]], None]) -> None:
    """Offer backends: what stands under `backend:`."""


@hookspec
def register_filters(register: Callable[[str, type[Filter]], None]) -> None:
    """Offer filters: what stands under `filters:`."""


@hookspec
def register_writers(register: Callable[[str, type[Writer]], None]) -> None:
    """Offer writers: what stands under `writers:`."""


@hookspec
def register_engines(register: Callable[[str, type[Engine]], None]) -> None:
    """Offer engines: what stands under `run: {engine: ...}`. Not a public contract before 1.0."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to `maskmill`, with `cli.add_command(command)`."""


@hookspec
def run_started(run: RunInfo) -> None:
    """A run begins: called once, before the first image."""


@hookspec
def image_finished(run: RunInfo, result: ImageResult) -> None:
    """An image has its result, recorded; called in the driver, in the order images finish."""


@hookspec
def run_finished(run: RunInfo, report: RunReport) -> None:
    """A run ended, finished or not: called once, after the dataset-wide files."""
