"""The job queue: grouping, refusals, deadlines, shutdown."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import small_sam
from serve_kit import BOX, POINT, Fake, Process, Running, picture, until

from maskmill import Prompt
from maskmill_plugins._shared.http.wire import MasksReply
from maskmill_plugins.server.compute.byte_cache import ByteCache
from maskmill_plugins.server.compute.jobs import Job, JobQueue, JobTimes
from maskmill_plugins.server.errors import ApiError
from maskmill_plugins.server.settings import Settings


def together(count, call):
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def box(number):
    return {"box": [1.0, 1.0, 10.0 + number, 20.0]}


def test_concurrent_prompts_on_one_new_image_cause_one_encoder_pass():
    with Running(Fake(encode=0.2)) as running:
        image = running.upload(picture())
        answers = together(20, lambda number: running.masks(image, box(number)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 20
        assert running.metric("maskmill_encoder_passes_total") == len(running.backend._passes) == 1


def test_an_evicted_embedding_is_computed_again():
    size = 64 * 3
    with Running(settings=Settings(embeddings=size)) as running:
        first, second = running.upload(picture(1)), running.upload(picture(2))
        for image in (first, first, second, first):
            running.masks(image, BOX)
        assert len(running.backend._passes) == 3
        assert running.metric("maskmill_embedding_bytes") == size


def test_deleting_an_image_deletes_its_embedding():
    with Running() as running:
        for _ in range(2):
            image = running.upload(picture())
            running.masks(image, BOX)
            running.http.delete(f"/v1/images/{image}")
        assert len(running.backend._passes) == 2


def test_jobs_of_one_image_are_done_one_after_another():
    with Running() as running:
        running.backend._gate.clear()
        images = [running.upload(picture(seed)) for seed in range(3)]
        with ThreadPoolExecutor(9) as pool:
            waiting = [pool.submit(running.masks, images[0], BOX)]
            assert running.backend._at_gate.wait(10)
            for number in range(8):
                waiting.append(pool.submit(running.masks, images[1 + number % 2], box(number)))
                until(lambda number=number: len(running.service.model_thread.jobs) == number + 1)
            running.backend._gate.set()
            assert all(each.result().status_code == 200 for each in waiting)
        order = [sha256 for sha256, _ in running.backend._calls[1:]]
        assert order[:4] == [order[0]] * 4 and order[4:] == [order[4]] * 4


def test_each_request_is_one_call_of_the_backend_so_that_masks_are_those_of_a_local_run():
    with Running() as running:
        image = running.upload(picture())
        running.masks(image, BOX, POINT, BOX)
        assert [count for _, count in running.backend._calls] == [3]


def test_a_full_queue_responds_with_the_time_of_a_retry():
    with Running(Fake(seconds=0.2), Settings(wait=0.5)) as running:
        image = running.upload(picture())
        answers = together(12, lambda number: running.masks(image, box(number)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 429} and statuses.count(200) >= 2
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert int(refused.headers["retry-after"]) >= 1 and refused.json()["type"].endswith("too-busy")


def test_health_does_not_wait_for_jobs():
    with Running() as running:
        image = running.upload(picture())
        running.backend._gate.clear()
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(running.masks, image, BOX)]
            assert running.backend._at_gate.wait(10)
            waiting += [pool.submit(running.masks, image, box(number)) for number in range(3)]
            until(lambda: len(running.service.model_thread.jobs) == 3)
            for path in ("/healthz", "/readyz", "/metrics"):
                assert running.http.get(path).status_code == 200
            assert not any(each.done() for each in waiting)
            running.backend._gate.set()
            assert all(each.result().status_code == 200 for each in waiting)


def test_clients_that_retry_are_all_served():
    with Running(Fake(seconds=0.05), Settings(wait=0.2)) as running:
        image = running.upload(picture())

        def stubborn(number):
            for _ in range(100):
                answer = running.masks(image, box(number))
                if answer.status_code == 200:
                    return True
                assert answer.status_code == 429
                time.sleep(0.1)
            return False

        assert all(together(12, stubborn))


def test_a_job_past_its_deadline_is_given_up_and_not_computed():
    with Running() as running:
        image = running.upload(picture())
        running.backend._gate.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(running.masks, image, BOX)
            assert running.backend._at_gate.wait(10)
            late = running.masks(image, POINT, timeout=0.3)
            assert late.status_code == 504 and late.json()["type"].endswith("deadline-exceeded")
            assert len(running.service.model_thread.jobs) == 0
            running.backend._gate.set()
            assert first.result().status_code == 200
        assert len(running.backend._calls) == 1


def test_the_job_of_a_disconnected_client_is_not_computed():
    with Running() as running:
        image = running.upload(picture())
        running.backend._gate.clear()
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(running.masks, image, BOX)
            assert running.backend._at_gate.wait(10)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{running.url}/v1/images/{image}/masks", json={"prompts": [POINT]}, timeout=0.3)
            until(lambda: len(running.service.model_thread.jobs) == 0)
            running.backend._gate.set()
            assert first.result().status_code == 200
        assert len(running.backend._calls) == 1


def test_a_stalled_request_is_dropped():
    def parts():
        yield b"x"
        time.sleep(1)
        yield b"y"

    with Running(settings=Settings(stall=0.2)) as running:
        answer = running.http.post("/v1/images", content=parts())
        assert answer.status_code == 408 and answer.json()["type"].endswith("upload-timeout")


def test_requests_get_503_while_the_model_loads(tmp_path):
    loading = ("--backend", "slow", "--set", "loading=1.5")
    with Process(tmp_path, *loading, ready=False) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        image = http.post("/v1/images", content=picture()).json()["id"]
        answers = [http.post(f"/v1/images/{image}/masks", json={"prompts": [BOX]}), http.get("/v1/model")]
        answers.append(http.get("/readyz"))
        assert [answer.status_code for answer in answers] == [503] * 3
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        assert http.get("/healthz").status_code == 200
        until(lambda: http.get("/readyz").status_code == 200)
        assert http.post(f"/v1/images/{image}/masks", json={"prompts": [BOX]}).status_code == 200


def test_after_sigterm_requests_in_flight_are_answered_and_new_ones_refused(tmp_path):
    with Process(tmp_path, "--backend", "slow", "--set", "seconds=0.2") as server:
        image = httpx.post(f"{server.url}/v1/images", content=picture(), trust_env=False).json()["id"]

        def ask(number):
            body = {"prompts": [box(number)]}
            return httpx.post(f"{server.url}/v1/images/{image}/masks", json=body, trust_env=False, timeout=30)

        with ThreadPoolExecutor(13) as pool:
            asked = [pool.submit(ask, number) for number in range(12)]
            until(lambda: server.log().count("/masks from") == 12)
            server.terminate()
            time.sleep(0.3)
            late = ask(99)
            assert late.status_code == 503 and late.headers["retry-after"]
            assert late.json()["type"].endswith("draining")
            assert [each.result().status_code for each in asked] == [200] * 12
        assert server.process.wait(20) == 0


@pytest.mark.torch
def test_served_masks_of_sam_are_bit_for_bit_those_of_a_local_run(tmp_path, monkeypatch):

    from maskmill import Image, ImageRef
    from maskmill_plugins.backends.sam import Sam

    weights = small_sam.save(small_sam.seeded(), tmp_path / "small.pth")
    data = picture(3, 120, 160)
    image = Image.from_bytes(data, ImageRef("x", "x"))
    prompts = [
        {"box": [10.5, 20.25, 70, 90]},
        {"points": [[40, 60, 1]]},
        {"box": [5, 5, 100, 100], "points": [[40, 60, 1], [3, 3, 0]]},
        {"grid": {"points_per_side": 4, "pred_iou_thresh": -10, "stability_score_thresh": -1}},
    ]
    local = Sam(checkpoint=weights, device="cpu")
    local.open()
    expected = local.masks(image, [Prompt.from_json(each) for each in prompts])
    three = Sam(checkpoint=weights, device="cpu", multimask="all")
    three.open()
    expected_three = three.masks(image, [Prompt.from_json(each) for each in prompts[:3]])

    with Running(Sam(checkpoint=weights, device="cpu", cache=tmp_path / "cache")) as running:
        id_ = running.upload(data)

        def asked(*given, **more):
            asked_for = [Prompt.from_json(each) for each in given]
            reply = MasksReply.model_validate_json(running.masks(id_, *given, **more).content)
            return [mask.to_mask(asked_for) for mask in reply.masks]

        alone = together(20, lambda number: asked(prompts[number % 3]))
        assert all(len(masks) == 1 and masks[0].score is not None for masks in alone)
        assert running.metric("maskmill_encoder_passes_total") == 1
        assert asked(*prompts) == expected and len(expected) > 3
        assert asked(*prompts[:3], multimask="all") == expected_three and len(expected_three) == 9
        assert asked(*prompts) == expected, "the option of one request is not that of the next"
        assert len(list((tmp_path / "cache" / "embeddings").glob("*.npz"))) == 2, (
            "the noise of the start, and the image"
        )


@pytest.mark.parametrize(("waiting", "refused"), [(0, False), (9, False), (11, True)], ids=["empty", "just", "beyond"])
def test_the_queue_is_sized_by_the_measured_time_of_a_job(waiting, refused):
    times = JobTimes()
    times.add("prompts", 1.0)
    jobs = JobQueue(Settings(wait=10), times, lambda image: True)
    made = [job(number) for number in range(waiting + 1)]
    for each in made[:waiting]:
        jobs.submit(each)
    if refused:
        with pytest.raises(ApiError) as error:
            jobs.submit(made[waiting])
        assert int(error.value.headers["Retry-After"]) >= 1
    else:
        jobs.submit(made[waiting])


def job(number, image="a"):
    from maskmill_plugins.server.compute.image_store import StoredImage

    prompt = Prompt.from_json(box(number))
    return Job(StoredImage(f"sha256-{image}", b"", (48, 64)), [prompt], None, time.monotonic() + 60)


def test_prompts_on_one_new_image_are_estimated_with_one_encoder_pass_that_does_not_delay_them():
    times = JobTimes()
    times.add("embed", 50.0)
    times.add("prompts", 0.1)
    jobs = JobQueue(Settings(wait=10), times, lambda image: False)
    for number in range(20):
        jobs.submit(job(number))
    assert jobs.estimate_wait() == pytest.approx(52.0)
    with pytest.raises(ApiError):
        jobs.submit(job(0, "b"))


def test_prompts_on_the_image_being_encoded_are_accepted_however_long_that_takes():
    with Running(Fake(encode=2), Settings(wait=0.3)) as running:
        new, other = running.upload(picture(1)), running.upload(picture(2))
        with ThreadPoolExecutor(9) as pool:
            first = pool.submit(running.masks, new, BOX)
            until(lambda: running.backend._passes)
            more = [pool.submit(running.masks, new, box(number)) for number in range(7)]
            assert running.masks(other, BOX).status_code == 429
            assert [each.result().status_code for each in [first, *more]] == [200] * 8
        assert len(running.backend._passes) == 1


def test_the_cache_stays_within_its_limits_and_evicts_the_least_recently_used():
    cache = ByteCache(100, len, most=3)
    for name in "abc":
        cache.put(name, name * 30)
    assert cache.get("a") == "a" * 30
    assert "b" in cache and "x" not in cache, "and asking so is no use"
    cache.put("d", "d" * 40)
    assert ([name for name in "abcde" if name in cache], cache.bytes) == (["a", "c", "d"], 100)
    cache.put("e", "e")
    assert ([name for name in "abcde" if name in cache], cache.bytes) == (["a", "d", "e"], 71)
    cache.put("huge", "h" * 101)
    assert cache.get("huge") is None and cache.bytes == 71
    assert cache.remove("a") and not cache.remove("a") and len(cache) == 2
