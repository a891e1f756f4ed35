"""`maskmill plugins new ROLE NAME`: a plugin that works, to be changed into the one that is wanted."""

from __future__ import annotations

from pathlib import Path

import click

from .options import FILE

ROLES = ("source", "backend", "filter", "writer", "observer")
#: Letters of a name; the lines of the file have 88 with it.
LONGEST = 30


@click.command("new")
@click.argument("role", type=click.Choice(ROLES))
@click.argument("name")
@click.option("--folder", type=FILE, default=Path("plugins"), show_default=True, help="Where to write it.")
def new(role: str, name: str, folder: Path) -> int:
    """Write a working drop-in plugin NAME and its test into a folder; nothing is overwritten."""
    from ..testing.templates import plugin_text, test_text, yaml_line
    from .writing import write_text

    _check_name(role, name, folder)
    plugin, test = folder / f"{name}.py", folder / f"_{name}_test.py"
    for file in (plugin, test):
        if file.exists():
            raise click.UsageError(f"'{file}' exists; choose another name or --folder")
    write_text(plugin, plugin_text(role, name))
    write_text(test, test_text(role, name))
    click.echo(f"created  {plugin}\ncreated  {test}\n\nTry it out:")
    click.echo(f"  maskmill plugins check {_quoted(plugin)}\n  pytest {_quoted(test)}")
    click.echo(_how_to_use(yaml_line(role, name), folder.resolve().name))
    return 0


def _how_to_use(line: str, folder: str) -> str:
    """Where a pipeline file lies that finds the plugin, and what stands in it.

    Args:
        line: what names the plugin there, "" for an observer.
        folder: the name of the folder that the plugin lies in.
    """
    where = "beside the folder 'plugins', or in a folder beside it"
    lines = [line] if line else []
    if folder != "plugins":
        where, lines = f"beside the folder '{folder}'", [f"plugins: {folder}", *lines]
    if not lines:
        return f"\nIt sees every run of a pipeline file that lies {where}."
    return "\n  ".join([f"\nUse it, in a pipeline file that lies {where}:", *lines])


def _check_name(role: str, name: str, folder: Path) -> None:
    """Refuse a name that cannot be a class and a file, or that another plugin has.

    Raises:
        click.UsageError: with the reason.
    """
    from ..errors import PluginError
    from ..plugins.find import find_drop_ins
    from ..plugins.registry import Registry

    if reason := _unfit(role, name):
        raise click.UsageError(reason)
    try:
        registry = Registry.load(find_drop_ins(folder / "_"))
    except PluginError:  # another file is broken; that shall not keep one from beginning
        registry = Registry.load()
    for entry in registry.entries.values():
        if entry.name == name:
            raise click.UsageError(f"there is a plugin {name!r} already: the {entry.role} of {entry.origin}")


def _unfit(role: str, name: str) -> str:
    """Why a name cannot be that of a file, a module and a class, "" if it can."""
    import importlib.util
    import keyword
    import re

    from ..files import safe_part
    from ..testing.templates import class_name, plugin_text

    if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_") or safe_part(name) != name:
        return f"{name!r} cannot be a plugin's name: letters, digits and _ only, a letter first"
    if len(name) > LONGEST:
        return f"a plugin's name has at most {LONGEST} letters, this one has {len(name)}"
    if name != name.lower():
        return f"{name!r} cannot be a plugin's name; write it in small letters: {name.lower()}"
    if re.search(rf"\b{class_name(name)}\b", plugin_text(role, "")):
        return f"the class {class_name(name)} would hide the one that the plugin imports; say more: my_{name}"
    if (module := importlib.util.find_spec(name)) is not None and module.origin is not None:
        return f"the file {name}.py would hide the module {name!r} that is installed; say more: my_{name}"
    return ""


def _quoted(path: Path) -> str:
    text = str(path)
    return f'"{text}"' if " " in text else text
