"""`/upload`, as its old clients use it: a form with a file and a JSON text."""

import io
import json

import numpy as np
import PIL.Image
import pytest
from serve_kit import Fake, Running, picture

from maskmill import Prompt, testing
from maskmill_plugins._shared.http.wire import PROBLEMS

requests = pytest.importorskip("requests")


@pytest.fixture(scope="module")
def server():
    with Running() as running:
        yield running


def post(server, coords, data=None):
    files = {"file": ("photo.png", picture(3) if data is None else data, "image/png")}
    return requests.post(f"{server.url}/upload", files=files, data={"coords": coords}, timeout=20)


PROMPTS = {
    "points": ({"points": [[20, 20], [40, 30]], "labels": [1, 0]}, {"points": [[20, 20, 1], [40, 30, 0]]}),
    "points without labels": ({"points": [[20, 20], [40, 30]]}, {"points": [[20, 20, 1], [40, 30, 1]]}),
    "a box": ({"box": [5, 6, 30, 40]}, {"box": [5, 6, 30, 40]}),
    "both": (
        {"points": [[20, 20]], "labels": [1], "box": [5, 6, 30, 40]},
        {"points": [[20, 20, 1]], "box": [5, 6, 30, 40]},
    ),
    "a bare list": ([[20, 20], [40, 30]], {"points": [[20, 20, 1], [40, 30, 1]]}),
    "an empty list beside": ({"points": [], "labels": [], "box": [5, 6, 30, 40]}, {"box": [5, 6, 30, 40]}),
}


@pytest.mark.parametrize(("coords", "prompt"), PROMPTS.values(), ids=PROMPTS.keys())
def test_the_object_is_returned_on_a_transparent_background(server, coords, prompt):
    answer = post(server, json.dumps(coords))
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png"
    rgba = np.asarray(PIL.Image.open(io.BytesIO(answer.content)))
    image = testing.image(seed=3)
    mask = Fake().masks(image, [Prompt.from_json(prompt)])[0].array
    assert mask.any() and rgba.shape == (*image.size, 4)
    assert np.array_equal(rgba[..., 3] == 255, mask) and set(np.unique(rgba[..., 3])) == {0, 255}
    assert np.array_equal(rgba[mask][:, :3], image.pixels[mask]) and not rgba[~mask].any()


WRONG = {
    "no JSON": ("box", "invalid-request"),
    "a number": ("7", "invalid-request"),
    "nothing": ("{}", "unsuitable-prompt"),
    "an unknown key": ('{"boxes": []}', "invalid-request"),
    "a label too few": ('{"points": [[1, 1], [2, 2]], "labels": [1]}', "unsuitable-prompt"),
    "a flat list": ("[1, 2]", "invalid-request"),
    "points of three": ("[[1, 2, 3]]", "invalid-request"),
    "a label of 5": ('{"points": [[1, 1]], "labels": [5]}', "invalid-request"),
    "a text for a number": ('{"box": [1, 2, 3, "4"]}', "invalid-request"),
    "a box outside": ('{"box": [1000, 1000, 2000, 2000]}', "unsuitable-prompt"),
    "nan": ('{"box": [NaN, 1, 2, 3]}', "invalid-request"),
    "a deep one": ("[" * 50_000, "invalid-request"),
}


@pytest.mark.parametrize(("coords", "kind"), WRONG.values(), ids=WRONG.keys())
def test_wrong_coords_are_refused_and_never_answered_with_an_empty_picture(server, coords, kind):
    answer = post(server, coords)
    assert answer.status_code == PROBLEMS[kind] and answer.json()["type"] == f"urn:maskmill:problem:{kind}"


def test_a_missing_image_or_missing_coords_are_reported(server):
    url = f"{server.url}/upload"
    no_coords = requests.post(url, files={"file": picture()}, timeout=20)
    no_file = requests.post(url, files={"other": b"x"}, data={"coords": "[[1, 1]]"}, timeout=20)
    assert (no_coords.status_code, no_file.status_code) == (422, 422)
    assert "coords" in no_coords.json()["detail"] and "file" in no_file.json()["detail"]
    assert post(server, "[[1, 1]]", b"no image").json()["type"].endswith("unreadable-image")


FORMS = {
    "coords with a file name": (
        {"files": {"file": ("a.png", picture()), "coords": ("coords.json", "[[1, 1]]", "application/json")}},
        "the part `coords` has a file name ('coords.json'), which makes it a file; send it as a form field",
    ),
    "a file without a name": (
        {"files": {"coords": (None, "[[1, 1]]"), "file": (None, "text")}},
        "the part `file` has no file name, which makes it a form field; send a file",
    ),
    "another name": (
        {"files": {"image": ("a.png", picture())}, "data": {"coords": "[[1, 1]]"}},
        "the multipart body has no file part named `file`, only `coords`, `image`",
    ),
    "no Content-Type": ({"data": picture()}, "the request has no Content-Type; send multipart/form-data"),
    "JSON": ({"json": {"coords": [[1, 1]]}}, "the request has the Content-Type 'application/json'; send multipart/"),
    "an encoded form": ({"data": {"coords": "[[1, 1]]"}}, "the request has the Content-Type 'application/x-www-form-"),
}


@pytest.mark.parametrize(("body", "detail"), FORMS.values(), ids=FORMS)
def test_a_body_in_another_form_is_refused_with_its_cause(server, body, detail):
    answer = requests.post(f"{server.url}/upload", timeout=20, **body)
    assert (answer.status_code, answer.json()["detail"][: len(detail)]) == (422, detail)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_head_answers_as_get_without_a_body(server, path):
    get, head = (requests.request(method, f"{server.url}{path}", timeout=20) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


def test_an_image_uploaded_again_is_not_encoded_again(server):
    passes = len(server.backend._passes)
    for _ in range(3):
        assert post(server, "[[20, 20]]", picture(77)).status_code == 200
    assert len(server.backend._passes) == passes + 1
