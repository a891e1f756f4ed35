"""Registers the prompt source `qwen` and the command `maskmill qwen`."""

from __future__ import annotations

from collections.abc import Callable

import click

from maskmill import PromptSource, hookimpl

from .source import Qwen


@hookimpl
def register_prompt_sources(register: Callable[[str, type[PromptSource]], None]) -> None:
    """Register `qwen`."""
    register("qwen", Qwen)


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Register `maskmill qwen`."""
    from .commands import qwen

    cli.add_command(qwen)
