"""`maskmill plugins`: list and describe plugins; check a new one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..wording import count_noun
from .options import BESIDE, DROP_INS_HINT, FILE, PLUGINS, load_registry, parse_settings, show_failures
from .plugins_new import new

if TYPE_CHECKING:
    from ..plugins.registry import RegisteredPlugin
    from ..plugins.stage import Stage


@click.group("plugins")
def command() -> None:
    """List plugins, and help to write new ones."""


command.add_command(new)


@command.command("list")
@PLUGINS
@BESIDE
def list_(plugins: tuple[Path, ...], file: Path | None) -> None:
    """List every plugin: name, role, origin, and what it does."""
    from ..plugins.packages import is_installed

    for entry in _load_entries(plugins, file):
        lines = (entry.cls.__doc__ or "").strip().splitlines()
        missing = "; ".join(package for package in entry.cls.requires if not is_installed(package))
        note = f" [not installed: {missing}]" if missing else ""
        click.echo(f"{entry.name:12} {entry.role:14} {entry.origin:12} {lines[0] if lines else ''}{note}")
    if not (file or plugins):
        click.echo(DROP_INS_HINT)


@command.command("show")
@click.argument("name")
@PLUGINS
@BESIDE
def show(name: str, plugins: tuple[Path, ...], file: Path | None) -> None:
    """Describe the plugin NAME: what it does, its options, what it needs."""
    from ..errors import PluginError, Problem, suggest_name

    entries = _load_entries(plugins, file)
    chosen = [entry for entry in entries if entry.name == name]
    if not chosen:
        names = sorted({entry.name for entry in entries})
        hint = "\n  ".join([suggest_name(name, names), *([] if file or plugins else [DROP_INS_HINT])])
        raise PluginError(Problem(f"there is no plugin {name!r}", hint=hint))
    click.echo("\n\n".join(_describe(entry) for entry in chosen))


@command.command("check")
@click.argument("file", type=FILE)
@click.option("--set", "sets", multiple=True, metavar="OPTION=VALUE", help="Set an option of the plugin.")
@click.option("--inline", is_flag=True, help="Run it in this process only, not also through joblib.")
def check(file: Path, sets: Sequence[str], inline: bool) -> int:
    """Test the plugins of a drop-in FILE on generated images, alone and in a complete run."""
    from ..plugins.registry import Registry
    from ..testing.check import check_file

    def list_models() -> list[type[Stage]]:
        entries = Registry.load([file.resolve()]).entries.values()
        return [entry.cls for entry in entries if entry.origin == str(file.resolve())]

    problems = 0
    for verdict in check_file(file, parse_settings(sets, list_models), ("inline",) if inline else ("inline", "joblib")):
        click.echo(str(verdict))
        problems += bool(verdict.problem)
    click.echo("no problems" if not problems else count_noun(problems, "problem"))
    return 1 if problems else 0


def _load_entries(plugins: tuple[Path, ...], file: Path | None) -> list[RegisteredPlugin]:
    from ..plugins.registry import ROLES

    roles = list(ROLES)
    registry = load_registry(plugins, file)
    entries = registry.entries.values()
    show_failures(registry)
    return sorted(entries, key=lambda entry: (roles.index(entry.role), entry.name))


def _describe(entry: RegisteredPlugin) -> str:
    import inspect

    from ..plugins.options import OptionRow, list_options
    from ..plugins.packages import is_installed

    cls = entry.cls
    needs = [f"{package}{'' if is_installed(package) else ' (not installed)'}" for package in cls.requires]
    install = f'  pip install "maskmill[{cls.extra}]"' if cls.extra else ""
    facts = [
        f"{entry.name}: {entry.role}",
        "",
        inspect.cleandoc(cls.__doc__ or "(no description)"),
        "",
        f"from     {entry.origin}",
        f"version  {cls.version}",
        f"network  {cls.network}",
        f"needs    {', '.join(needs) or 'nothing'}{install}",
        "",
    ]
    rows = [
        OptionRow(*(cell.replace("`", "").replace("*needed*", "needed") for cell in row)) for row in list_options(cls)
    ]
    if not rows:
        return "\n".join([*facts, "It has no options."])
    rows.insert(0, OptionRow("option", "value", "default", "meaning"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row.meaning]).rstrip()
        for row in rows
    ]
    return "\n".join([*facts, *lines])
