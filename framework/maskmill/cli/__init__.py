"""The command line: `maskmill COMMAND`, and `run-pipeline`, which is `maskmill run`.

Nothing but click is imported until a command runs, so that a command's help is instant.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import click

#: command -> module with a function `command`
COMMANDS = {
    "check": "check",
    "explain": "explain",
    "export": "export",
    "init": "init",
    "merge": "merge",
    "plugins": "plugins",
    "run": "run",
    "schema": "schema",
    "status": "status",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used; plugins may add commands."""

    _loaded = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands that come with maskmill, and those that plugins add."""
        with contextlib.suppress(Exception):  # help works in a broken installation too
            self._load_plugins()
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name; an unknown one may be a plugin's."""
        if name in COMMANDS:
            command = importlib.import_module(f".{COMMANDS[name]}", __name__).command
            assert isinstance(command, click.Command)
            return command
        for wanted in (name, None):
            if super().get_command(ctx, name) is None:
                self._load_plugins(wanted)
        return super().get_command(ctx, name)

    def _load_plugins(self, name: str | None = None) -> None:
        """Add the commands of plugins; of the built-ins, of the one that has this command, or of all."""
        if not self._loaded:
            from ..plugins.registry import Registry

            registry = Registry.load()
            if name is None:
                registry.load_all()
            else:
                registry.load_waiting(name)
            registry.manager.hook.register_commands(cli=self)
            self._loaded = name is None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="maskmill")
def cli() -> None:
    """Turn folders of images into masks: a YAML file says what to segment, with what, into what."""


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of `maskmill`."""
    from .errors import guarded

    return guarded(cli, arguments)
