"""Downloading: whatever the server and the disk do, the file is right or the message is."""

import hashlib
import random
import re
import shutil
import ssl
import subprocess
import sys
import time

import pytest
from breaking_server import serving

from maskmill import PipelineError
from maskmill_plugins.backends.sam.weights import download as downloads
from maskmill_plugins.backends.sam.weights.download import download

pytest.importorskip("httpx")

SIZE = 300_000


@pytest.fixture
def content():
    return random.Random(1).randbytes(SIZE)


@pytest.fixture
def server(content, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT", 1.0)
    monkeypatch.setattr(downloads, "PAUSES", (0.01, 0.01))
    with serving(content) as running:
        yield running


@pytest.fixture
def fetch(server, content, tmp_path):
    target = tmp_path / "cache" / "sam.pth"
    said = []

    def start(target=target):
        download(f"{server.url}/sam.pth", target, SIZE, hashlib.sha256(content).hexdigest(), said.append)
        return target

    start.target, start.said = target, said
    return start


def part_of(target):
    return target.with_name(f"{target.name}.part")


def test_it_arrives_and_is_not_fetched_twice(fetch, server, content):
    assert fetch().read_bytes() == content
    assert fetch().read_bytes() == content
    assert server.requests == [""]
    assert "0 MB" in fetch.said[0]
    assert not part_of(fetch.target).exists()


@pytest.mark.parametrize("share", [0.3, 0.6], ids=str)
def test_a_download_that_breaks_off_is_resumed(fetch, server, content, share):
    server.script = [int(SIZE * share), "ok"]
    assert fetch().read_bytes() == content
    assert server.requests[1].startswith("bytes=")
    assert server.sent == SIZE, "nothing was sent twice"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([90_000, 100_000, 60_000, "ok"], id="breaks off again and again"),
        pytest.param(["stall", "ok"], id="stalls"),
        pytest.param(["503", "429", "ok"], id="busy"),
        pytest.param([90_000, "no range"], id="does not resume"),
        pytest.param([90_000, "416", "ok"], id="refuses to resume"),
        pytest.param([90_000, "wrong range", "ok"], id="resumes elsewhere"),
        pytest.param(["wrong bytes 90000", "ok"], id="another file at first"),
        pytest.param([90_000, "wrong bytes", "ok"], id="another file in between"),
        pytest.param(["redirect /elsewhere", "ok"], id="redirects"),
    ],
)
def test_it_arrives_all_the_same(fetch, server, content, script):
    server.script = script
    assert fetch().read_bytes() == content
    assert len(server.requests) >= len(script)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (["404"], "the server returned 404"),
        (["403"], "the server returned 403"),
        (["500"], "the server returned 500"),
        (["html"], "has 25 bytes (text/html), not the 300000"),
        (["wrong bytes"], "the server sends another file: its sha256 is"),
        (["lies longer"], "has 301000 bytes"),
        (["lies shorter"], "has 299000 bytes"),
        (["longer"], "is longer than the 300000 bytes"),
        ([0], "cannot download"),
        (["redirect file:///etc/passwd"], "unsupported protocol 'file://'"),
        (["redirect /again"], "maximum allowed redirects"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_what_is_not_the_file_never_gets_its_name(fetch, server, script, text):
    server.script = script
    with pytest.raises(PipelineError) as caught:
        fetch()
    assert text in str(caught.value)
    assert f"download the file yourself and put it into {fetch.target.parent}" in str(caught.value)
    assert not fetch.target.exists()


def test_what_was_begun_long_ago_and_is_damaged_is_fetched_anew(fetch, server, content):
    part_of(fetch.target).parent.mkdir()
    part_of(fetch.target).write_bytes(b"?" * 1000)
    assert fetch().read_bytes() == content
    assert server.requests == ["bytes=1000-", ""]


def test_a_whole_file_on_disk_with_wrong_content_is_named_and_fetched_anew(fetch, server, content, capsys):
    part_of(fetch.target).parent.mkdir()
    part_of(fetch.target).write_bytes(b"?" * len(content))
    assert fetch().read_bytes() == content
    assert server.requests == [""]
    assert f"{part_of(fetch.target)}, left by an earlier attempt, is damaged" in "".join(fetch.said)


def test_a_file_of_the_right_length_and_wrong_content_under_the_name_is_named(fetch, server, content):
    fetch.target.parent.mkdir()
    fetch.target.write_bytes(b"?" * len(content))
    assert fetch().read_bytes() == content
    assert f"the file {fetch.target} is not the published one" in "".join(fetch.said)


def test_a_file_of_another_length_under_the_name_is_replaced_once_it_is_there(fetch, server, content):
    fetch.target.parent.mkdir()
    fetch.target.write_bytes(b"half")
    server.script = ["404"]
    with pytest.raises(PipelineError):
        fetch()
    assert fetch.target.read_bytes() == b"half"
    server.script = ["ok"]
    assert fetch().read_bytes() == content


def test_what_is_there_is_used_in_a_folder_that_cannot_be_written(fetch, server, content):
    fetch.target.parent.mkdir()
    fetch.target.write_bytes(content)
    fetch()
    assert [path.name for path in fetch.target.parent.iterdir()] == ["sam.pth"], "not even a lock"


def test_lines_say_how_fast_it_goes(fetch, server, monkeypatch):
    monkeypatch.setattr(downloads, "SECONDS_BETWEEN_LINES", 0.02)
    server.pace = 0.002
    fetch()
    assert any(re.fullmatch(r"0 of 0 MB, \d+\.\d MB/s, 00:0\d left", line) for line in fetch.said), fetch.said


def test_a_bar_goes_to_the_standard_error(server, content, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(downloads, "SECONDS_BETWEEN_LINES", 0.0)
    said = []
    download(server.url, tmp_path / "a.pth", SIZE, hashlib.sha256(content).hexdigest(), said.append, bar=True)
    out, errors = capfd.readouterr()
    assert "300k" in errors
    assert out == ""
    assert len(said) == 1


@pytest.mark.parametrize(
    "url", ["mirror/sam.pth", "ftp://127.0.0.1/sam.pth", "file:///sam.pth", "http://a\x00/sam.pth"]
)
def test_an_address_that_cannot_be_is_said_at_once(url, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES", (1000.0,))
    with pytest.raises(PipelineError, match=r"cannot download .*\n.*MASKMILL_WEIGHTS_URL"):
        download(url, tmp_path / "sam.pth", 10, "0" * 64, lambda line: None)


def test_the_proxy_of_the_environment_is_used(server, content, tmp_path, monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", server.url)
    target = tmp_path / "sam.pth"
    download("http://weights.invalid/sam.pth", target, SIZE, hashlib.sha256(content).hexdigest(), lambda line: None)
    assert target.read_bytes() == content
    monkeypatch.setenv("HTTP_PROXY", "nonsense://127.0.0.1")
    with pytest.raises(PipelineError, match=r"Unknown scheme for proxy URL.*\n.*proxy settings in the environment"):
        download("http://weights.invalid/b.pth", tmp_path / "b.pth", SIZE, "0" * 64, lambda line: None)


@pytest.fixture
def certificate(tmp_path):
    """A certificate that only its own file vouches for, and its key, in one file."""
    path = tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    try:
        subprocess.run([*command.split(), "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl cannot make a certificate here")
    path.write_bytes(path.read_bytes() + path.with_name("certificate.pem.crt").read_bytes())
    return path


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(content, certificate, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES", (1000.0,))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    target, sha256 = tmp_path / "sam.pth", hashlib.sha256(content).hexdigest()
    with serving(content, tls) as server:
        url = f"https://127.0.0.1:{server.server_port}/sam.pth"
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        with pytest.raises(PipelineError, match=r"certificate is rejected: self.signed.*\n.*SSL_CERT_FILE"):
            download(url, target, SIZE, sha256, lambda line: None)
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.nowhere")
        with pytest.raises(PipelineError, match=r"cannot download.*\n.*SSL_CERT_FILE"):
            download(url, target, SIZE, sha256, lambda line: None)
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        download(url, target, SIZE, sha256, lambda line: None)
    assert target.read_bytes() == content


def test_without_httpx_it_says_what_to_install(fetch, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(PipelineError, match=r"needs the package 'httpx'\n.*maskmill\[sam\]"):
        fetch()


@pytest.mark.parametrize("proxy", [None, "http://proxy.invalid:3128"], ids=["direct", "proxy"])
def test_a_host_name_that_does_not_resolve_is_said_at_once(tmp_path, monkeypatch, proxy):
    for name in ("no_proxy", "NO_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setattr(downloads, "PAUSES", (1000.0,))
    host = "'proxy.invalid' of the proxy (HTTP_PROXY)" if proxy else "'weights.invalid'"
    with pytest.raises(PipelineError, match=rf"the host name {re.escape(host)} cannot be resolved.*\n.*URL"):
        download("http://weights.invalid/sam.pth", tmp_path / "sam.pth", 10, "0" * 64, lambda line: None)


def test_no_network_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES", (0.01,))
    with pytest.raises(PipelineError, match=r"cannot download http://127\.0\.0\.1:9/sam\.pth: .*refused"):
        download("http://127.0.0.1:9/sam.pth", tmp_path / "sam.pth", 10, "0" * 64, lambda line: None)


def test_a_folder_that_cannot_be_written_is_said(fetch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PipelineError, match=r"cannot write sam\.pth into .*\n.*MASKMILL_CACHE"):
        fetch(tmp_path / "file" / "sam.pth")


def test_a_disk_without_room_is_said_before_the_first_byte(fetch, server, monkeypatch):
    usage = downloads.shutil.disk_usage(".")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(PipelineError, match="No space left"):
        fetch()
    assert server.requests == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for half of it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160k", "none", str(folder)], capture_output=True)
    except OSError:
        pytest.skip("there is no mount here")
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here (not root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_is_said_and_what_arrived_is_kept(fetch, server, content, small_disk, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage)
    target = small_disk / "sam.pth"
    with pytest.raises(
        PipelineError, match=r"No space left.*\n.*free some disk space; what was downloaded so far is kept"
    ):
        fetch(target)
    assert not target.exists()
    arrived = part_of(target).read_bytes()
    assert 0 < len(arrived) < SIZE
    assert arrived == content[: len(arrived)]
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    assert fetch(target).read_bytes() == content
    assert server.requests == ["", f"bytes={len(arrived)}-"]


CODE = """
import sys
from maskmill_plugins.backends.sam.weights.download import download
from pathlib import Path
url, target, size, sha256 = sys.argv[1:]
download(url, Path(target), int(size), sha256, lambda line: print(line, flush=True))
"""


def process(server, content, target):
    arguments = [f"{server.url}/sam.pth", str(target), str(SIZE), hashlib.sha256(content).hexdigest()]
    return subprocess.Popen([sys.executable, "-c", CODE, *arguments], stdout=subprocess.PIPE, text=True)


def test_two_processes_fetch_once(server, content, tmp_path):
    server.pace = 0.02
    target = tmp_path / "sam.pth"
    running = [process(server, content, target) for _ in range(2)]
    said = [one.communicate(timeout=60)[0] for one in running]
    assert [one.returncode for one in running] == [0, 0]
    assert target.read_bytes() == content
    assert len(server.requests) == 1
    assert sum("waiting for it" in text for text in said) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_a_killed_download_goes_on_where_it_was(server, content, fetch):
    server.pace = 0.02
    fetch.target.parent.mkdir()
    running = process(server, content, fetch.target)
    deadline = time.monotonic() + 30
    while not part_of(fetch.target).exists() or part_of(fetch.target).stat().st_size < 100_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.kill()
    running.communicate()
    arrived = part_of(fetch.target).stat().st_size
    assert not fetch.target.exists()
    server.pace = 0
    assert fetch().read_bytes() == content
    assert server.requests[-1] == f"bytes={arrived}-"
