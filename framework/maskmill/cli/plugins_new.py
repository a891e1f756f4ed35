"""`maskmill plugins new ROLE NAME`: a working plugin to start from."""

from __future__ import annotations

from pathlib import Path

import click

from ..files import quote_command
from .options import FILE, write_text

ROLES = ("source", "backend", "filter", "writer", "observer")
#: Characters of a name; with it, the lines of the file have at most 88.
LONGEST = 30


@click.command("new")
@click.argument("role", type=click.Choice(ROLES))
@click.argument("name")
@click.option("--folder", type=FILE, default=Path("plugins"), show_default=True, help="Where to write it.")
def new(role: str, name: str, folder: Path) -> int:
    """Write a working drop-in plugin NAME and a test for it; overwrites nothing."""
    from ..testing.templates import plugin_text, test_text, yaml_line

    _check_name(role, name, folder)
    plugin, test = folder / f"{name}.py", folder / f"_{name}_test.py"
    for file in (plugin, test):
        if file.exists():
            raise click.UsageError(f"'{file}' already exists; choose another name or --folder")
    write_text(plugin, plugin_text(role, name))
    write_text(test, test_text(role, name))
    click.echo(f"created  {plugin}\ncreated  {test}\n\nTry it out:")
    click.echo(f"  maskmill plugins check {quote_command([str(plugin)])}\n  pytest {quote_command([str(test)])}")
    click.echo(_explain_use(yaml_line(role, name), folder.resolve().name))
    return 0


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
    if re.search(rf"\b{class_name(name)}\b", plugin_text(role, "")):
        return f"the class {class_name(name)} would hide the one that the plugin imports; try my_{name}"
    if (module := importlib.util.find_spec(name)) is not None and module.origin is not None:
        return f"the file {name}.py would hide the installed module {name!r}; try my_{name}"
    return ""
