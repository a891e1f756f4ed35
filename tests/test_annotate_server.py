"""The routes of the annotation page, over HTTP."""

import io
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import httpx
import numpy as np
import PIL.Image
import pytest
from annotate_kit import Annotate, annotating, folder_of, opened, save
from pydantic import PrivateAttr
from serve_kit import BOX, POINT, Fake, id_of, picture, until

from maskmill import UsageError
from maskmill_plugins.annotate import pages
from maskmill_plugins.annotate.prompts_file import PromptsFile
from maskmill_plugins.server.settings import Settings

TOKEN = "correct-horse"
KEYS = ["000.png", "001.png", "002.png"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = folder_of(tmp_path_factory.mktemp("photos"))
    (folder / "sub").mkdir()
    (folder / "sub" / "猫 & dog.png").write_bytes(picture(7))
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder.parent / "secret.png").write_bytes(picture(8))
    with annotating(folder) as running:
        yield running


def get(server, path, **params):
    return server.http.get(f"/v1/annotate/{path}", params=params)


def kind(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["type"].rpartition(":")[2]


def pixels(answer):
    return np.asarray(PIL.Image.open(io.BytesIO(answer.content)))


def test_opening_an_image_returns_all_that_the_page_needs(server):
    got = opened(server, "001.png")
    data = picture(1)
    assert (got["id"], got["size"], got["index"]) == (id_of(data), [48, 64], 1)
    assert (got["previous"], got["next"]) == ("000.png", "002.png")
    assert got["entry"] == {"status": "todo", "prompts": [], "reviewer": None} and got["changed"] is False
    assert server.masks(got["id"], BOX).status_code == 200


def test_saved_prompts_are_returned_and_are_in_the_file(server):
    key = "sub/猫 & dog.png"
    answer = save(server, key, {**BOX, "label": "猫"}, {**POINT, "pick": 2}, reviewer="韩梅梅")
    assert answer.status_code == 200, answer.text
    got = opened(server, key)
    assert got["revision"] == answer.json()["revision"] and got["entry"] == answer.json()["entry"]
    line = json.loads(server.session.prompts_file.path.read_text(encoding="utf-8").splitlines()[-1])
    assert (line["image"], line["size"], line["sha256"]) == (key, [48, 64], got["sha256"])
    assert (line["status"], line["reviewer"], line["schema"]) == ("done", "韩梅梅", 1)
    assert line["model"]["id"] == server.service.model_thread.model_id and line["model"]["name"] == "fake"
    assert "猫" in get(server, "session").json()["labels"]


def test_a_conflict_returns_the_entry_of_the_other_tab(server):
    first = opened(server, "002.png")["revision"]
    new = save(server, "002.png", BOX, revision=first).json()
    answer = save(server, "002.png", POINT, revision=first)
    assert (answer.status_code, kind(answer)) == (409, "conflict")
    assert (answer.json()["revision"], answer.json()["entry"]) == (new["revision"], new["entry"])
    assert save(server, "002.png", POINT, revision=answer.json()["revision"]).status_code == 200


def test_the_list_has_the_status_of_each_image_and_can_be_searched(tmp_path):
    with annotating(folder_of(tmp_path / "p", 6)) as server:
        (tmp_path / "p" / "005.png").write_bytes(b"")
        for number, status in enumerate(["done", "empty", "rejected", "todo"]):
            prompts = [BOX] if status in ("done", "todo") else []
            assert save(server, f"00{number}.png", *prompts, status=status).status_code == 200
        assert kind(get(server, "image", key="005.png")) == "unreadable-image"
        found = get(server, "images").json()
        assert [item["status"] for item in found["items"]] == ["done", "empty", "rejected", "todo", "todo", "failed"]
        assert found["counts"] == {"todo": 2, "done": 1, "empty": 1, "rejected": 1, "failed": 1}
        assert found["items"][0] == {"key": "000.png", "index": 0, "status": "done", "objects": 1}
        assert [item["index"] for item in get(server, "images", status="todo").json()["items"]] == [3, 4]
        assert [item["key"] for item in get(server, "images", search="4.P").json()["items"]] == ["004.png"]
        assert [item["index"] for item in get(server, "images", offset=1, limit=2).json()["items"]] == [1, 2]


def test_the_neighbours_of_an_image_are_those_in_the_filtered_list(tmp_path):
    with annotating(folder_of(tmp_path / "p", 5)) as server:
        save(server, "001.png", BOX)
        save(server, "003.png", BOX)

        def beside(key, **like):
            found = get(server, "neighbours", key=key, **like).json()
            return found["previous"], found["next"]

        assert beside("000.png") == (None, "001.png")
        assert beside("002.png", status="done") == ("001.png", "003.png")
        assert beside("001.png", status="todo") == ("000.png", "002.png")
        assert beside("003.png", status="done", search="3") == (None, None)
        assert beside("002.png", search="4.PNG") == (None, "004.png")
        assert kind(get(server, "neighbours", key="../p/000.png")) == "not-found"


def test_a_list_of_thousands_of_images_is_searched(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(5000):
        (folder / f"{number:05}.png").touch()
    with annotating(folder) as server:
        found = get(server, "images", offset=1900, search="9", status="todo").json()
    assert found["counts"]["todo"] == 5000 and found["total"] == sum("9" in f"{n:05}" for n in range(5000))


BAD = {
    "done without prompts": ("done", []),
    "empty with prompts": ("empty", [BOX]),
    "an unknown status": ("fine", []),
    "a box turned round": ("done", [{"box": [30, 30, 10, 10]}]),
    "a box outside": ("done", [{"box": [300, 300, 400, 400]}]),
    "a point outside": ("done", [{"points": [[1000, 1, 1]]}]),
    "a fourth candidate": ("done", [{**BOX, "pick": 3}]),
    "an unknown field": ("done", [{**BOX, "colour": 1}]),
    "a text for a number": ("done", [{"box": [1, 2, 3, "4"]}]),
}


@pytest.mark.parametrize(("status", "prompts"), BAD.values(), ids=BAD.keys())
def test_prompts_that_a_batch_run_could_not_replay_are_not_saved(server, status, prompts):
    before = opened(server, "000.png")
    answer = save(server, "000.png", *prompts, status=status)
    assert (answer.status_code, kind(answer)) == (422, "invalid-request")
    assert opened(server, "000.png")["revision"] == before["revision"]


LEAVING = [
    "../secret.png",
    "sub/../../secret.png",
    "..\\secret.png",
    "/etc/hostname",
    "C:\\x.png",
    "",
    "000.png\0",
    ".",
]


@pytest.mark.parametrize("key", LEAVING)
@pytest.mark.parametrize("path", ["image", "preview", "result"])
def test_only_images_of_the_dataset_are_served(server, path, key):
    answer = get(server, path, key=key, format="mask") if path == "result" else get(server, path, key=key)
    assert (answer.status_code, kind(answer)) == (404, "not-found")


def test_nothing_is_saved_for_an_image_outside_the_dataset(server):
    answer = server.http.put(
        "/v1/annotate/entry",
        params={"key": "../secret.png"},
        json={"revision": "none", "status": "empty", "prompts": []},
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    "asset", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "%2fetc/hostname", "x.py", "nothing.js"]
)
def test_only_the_files_of_the_page_are_served(server, asset):
    with httpx.Client(trust_env=False) as client:
        request = client.build_request("GET", f"{server.url}/annotate/x")
        request.url = request.url.copy_with(raw_path=f"/annotate/{asset}".encode())
        assert client.send(request).status_code == 404


@pytest.fixture
def web(tmp_path, monkeypatch):
    (tmp_path / "web" / "part").mkdir(parents=True)
    (tmp_path / "web" / "index.html").write_text("<!doctype html>", encoding="utf-8")
    (tmp_path / "web" / "part" / "a.js").write_text("export {}", encoding="utf-8")
    (tmp_path / "web" / "notes.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(pages, "WEB", tmp_path / "web")


def test_the_page_has_security_headers_and_is_cached_until_it_changes(server, web):
    answer = server.http.get("/annotate/")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    again = server.http.get("/annotate/", headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304 and not again.content
    script = server.http.get("/annotate/part/a.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert server.http.get("/annotate/notes.py").status_code == 404
    assert server.http.get("/", follow_redirects=True).text == answer.text


DATA = {
    "session": ("GET", "/v1/annotate/session"),
    "images": ("GET", "/v1/annotate/images"),
    "image": ("GET", "/v1/annotate/image?key=000.png"),
    "preview": ("GET", "/v1/annotate/preview?key=000.png"),
    "result": ("GET", "/v1/annotate/result?key=000.png&format=mask"),
    "result of prompts": ("POST", "/v1/annotate/result?format=mask"),
    "prefetch": ("POST", "/v1/annotate/prefetch"),
    "quick": ("POST", "/v1/annotate/quick"),
    "entry": ("PUT", "/v1/annotate/entry?key=000.png"),
    "masks": ("POST", "/v1/images/x/masks"),
}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    with annotating(folder_of(tmp_path_factory.mktemp("local"), 1), settings=Settings(local_names=True)) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with annotating(folder_of(tmp_path_factory.mktemp("guarded"), 1), settings=Settings(token=TOKEN)) as running:
        yield running


STRANGERS = {
    "wrong Host": {"host": "evil.example"},
    "another origin": {"origin": "https://evil.example"},
    "another port": {"origin": "http://127.0.0.1:1"},
    "no origin": {"origin": "null"},
    "a picture in another page": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
    "a page of the same site": {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
}


@pytest.mark.parametrize("headers", STRANGERS.values(), ids=STRANGERS.keys())
@pytest.mark.parametrize(("method", "path"), DATA.values(), ids=DATA.keys())
def test_pages_of_other_origins_can_neither_read_nor_write(local, method, path, headers):
    answer = local.http.request(method, path, headers=headers, content=b"{}")
    assert (answer.status_code, kind(answer)) == (403, "forbidden")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not local.session.prompts_file.path.exists()


@pytest.mark.parametrize("said", [None, "Bearer wrong"], ids=["missing", "wrong"])
@pytest.mark.parametrize(("method", "path"), DATA.values(), ids=DATA.keys())
def test_without_the_token_there_is_no_data(guarded, method, path, said):
    headers = {} if said is None else {"authorization": said}
    answer = guarded.http.request(method, path, headers=headers, content=b"{}")
    assert (answer.status_code, kind(answer)) == (401, "unauthorized")


def test_the_page_itself_needs_no_token_and_the_right_one_opens_the_data(guarded, web):
    assert guarded.http.get("/annotate/").status_code == 200
    right = {"authorization": f"Bearer {TOKEN}"}
    assert guarded.http.get("/v1/annotate/session", headers=right).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{}, {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, {"sec-fetch-site": "none"}],
    ids=["no browser", "the page", "typed"],
)
def test_requests_of_the_page_itself_are_accepted(local, headers):
    assert local.http.get("/v1/annotate/session", headers=headers).status_code == 200
    own = {"origin": local.url, **headers}
    assert local.http.post("/v1/annotate/prefetch", json={"keys": []}, headers=own).status_code == 202


def test_a_quick_upload_is_bounded(tmp_path):
    with annotating(folder_of(tmp_path / "p", 1), settings=Settings(upload=50_000)) as server:
        answer = server.http.post("/v1/annotate/quick", content=b"x" * 200_000)
        assert (answer.status_code, kind(answer)) == (413, "too-large")
        assert server.http.post("/v1/annotate/quick", content=picture(0)).status_code == 200


def test_a_quick_try_can_be_segmented_previewed_and_downloaded_but_is_not_saved(server):
    lines = server.session.prompts_file.path.read_bytes() if server.session.prompts_file.path.exists() else b""
    got = server.http.post("/v1/annotate/quick", content=picture(30), headers={"X-Name": "%E7%8C%AB.png"}).json()
    assert (got["key"], got["name"], got["size"]) == (None, "猫.png", [48, 64])
    assert server.masks(got["id"], BOX).status_code == 200
    assert pixels(get(server, "preview", id=got["id"])).shape == (48, 64, 3)
    body = {"id": got["id"], "name": "猫.png", "prompts": [BOX]}
    answer = server.http.post("/v1/annotate/result", params={"format": "mask"}, json=body)
    assert pixels(answer).shape == (48, 64) and pixels(answer).max() == 1
    assert "猫.mask.png" in unquote(answer.headers["content-disposition"])
    assert (
        server.session.prompts_file.path.read_bytes() if server.session.prompts_file.path.exists() else b""
    ) == lines


def test_a_preview_is_upright_no_larger_than_asked_and_not_sent_twice(tmp_path):
    folder = tmp_path / "p"
    folder.mkdir()
    exif = PIL.Image.Exif()
    exif[274] = 6  # rotated by 90 degrees
    PIL.Image.new("RGB", (300, 100), "red").save(folder / "turned.jpg", exif=exif)
    with annotating(folder) as server:
        assert opened(server, "turned.jpg")["size"] == [300, 100]
        answer = get(server, "preview", key="turned.jpg", max=150)
        assert pixels(answer).shape == (150, 50, 3)
        tag = {"If-None-Match": answer.headers["etag"]}
        again = server.http.get("/v1/annotate/preview", params={"key": "turned.jpg", "max": 150}, headers=tag)
        assert again.status_code == 304
        assert get(server, "preview", key="turned.jpg", max=100000).status_code == 422


def test_a_small_picture_is_shown_with_its_own_pixels(server):
    shown = pixels(get(server, "preview", key="000.png"))
    assert np.array_equal(shown, np.asarray(PIL.Image.open(io.BytesIO(picture(0)))))


def test_downloads_equal_the_files_of_a_batch_run(server):
    save(server, "001.png", {**BOX, "label": "猫"}, {"box": [40, 5, 60, 20]})
    mask = pixels(get(server, "result", key="001.png", format="mask"))
    assert mask.shape == (48, 64) and set(np.unique(mask)) == {0, 1, 2}
    cut = pixels(get(server, "result", key="001.png", format="cutout"))
    assert cut.shape == (48, 64, 4) and np.array_equal(cut[:, :, 3] > 0, mask > 0)
    coco = get(server, "result", key="001.png", format="coco").json()
    assert coco["images"][0]["file_name"] == "001.png" and len(coco["annotations"]) == 2
    save(server, "000.png")
    assert get(server, "result", key="000.png", format="cutout").status_code == 404
    assert not pixels(get(server, "result", key="000.png", format="mask")).any()


def test_an_image_that_has_changed_since_is_reported(tmp_path):
    folder = folder_of(tmp_path / "p", 1)
    with annotating(folder) as server:
        save(server, "000.png", BOX)
        (folder / "000.png").write_bytes(picture(9, 60, 60))
        got = opened(server, "000.png")
        assert got["changed"] is True and got["id"] == id_of(picture(9, 60, 60))


def test_an_image_and_its_preview_requested_at_once_are_decoded_once(tmp_path, monkeypatch):
    with annotating(folder_of(tmp_path / "p", 1)) as server:
        decode, decoded = server.service.images._decode, []

        def slowly(id_, data):
            decoded.append(id_)
            time.sleep(0.2)
            return decode(id_, data)

        monkeypatch.setattr(server.service.images, "_decode", slowly)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda path: get(server, path, key="000.png"), ("image", "preview")))
        assert [answer.status_code for answer in answers] == [200, 200] and len(decoded) == 1


def test_prompts_are_saved_with_the_version_they_were_drawn_on(tmp_path):
    folder = folder_of(tmp_path / "p", 1)
    with annotating(folder) as server:
        before = opened(server, "000.png")
        seen = {"sha256": before["sha256"], "size": before["size"]}
        assert save(server, "000.png", BOX, seen=seen).json()["changed"] is False
        (folder / "000.png").write_bytes(picture(9, 60, 60))
        assert save(server, "000.png", POINT, seen=seen).json()["changed"] is True
        line = json.loads((folder / "prompts.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        assert (line["sha256"], line["size"]) == (before["sha256"], before["size"])
        assert opened(server, "000.png")["changed"] is True


def test_an_unreadable_image_is_reported_with_its_position(server):
    for path in ("image", "preview"):
        answer = get(server, path, key="broken.jpg")
        assert (answer.status_code, kind(answer)) == (422, "unreadable-image")
        assert (answer.json()["index"], answer.json()["previous"]) == (3, "002.png")


def test_the_next_images_are_prefetched_while_no_job_waits(tmp_path):
    with annotating(folder_of(tmp_path / "p", 5)) as server:
        answer = server.http.post("/v1/annotate/prefetch", json={"keys": ["001.png", "../x", "002.png"]})
        assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
        until(lambda: len(server.backend._passes) == 2)
        first = opened(server, "001.png")
        assert server.masks(first["id"], BOX).json()["seconds"]["embed"] < 0.05
        assert len(server.backend._passes) == 2


class Gated(Fake):
    """An encoder that waits until `_open` is set; `_seen` has the number of its passes before each call of `masks`."""

    _open: threading.Event = PrivateAttr(default_factory=threading.Event)
    _seen: list[int] = PrivateAttr(default_factory=list)

    def model_post_init(self, context):
        super().model_post_init(context)
        self._open.set()

    def embed(self, image):
        embedding = super().embed(image)
        assert self._open.wait(20)
        return embedding

    def masks(self, image, prompts, embedding=None):
        self._seen.append(len(self._passes))
        return super().masks(image, prompts, embedding)


def test_prefetching_delays_a_request_by_one_pass_at_most(tmp_path):
    with annotating(folder_of(tmp_path / "p", 6), Gated()) as server:
        live = opened(server, "005.png")
        server.backend._open.clear()
        server.http.post("/v1/annotate/prefetch", json={"keys": [f"00{n}.png" for n in range(4)]})
        until(lambda: len(server.backend._passes) == 1)  # the first prefetch has started
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.masks, live["id"], BOX)
            until(lambda: len(server.service.model_thread.jobs) == 1)
            server.backend._open.set()
            assert answer.result().status_code == 200
        assert server.backend._seen[-1:] == [2], "that one, and the request's own"


def test_prefetches_no_longer_requested_are_dropped(tmp_path):
    with annotating(folder_of(tmp_path / "p", 6), Gated()) as server:
        server.backend._open.clear()
        server.http.post("/v1/annotate/prefetch", json={"keys": ["000.png", "001.png", "002.png"]})
        until(lambda: len(server.backend._passes) == 1)
        server.http.post("/v1/annotate/prefetch", json={"keys": ["005.png"]})
        server.backend._open.set()
        until(lambda: len(server.backend._passes) == 2)
        assert server.backend._passes == [opened(server, f"{key}.png")["sha256"] for key in ("000", "005")]


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path):
    folder = folder_of(tmp_path / "p", 40)
    acknowledged = []
    with Annotate(folder, "--backend", "grabcut") as server:

        def work(number):
            key = f"{number:03}.png"
            body = {"revision": "none", "status": "done", "prompts": [BOX]}
            try:
                answer = server.http.put("/v1/annotate/entry", params={"key": key}, json=body)
            except httpx.HTTPError:
                return
            if answer.status_code == 200:
                acknowledged.append((key, answer.json()["revision"]))

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(work, number) for number in range(40)]
            until(lambda: len(acknowledged) >= 5)
            server.process.kill()
            for future in futures:
                future.result()
    assert len(acknowledged) >= 5
    with Annotate(folder, "--backend", "grabcut") as server:
        for key, revision in acknowledged:
            assert opened(server, key)["revision"] == revision
        with pytest.raises(UsageError, match="another `maskmill annotate`"), PromptsFile(folder / "prompts.jsonl"):
            pass
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(20) == 0, "Ctrl-C is no failure"
    assert "Traceback" not in server.said
