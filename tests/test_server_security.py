"""Access control: who is refused, and how."""

import ipaddress

import httpx
import pytest
from serve_kit import BOX, Fake, Running, picture

from maskmill import UsageError
from maskmill_plugins.server.http.security import (
    is_allowed,
    is_loopback,
    parse_host_name,
    parse_networks,
    resolve_token,
)
from maskmill_plugins.server.settings import Settings

TOKEN = "correct-horse"


@pytest.fixture(scope="module")
def guarded():
    with Running(settings=Settings(token=TOKEN), headers={"authorization": f"Bearer {TOKEN}"}) as running:
        yield running


@pytest.mark.parametrize(
    "said",
    [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer caf\xe9"],
    ids=["none", "empty", "bare", "wrong", "basic", "schemeless", "longer", "latin"],
)
@pytest.mark.parametrize("path", ["/v1/model", "/metrics", "/docs", "/openapi.json", "/nothing"])
def test_without_the_right_token_nothing_is_revealed(guarded, path, said):
    headers = {} if said is None else {"authorization": said.encode("latin-1")}
    answer = httpx.get(guarded.url + path, headers=headers, trust_env=False)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["type"] == "urn:maskmill:problem:unauthorized" and TOKEN not in answer.text


def test_an_upload_without_the_token_is_refused_before_it_is_read(guarded):
    answer = httpx.post(f"{guarded.url}/v1/images", content=picture(), trust_env=False)
    assert answer.status_code == 401
    assert guarded.metric("maskmill_images") == 0


def test_with_the_token_all_works(guarded):
    assert guarded.masks(guarded.upload(picture()), BOX).status_code == 200
    assert guarded.http.get("/openapi.json").json()["security"] == [{"token": []}]
    lower = httpx.get(f"{guarded.url}/v1/model", headers={"authorization": f"bearer {TOKEN}"}, trust_env=False)
    assert lower.status_code == 200
    guarded.http.delete(f"/v1/images/{guarded.upload(picture())}")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_monitoring_needs_no_token(guarded, path):
    assert httpx.get(guarded.url + path, trust_env=False).status_code == 200


def test_tokens_are_compared_in_constant_time(guarded, monkeypatch):
    compared = []
    real = __import__("hmac").compare_digest
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    httpx.get(f"{guarded.url}/v1/model", headers={"authorization": "Bearer x"}, trust_env=False)
    assert compared == [(b"x", TOKEN.encode())]


@pytest.mark.parametrize(("network", "status"), [("127.0.0.0/8", 200), ("10.0.0.0/8", 403)], ids=["in", "out"])
def test_only_allowed_networks_are_answered(network, status):
    with Running(settings=Settings(allow=parse_networks((network,))), wait=False) as running:
        answer = running.http.get("/healthz", headers={"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1"})
        assert answer.status_code == status


@pytest.mark.parametrize(
    ("address", "inside"),
    [("192.168.1.9", True), ("192.168.2.9", False), ("::ffff:192.168.1.9", True), ("::1", False), ("x", False)],
)
def test_an_ipv4_address_mapped_into_ipv6_is_recognized(address, inside):
    assert is_allowed((address, 1), (ipaddress.ip_network("192.168.1.0/24"),)) is inside


def test_a_foreign_page_cannot_reach_the_server_by_dns_rebinding():
    with Running(settings=Settings(local_names=True)) as running:
        port = running.url.rpartition(":")[2]
        assert running.http.get("/v1/model").status_code == 200
        assert running.http.get("/v1/model", headers={"host": f"localhost:{port}"}).status_code == 200
        answer = running.http.get("/v1/model", headers={"host": f"evil.example:{port}"})
        assert answer.status_code == 403 and answer.json()["type"].endswith("forbidden")


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:5000", "localhost"), ("[::1]:5000", "::1"), ("LOCALHOST", "localhost"), ("1.2.3.4", "1.2.3.4")],
)
def test_the_name_in_a_host_header(header, name):
    assert parse_host_name(header) == name


def test_an_origin_is_allowed_only_by_name():
    ours, other = {"origin": "https://ours.example"}, {"origin": "https://other.example"}
    ask = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    with Running(settings=Settings(cors=("https://ours.example",), token=TOKEN)) as running:
        preflight = running.http.options("/v1/images", headers={**ours, **ask})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "https://ours.example"
        assert running.http.options("/v1/images", headers={**other, **ask}).status_code == 400
    with Running() as running:
        answer = running.http.get("/v1/model", headers=ours)
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.1", False),
    ],
)
def test_which_addresses_are_loopback(host, loopback):
    assert is_loopback(host) is loopback


def test_beyond_loopback_a_token_or_an_explicit_none_is_required():
    assert resolve_token(None, loopback=True) is None
    assert resolve_token("none", loopback=False) is None
    assert resolve_token("secret", loopback=False) == "secret"
    for nothing in (None, ""):
        with pytest.raises(UsageError, match="--token none"):
            resolve_token(nothing, loopback=False)


@pytest.mark.parametrize("token", ["with space", "schlüssel", "a\nb"])
def test_a_token_that_cannot_be_sent_in_a_header_is_refused_at_the_start(token):
    with pytest.raises(UsageError, match="ASCII"):
        resolve_token(token, loopback=True)


def test_too_many_concurrent_uploads_are_refused_with_a_retry_time():
    with Running(Fake(), Settings(receiving=20_000)) as running:
        answer = running.http.post("/v1/images", content=bytes(50_000))
        assert answer.status_code == 429 and answer.headers["retry-after"]
        assert running.http.post("/v1/images", content=picture()).status_code == 201, "the bytes were given back"
