"""A local web server that answers as the Hugging Face hub does, with scripted failures."""

import contextlib
import hashlib
import http.server
import json
import threading

COMMIT = "c" * 40


def hash_blob(data):
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """Serves the files of one model.

    Attributes:
        name: `owner/name` of the model.
        files: contents by name.
        breaks: how many downloads of weights break off in the middle; counted down.
        gated: refuse all downloads, as for a model that one has to ask for.
        sent: names of the files whose content was sent, as often as it was asked for.
    """

    daemon_threads = True

    def __init__(self, name, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.files = name, files
        self.breaks, self.gated, self.sent = 0, False, []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Ignore closed connections."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Write nothing."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        hub, path = self.server, self.path.split("?")[0]
        if path in (f"/api/models/{hub.name}/revision/main", f"/api/models/{hub.name}"):
            self.answer_json({"id": hub.name, "sha": COMMIT, "siblings": [{"rfilename": name} for name in hub.files]})
        elif path.startswith(f"/api/models/{hub.name}/tree/"):
            self.answer_json([self.describe(name) for name in hub.files])
        elif path.startswith(f"/{hub.name}/resolve/") and (name := path.rsplit("/", 1)[1]) in hub.files:
            self.answer_file(name)
        else:
            code = "RevisionNotFound" if path.startswith(f"/api/models/{hub.name}/") else "RepoNotFound"
            self.answer_json({"error": "not found"}, 404, code)

    def describe(self, name):
        data = self.server.files[name]
        about = {"type": "file", "path": name, "size": len(data), "oid": hash_blob(data)}
        if name.endswith(".safetensors"):
            about["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return about

    def answer_json(self, value, status=200, code=""):
        body = json.dumps(value).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def answer_file(self, name):
        hub, data = self.server, self.server.files[name]
        if hub.gated:
            self.answer_json({"error": "Access to this model is restricted"}, 403, "GatedRepo")
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        digest = hashlib.sha256(data).hexdigest() if name.endswith(".safetensors") else hash_blob(data)
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        hub.sent.append(name)
        if name.endswith(".safetensors") and hub.breaks > 0:
            hub.breaks -= 1
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
            return
        self.wfile.write(data[start:])


@contextlib.contextmanager
def serving(name, files):
    """A hub with one model, until the end of the block."""
    hub = Hub(name, files)
    threading.Thread(target=hub.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
