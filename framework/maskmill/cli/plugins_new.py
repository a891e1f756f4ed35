"""`maskmill plugins new ROLE NAME`: a working plugin to start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from ..files import quote_command
from .options import FILE, write_text

#: Roles of plugins that can be a single file beside a pipeline file; commands belong to no pipeline.
DROP_IN_ROLES = ("source", "backend", "filter", "writer", "observer")
ROLES = (*DROP_IN_ROLES, "command")
#: Characters of a name; with it, the lines of the file have at most 88.
LONGEST = 30


@click.command("new")
@click.argument("role", type=click.Choice(ROLES))
@click.argument("name")
@click.option(
    "--folder", type=FILE, help="Where to write it; by default the folder plugins, or the current one for a package."
)
@click.option("--package", is_flag=True, help="Write an installable package; a command is always one.")
def new(role: str, name: str, folder: Path | None, package: bool) -> int:
    """Write a working plugin NAME and a test for it; overwrites nothing.

    It is a drop-in file for the folder `plugins` beside a pipeline file, or with --package a folder for pip.
    """
    from ..testing.templates import package_files, plugin_text, test_text, yaml_line

    if package or role == "command":
        home = (folder or Path()) / f"maskmill-{name.replace('_', '-')}"
        _check_name(role, name, home)
        _write_new({home / file: text for file, text in package_files(role, name).items()})
        click.echo(f"  pip install -e {quote_command([f'{home}[test]'])}\n  pytest {quote_command([str(home)])}")
        click.echo(_explain_package(role, name, yaml_line(role, name)))
        return 0
    folder = folder or Path("plugins")
    plugin, test = folder / f"{name}.py", folder / f"_{name}_test.py"
    _check_name(role, name, folder)
    _write_new({plugin: plugin_text(role, name), test: test_text(role, name)})
    click.echo(f"  maskmill plugins check {quote_command([str(plugin)])}\n  pytest {quote_command([str(test)])}")
    click.echo(_explain_use(yaml_line(role, name), folder.resolve().name))
    return 0


def _write_new(files: Mapping[Path, str]) -> None:
    """Write new files.

    Raises:
        click.UsageError: one of them exists; none is written.
    """
    for file in files:
        if file.exists():
            raise click.UsageError(f"'{file}' already exists; choose another name or --folder")
    for file, text in files.items():
        write_text(file, text)
        click.echo(f"created  {file}")
    click.echo("\nTry it out:")


def _explain_package(role: str, name: str, line: str) -> str:
    """Explain how an installed plugin is used."""
    if role == "command":
        return f"\nOnce it is installed: maskmill {name} --help"
    if not line:
        return "\nOnce it is installed, it observes every run."
    return f"\nOnce it is installed, write in any pipeline file:\n  {line}"


def _explain_use(line: str, folder: str) -> str:
    """Explain which pipeline files find the plugin, and what to write in them.

    Args:
        line: the line that selects the plugin, "" for an observer.
        folder: the name of the plugin's folder.
    """
    where = "next to the folder 'plugins', or in a folder next to it"
    lines = [line] if line else []
    if folder != "plugins":
        where, lines = f"next to the folder '{folder}'", [f"plugins: {folder}", *lines]
    if not lines:
        return f"\nIt observes every run of a pipeline file {where}."
    return "\n  ".join([f"\nTo use it, write in a pipeline file {where}:", *lines])


def _check_name(role: str, name: str, folder: Path) -> None:
    """Check that a name can be used for a class and a file, and is not taken.

    Raises:
        click.UsageError: it cannot be used, with the reason.
    """
    from ..plugins.find import find_drop_ins
    from ..plugins.registry import Registry

    if reason := _find_name_problem(role, name):
        raise click.UsageError(reason)
    neighbours = find_drop_ins(folder / "_")
    registry = Registry.load(neighbours, optional=neighbours)  # a new one can be written beside one that is broken
    for entry in registry.entries.values():
        if entry.name == name:
            raise click.UsageError(f"there is already a plugin {name!r}: the {entry.role} of {entry.origin}")
    context = click.get_current_context().find_root()
    if (
        role == "command"
        and isinstance(context.command, click.Group)
        and name in context.command.list_commands(context)
    ):
        raise click.UsageError(f"there is already a command {name!r}: maskmill {name}")


def _find_name_problem(role: str, name: str) -> str:
    """Why a name cannot be used for a file, a module and a class, "" if it can."""
    import importlib.util
    import keyword
    import re

    from ..files import safe_part
    from ..testing.templates import class_name, plugin_text

    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or safe_part(name) != name:
        return f"{name!r} cannot be a plugin's name: use letters, digits and _, beginning with a letter"
    if len(name) > LONGEST:
        return f"a plugin's name can have at most {LONGEST} characters, this one has {len(name)}"
    if name != name.lower():
        return f"{name!r} cannot be a plugin's name; use lower case: {name.lower()}"
    if role != "command" and re.search(rf"\b{class_name(name)}\b", plugin_text(role, "")):
        return f"the class {class_name(name)} would hide the one that the plugin imports; try my_{name}"
    if (module := importlib.util.find_spec(name)) is not None and module.origin is not None:
        return f"the file {name}.py would hide the installed module {name!r}; try my_{name}"
    return ""
