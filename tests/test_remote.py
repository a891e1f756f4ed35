"""The backend `remote` against a server with scripted failures: what is retried, fails or stops the run."""

import hashlib
import threading
import time

import numpy as np
import PIL.Image
import pytest
from remote_stand_in import standing_in

from maskmill import Box, Grid, Image, ImageError, ImageRef, PipelineError, Point, Prompt, StopRun
from maskmill.decoding.bit_depth import Conversion
from maskmill.testing import FillPrompt, write_picture
from maskmill_plugins._shared.http.addresses import classify_network
from maskmill_plugins.backends.remote import Remote, pool
from maskmill_plugins.backends.remote.checks import check_token

pytest.importorskip("httpx")
MASKS = "POST /v1/images/{id}/masks"
PROMPTS = [Prompt(box=Box(3, 4, 20.5, 25.25), label="猫"), Prompt(points=(Point(9, 9), Point(1, 1, 0)), source="me")]
#: What fails an image if it happens at every try.
AGAIN = ["internal-error", "reset", "half", "garbage", "deadline-exceeded", "strange mask"]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    """Short pauses, and no token from the environment."""
    monkeypatch.setattr(pool, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(pool, "SHORT_PAUSE", 0.2)
    monkeypatch.delenv("MASKMILL_TOKEN", raising=False)


@pytest.fixture
def server():
    with standing_in() as server:
        yield server


@pytest.fixture
def image(tmp_path):
    return Image.load(write_picture(tmp_path / "图.png"))


def remote(*servers, **options):
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return Remote.from_options({"url": urls, **options})


class Open:
    """A stage, open while the block lasts."""

    def __init__(self, *servers, **options):
        self.stage = remote(*servers, **options)

    def __enter__(self):
        self.stage.open()
        return self.stage

    def __exit__(self, *exception):
        self.stage.close()


def closed_port():
    with standing_in() as server:
        return server.url


def test_masks_are_those_of_the_servers_backend_with_our_own_prompts(server, image):
    with Open(server) as stage:
        assert stage.masks(image, PROMPTS) == [
            mask.__class__(mask.size, mask.counts, mask.score, None, mask.prompt)
            for mask in FillPrompt().masks(image, PROMPTS)
        ]


@pytest.mark.parametrize("side", [1024, None], ids=["known", "unknown"])
def test_the_side_of_the_models_input_is_the_servers(server, side):
    server.model = server.model.model_copy(update={"input_side": side})
    with Open(server) as stage:
        assert stage.input_side() == side


def test_an_image_is_sent_once_and_only_if_the_server_does_not_know_it(server, image):
    with Open(server) as stage:
        stage.masks(image, PROMPTS)
        stage.masks(image, PROMPTS)
    with Open(server) as stage:
        stage.masks(image, PROMPTS)
    assert server.count("POST /v1/images") == 1
    assert server.count("HEAD /v1/images/{id}") == 2
    assert server.count(MASKS) == 3


def test_the_files_own_bytes_are_sent(server, image):
    with Open(server) as stage:
        stage.masks(image, PROMPTS)
    assert server.bodies == [image.ref.path.read_bytes()]


@pytest.mark.parametrize("how", ["array", "file changed", "file gone", "compress: png"])
def test_pixels_are_sent_without_loss_where_there_is_no_file_of_them(server, image, how):
    options = {}
    if how == "array":
        image = Image.from_array(np.array(image.pixels))
    elif how == "file changed":
        write_picture(image.ref.path, seed=5)
    elif how == "file gone":
        image.ref.path.unlink()
    else:
        options = {"compress": "png"}
    with Open(server, **options) as stage:
        stage.masks(image, PROMPTS)
        stage.masks(image, PROMPTS)
    (held,) = server.images.values()
    assert np.array_equal(held.pixels, image.pixels)
    assert len(server.bodies) == 1


def test_jpeg_is_sent_only_if_asked_for(server, image):
    with Open(server, compress="jpeg") as stage:
        stage.masks(image, PROMPTS)
    assert server.bodies[0][:3] == b"\xff\xd8\xff"
    assert remote(server, compress="jpeg").digest() != remote(server).digest()


def test_a_file_too_large_for_the_server_goes_as_png_if_that_is_smaller(server, tmp_path):
    path = tmp_path / "even.bmp"
    PIL.Image.new("RGB", (200, 200), "red").save(path)
    flat = Image.load(ImageRef(str(path), path.name))
    limits = server.model.limits
    server.model = server.model.model_copy(
        update={"limits": limits.model_copy(update={"image_bytes": path.stat().st_size - 1})}
    )
    with Open(server) as stage:
        stage.masks(flat, PROMPTS)
    assert server.bodies[0].startswith(b"\x89PNG")


def test_an_image_beyond_the_servers_limits_fails_without_being_sent(server, image):
    limits = server.model.limits
    for limit, words in (("image_bytes", r"at most \d+ bytes"), ("image_pixels", r"at most \d+ pixels")):
        server.model = server.model.model_copy(update={"limits": limits.model_copy(update={limit: 10})})
        with Open(server) as stage, pytest.raises(ImageError, match=words):
            stage.masks(image, PROMPTS)
    assert server.bodies == []


def test_more_prompts_than_a_request_takes_go_in_several(server, image):
    prompts = [Prompt(box=Box(1, 1, 2 + number % 30, 9)) for number in range(600)]
    with Open(server) as stage:
        masks = stage.masks(image, prompts)
    assert [mask.prompt for mask in masks] == prompts
    assert server.count(MASKS) == 3


def test_a_prompt_of_too_many_points_fails_with_the_reason(server, image):
    with Open(server) as stage, pytest.raises(ImageError, match="64"):
        stage.masks(image, [Prompt(points=tuple(Point(1, 1) for _ in range(65)))])


@pytest.mark.parametrize(
    "act",
    [*AGAIN, "forget", "502", "out-of-memory", "loading", "draining", ("too-busy", 0)],
    ids=str,
)
def test_what_may_pass_is_tried_again(server, image, act):
    server.script = [act]
    with Open(server) as stage:
        assert len(stage.masks(image, PROMPTS)) == 2
    assert server.count(MASKS) == 2


@pytest.mark.parametrize("act", AGAIN)
def test_what_happens_again_and_again_fails_the_image(server, image, act):
    server.script = [act] * 100
    with Open(server) as stage:
        with pytest.raises(ImageError, match="failed 4 times"):
            stage.masks(image, PROMPTS)
        server.script = []
        assert len(stage.masks(image, PROMPTS)) == 2


@pytest.mark.parametrize("kind", ["image-failed", "unsuitable-prompt", "unsupported-prompt", "invalid-request"])
def test_a_refusal_fails_the_image_at_once_in_the_servers_words(server, image, kind):
    server.script = [kind]
    with Open(server) as stage, pytest.raises(ImageError, match=f"{server.url}: scripted: {kind}"):
        stage.masks(image, PROMPTS)
    assert server.count(MASKS) == 1


@pytest.mark.parametrize("kind", ["unauthorized", "forbidden", "not-found"])
def test_what_no_image_can_pass_stops_the_run(server, image, kind):
    server.script = [kind]
    with Open(server) as stage, pytest.raises(StopRun, match=kind):
        stage.masks(image, PROMPTS)


def test_a_proxy_that_finds_an_image_too_large_fails_that_image(server, image):
    server.script = ["413"]
    with Open(server) as stage, pytest.raises(ImageError, match="HTTP 413"):
        stage.masks(image, PROMPTS)


def test_retry_after_is_heeded(server, image):
    server.script = [("too-busy", 1), ("draining", 1)]
    with Open(server) as stage:
        started = time.monotonic()
        stage.masks(image, PROMPTS)
    assert 2.0 <= time.monotonic() - started < 5.0


def test_a_busy_server_is_waited_for_beyond_the_patience(server, image):
    server.script = [("too-busy", 0.3)] * 4
    with Open(server, patience=0.5) as stage:
        assert len(stage.masks(image, PROMPTS)) == 2


def test_a_server_that_stays_away_stops_the_run(image):
    with standing_in() as server, Open(server, patience=1) as stage:
        stage.masks(image, PROMPTS)
        server.script = ["draining"] * 100
        with pytest.raises(StopRun, match=r"no SAM server was available for 1 s .*draining.*repeat the command"):
            stage.masks(image, PROMPTS)


def test_a_server_that_comes_back_gets_the_image_again(image):
    with standing_in() as server:
        port = server.server_port
        stage = remote(server)
        stage.open()
        stage.masks(image, PROMPTS)
    found = []
    asking = threading.Thread(target=lambda: found.extend(stage.masks(image, PROMPTS)))
    asking.start()
    time.sleep(0.5)
    assert not found
    with standing_in(port) as again:
        asking.join(10)
        assert len(found) == 2
        assert again.count("POST /v1/images") == 1
    stage.close()


def test_a_server_that_comes_back_with_another_model_stops_the_run(image):
    with standing_in() as server:
        port = server.server_port
        stage = remote(server)
        stage.open()
        stage.masks(image, PROMPTS)
    with standing_in(port) as other:
        other.model = other.model.model_copy(update={"model_id": "e" * 64})
        with pytest.raises(StopRun, match=r"fill \(eeeeeeeeeeee\), but this run uses fill \(ffffffffffff"):
            stage.masks(image, PROMPTS)
        assert other.count("POST /v1/images") == 0
    stage.close()


def test_another_model_is_noticed_also_where_no_connection_broke(server, image):
    with Open(server) as stage:
        server.model = server.model.model_copy(update={"digest": "0" * 16})
        with pytest.raises(StopRun, match="with other options"):
            stage.masks(image, PROMPTS)


def test_no_answer_in_time_is_a_fault(server, image, monkeypatch):
    monkeypatch.setattr("maskmill_plugins.backends.remote.client.SLACK", 0.3)
    server.script = ["stall"]
    with Open(server, timeout=0.2) as stage:
        assert len(stage.masks(image, PROMPTS)) == 2
    assert server.count(MASKS) == 2


def test_the_work_is_spread_over_all_servers(tmp_path):
    images = [Image.load(write_picture(tmp_path / f"{n}.png", seed=n)) for n in range(30)]
    with standing_in() as one, standing_in() as two:
        with Open(one, two) as stage:
            for image in images:
                stage.masks(image, PROMPTS)
            for image in images:  # and each image stays where it is known
                stage.masks(image, PROMPTS)
        assert one.count(MASKS) + two.count(MASKS) == 60
        assert min(one.count(MASKS), two.count(MASKS)) >= 10
        assert one.count("POST /v1/images") + two.count("POST /v1/images") == 30


def test_a_dead_server_is_left_out_and_tried_again_later(tmp_path):
    images = [Image.load(write_picture(tmp_path / f"{n}.png", seed=n)) for n in range(20)]
    with standing_in() as one:
        with standing_in() as two:
            port = two.server_port
            stage = remote(one, two)
            stage.open()
            for image in images:
                stage.masks(image, PROMPTS)
        started = time.monotonic()
        for image in images:
            assert len(stage.masks(image, PROMPTS)) == 2
        assert time.monotonic() - started < 2  # nobody waited for the dead one
        with standing_in(port) as two:
            time.sleep(1.0)
            for image in images:
                stage.masks(image, PROMPTS)
            assert two.count(MASKS) >= 3
        stage.close()


@pytest.mark.parametrize("given", ["option", "environment", "both"])
def test_the_token_goes_with_every_request(server, image, monkeypatch, given):
    server.token = "s3cret-token"
    options = {}
    if given != "option":
        monkeypatch.setenv("MASKMILL_TOKEN", "wrong" if given == "both" else server.token)
    if given != "environment":
        options["token"] = server.token
    assert remote(server, **options).check() == []
    with Open(server, **options) as stage:
        stage.masks(image, PROMPTS)
        assert "s3cret" not in repr(stage)
    assert set(server.tokens) == {f"Bearer {server.token}"}


def test_a_wrong_token_is_said_before_the_first_image(server):
    server.token = "s3cret-token"
    (problem,) = remote(server, token="wr0ng").check()
    assert "MASKMILL_TOKEN" in problem.message
    assert server.url in problem.message
    assert "wr0ng" not in str(problem)


def test_a_token_that_no_header_can_hold_is_refused(server):
    (problem,) = remote(server, token="two words").check()
    assert "without spaces" in problem.message


def test_the_token_is_cut_out_of_what_a_server_says(server, image):
    server.token = server.echo = "s3cret-token"
    server.script = ["image-failed"]
    with Open(server, token=server.token) as stage, pytest.raises(ImageError, match=r"scripted: image-failed \*\*\*"):
        stage.masks(image, PROMPTS)


def test_a_token_does_not_cross_the_internet_unnoticed(monkeypatch):
    monkeypatch.setenv("MASKMILL_TOKEN", "s3cret")
    (problem,) = check_token("s3cret", ["http://sam.example.org", "https://sam.example.org", "http://gpu-box"])
    assert problem.warning
    assert "http://sam.example.org unencrypted" in problem.message


def test_a_certificate_that_is_none_is_refused(server, tmp_path):
    for name, content in (("no.pem", None), ("bad.pem", "nothing")):
        path = tmp_path / name
        if content:
            path.write_text(content, encoding="utf-8")
        (problem,) = remote(server, ca=str(path)).check()
        assert name in problem.message


def test_no_server_is_said_before_the_first_image():
    url = closed_port()
    (problem,) = remote(url).check()
    assert problem.message.startswith(f"no SAM server is available: {url}: ")
    assert "refused" in problem.message.lower()
    assert f"maskmill serve --backend sam --port {url.rpartition(':')[2]}" in problem.hint


def test_of_several_dead_servers_each_is_named():
    urls = [closed_port(), closed_port()]
    (problem,) = remote(*urls).check()
    assert all(url in problem.message for url in urls)


def test_a_dead_server_among_others_is_a_warning(server):
    (problem,) = remote(closed_port(), server).check()
    assert problem.warning
    assert "not used until it answers" in problem.message


def test_servers_with_different_models_are_refused(server):
    with standing_in() as other:
        other.model = other.model.model_copy(update={"model_id": "e" * 64})
        (problem,) = remote(server, other).check()
    assert not problem.warning
    assert "not be comparable" in problem.message


def test_another_kind_of_server_is_told_apart(server):
    (problem,) = remote(f"{server.url}/elsewhere").check()
    assert "maskmill serve" in problem.message
    assert "404" in problem.message


def test_a_server_that_keeps_loading_is_not_to_be_started(server):
    server.model = None
    (problem,) = remote(server, patience=0.3).check()
    assert f"{server.url}: the model was still loading when the patience was over" in problem.message
    assert "maskmill serve" not in f"{problem.message} {problem.hint}"
    assert "patience" in problem.hint


def test_a_server_that_is_loading_is_waited_for_at_the_start(server, image, monkeypatch, caplog):
    monkeypatch.setattr(pool, "LOADING_PAUSE", 0.1)
    server.ready_at = time.monotonic() + 0.6
    with Open(server) as stage:
        assert stage.check() == []
        assert len(stage.masks(image, PROMPTS)) == 2
    server.ready_at = time.monotonic() + 0.6
    assert remote(closed_port(), server).check()[0].warning, "the other one is dead"
    assert f"{server.url} is loading its model; waiting for it" in caplog.text


def test_a_server_that_is_loading_does_not_hold_up_another(server):
    with standing_in() as other:
        other.model = None
        started = time.monotonic()
        (problem,) = remote(other, server).check()
    assert problem.warning
    assert time.monotonic() - started < 2


def test_a_server_that_loads_again_in_mid_run_is_not_to_be_restarted(server, image):
    with Open(server, patience=0.5) as stage:
        stage.masks(image, PROMPTS)
        server.script = ["loading"] * 100
        with pytest.raises(StopRun, match=r"wait until it is ready .* and repeat the command"):
            stage.masks(image, PROMPTS)


OPEN_ENDED = [[Prompt(text="a cat")], [Prompt(grid=Grid())], [Prompt(box=Box(3, 4, 20, 25)), Prompt(text="a cat")]]


@pytest.mark.parametrize("prompts", OPEN_ENDED, ids=["text", "everything", "box and text"])
def test_nothing_found_is_believed_only_if_it_is_confirmed(server, image, prompts):
    with Open(server) as stage:
        server.script = ["nothing"]
        assert stage.masks(image, prompts) == []
        server.script = ["lost", "nothing"]
        assert stage.masks(image, prompts) == []
        server.script = ["lost"] * pool.TRIES
        with pytest.raises(ImageError, match=r"no masks, and no word on which image .*failed 4 times"):
            stage.masks(image, prompts)


@pytest.mark.parametrize(
    ("act", "words"), [("other image", "about the image sha256-0000"), ("other count", "3 prompts")]
)
def test_masks_of_something_else_are_not_taken(server, image, act, words):
    with Open(server) as stage:
        server.script = [act]
        assert len(stage.masks(image, PROMPTS)) == 2
        server.script = [act] * pool.TRIES
        with pytest.raises(ImageError, match=words):
            stage.masks(image, PROMPTS)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("gpu-box:5000", "http://gpu-box:5000"),
        ("ftp://gpu-box", "such as http"),
        ("http://me:s3cret@gpu-box:5000", "token: ${VARIABLE}"),
        ("http://gpu-box:5000?token=s3cret", "remove what follows"),
        ("http://gpu-box:port", "such as http"),
    ],
)
def test_an_address_that_is_none_is_refused(url, words):
    (problem,) = Remote.from_options({"url": url}).check()
    assert words in str(problem)
    assert "s3cret" not in str(problem)


def test_options_that_the_servers_backend_does_not_know_are_refused(server):
    (problem,) = remote(server, multimask="all").check()
    assert "does not support `multimask: all`" in problem.message


def test_another_version_of_the_decoder_is_a_warning(server):
    server.model = server.model.model_copy(update={"versions": {"pillow": "1.0"}})
    (problem,) = remote(server).check()
    assert problem.warning
    assert "Pillow 1.0" in problem.message
    assert remote(server, compress="png").check() == []


def test_the_servers_model_decides_the_fingerprint(server):
    before = remote(server)
    assert before.model_id() == "f" * 64
    assert before.accepts() == {"box", "points"}
    with standing_in() as same:
        assert remote(same).digest() == before.digest()
        same.model = same.model.model_copy(update={"digest": "0" * 16})
        assert remote(same).digest() != before.digest()


def test_what_the_server_is_asked_cannot_be_known_without_one():
    with pytest.raises(PipelineError, match="no SAM server is available"):
        remote(closed_port()).model_id()


@pytest.mark.parametrize(
    ("url", "far"),
    [
        ("http://127.0.0.1:5000", "none"),
        ("http://localhost", "none"),
        ("http://[::1]:5000", "none"),
        ("http://gpu-box:5000", "lan"),
        ("http://192.168.1.7:5000", "lan"),
        ("http://box.lan", "lan"),
        ("https://sam.example.org", "internet"),
        ("http://8.8.8.8", "internet"),
    ],
)
def test_how_far_it_reaches_is_seen_by_the_address(url, far):
    assert classify_network(url) == far
    assert remote("http://127.0.0.1:1", url).reaches() == far


def test_ids_are_the_sha256_of_what_is_sent(server, image):
    with Open(server) as stage:
        stage.masks(image, PROMPTS)
    assert list(server.images) == ["sha256-" + hashlib.sha256(server.bodies[0]).hexdigest()]


@pytest.mark.parametrize("how", ["full", "minmax"])
def test_a_server_gets_the_pixels_that_the_pipeline_makes(server, tmp_path, how):
    PIL.Image.fromarray(np.linspace(300, 4000, 1200).astype(np.uint16).reshape(30, 40)).save(tmp_path / "dark.tif")
    image = Image.load(ImageRef(str(tmp_path / "dark.tif"), "dark.tif"), conversion=Conversion(how))
    with Open(server) as stage:
        stage.masks(image, PROMPTS)
    (found,) = server.images.values()
    np.testing.assert_array_equal(found.pixels, image.pixels)
    assert (server.bodies[0] == (tmp_path / "dark.tif").read_bytes()) is (how == "full")
