"""A working plugin of each role, its test, and the package around it, as `maskmill plugins new` writes them.

The texts are the files in `plugin_templates`; there `__name__` stands for the plugin's name, `__Class__` for its class.
"""

from __future__ import annotations

from importlib.resources import files

#: Role as typed on the command line -> the line for the pipeline file; observers and commands need none.
YAML_LINES = {
    "source": "prompts: [{use: __name__}]",
    "backend": "backend: {use: __name__}",
    "filter": "filters: [{use: __name__}]",
    "writer": "writers: [{use: __name__}]",
    "observer": "",
    "command": "",
}
#: How the tests of a drop-in find it, and how those of a package do.
_BESIDE = 'PLUGIN = Path(__file__).with_name(f"{NAME}.py")'
_INSTALLED = 'PLUGIN = Path(import_module(f"maskmill_{NAME}").__file__ or "")'


def plugin_text(role: str, name: str) -> str:
    """The drop-in file of a new plugin."""
    return _fill(_read_template(f"{role}.py.txt"), name)


def test_text(role: str, name: str) -> str:
    """The test file of a new plugin."""
    return _fill(_read_template(f"{role}_test.py.txt"), name)


def package_files(role: str, name: str) -> dict[str, str]:
    """The files of a new installable package, by their names in its folder."""
    plugin, test = plugin_text(role, name), test_text(role, name)
    test = test.replace(_BESIDE, _INSTALLED).replace(
        "from pathlib", "from importlib import import_module\nfrom pathlib", 1
    )
    title = plugin.partition('"""')[2].partition('"""')[0].partition("\n")[0]
    project = _fill(_read_template("pyproject.toml.txt"), name)
    project = project.replace("__distribution__", name.replace("_", "-")).replace("__title__", title)
    return {
        "pyproject.toml": project,
        f"maskmill_{name}.py": plugin,
        f"tests/test_{name}.py": test.replace(f"Tests of {name}.py", f"Tests of maskmill_{name}"),
    }


def yaml_line(role: str, name: str) -> str:
    """What names the new plugin in a pipeline file, "" if nothing has to."""
    return _fill(YAML_LINES[role], name)


def class_name(name: str) -> str:
    """`my_filter` -> `MyFilter`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _read_template(name: str) -> str:
    return files(__package__).joinpath("plugin_templates", name).read_text(encoding="utf-8")


def _fill(text: str, name: str) -> str:
    return text.replace("__name__", name).replace("__Class__", class_name(name))
