"""docs/server.md is correct: its commands exist, its examples run, its pipelines load."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from served import Served

from maskmill.config.load import load_config
from maskmill.testing import write_picture

for package in ("httpx", "fastapi", "uvicorn"):
    pytest.importorskip(package)
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/server.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
LOCAL = "http://127.0.0.1:5000"


def blocks(language):
    return [text for name, text in BLOCKS if name == language]


def commands():
    """Each command of the page, as arguments."""
    lines = "\n".join([*blocks("sh"), *re.findall(r"^ExecStart=(.*)$", PAGE, re.MULTILINE)]).replace("\\\n", " ")
    return [words for line in lines.splitlines() if (words := shlex.split(line))]


@pytest.fixture(scope="module")
def server():
    with Served("--backend", "grabcut") as server:
        yield server


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "photo.jpg")
    return tmp_path


def test_every_command_has_the_options_that_it_is_given():
    from maskmill_plugins.server.command import serve

    given = [words[2:] for words in commands() if words[0].endswith("maskmill") and words[1] == "serve"]
    assert len(given) >= 6
    for words in given:
        serve.make_context("serve", list(words))


@pytest.mark.parametrize("number", range(len(blocks("yaml"))))
def test_every_pipeline_loads(folder, number):
    (folder / "p.yaml").write_text(blocks("yaml")[number], encoding="utf-8")
    (folder / "photos").mkdir()
    config = load_config(folder / "p.yaml")
    assert config.backend.name == "remote"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_example_cuts_the_object_out(folder, server):
    (command,) = [words for words in commands() if words[0] == "curl"]
    subprocess.run([word.replace(LOCAL, server.url) for word in command], check=True, capture_output=True)
    with PIL.Image.open(folder / "object.png") as picture:
        assert picture.mode == "RGBA"
        assert picture.size == (64, 48)
        assert picture.getchannel("A").getextrema() == (0, 255)


def test_the_python_example_prints_masks(folder, server):
    (code,) = blocks("python")
    assert LOCAL in code
    ended = subprocess.run(
        [sys.executable, "-c", code.replace(LOCAL, server.url)], check=True, capture_output=True, text=True
    )
    numbers = [line.split() for line in ended.stdout.splitlines()]
    assert [words[0] for words in numbers] == ["0", "1"]
    assert all(0 < int(words[2]) < 64 * 48 for words in numbers)


def test_the_routes_of_the_page_are_those_of_the_server(server):
    document = json.loads(server.get("/openapi.json"))
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    named = {found.replace("ID", "{id}") for found in re.findall(r"^\| `(\w+ /[\w/]+)", PAGE, re.MULTILINE)}
    monitoring = {f"{method} /{path}" for method in ("GET", "HEAD") for path in ("healthz", "readyz", "metrics")}
    assert named | monitoring == routes


def test_the_systemd_unit_is_valid(tmp_path):
    (text,) = blocks("ini")
    unit = configparser.ConfigParser()
    unit.optionxform = str
    unit.read_string(text)
    assert unit["Service"]["ExecStart"].startswith("/")
    if shutil.which("systemd-analyze") is None:
        return
    file = tmp_path / "maskmill.service"
    file.write_text(
        re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE), encoding="utf-8"
    )
    ended = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert "maskmill.service" not in ended.stderr, ended.stderr
