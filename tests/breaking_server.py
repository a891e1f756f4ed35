"""A local web server that serves one file, with scripted failures."""

import contextlib
import http.server
import threading
import time


class Breaking(http.server.ThreadingHTTPServer):
    """Serves `content` at every path.

    Attributes:
        script: the responses to the next requests; the last one is repeated. An int: the connection breaks
            after this many bytes; "ok", "stall", "no range", "wrong range", "longer", "lies longer", "lies shorter",
            "html", "wrong bytes", "wrong bytes 90000" (and breaks after 90000), "redirect URL", or a
            status such as "503".
        requests: the Range header of each request, "" without one.
        sent: bytes of content that were sent.
    """

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.script = ["ok"]
        self.requests = []
        self.sent = 0
        self.pace = 0.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/weights"

    def handle_error(self, request, client_address):
        """Ignore closed connections."""


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(self.headers.get("Range", ""))
        act = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        if isinstance(act, str) and act.isdigit():
            self.send_error(int(act))
            return
        content = server.content
        if act == "html":
            content = b"<html>log in first</html>"
        if isinstance(act, str) and act.startswith("redirect "):
            self.send_response(302)
            self.send_header("Location", act.removeprefix("redirect "))
            self.end_headers()
            return
        if isinstance(act, str) and act.startswith("wrong bytes"):
            content = bytes(len(content))
            act = int(act.removeprefix("wrong bytes") or len(content))
        start = 0
        if (wanted := self.headers.get("Range")) and act not in ("no range", "html"):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.answer(act, content, start, bool(wanted) and act not in ("no range", "html"))

    def answer(self, act, content, start, partial):
        body = content[start:]
        self.send_response(206 if partial else 200)
        shown = 7 if act == "wrong range" else start
        if partial:
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        length = len(body) + {"lies longer": 1000, "lies shorter": -1000}.get(act, 0)
        if act == "longer":
            body += b"more"
        else:
            self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "text/html" if act == "html" else "application/octet-stream")
        self.end_headers()
        stop = act if isinstance(act, int) else len(body) // 2 if act == "stall" else len(body)
        size = 4096 if self.server.pace else 1 << 20
        for at in range(0, stop, size):
            piece = body[at : min(at + size, stop)]
            self.wfile.write(piece)
            self.server.sent += len(piece)
            time.sleep(self.server.pace)
        self.wfile.flush()
        if act == "stall":
            time.sleep(3)


@contextlib.contextmanager
def serving(content, tls=None):
    """Run a `Breaking` server; `tls` is an `ssl.SSLContext`."""
    server = Breaking(content)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
