"""Downloading: whatever the server and the disk do, the file is right or the message is."""

import hashlib
import random
import subprocess
import sys
import time

import pytest
from breaking_server import serving

from maskmill import PipelineError
from maskmill_plugins.backends.sam import download as downloads
from maskmill_plugins.backends.sam.download import download

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
    ],
)
def test_it_arrives_all_the_same(fetch, server, content, script):
    server.script = script
    assert fetch().read_bytes() == content
    assert len(fetch.said) >= len(script)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (["404"], "answers 404"),
        (["403"], "answers 403"),
        (["500"], "answers 500"),
        (["html"], "has 25 bytes (text/html), not the 300000"),
        (["wrong bytes"], "is not the file that was published: its sha256 is"),
        (["lies longer"], "has 301000 bytes"),
        (["lies shorter"], "has 299000 bytes"),
        (["longer"], "is longer than the 300000 bytes"),
        ([0], "cannot download"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_what_is_not_the_file_never_gets_its_name(fetch, server, script, text):
    server.script = script
    with pytest.raises(PipelineError) as caught:
        fetch()
    assert text in str(caught.value)
    assert "maskmill weights add FILE" in str(caught.value)
    assert not fetch.target.exists()


def test_what_was_begun_long_ago_and_is_damaged_is_fetched_anew(fetch, server, content):
    part_of(fetch.target).parent.mkdir()
    part_of(fetch.target).write_bytes(b"?" * 1000)
    assert fetch().read_bytes() == content
    assert server.requests == ["bytes=1000-", ""]


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


CODE = """
import sys
from maskmill_plugins.backends.sam.download import download
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
