"""What every plugin promises, whatever its role, as checks on a bench. A check raises `Broken` or returns."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from ..config.option_errors import explain_validation_error
from ..errors import Problem, nearest_name
from ..plugins.optional import network_reach, optional_methods
from ..plugins.options import OptionSchema, list_options
from ..plugins.registry import ROLES
from ..plugins.stage import Stage
from .bench import Bench, Broken

#: Role -> the methods of which a plugin has to write at least one.
_NEEDED = {
    "prompt source": {"prompts"},
    "backend": {"masks"},
    "filter": {"apply"},
    "writer": {"write", "finish", "finish_entries"},
}


def check_docstring(bench: Bench) -> None:
    """The class has a docstring of its own."""
    cls = bench.entry.cls
    if not (cls.__doc__ or "").strip() or cls.__doc__ == next(c.__doc__ for c in cls.__mro__[1:] if c.__doc__):
        raise Broken(f"the class {cls.__name__} has no docstring", "its first line is shown by: maskmill plugins list")


def check_option_docs(bench: Bench) -> None:
    """Each option has a description and a JSON Schema."""
    cls = bench.entry.cls
    if undocumented := [row.name for row in list_options(cls) if not row.meaning]:
        hint = f'for example: {undocumented[0]}: ... = Field(..., description="...")'
        raise Broken(f"no description: {', '.join(undocumented)}", hint)
    if cls.model_fields and not OptionSchema(cls).keys(()):
        raise Broken("an option has a type without JSON Schema", "use types that pydantic can describe")


def check_methods(bench: Bench) -> None:
    """The class has the methods of its role, with their arguments and no misspelt ones."""
    base = ROLES[bench.entry.role][0]
    cls = bench.entry.cls
    roles_own = [vars(part) for part in base.__mro__ if issubclass(part, Stage)]
    known = {name: getattr(base, name) for names in roles_own for name in names if inspect.isroutine(names[name])}
    known = {name: method for name, method in known.items() if name[0] != "_"} | optional_methods(bench.entry.role)
    own = {name for part in cls.__mro__ if part not in base.__mro__ for name in vars(part)}
    needed = _NEEDED.get(bench.entry.role, {"submit"})
    if not own & needed:
        raise Broken(f"the method {' or '.join(sorted(needed))} is missing")
    if len(halves := own & {"make_entry", "finish_entries"}) == 1:
        raise Broken(f"{cls.__name__} has {halves.pop()} alone", "define make_entry and finish_entries, or neither")
    for name in sorted(name for name in own - known.keys() if not name.startswith("_")):
        close = nearest_name(name, known.keys() - own, 0.8)
        if close and inspect.isfunction(getattr(cls, name, None)):
            raise Broken(f"{cls.__name__}.{name} is not a method of the role", f"did you mean {close!r}?")
    for name in sorted(own & known.keys()):
        _check_arguments(cls, known[name], name)


def _check_arguments(cls: type[Stage], method: Callable[..., Any], name: str) -> None:
    """Refuse an overridden method that cannot be called like the role's own."""
    wanted = inspect.signature(method)
    written = inspect.signature(getattr(cls, name))
    try:
        written.bind(*wanted.parameters)
    except TypeError as error:
        hint = f"write it as {name}{wanted}".replace("'", "")
        raise Broken(f"{name}{written} does not fit: {error}", hint) from None


def check_options(bench: Bench) -> None:
    """The given options are accepted, and give the same digest each time."""
    cls = bench.entry.cls
    try:
        stage = bench.build_stage()
    except ValidationError as error:
        owner = f"the {bench.entry.role} {bench.entry.name!r}"
        found = explain_validation_error(error, cls, dict(bench.options), owner)
        missing = {
            str(item["loc"][0]) for item in error.errors() if item["type"] == "missing" and len(item["loc"]) == 1
        }
        hint = (
            "give it one: " + " ".join(f"--set {name}=VALUE" for name in sorted(missing)) if missing else found[0].hint
        )
        raise Broken(str(found[0]), hint) from None
    if stage.digest() != bench.build_stage().digest():
        raise Broken("digest() differs between two stages with the same options", "an option has no stable JSON form")


def check_requirements(bench: Bench) -> None:
    """Its packages are installed, and its own `check` finds nothing wrong."""
    stage = bench.build_stage()
    found = stage.missing() or stage.check()
    if not isinstance(found, list) or not all(isinstance(problem, Problem) for problem in found):
        raise Broken(f"check() returns {found!r}", "return a list of maskmill.Problem, [] if nothing is wrong")
    if errors := [problem for problem in found if not problem.warning]:
        text = f"{errors[0].where}: {errors[0].message}" if errors[0].where else errors[0].message
        raise Broken(text, errors[0].hint or "options are given with --set OPTION=VALUE")


def check_opening(bench: Bench) -> None:
    """It opens and closes without an error."""
    with bench.open_stage():
        pass


def check_commands(hook: Callable[..., None]) -> None:
    """The commands that a plugin adds have a help text, and show it."""
    import click
    from click.testing import CliRunner

    group = click.Group("maskmill")
    hook(cli=group)
    if not group.commands:
        raise Broken("register_commands adds no command", "write: cli.add_command(command)")
    for name, command in group.commands.items():
        if not command.get_short_help_str():
            raise Broken(f"the command {name!r} has no description", "write a docstring; `maskmill --help` shows it")
        shown = CliRunner().invoke(command, ["--help"])
        if shown.exit_code:
            raise Broken(f"{name} --help ends with exit code {shown.exit_code}: {shown.exception or shown.output}")


def check_prints(bench: Bench) -> None:
    """It printed nothing to standard output, which belongs to what a command was asked for, such as JSON."""
    if lines := bench.printed.getvalue().strip().splitlines():
        hint = "write self.tell(...) for the lines of -v, self.note(...) for the result, or print to sys.stderr"
        raise Broken(f"it printed to standard output: {lines[0]:.100}", hint)


def check_network(bench: Bench) -> None:
    """It connected to other machines only if it declares that."""
    declared = network_reach(bench.build_stage())
    if declared not in {"none", "lan", "internet"}:
        raise Broken(f"reaches() returns {declared!r}", 'return "none", "lan" or "internet"')
    if bench.connections and declared == "none":
        hint = 'write network = "internet" (or "lan") in the class; --offline relies on it'
        raise Broken(f"it connected to {bench.connections[0]}, but declares that it needs no network", hint)
