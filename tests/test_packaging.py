"""What is installed is what is in the folders."""

import configparser
from pathlib import Path

from setuptools import find_namespace_packages, find_packages

ROOT = Path(__file__).parent.parent


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def test_the_list_of_packages_is_complete():
    listed = settings()["options"]["packages"].split()
    found = find_packages(str(ROOT / "framework")) + find_packages(str(ROOT / "plugins"))
    data = {"maskmill_pipelines", "maskmill_quickstart"}
    assert sorted(set(listed) - data) == sorted(found)
    assert sorted(found) == sorted(
        name
        for root in ("framework", "plugins")
        for name in find_namespace_packages(str(ROOT / root))
        if list((ROOT / root / name.replace(".", "/")).glob("*.py"))
    ), "every folder with modules has an __init__.py"


def test_the_base_install_has_no_torch():
    required = settings()["options"]["install_requires"]
    assert "torch" not in required
    assert "opencv-python>=5" in required


def test_all_is_what_users_need_together():
    extras = settings()["options.extras_require"]
    assert not {"dask", "ray", "transformers"} & set(extras["all"].replace("[", " ").replace("]", " ").split())
