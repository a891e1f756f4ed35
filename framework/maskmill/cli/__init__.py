"""The command line: `maskmill COMMAND`, and `run-pipeline`, which is `maskmill run`.

Only click is imported until a command runs, so that help is instant.

Exit codes: 0 success, 1 something failed, 2 wrong usage or input, 75 another process is working in the output folder,
130 interrupted.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from .json_stderr import JsonStderr, wants_json
from .streams import flush_streams, secure_streams

if TYPE_CHECKING:
    from ..errors import Problem

#: The exit code of a command that was interrupted by the user.
INTERRUPTED = 130
#: command -> module with its click command, named `command`
COMMANDS = {
    "check": "check",
    "explain": "explain",
    "export": "export",
    "init": "init",
    "merge": "merge",
    "plugins": "plugins",
    "prune": "prune",
    "run": "run",
    "schema": "schema",
    "segment": "segment",
    "status": "status",
}


class LazyGroup(click.Group):
    """Imports a command's module when the command is used; plugins can add commands."""

    _loaded = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands of maskmill and those of plugins."""
        with contextlib.suppress(Exception):  # help should work even if a plugin cannot be loaded
            self._load_plugins()
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name; looks it up in plugins if it is not one of maskmill's."""
        if name in COMMANDS:
            command = importlib.import_module(f".{COMMANDS[name]}", __name__).command
            assert isinstance(command, click.Command)
            return command
        for wanted in (name, None):  # first the built-in that has it, then all plugins
            if super().get_command(ctx, name) is None:
                self._load_plugins(wanted)
        return super().get_command(ctx, name)

    def _load_plugins(self, name: str | None = None) -> None:
        """Register the commands of plugins; of the built-ins only the one with this command, or all if None."""
        if not self._loaded:
            from ..plugins.registry import Registry

            registry = Registry.load()
            if name is None:
                registry.load_all()
                for problem in registry.failures:
                    click.echo(str(problem), err=True)
            else:
                registry.load_waiting(name)
            registry.manager.hook.register_commands(cli=self)
            self._loaded = name is None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="maskmill")
def cli() -> None:
    """Turn folders of images into masks, as described in a YAML pipeline file."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of `maskmill`."""
    run_command(cli, arguments)


def run_command(command: click.Command, arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit; errors meant for the user are printed without a traceback."""
    secure_streams()
    as_json = wants_json(sys.argv[1:] if arguments is None else arguments)
    stderr = JsonStderr() if as_json else None
    try:
        code = _run(command, arguments, as_json)
    finally:
        if stderr is not None:
            stderr.close()
    if code == INTERRUPTED:  # another Ctrl-C while Python shuts down would change the exit code
        with contextlib.suppress(ValueError):  # only the main thread can, and only it receives signals
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    flush_streams()
    sys.exit(code)


def _run(command: click.Command, arguments: list[str] | None, as_json: bool) -> int:
    """Run a command and return its exit code; an error is reported as text or as an event."""
    try:
        return command.main(args=arguments, standalone_mode=False, windows_expand_args=False) or 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        if as_json:
            _write_error("interrupted before the work began", INTERRUPTED)
        else:
            click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except click.ClickException as error:
        explained = _explain(error)
        if as_json:
            _write_error(explained.format_message(), error.exit_code)
        else:
            explained.show()
        return error.exit_code
    except Exception as error:
        return _report_error(error, as_json)


def _write_error(text: str, code: int, problems: Sequence[Problem] = ()) -> None:
    from dataclasses import asdict

    from ..run.events import write_event

    write_event("error", exit_code=code, text=text, problems=[asdict(problem) for problem in problems])


def _explain(error: click.ClickException) -> click.ClickException:
    """The error; if it is an unknown command, with the one that was meant."""
    context = getattr(error, "ctx", None)
    found = re.match(r"No such command '(.+)'", error.message)
    if found is None or context is None or not isinstance(context.command, click.Group):
        return error
    from ..errors import nearest_name

    name, path = found[1], context.command_path
    if close := nearest_name(name, context.command.list_commands(context)):
        return click.UsageError(f"No such command '{name}'. Did you mean '{path} {close}'?", context)
    if name.endswith((".yaml", ".yml")):
        return click.UsageError(f"No such command '{name}'. To run a pipeline file: run-pipeline {name}", context)
    return error


def _report_error(error: Exception, as_json: bool) -> int:
    from ..errors import MaskmillError, UsageError
    from ..plugins.find import blame_plugin

    if not isinstance(error, MaskmillError) and (blamed := blame_plugin(error)) is not None:
        error = blamed
    code = error.exit_code if isinstance(error, UsageError) else 1
    if as_json and not isinstance(error, MaskmillError):
        _write_error("".join(traceback.format_exception(error)), code)
    elif as_json:
        _write_error(str(error), code, error.problems if isinstance(error, UsageError) else ())
    elif not isinstance(error, MaskmillError):
        raise error
    else:
        click.echo(str(error), err=True)
    return code
