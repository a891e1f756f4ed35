"""A server with the interface of `maskmill serve`, the backend `FillPrompt`, and scripted failures."""

import contextlib
import hashlib
import http.server
import json
import socket
import struct
import threading
import time

from maskmill import Image, ImageRef
from maskmill.testing import FillPrompt
from maskmill_plugins._shared.http.wire import (
    PROBLEM_TYPE,
    PROBLEMS,
    URN,
    ImageInfo,
    MaskModel,
    MasksReply,
    MasksRequest,
    ModelInfo,
    ServerLimits,
)


class StandIn(http.server.ThreadingHTTPServer):
    """Answers correctly, except for the scripted responses to the next requests for masks.

    Attributes:
        script: "ok", "reset", "garbage", "half", "stall", "forget", "strange mask", "413", "502",
            "nothing" (no masks, confirmed), "lost" (no masks, unconfirmed), "other image", "other count",
            a kind of problem, or (kind, seconds for Retry-After); when it is used up, "ok".
        requests: "METHOD path" of each request, with `{id}` for an image's id.
        tokens: Authorization header of each request.
        bodies: bytes received by each POST of an image.
        model: its model; None while it is loading.
        token: the valid token, None for none.
        echo: text added to its error messages.
        sleep: seconds for each request for masks.
        ready_at: until then it is loading, on the monotonic clock.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port=0):
        super().__init__(("127.0.0.1", port), Handler)
        self.script = []
        self.requests = []
        self.tokens = []
        self.bodies = []
        self.images = {}
        self.connections = []
        self.token = None
        self.echo = ""
        self.sleep = 0.0
        self.ready_at = 0.0
        self.model = ModelInfo(
            backend="fill",
            name="fill",
            model_id="f" * 64,
            digest="d" * 16,
            accepts=["box", "points"],
            limits=ServerLimits(image_bytes=10_000_000, image_pixels=10_000_000, wait_seconds=1, deadline_seconds=5),
        )

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def count(self, request):
        return self.requests.count(request)

    def handle_error(self, request, client_address):
        """Ignore closed connections."""

    def process_request(self, request, client_address):
        self.connections.append(request)
        super().process_request(request, client_address)

    def die(self):
        """Close all connections, like a killed process."""
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65536

    def log_message(self, *arguments):
        pass

    def handle_one_request(self):
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def do_GET(self):
        self.route("GET")

    def do_HEAD(self):
        self.route("HEAD")

    def do_POST(self):
        self.route("POST")

    def route(self, method):
        server, body = self.server, self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = self.path.split("/")
        image = parts[3] if len(parts) > 3 else ""
        server.requests.append(f"{method} {self.path.replace(image, '{id}') if image else self.path}")
        server.tokens.append(self.headers.get("Authorization", ""))
        if server.token and self.headers.get("Authorization") != f"Bearer {server.token}":
            self.problem("unauthorized", "the header Authorization is wrong")
        elif self.path == "/v1/model" and (server.model is None or time.monotonic() < server.ready_at):
            self.problem("loading", "the model is being loaded")
        elif self.path == "/v1/model":
            self.send_model(server.model)
        elif self.path == "/v1/images":
            self.upload(body)
        elif method == "HEAD":
            self.answer(200 if image in server.images else 404, b"")
        elif parts[1:3] == ["v1", "images"]:
            self.masks(image, body)
        else:
            self.answer(404, b"<html>not found</html>", "text/html")

    def upload(self, body):
        name = "sha256-" + hashlib.sha256(body).hexdigest()
        self.server.bodies.append(body)
        self.server.images[name] = found = Image.from_bytes(body, ImageRef(name, name))
        self.send_model(ImageInfo(id=name, height=found.height, width=found.width), 201)

    def masks(self, name, body):
        server = self.server
        act = server.script.pop(0) if server.script else "ok"
        wait = None
        if isinstance(act, tuple):
            act, wait = act
        time.sleep(server.sleep)
        if act == "forget":
            server.images.clear()
        if name not in server.images:
            return self.problem("unknown-image", "send it first")
        if act in PROBLEMS:
            return self.problem(act, f"scripted: {act} {server.echo}", wait)
        if act in ("413", "502"):
            return self.answer(int(act), b"<html>sent by a proxy</html>", "text/html")
        if act == "reset":
            return self.reset()
        if act == "stall":
            time.sleep(2)
        if act == "garbage":
            return self.answer(200, b"<html>log in first</html>", "text/html")
        request = MasksRequest.model_validate_json(body)
        prompts = [prompt.to_prompt() for prompt in request.prompts]
        masks = FillPrompt().masks(server.images[name], prompts)
        off = 7 if act == "strange mask" else 0
        if act in ("nothing", "lost"):
            masks = []
        confirmed = {"image": name, "prompts": len(prompts)} if act != "lost" else {}
        if act == "other image":
            confirmed["image"] = "sha256-" + "0" * 64
        if act == "other count":
            confirmed["prompts"] += 1
        reply = MasksReply(
            **confirmed,
            masks=[
                MaskModel(prompt=off + number, size=mask.size, counts=mask.counts, score=mask.score)
                for number, mask in enumerate(masks)
            ],
        )
        if act == "half":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(reply.model_dump_json().encode()[:50])
            return self.reset()
        return self.send_model(reply)

    def reset(self):
        """Reset the connection, like a killed process."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.shutdown(socket.SHUT_RDWR)
        raise ConnectionResetError

    def send_model(self, model, status=200):
        self.answer(status, model.model_dump_json().encode())

    def problem(self, kind, detail, wait=None):
        body = {"type": URN + kind, "title": kind, "status": PROBLEMS[kind], "detail": detail}
        self.answer(PROBLEMS[kind], json.dumps(body).encode(), PROBLEM_TYPE, wait)

    def answer(self, status, body, media="application/json", wait=None):
        self.send_response(status)
        self.send_header("Content-Type", media)
        self.send_header("Content-Length", str(len(body)))
        if wait is not None:
            self.send_header("Retry-After", str(wait))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextlib.contextmanager
def standing_in(port=0):
    """Run a `StandIn`."""
    server = StandIn(port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.die()
        thread.join()
