"""`maskmill plugins`: what was found, and where."""

from __future__ import annotations

from pathlib import Path

import click

from .options import FILE


@click.group("plugins")
def command() -> None:
    """What plugins there are."""


@command.command("list")
@click.option(
    "--plugins", multiple=True, type=FILE, metavar="PATH", help="Also load drop-ins from this file or folder."
)
@click.option("--for", "file", type=FILE, help="Also what lies beside this pipeline file.")
def list_(plugins: tuple[Path, ...], file: Path | None) -> None:
    """List every plugin: name, role, where it comes from, and what it does."""
    from ..plugins import ROLES, Registry, find_drop_ins

    registry = Registry.load(find_drop_ins(file, plugins))
    roles = list(ROLES)
    entries = sorted(registry.entries.values(), key=lambda entry: (roles.index(entry.role), entry.name))
    for entry in entries:
        lines = (entry.cls.__doc__ or "").strip().splitlines()
        missing = "; ".join(package for package in entry.cls.requires if not _installed(package))
        note = f" [not installed: {missing}]" if missing else ""
        click.echo(f"{entry.name:12} {entry.role:14} {entry.origin:12} {lines[0] if lines else ''}{note}")


def _installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None
