"""Images from object storage, against a real S3 protocol (moto's server) and a stand-in for its errors."""

import http.server
import json
import shutil
import threading
import urllib.request
from pathlib import Path

import pytest
from stored_runs import files, told

from maskmill import DatasetError, ImageReadError, ImageRef, Pipeline, StopRun, Transient, storage
from maskmill.dataset.dataset import Dataset
from maskmill.storage import StorageOptions
from maskmill.testing import write_picture

obstore = pytest.importorskip("obstore")
moto = pytest.importorskip("moto.server")

KEYS = ("a.png", "b#1 %20.png", "sub/照片.png", "sub/z.jpg")
SECRET = "s3cr3t-never-shown"
PIPELINE = """
dataset: s3://inbox/photos
storage: {endpoint: "%s"}
prompts: [{use: manual, box: [4, 3, 28, 21], label: cat}]
backend: grabcut
writers: [{use: coco}, {use: png}]
output: out
run: {engine: inline}
"""


@pytest.fixture(scope="module")
def endpoint():
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch, tmp_path):
    """A bucket with pictures, and the same pictures in a folder."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    storage.configure(StorageOptions(endpoint))
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/moto-api/reset", method="POST")).close()
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/inbox", method="PUT")).close()
    store = storage._open_bucket("s3://inbox", __import__("os").getpid())
    for number, key in enumerate(KEYS):
        write_picture(tmp_path / "photos" / key, 24, 32, number)
        obstore.put(store, f"photos/{key}", (tmp_path / "photos" / key).read_bytes())
    for other in ("photos/notes.txt", "photos/.hidden/x.png", "photos2/y.png"):
        obstore.put(store, other, b"1")
    yield store
    storage.configure(None)


def write(folder: Path, endpoint: str, old: str = "", new: str = "") -> Path:
    file = folder / "p.yaml"
    file.write_text((PIPELINE % endpoint).replace(old, new), encoding="utf-8")
    return file


def listed(*entries: str) -> list[str]:
    return [ref.key for ref in Dataset(entries, Path())]


def test_a_prefix_is_listed_as_a_folder_is(bucket, tmp_path):
    assert sorted(listed("s3://inbox/photos")) == sorted(listed(str(tmp_path / "photos"))) == sorted(KEYS)
    assert listed("s3://inbox/photos/") == listed("S3://inbox/photos")
    assert listed("s3://inbox/photos/*.png") == ["a.png", "b#1 %20.png"]
    assert listed("s3://inbox/photos/**/z.*") == ["sub/z.jpg"]
    assert listed("s3://inbox/photos/a.png") == ["a.png"]


def test_states_of_a_listing_change_with_the_content(bucket):
    (before,) = Dataset(("s3://inbox/photos/a.*",), Path())
    again = ImageRef(before.uri, before.key)
    assert before.state == again.stat()  # asked for
    obstore.put(bucket, "photos/a.png", before.read()[:-1] + b"x")  # as long, in the same second
    (after,) = Dataset(("s3://inbox/photos/a.*",), Path())
    assert after.state != before.state and after.state[0] == before.state[0]


def test_a_run_on_a_bucket_is_the_run_on_the_folder_byte_for_byte(bucket, endpoint, tmp_path):
    file = write(tmp_path, endpoint)
    assert Pipeline.load(file).run(quiet=True).exit_code == 0
    assert (
        Pipeline.load(file, dataset=[str(tmp_path / "photos")], output=tmp_path / "local").run(quiet=True).exit_code
        == 0
    )
    by_hand, made = files(tmp_path / "local"), files(tmp_path / "out")
    same = {name for name in by_hand if "/" in name}
    assert len(same) > 9 and {name: made[name] for name in same} == {name: by_hand[name] for name in same}


def test_a_rerun_asks_for_nothing_but_the_listing(bucket, endpoint, tmp_path, monkeypatch):
    file = write(tmp_path, endpoint)
    Pipeline.load(file).run(quiet=True)
    asked = []
    for name in ("read", "stat"):
        monkeypatch.setattr(storage, name, lambda *given, name=name: asked.append((name, given)))
    report = Pipeline.load(file).run(quiet=True)
    assert asked == [] and dict(report.work) == {"done": 4}


def test_only_an_object_that_changed_is_made_again_and_one_that_is_gone_left_the_dataset(bucket, endpoint, tmp_path):
    file = write(tmp_path, endpoint)
    Pipeline.load(file).run(quiet=True)
    write_picture(tmp_path / "new.png", 24, 32, 9)
    obstore.put(bucket, "photos/a.png", (tmp_path / "new.png").read_bytes())
    obstore.delete(bucket, "photos/sub/z.jpg")
    report = Pipeline.load(file).run(quiet=True)
    assert dict(report.work) == {"changed": 1, "done": 2}
    assert sum(report.counts.values()) == 3


def test_an_object_that_vanished_after_the_listing_fails_alone(bucket):
    with pytest.raises(ImageReadError, match=r"s3://inbox/photos/gone\.png: there is no such object"):
        ImageRef("s3://inbox/photos/gone.png", "gone.png").read()


def test_a_missing_bucket_stops_before_and_during_the_run(bucket, endpoint, tmp_path, capsys):
    code, _, err = told(capsys, "run", write(tmp_path, endpoint, "//inbox", "//nobody"))
    assert code == 2 and "there is no bucket s3://nobody" in err
    with pytest.raises(StopRun, match="there is no bucket s3://nobody"):
        ImageRef("s3://nobody/a.png", "a.png").read()


def test_a_service_that_cannot_be_reached_stops_the_run(bucket, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(storage, "TRIES", 0)
    code, _, err = told(capsys, "check", write(tmp_path, "http://127.0.0.1:9"))
    assert code == 2 and "cannot be reached" in err and "`storage: {endpoint: ..., region: ...}`" in err


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers every request with the status of the server's `codes`, the last one for ever."""

    def do_GET(self):
        codes = self.server.codes
        code = codes.pop(0) if len(codes) > 1 else codes[0]
        body = b"<Error><Code>AccessDenied</Code></Error>" if code != 200 else b"image"
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Tue, 01 Dec 2026 02:00:00 GMT")
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answering(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(storage, "TRIES", 2)
    storage.configure(StorageOptions(f"http://127.0.0.1:{server.server_port}"))
    yield server
    storage.configure(None)
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("codes", "kind", "text"),
    [
        ([403], StopRun, r"the server refuses access \(AccessDenied\)"),
        ([401], StopRun, "the server refuses access"),
        ([503], Transient, "the server answers 503"),
        ([429], Transient, "the server answers 429"),
    ],
    ids=["forbidden", "unknown-key", "busy", "throttled"],
)
def test_what_a_refusal_means(answering, codes, kind, text):
    answering.codes = codes
    with pytest.raises(kind, match=text) as caught:
        storage.read("s3://inbox/a.png")
    assert SECRET not in str(caught.value) and "AKIATEST" not in str(caught.value)


def test_a_busy_server_is_asked_again(answering):
    answering.codes = [503, 500, 200]
    assert storage.read("s3://inbox/again.png") == b"image"


def test_images_on_the_web_are_named_in_a_list(answering, tmp_path):
    address = f"http://127.0.0.1:{answering.server_port}/a%20b/c.png?signature={SECRET}"
    (tmp_path / "list.txt").write_text(f"{address}\n", encoding="utf-8")
    (ref,) = Dataset((str(tmp_path / "list.txt"),), tmp_path)
    assert ref.key == "a b/c.png" and SECRET not in repr(ref)
    answering.codes = [200]
    assert ref.read() == b"image"
    for code, kind in ((404, ImageReadError), (403, ImageReadError), (503, Transient)):
        answering.codes = [code]
        storage._read_last.cache_clear()
        with pytest.raises(kind, match=str(code)) as caught:
            ref.read()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("https://example.org/photos", "is on the web, where a folder cannot be listed"),
        ("s3://", "names no bucket"),
        ("s3://inbox/list.csv", "a list of images is read from this machine"),
        ("ftp://example.org/photos", "from which images cannot be read"),
    ],
    ids=["web", "no-bucket", "list", "scheme"],
)
def test_an_address_that_cannot_be_a_dataset_is_refused(entry, text):
    with pytest.raises(DatasetError, match=text):
        list(Dataset((entry,), Path()))


def test_keys_of_the_aws_tools_are_read_from_their_files(tmp_path, monkeypatch):
    (tmp_path / "credentials").write_text(
        "[default]\naws_access_key_id = one\n[lab]\naws_access_key_id = two\naws_secret_access_key = key\n",
        encoding="utf-8",
    )
    (tmp_path / "config").write_text("[profile lab]\nregion = eu-central-1\n", encoding="utf-8")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "lab")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    assert storage._read_profile() == {"access_key_id": "two", "secret_access_key": "key", "region": "eu-central-1"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "three")
    assert storage._read_profile() == {}


def test_stored_results_of_a_bucket_are_used_as_others_and_hold_no_secret(bucket, endpoint, tmp_path, capsys):
    Pipeline.load(write(tmp_path, endpoint)).run(quiet=True)
    shutil.rmtree(tmp_path / "photos")
    out = tmp_path / "out"
    storage.configure(None)  # as in another process: the run knows where its images are
    for arguments in (
        ("export", out, "--to", "overlay"),
        ("export", out, "--to", "yolo", "--set", "images=copy"),
        ("export", out, "--to", "labelme"),
        ("explain", out, "sub/照片.png"),
        ("evaluate", out, "--truth", out / "coco/instances.json", "-o", tmp_path / "e"),
        ("status", out),
        ("merge", out, "-o", tmp_path / "m"),
    ):
        code, said, err = told(capsys, *arguments)
        assert code == 0, err
        assert SECRET not in said + err
    assert len(list((out / "exports/overlay").rglob("*.jpg"))) == 4
    assert json.loads((out / "run.json").read_bytes())["pipeline"]["dataset"] == ["s3://inbox/photos"]
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert SECRET.encode() not in everything and b"AKIATEST" not in everything


def boxes(label: str) -> bytes:
    """A prompts file with a box for each picture."""
    return "".join(["image,label,x1,y1,x2,y2\n", *(f"{key},{label},4,3,28,21\n" for key in KEYS)]).encode()


def test_prompts_are_read_from_a_bucket_too(bucket, endpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MASKMILL_CACHE", str(tmp_path / "cache"))
    manual = "{use: manual, box: [4, 3, 28, 21], label: cat}"
    file = write(tmp_path, endpoint, manual, "{use: file, path: s3://inbox/boxes.csv}")
    obstore.put(
        bucket, "boxes.csv", b"image,label,x1,y1,x2,y2\n" + b"".join(f"{k},a,4,3,28,21\n".encode() for k in KEYS)
    )
    assert dict(Pipeline.load(file).run(quiet=True).work) == {"new": 4}
    obstore.put(
        bucket, "boxes.csv", b"image,label,x1,y1,x2,y2\n" + b"".join(f"{k},b,4,3,28,21\n".encode() for k in KEYS)
    )
    assert dict(Pipeline.load(file).run(quiet=True).work) == {"other_prompts": 4}
    obstore.delete(bucket, "boxes.csv")
    code, _, err = told(capsys, "check", file)
    assert code == 2 and "cannot read s3://inbox/boxes.csv: there is no such object" in err


def test_worker_processes_read_the_bucket(bucket, endpoint, tmp_path):
    report = Pipeline.load(write(tmp_path, endpoint, "{engine: inline}", "{jobs: 2}")).run(quiet=True)
    assert report.counts["done"] == 4, report.message
