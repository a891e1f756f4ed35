"""The routes of version 1, over HTTP."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
from serve_kit import BOX, POINT, Fake, Running, id_of, picture

from maskmill import ImageError, Prompt, testing
from maskmill_plugins._shared.http.wire import PROBLEMS, URN, MasksReply, ModelInfo, ProblemModel
from maskmill_plugins.server.settings import Settings


@pytest.fixture(scope="module")
def server():
    with Running() as running:
        yield running


def problem(answer, kind):
    assert answer.headers["content-type"] == "application/problem+json"
    said = ProblemModel.model_validate_json(answer.content)
    assert (said.type, said.status) == (URN + kind, answer.status_code), answer.text
    return said


def test_an_upload_is_new_once_and_known_from_then_on(server):
    data = picture(1)
    first, second = (server.http.post("/v1/images", content=data) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json() == second.json() == {"id": id_of(data), "height": 48, "width": 64}
    assert server.http.head(f"/v1/images/{id_of(data)}").status_code == 200


def test_a_multipart_upload_is_the_same_image_as_its_bytes(server):
    data = picture(2)
    answer = server.http.post("/v1/images", files={"file": ("猫.png", data)})
    assert answer.status_code == 201 and answer.json()["id"] == id_of(data)


def test_an_unknown_image_is_not_found_whatever_the_form_of_its_id(server):
    assert server.http.head(f"/v1/images/{id_of(b'never sent')}").status_code == 404
    assert server.http.head("/v1/images/nonsense").status_code == 404
    problem(server.masks("nonsense", BOX), "unknown-image")


def test_a_deleted_image_is_gone(server):
    image = server.upload(picture(3))
    assert server.masks(image, BOX).status_code == 200
    assert server.http.delete(f"/v1/images/{image}").status_code == 204
    assert server.http.delete(f"/v1/images/{image}").status_code == 404
    problem(server.masks(image, BOX), "unknown-image")


def test_masks_equal_those_of_a_local_backend_in_every_digit(server):
    image = testing.image(seed=4)
    id_ = server.upload(picture(4))
    prompts = [*testing.prompts(image, "box"), *testing.prompts(image, "points")]
    third = 1 / 3
    prompts.append(Prompt.from_json({"box": [third, third, 20 + third, 20 + third], "score": third}))
    answer = server.masks(id_, *(prompt.to_json() for prompt in prompts))
    made = [mask.to_mask(prompts) for mask in MasksReply.model_validate_json(answer.content).masks]
    assert made == Fake().masks(image, prompts)


def test_equal_prompts_are_answered_each_by_its_own_number(server):
    image = server.upload(picture(5))
    answer = server.masks(image, BOX, POINT, BOX, {**BOX, "label": "猫"})
    assert [mask["prompt"] for mask in answer.json()["masks"]] == [0, 1, 2, 3]


def test_a_mask_as_png_has_the_pixels_of_its_run_lengths(server):
    image = server.upload(picture(6))
    counts = MasksReply.model_validate_json(server.masks(image, POINT).content).masks[0]
    png = server.masks(image, POINT, format="png").json()["masks"][0]["png"]
    pixels = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(png))))
    assert pixels.dtype == np.uint8 and set(np.unique(pixels)) == {0, 255}
    assert np.array_equal(pixels == 255, counts.to_mask([Prompt.from_json(POINT)]).array)


@pytest.mark.parametrize(
    "prompt", [{"text": "a cat"}, {"grid": {"points_per_side": 4}}, {"grid": {}}], ids=["text", "grid", "defaults"]
)
def test_text_and_everything_prompts_are_supported(server, prompt):
    answer = server.masks(server.upload(picture(7)), prompt)
    assert answer.status_code == 200 and len(answer.json()["masks"]) == 1


WRONG = {
    "no prompts": {"prompts": []},
    "an unknown field": {"prompts": [BOX], "colour": 1},
    "an unknown field of a prompt": {"prompts": [{**BOX, "colour": 1}]},
    "too many prompts": {"prompts": [BOX] * 257},
    "too many points": {"prompts": [{"points": [[1, 1]] * 65}]},
    "a box of three": {"prompts": [{"box": [1, 2, 3]}]},
    "a number that is none": {"prompts": [{"box": [1, 2, 3, "x"]}]},
    "a text for a number": {"prompts": [{"box": [1, 2, 3, "4"]}]},
    "a truth for a number": {"prompts": [{"points": [[1, True]]}]},
    "a grid without end": {"prompts": [{"grid": {"points_per_side": 100000}}]},
    "no list": {"prompts": 7},
    "a format": {"prompts": [BOX], "format": "gif"},
    "a timeout": {"prompts": [BOX], "timeout": -1},
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_a_malformed_request_is_refused_with_the_position_of_the_error(server, body):
    image = server.upload(picture(8))
    said = problem(server.http.post(f"/v1/images/{image}/masks", json=body), "invalid-request")
    assert said.status == 422 and said.errors and said.errors[0]["at"].startswith("body/")


UNSUITABLE = {
    "a box outside": {"box": [100, 100, 200, 200]},
    "a box turned round": {"box": [30, 30, 10, 10]},
    "a point outside": {"points": [[1000, 1]]},
    "a label": {"points": [[1, 1, 7]]},
    "nothing": {},
    "two things": {"text": "cat", **BOX},
}


@pytest.mark.parametrize("prompt", UNSUITABLE.values(), ids=UNSUITABLE.keys())
def test_an_invalid_prompt_is_refused(server, prompt):
    assert problem(server.masks(server.upload(picture(8)), prompt), "unsuitable-prompt").status == 409


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"prompts": [{"box": [NaN, 1, 2, 3]}]}', b"\xff\xfe", b"[" * 100_000, b'{"prompts": 1' + b"0" * 9000],
    ids=["nothing", "half", "nan", "bytes", "deep", "digits"],
)
def test_a_body_that_is_not_a_request_is_refused(server, body):
    image = server.upload(picture(8))
    answer = server.http.post(f"/v1/images/{image}/masks", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    problem(answer, "invalid-request")


@pytest.mark.parametrize(
    "data",
    [b"", b"no image", picture(1)[:100], b"\x89PNG\r\n\x1a\n" + bytes(99)],
    ids=["empty", "text", "half", "head"],
)
def test_a_file_that_is_not_an_image_is_refused_with_the_reason(server, data):
    problem(server.http.post("/v1/images", content=data), "unreadable-image")


def test_multipart_without_a_file_is_refused(server):
    problem(server.http.post("/v1/images", files={"other": b"x"}), "invalid-request")
    odd = {"content-type": "multipart/form-data; boundary=x"}
    assert server.http.post("/v1/images", content=b"--y\r\n", headers=odd).status_code == 400


def test_a_prompt_kind_that_the_backend_does_not_accept_is_refused():
    with Running(testing.FillPrompt()) as running:
        image = running.upload(picture())
        said = problem(running.masks(image, {"text": "a cat"}), "unsupported-prompt")
        assert "box, points" in said.detail
        problem(running.masks(image, BOX, multimask="all"), "unsupported-prompt")


def test_the_model_route_describes_model_and_limits(server):
    info = ModelInfo.model_validate_json(server.http.get("/v1/model").content)
    assert (info.backend, info.model_id, info.digest) == ("fake", "fill-1", Fake().digest())
    assert info.accepts == ["box", "everything", "points", "text"]
    assert info.limits.prompts == 256 and info.limits.image_bytes == Settings().upload
    assert info.versions["maskmill"]
    assert info.input_side is None, "this backend does not say"


def test_unknown_routes_and_methods_are_problems_too(server):
    problem(server.http.get("/v2/images"), "not-found")
    answer = server.http.put("/v1/images", content=b"x")
    problem(answer, "method-not-allowed")
    assert answer.headers["allow"] == "POST"
    assert server.http.put("/v1/images/x").headers["allow"] == "DELETE, HEAD"


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_a_body_beyond_the_limit_is_refused_while_it_arrives(chunked):
    sent = []

    def parts():
        for number in range(1000):
            sent.append(number)
            yield bytes(100_000)

    with Running(settings=Settings(upload=1_000_000)) as running:
        if chunked:
            try:
                answer = running.http.post("/v1/images", content=parts())
            except Exception:  # the connection was closed while more was being sent
                assert len(sent) < 1000
                return
        else:
            answer = running.http.post("/v1/images", content=bytes(2_000_000))
        assert problem(answer, "too-large").status == 413


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    with Running(settings=Settings(pixels=1000)) as running:
        assert "pixels" in problem(running.http.post("/v1/images", content=picture()), "unreadable-image").detail


def test_evicted_images_have_to_be_uploaded_again():
    data = [picture(seed) for seed in range(4)]
    room = sum(len(each) for each in data[:3])
    with Running(settings=Settings(stored=room, upload=room)) as running:
        ids = [running.upload(each) for each in data]
        assert running.http.head(f"/v1/images/{ids[0]}").status_code == 404
        assert running.http.head(f"/v1/images/{ids[3]}").status_code == 200
        assert running.metric("maskmill_image_bytes") <= room
        running.upload(data[0])
        assert running.masks(ids[0], BOX).status_code == 200


def test_an_image_on_which_the_backend_fails_does_not_affect_others(server):
    image = server.upload(picture(9))
    server.backend._error = ImageError("too long and thin")
    try:
        assert "too long and thin" in problem(server.masks(image, BOX), "image-failed").detail
        server.backend._error = ZeroDivisionError("oh")
        assert problem(server.masks(image, BOX), "internal-error").status == 500
    finally:
        server.backend._error = None
    assert server.masks(image, BOX).status_code == 200


def test_the_document_describes_every_problem_and_its_examples_work(server):
    document = server.http.get("/openapi.json").json()
    assert "HTTPValidationError" not in json.dumps(document)
    masks = document["paths"]["/v1/images/{id}/masks"]["post"]
    assert {"200", "404", "413", "422", "429", "503", "504"} <= set(masks["responses"])
    image = server.upload(picture(10, 300, 400))
    for example in masks["requestBody"]["content"]["application/json"]["examples"].values():
        body = {key: value for key, value in example["value"].items() if key != "multimask"}
        assert server.http.post(f"/v1/images/{image}/masks", json=body).status_code == 200


def test_the_docs_page_shows_the_routes_without_external_resources(server):
    page = server.http.get("/", follow_redirects=True).text
    assert "POST /v1/images/{id}/masks" in page
    assert "`" not in page, "markup is rendered"
    assert "http://" not in page and "https://" not in page and "<script" not in page


def test_every_kind_of_problem_has_an_error_status():
    assert all(400 <= status < 600 for status in PROBLEMS.values())


def test_a_url_is_never_fetched(server):
    problem(server.http.post("/v1/images", content=f"{server.url}/healthz".encode()), "unreadable-image")
    problem(server.http.post("/v1/images", json={"url": f"{server.url}/healthz"}), "unreadable-image")
    assert server.metric('maskmill_requests_total{method="GET",route="/healthz",status="200"}') == 0


def odd_files(count):
    """Image files of all kinds with a few bytes changed, removed or duplicated."""
    random = np.random.default_rng(0)
    whole = []
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"):
        buffer = io.BytesIO()
        PIL.Image.fromarray(testing.pixels(20, 30)).save(buffer, kind)
        whole.append(buffer.getvalue())
    for number in range(count):
        data = bytearray(whole[number % len(whole)])
        start = int(random.integers(len(data)))
        match number % 4:
            case 0:
                data[start] ^= int(random.integers(1, 256))
            case 1:
                del data[start:]
            case 2:
                data[start:start] = data[start // 2 : start]
            case _:
                data[:40] = random.integers(0, 256, 40, dtype=np.uint8).tobytes()
        yield bytes(data)


def test_odd_files_are_accepted_or_refused_without_a_server_error(server):
    statuses = set()
    for data in odd_files(240):
        answer = server.http.post("/v1/images", content=data)
        statuses.add(answer.status_code)
        if answer.status_code != 422:
            assert server.masks(answer.json()["id"], {"points": [[0, 0]]}).status_code == 200
    assert statuses == {200, 201, 422} or statuses == {201, 422}
