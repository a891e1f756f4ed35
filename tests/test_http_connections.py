"""Connections that fail: certificates, TLS where there is none, proxies, SOCKS; for qwen and remote alike."""

import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from qwen_wire import KEY, OK, Act, Wire
from remote_stand_in import standing_in
from test_qwen_clients import DIALECTS

from maskmill import ImageError, StopRun
from maskmill.testing import image
from maskmill_plugins._shared.http import connections
from maskmill_plugins._shared.http.connections import check_proxies, find_proxy
from maskmill_plugins.backends.remote import Remote, pool
from maskmill_plugins.prompts.qwen import Qwen
from maskmill_plugins.prompts.qwen.calls import client as clients

pytest.importorskip("openai")
pytest.importorskip("dashscope")
OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
VARIABLES = [f"{name}_proxy" for name in ("http", "https", "all", "no")]


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(clients, "LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(pool, "SHORT_PAUSE", 0.05)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def prompts(url, dialect="openai", **options):
    options = {"provider": dialect, "base_url": url, "api_key": KEY, "find": ["vehicle"], "cache": False, **options}
    stage = Qwen.from_options(options)
    assert stage.check() == []
    stage.open()
    try:
        return stage.prompts(image())
    finally:
        stage.close()


def path_of(dialect):
    return "/api/v1" if dialect == "dashscope" else "/v1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, an expired and a foreign one: name -> (certificate, key)."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name, days, subject in (("good", "2", "IP:127.0.0.1"), ("foreign", "2", "DNS:elsewhere.example")):
        key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
        make = f"openssl req -x509 -newkey rsa:2048 -nodes -days {days} -subj /CN=test -addext subjectAltName={subject}"
        subprocess.run([*make.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
        made[name] = certificate, key
    return made


def over_tls(server, certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)


@OPENSSL
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_certificate_of_ones_own_is_named_and_taken_where_it_is_given(certificates, dialect):
    with Wire() as wire:
        over_tls(wire._server, *certificates["good"])
        url = getattr(wire, dialect).replace("http:", "https:")
        with pytest.raises(StopRun, match=r"certificate of 127\.0\.0\.1:\d+ cannot be .*self.signed.*set `ca:`"):
            prompts(url, dialect)
        assert len(prompts(url, dialect, ca=str(certificates["good"][0]))) == 1


@OPENSSL
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_certificate_for_another_host_is_no_matter_of_the_authority(certificates, dialect):
    with Wire() as wire:
        over_tls(wire._server, *certificates["foreign"])
        url = getattr(wire, dialect).replace("http:", "https:")
        with pytest.raises(StopRun, match=r"certificate of .*cannot be verified: .*not valid for") as raised:
            prompts(url, dialect, ca=str(certificates["foreign"][0]))
    assert "set `ca:`" not in str(raised.value)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_https_spoken_to_a_server_without_it(dialect):
    with Wire() as wire, pytest.raises(StopRun, match=r"does not speak TLS.*http://"):
        prompts(getattr(wire, dialect).replace("http:", "https:"), dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_http_spoken_to_a_server_with_tls(dialect):
    with Wire() as wire:
        wire.script([], Act(status=400, raw=b"<html><h1>400 The plain HTTP request was sent to HTTPS port</h1></html>"))
        with pytest.raises(StopRun, match="expects https: set `base_url:`"):
            prompts(getattr(wire, dialect), dialect)


def closed_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy_is_named_by_its_address(monkeypatch, dialect, scheme):
    port = closed_port()
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://me:s3cret@127.0.0.1:{port}")
    monkeypatch.setattr(clients, "TRIES", 2)
    with pytest.raises(
        ImageError, match=f"through the proxy http://127.0.0.1:{port} \\({scheme.upper()}_PROXY\\)"
    ) as one:
        prompts(f"{scheme}://models.example.com{path_of(dialect)}", dialect)
    assert "s3cret" not in str(one.value)
    monkeypatch.setattr(clients, "TRIES", 8)
    with pytest.raises(StopRun, match="is the proxy running"):
        prompts(f"{scheme}://models.example.com{path_of(dialect)}", dialect)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy"])
def test_socks_without_its_package_is_said_before_the_run(monkeypatch, dialect, variable):
    real = connections.importlib.util.find_spec
    hidden = lambda name: None if name in ("socks", "socksio") else real(name)  # noqa: E731
    monkeypatch.setattr(connections.importlib.util, "find_spec", hidden)
    monkeypatch.setenv(variable, "socks5://10.0.0.1:1080")
    options = {"provider": dialect, "base_url": "http://models.example.com/v1", "api_key": KEY, "find": ["a"]}
    (problem,) = Qwen.from_options(options).check()
    package = "PySocks" if dialect == "dashscope" else "socksio"
    assert f"the proxy socks5://10.0.0.1:1080 ({variable}) needs the package '{package}'" in problem.message
    assert problem.hint == f"pip install {package}"
    assert Qwen.from_options({**options, "base_url": "http://127.0.0.1:1/v1"}).check() == [], (
        "no proxy for this machine"
    )


def test_a_proxy_of_an_unknown_kind(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "ftp://10.0.0.1")
    (problem,) = check_proxies("https://models.example.com", "httpx")
    assert "unknown scheme" in problem.message


def test_no_proxy_is_heeded(monkeypatch):
    monkeypatch.setenv("https_proxy", "10.0.0.1:3128")
    assert find_proxy("https://models.example.com/v1") == ("https_proxy", "10.0.0.1:3128")
    assert find_proxy("http://models.example.com/v1") is None
    monkeypatch.setenv("no_proxy", "example.com")
    assert find_proxy("https://models.example.com/v1") is None


@OPENSSL
def test_remote_names_certificates_and_tls(certificates):
    with standing_in() as server:
        url = server.url.replace("http:", "https:")
        (problem,) = Remote.from_options({"url": url}).check()
        assert "does not speak TLS" in problem.message
        over_tls(server, *certificates["good"])
        (problem,) = Remote.from_options({"url": url}).check()
        assert "cannot be verified: self" in problem.message
        assert "set `ca:`" in problem.message
        assert Remote.from_options({"url": url, "ca": str(certificates["good"][0])}).check() == []


def test_remote_names_a_dead_proxy(monkeypatch):
    port = closed_port()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
    (problem,) = Remote.from_options({"url": "http://sam.example.com"}).check()
    assert f"through the proxy http://127.0.0.1:{port} (HTTP_PROXY)" in problem.message


def test_an_answer_of_remote_is_bounded_as_a_whole(monkeypatch):
    """The answer to the first question comes a byte at a time."""
    from maskmill_plugins.backends.remote import client

    monkeypatch.setattr(client, "PROMPT", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            connection.recv(10_000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            with connection:
                try:
                    while not done.wait(0.05):
                        connection.sendall(b" ")
                except OSError:
                    pass

        done = threading.Event()
        threading.Thread(target=drip, daemon=True).start()
        (problem,) = Remote.from_options({"url": f"http://127.0.0.1:{server.getsockname()[1]}"}).check()
        done.set()
    assert "did not answer within 0.4 s" in problem.message


def test_answers_over_a_healthy_connection_are_unchanged():
    with Wire() as wire:
        assert len(prompts(wire.openai)) == 1 == len(wire.calls)
    assert OK.text
