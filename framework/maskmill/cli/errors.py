"""From exceptions to exit codes: 2 the user's mistake, 1 something failed, 130 interrupted."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import NoReturn

import click

#: The exit code of a command that a person ended.
INTERRUPTED = 130


def guarded(command: click.Command, arguments: list[str] | None = None) -> NoReturn:
    """Run a command; errors that are meant for the user become text without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the console cannot show must not end a run
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command.main(args=arguments, standalone_mode=False, windows_expand_args=False) or 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except Exception as error:
        code = _report(error)
    if code == INTERRUPTED:  # one more Ctrl-C, while Python ends, would kill it by the signal instead
        with contextlib.suppress(ValueError):  # not in the main thread: no signal comes here
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def _report(error: Exception) -> int:
    from ..errors import MaskmillError, UsageError

    if not isinstance(error, MaskmillError):
        raise error
    click.echo(str(error), err=True)
    return 2 if isinstance(error, UsageError) else 1
