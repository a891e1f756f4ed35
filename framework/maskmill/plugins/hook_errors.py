"""Explains what is wrong with a plugin's hooks: a misspelt one, a wrong argument, a forgotten `@hookimpl`."""

from __future__ import annotations

import inspect
from types import FunctionType, ModuleType

import pluggy

from ..errors import PluginError, Problem, suggest_name
from . import hooks as hookspecs
from .find import GROUP

#: The hooks that a plugin can implement, in the order of their documentation.
HOOKS = tuple(name for name, value in vars(hookspecs).items() if hasattr(value, f"{GROUP}_spec"))


def check_hooks(plugin: ModuleType | object, origin: str) -> None:
    """Refuse a plugin with a hook that would never be called.

    Args:
        plugin: the module.
        origin: names it in messages.

    Raises:
        PluginError: a hook is misspelt, or a function has the name of a hook without being marked as one.
    """
    marked: list[str] = []
    unmarked: list[str] = []
    for name, value in vars(plugin).items():
        if isinstance(value, FunctionType):
            (marked if hasattr(value, f"{GROUP}_impl") else unmarked).append(name)
    for name in marked:
        if name not in HOOKS:
            raise PluginError(Problem(f"plugin {origin}: there is no hook {name!r}", hint=suggest_name(name, HOOKS)))
    for name in unmarked:
        if name in HOOKS and vars(plugin)[name].__module__ == getattr(plugin, "__name__", None):
            hint = f"write @hookimpl in the line above: def {name}(...), and: from maskmill import hookimpl"
            raise PluginError(Problem(f"plugin {origin}: {name} is not marked as a hook", hint=hint))


def explain_hook_error(error: pluggy.PluginValidationError, plugin: ModuleType | object, origin: str) -> PluginError:
    """The error for a plugin that pluggy refused: the hook with arguments that it does not have.

    Args:
        error: what pluggy raised.
        plugin: the module.
        origin: names it in messages.
    """
    for name in HOOKS:
        function = getattr(plugin, name, None)
        if function is None:
            continue
        given = list(inspect.signature(function).parameters)
        known = list(inspect.signature(getattr(hookspecs, name)).parameters)
        if unknown := [argument for argument in given if argument not in known]:
            text = f"plugin {origin}: {name} has the argument {unknown[0]!r}, which this hook does not get"
            return PluginError(Problem(text, hint=f"its arguments are: {', '.join(known)}"))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return PluginError(f"plugin {origin}: {' '.join(lines[:3])}")
