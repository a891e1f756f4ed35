"""maskmill: a YAML file turns a folder of images into masks.

The public names are listed once, in `__init__.pyi`. They are imported when first used, so that
`import maskmill` and the command line's help cost nothing.
"""

import ast as _ast
import importlib as _importlib
import pathlib as _pathlib

from .version import __version__ as __version__

_STUB = _pathlib.Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_MODULE_OF = {
    alias.name: node.module
    for node in _ast.parse(_STUB).body
    if isinstance(node, _ast.ImportFrom)
    for alias in node.names
}
__all__ = sorted(_MODULE_OF)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(_importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
