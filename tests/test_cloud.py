"""Images from object storage, against a real S3 protocol (moto's server) and a stand-in for its errors."""

import json
import shutil
from pathlib import Path

import pytest
from s3_stand_in import S3StandIn
from stored_runs import files, told

from maskmill import DatasetError, ImageReadError, ImageRef, Pipeline, StopRun, Transient, storage
from maskmill.chain import plugin_call
from maskmill.dataset.dataset import Dataset
from maskmill.storage import StorageOptions
from maskmill.storage.credentials import read_profile
from maskmill.testing import write_picture

obstore = pytest.importorskip("obstore")

KEYS = ("0sub/y.png", "a.png", "b#1 %20.png", "sub/照片.png", "sub/z.jpg")
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


@pytest.fixture
def bucket(endpoint, tmp_path):
    """A bucket with pictures, and the same pictures in a folder."""
    store = storage._open_bucket("s3://inbox", __import__("os").getpid())
    for number, key in enumerate(KEYS):
        write_picture(tmp_path / "photos" / key, 24, 32, number)
        obstore.put(store, f"photos/{key}", (tmp_path / "photos" / key).read_bytes())
    for other in ("photos/notes.txt", "photos/.hidden/x.png", "photos2/y.png"):
        obstore.put(store, other, b"1")
    return store


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


def test_only_an_object_that_changed_is_made_again_and_one_that_is_gone_left_the_dataset(bucket, endpoint, tmp_path):
    file = write(tmp_path, endpoint)
    Pipeline.load(file).run(quiet=True)
    write_picture(tmp_path / "new.png", 24, 32, 9)
    obstore.put(bucket, "photos/a.png", (tmp_path / "new.png").read_bytes())
    obstore.delete(bucket, "photos/sub/z.jpg")
    report = Pipeline.load(file).run(quiet=True)
    assert dict(report.work) == {"changed": 1, "done": 3}
    assert sum(report.counts.values()) == 4


def test_an_object_that_vanished_after_the_listing_fails_alone(bucket):
    with pytest.raises(ImageReadError, match=r"s3://inbox/photos/gone\.png: there is no such object"):
        ImageRef("s3://inbox/photos/gone.png", "gone.png").read()


def test_a_missing_bucket_stops_before_and_during_the_run(bucket, endpoint, tmp_path, capsys):
    code, _, err = told(capsys, "run", write(tmp_path, endpoint, "//inbox", "//nobody"))
    assert code == 2 and "there is no bucket s3://nobody" in err
    with pytest.raises(StopRun, match="there is no bucket s3://nobody"):
        ImageRef("s3://nobody/a.png", "a.png").read()


def test_check_says_what_it_found(stand_in, tmp_path, capsys):
    code, _, err = told(capsys, "check", write(tmp_path, stand_in.address))
    size = (tmp_path / "a.png").stat().st_size
    assert code == 0 and f"s3://inbox/photos: the first image is a.png ({size:,} bytes)" in err


def test_a_service_that_cannot_be_reached_stops_the_run(bucket, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(storage, "TRIES", 0)
    code, _, err = told(capsys, "check", write(tmp_path, "http://127.0.0.1:9"))
    assert code == 2 and "cannot be reached" in err and "`storage: {endpoint: ..., region: ...}`" in err


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """A bucket with the pictures `a.png`, `b.png`, `c.png`, which answers errors on demand."""
    bodies = {
        f"photos/{key}.png": write_picture(tmp_path / f"{key}.png", 24, 32, number).path.read_bytes()
        for number, key in enumerate("abc")
    }
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(storage, "TRIES", 2)
    monkeypatch.setattr(plugin_call, "PAUSES", (0.0, 0.0))
    with S3StandIn(3, sorted(bodies).__getitem__, bodies.get) as server:
        storage.configure(StorageOptions(server.address))
        yield server
    storage.configure(None)


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
def test_what_a_refusal_means(stand_in, codes, kind, text):
    stand_in.refusals["a.png"] = codes
    with pytest.raises(kind, match=text) as caught:
        storage.read("s3://inbox/a.png")
    assert SECRET not in str(caught.value) and "AKIATEST" not in str(caught.value)


def test_a_busy_server_is_asked_again(stand_in, tmp_path):
    stand_in.refusals["photos/a.png"] = [503, 500, 200]
    assert storage.read("s3://inbox/photos/a.png") == (tmp_path / "a.png").read_bytes()


def test_images_on_the_web_are_named_in_a_list(stand_in, tmp_path):
    address = f"{stand_in.address}/web%20site/photos/a.png?signature={SECRET}"
    (tmp_path / "list.txt").write_text(f"{address}\n", encoding="utf-8")
    (ref,) = Dataset((str(tmp_path / "list.txt"),), tmp_path)
    assert ref.key == "web site/photos/a.png" and SECRET not in repr(ref) + ref.shown
    assert ref.read() == (tmp_path / "a.png").read_bytes()
    size, mark = ref.stat()
    assert size == (tmp_path / "a.png").stat().st_size
    stand_in.mark = lambda name: "2"
    assert ref.stat() == (size, mark)  # asked for once
    assert ImageRef(ref.uri, ref.key).stat()[1] != mark
    assert stand_in.requests["head"] == 0  # a signature is for GET
    for code, kind in ((404, ImageReadError), (403, ImageReadError), (503, Transient)):
        stand_in.refusals["photos/a.png"] = [code]
        with pytest.raises(kind, match=str(code)) as caught:
            ImageRef(ref.uri, ref.key).read()
        assert SECRET not in str(caught.value)


def test_names_of_objects_are_taken_as_they_are(tmp_path):
    (tmp_path / "list.txt").write_text("s3://inbox/what?/100%25 #1.png\n", encoding="utf-8")
    (ref,) = Dataset((str(tmp_path / "list.txt"),), tmp_path)
    assert ref.key == "what?/100%25 #1.png" and ref.shown == "s3://inbox/what?/100%25 #1.png"


def test_an_object_that_is_gone_fails_its_image_and_a_busy_one_too(stand_in, tmp_path):
    stand_in.refusals.update({"photos/a.png": [404], "photos/b.png": [503]})
    report = Pipeline.load(write(tmp_path, stand_in.address)).run(quiet=True)
    assert (report.counts["done"], report.counts["failed"], report.exit_code) == (1, 2, 1)
    gone, busy = (tmp_path / "out/failures.jsonl").read_text(encoding="utf-8").splitlines()
    assert "s3://inbox/photos/a.png: there is no such object" in gone
    assert "s3://inbox/photos/b.png': the server answers 503 (SlowDown)" in busy
    stand_in.refusals.clear()
    report = Pipeline.load(write(tmp_path, stand_in.address)).run(quiet=True, retry_failed=True)
    assert report.counts["done"] == 3


def test_an_object_that_may_not_be_read_stops_the_run_and_blames_no_image(stand_in, tmp_path, capsys):
    stand_in.refusals["photos/b.png"] = [403]
    code, _, err = told(capsys, "run", write(tmp_path, stand_in.address))
    assert code == 1 and "the server refuses access (AccessDenied)" in err and "Traceback" not in err
    stand_in.refusals.clear()
    report = Pipeline.load(write(tmp_path, stand_in.address)).run(quiet=True)
    assert report.counts["done"] == 3 and dict(report.work)["done"] == 1


def test_a_listing_that_is_refused_stops_the_run_before_the_first_image(stand_in, tmp_path, capsys):
    stand_in.refusals[""] = [403]
    code, _, err = told(capsys, "run", write(tmp_path, stand_in.address))
    assert code == 2 and "the server refuses access (AccessDenied)" in err and stand_in.requests["get"] == 0


@pytest.mark.parametrize("name", ["photos//a.png", "photos/../a.png"])
def test_a_name_that_cannot_be_read_is_told(stand_in, name):
    stand_in.name = lambda number: name
    with pytest.raises(DatasetError, match=f"an object's name cannot be read: '{name}'"):
        listed("s3://inbox/photos")


def test_a_run_makes_one_request_an_image_and_a_rerun_none(stand_in, tmp_path):
    file = write(tmp_path, stand_in.address, "{use: png}", "{use: yolo, images: copy}")
    Pipeline.load(file).run(quiet=True)
    assert stand_in.requests == {"list": 2, "get": 3}  # listed once before the run, to check that there are images
    stand_in.requests.clear()
    assert dict(Pipeline.load(file).run(quiet=True).work) == {"done": 3}
    assert stand_in.requests == {"list": 2}
    stand_in.requests.clear()
    stand_in.mark = lambda name: "2" if name == "photos/b.png" else "1"
    assert dict(Pipeline.load(file).run(quiet=True).work) == {"checked": 1, "done": 2}
    assert stand_in.requests == {"list": 2, "get": 1}


def test_an_image_of_a_list_is_asked_for_once_and_read_once(stand_in, tmp_path):
    (tmp_path / "list.txt").write_text("s3://inbox/photos/a.png\ns3://inbox/photos/b.png\n", encoding="utf-8")
    file = write(tmp_path, stand_in.address, "s3://inbox/photos", "list.txt")
    Pipeline.load(file).run(quiet=True)
    assert stand_in.requests == {"head": 2, "get": 2}
    stand_in.requests.clear()
    Pipeline.load(file).run(quiet=True)
    assert stand_in.requests == {"head": 2}


@pytest.mark.parametrize("code", [404, 403, 503])
def test_commands_on_stored_results_tell_what_is_wrong_with_the_bucket(stand_in, tmp_path, capsys, code):
    Pipeline.load(write(tmp_path, stand_in.address)).run(quiet=True)
    stand_in.refusals["photos/b.png"] = [code]
    text = {404: "there is no such object", 403: "refuses access", 503: "the server answers 503"}[code]
    for arguments in (("export", tmp_path / "out", "--to", "overlay"), ("explain", tmp_path / "out", "b.png")):
        _, said, err = told(capsys, *arguments)
        assert text in said + err and "Traceback" not in err


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
    assert read_profile() == {"access_key_id": "two", "secret_access_key": "key", "region": "eu-central-1"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "three")
    assert read_profile() == {}


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
    assert len(list((out / "exports/overlay").rglob("*.jpg"))) == 5
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
    assert dict(Pipeline.load(file).run(quiet=True).work) == {"new": 5}
    obstore.put(
        bucket, "boxes.csv", b"image,label,x1,y1,x2,y2\n" + b"".join(f"{k},b,4,3,28,21\n".encode() for k in KEYS)
    )
    assert dict(Pipeline.load(file).run(quiet=True).work) == {"other_prompts": 5}
    obstore.delete(bucket, "boxes.csv")
    code, _, err = told(capsys, "check", file)
    assert code == 2 and "cannot read s3://inbox/boxes.csv: there is no such object" in err


def test_worker_processes_read_the_bucket(bucket, endpoint, tmp_path):
    report = Pipeline.load(write(tmp_path, endpoint, "{engine: inline}", "{jobs: 2}")).run(quiet=True)
    assert report.counts["done"] == 5, report.message
