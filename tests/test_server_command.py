"""`maskmill serve`: options, output, errors."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner
from serve_kit import BACKENDS, BOX, Process, free_port, picture, until

from maskmill import PipelineError, PluginError, UsageError
from maskmill_plugins.backends.remote import Remote
from maskmill_plugins.server.command import build_settings, client_host, format_announcement, load_backend, serve
from maskmill_plugins.server.settings import Settings


def maskmill(*arguments, **environ):
    """Run the command to its end; (exit code, standard error)."""
    import os

    done = subprocess.run(
        [sys.executable, "-m", "maskmill", "serve", *arguments],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        env={**os.environ, "MASKMILL_TOKEN": "", **environ},
    )
    return done.returncode, done.stderr


def defaults(**changed):
    """The options as click passes them."""
    return serve.make_context("serve", []).params | changed


def test_the_start_prints_the_address_and_a_line_for_the_clients_file(tmp_path):
    with Process(tmp_path, "--backend", "slow") as server:
        line = next(line for line in server.printed.splitlines() if line.startswith("backend:"))
        assert yaml.safe_load(line) == {"backend": {"use": "remote", "url": server.url}}
        image = httpx.post(f"{server.url}/v1/images", content=picture(), trust_env=False).json()["id"]
        answer = httpx.post(f"{server.url}/v1/images/{image}/masks", json={"prompts": [BOX]}, trust_env=False)
        assert answer.status_code == 200
        until(lambda: server.log().count("complete") == 2)  # logged after the response is sent
        log = server.log()
    for word in (
        "listening on",
        "ready",
        "received POST /v1/images from",
        "processing 1 prompt ",
        "sending",
        "complete",
    ):
        assert word in log


def test_it_says_loading_and_then_ready_and_clients_wait(tmp_path):
    with Process(tmp_path, "--backend", "slow", "--set", "loading=1.5", ready=False) as server:
        assert "loading" in server.printed.splitlines()[0] and "ready" not in server.printed
        started = time.monotonic()
        assert Remote.from_options({"url": server.url}).check() == []
        assert time.monotonic() - started > 0.5
        line = server.process.stdout.readline()
        while (line.strip() and not line.startswith("ready: slow")) or line == "\n":
            line = server.process.stdout.readline()
        assert line.startswith("ready: slow")


def test_json_log_lines_have_the_fields_of_the_request(tmp_path):
    with Process(tmp_path, "--backend", "slow", "--log", "json") as server:
        httpx.post(f"{server.url}/v1/images", content=b"x", trust_env=False)
        until(lambda: '"complete' in server.log())
        lines = [json.loads(line) for line in server.log().splitlines()]
    done = next(line for line in lines if line["message"].startswith("complete"))
    assert (done["method"], done["path"], done["status"]) == ("POST", "/v1/images", 422)
    assert done["request"] == "#2" or done["request"].startswith("#")


def test_the_backend_of_a_pipeline_file_is_served_with_options_set_beside_it(tmp_path):
    """What the server does not use may name variables that are not set."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "b.py").write_text(BACKENDS, encoding="utf-8")
    file = tmp_path / "p.yaml"
    unused = "prompts: [{use: everything}]\ndataset: ${NO_SUCH}/photos\noutput: ${NO_SUCH}/out\n"
    file.write_text("backend: {use: slow, seconds: 1}\n" + unused, encoding="utf-8")
    name, stage = load_backend(**defaults(file=file, sets=("loading=2",)))
    assert (name, stage.seconds, stage.loading) == ("slow", 1.0, 2.0)


def test_backend_model_and_options_make_the_stage():
    name, stage = load_backend(**defaults(model="vit_l", sets=("multimask=all", "fast=false")))
    assert (name, stage.model, stage.multimask, stage.fast) == ("sam", "vit_l", "all", False)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"sets": ("modle=x",)}, "did you mean 'model'"),
        ({"sets": ("fast=7",)}, "true or false"),
        ({"sets": ("fast",)}, "KEY=VALUE"),
        ({"backend": "sma"}, "did you mean 'sam'"),
        ({"backend": "sam", "file": Path("x.yaml")}, "not both"),
        ({"model": "vit_x"}, "vit_b"),
    ],
    ids=["unknown", "value", "form", "backend", "both", "model"],
)
def test_a_mistake_in_the_backend_is_explained(chosen, text):
    with pytest.raises((PipelineError, PluginError, UsageError)) as error:
        load_backend(**defaults(**chosen))
    assert text in str(error.value)


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"host": "0.0.0.0"}, "--token none"),
        ({"host": "no.such.host.invalid"}, "--host"),
        ({"allow": ("192.168.1",)}, "not a network"),
        ({"tls_cert": Path("nowhere.pem")}, "no file"),
        ({"tls_key": Path(__file__)}, "--tls-cert"),
        ({"max_upload": 5000.0}, "--images"),
    ],
    ids=["open", "host", "network", "certificate", "key", "upload"],
)
def test_a_mistake_in_the_access_is_explained(chosen, text, monkeypatch):
    monkeypatch.delenv("MASKMILL_TOKEN", raising=False)
    with pytest.raises(UsageError) as error:
        build_settings(**defaults(**chosen))
    assert text in str(error.value)


def test_the_token_comes_from_the_environment_and_none_overrides_it(monkeypatch):
    monkeypatch.setenv("MASKMILL_TOKEN", "secret")
    assert build_settings(**defaults(host="0.0.0.0")).token == "secret"
    assert build_settings(**defaults(host="0.0.0.0", token="none")).token is None
    monkeypatch.delenv("MASKMILL_TOKEN")
    assert build_settings(**defaults()).local_names and not build_settings(**defaults(token="other")).local_names


def test_the_announcement_warns_of_open_access_and_never_shows_a_token():
    open_ = "\n".join(format_announcement("sam", "http://gpu:5000", Settings(), encrypted=False))
    closed = "\n".join(format_announcement("sam", "http://gpu:5000", Settings(token="secret"), encrypted=False))
    local = "\n".join(format_announcement("sam", "http://127.0.0.1:5000", Settings(local_names=True), encrypted=False))
    assert "warning" in open_ and "MASKMILL_TOKEN" in closed and "unencrypted" in closed
    assert "secret" not in closed and "warning" not in local and "note" not in local


def test_an_address_for_all_is_printed_as_one_that_a_client_can_use():
    assert (
        client_host("0.0.0.0") not in ("0.0.0.0", "") and client_host("::1") == "[::1]" and client_host("gpu") == "gpu"
    )


def test_a_port_in_use_is_reported_with_a_hint():
    with socket.create_server(("127.0.0.1", 0)) as other:
        code, said = maskmill("--backend", "grabcut", "--port", str(other.getsockname()[1]))
    assert code == 2 and "cannot listen" in said and "--port" in said and "Traceback" not in said


def test_a_backend_that_cannot_be_opened_stops_the_server_with_the_reason(tmp_path):
    plugin = tmp_path / "b.py"
    plugin.write_text(BACKENDS, encoding="utf-8")
    port = str(free_port())
    code, said = maskmill("--plugins", str(plugin), "--backend", "slow", "--set", "refuse=true", "--port", port)
    assert code == 2 and "no such weights" in said and "Traceback" not in said


def test_beyond_loopback_without_a_token_nothing_listens():
    code, said = maskmill("--backend", "grabcut", "--host", "0.0.0.0", "--port", str(free_port()))
    assert code == 2 and "--token none" in said and "Traceback" not in said


def test_without_the_extra_the_help_works_and_the_start_names_it():
    blocked = (
        "import sys\n"
        "for name in ('fastapi', 'uvicorn', 'starlette', 'prometheus_client'):\n"
        "    sys.modules[name] = None\n"
        "from maskmill.cli import main\n"
        "main(sys.argv[1:])\n"
    )

    def run(*arguments):
        command = [sys.executable, "-c", blocked, "serve", *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60)

    assert run("--help").returncode == 0
    start = run("--backend", "grabcut")
    assert start.returncode == 2 and 'pip install "maskmill[server]"' in start.stderr
    assert "fastapi, uvicorn, prometheus_client" in start.stderr and "Traceback" not in start.stderr


def test_the_help_imports_no_web_framework():
    code = (
        "import sys\nfrom maskmill.cli import cli\ncli.main(['serve', '--help'], standalone_mode=False)\n"
        "print([name for name in ('fastapi', 'uvicorn', 'torch', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


def test_the_help_names_every_limit():
    said = CliRunner().invoke(serve, ["--help"]).output
    for option in ("--token", "--allow", "--tls-cert", "--cors", "--wait", "--deadline", "--embeddings"):
        assert option in said
