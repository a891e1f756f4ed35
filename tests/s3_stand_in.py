"""A server with the part of the S3 protocol that reading a bucket takes: it lists lazily, and answers errors on demand.

moto, which the other tests use, keeps its objects in memory and answers no errors.
"""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Callable
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
TIME = "2026-12-01T02:00:00.000Z"


class S3StandIn:
    """A bucket with any name; use as a context manager.

    Args:
        count: how many objects there are.
        name: of the object with a number from 0; in the order of names.
        body: content of the object with a name, None if there is none.
        mark: its ETag.

    Attributes:
        refusals: status codes by the object's name, "" for the listing: each is answered once, the last one for ever.
        requests: how many there were: "list", "get", "head".
    """

    def __init__(
        self,
        count: int,
        name: Callable[[int], str],
        body: Callable[[str], bytes | None],
        mark: Callable[[str], str] = lambda name: "1",
    ) -> None:
        self.count, self.name, self.body, self.mark = count, name, body, mark
        self.refusals: dict[str, list[int]] = {}
        self.requests: Counter[str] = Counter()

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"bucket": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def refusal(self, name: str) -> int:
        """The status code of the next answer about an object."""
        codes = self.refusals.get(name, [200])
        return codes.pop(0) if len(codes) > 1 else codes[0]

    def list_page(self, prefix: str, start: int) -> bytes:
        """One page of the listing; as S3, in the order of names."""
        rows = []
        for number in range(start, min(start + PAGE, self.count)):
            name = self.name(number)
            if name.startswith(prefix):
                size, mark = len(self.body(name) or b""), self.mark(name)
                rows.append(
                    f"<Contents><Key>{escape(name)}</Key><LastModified>{TIME}</LastModified>"
                    f"<ETag>&quot;{mark}&quot;</ETag><Size>{size}</Size></Contents>"
                )
        more = start + PAGE < self.count
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        about = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        return f"<ListBucketResult>{about}{''.join(rows)}</ListBucketResult>".encode()


class _Handler(http.server.BaseHTTPRequestHandler):
    bucket: S3StandIn
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer with a page of the listing, or with an object."""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        if "list-type" in query:
            name, kind = "", "list"
            start = int(query.get("continuation-token", ["0"])[0])
            found: bytes | None = self.bucket.list_page(query.get("prefix", [""])[0], start)
        else:
            name, kind = unquote(parts.path).lstrip("/").partition("/")[2], self.command.lower()
            found = self.bucket.body(name)
        self.bucket.requests[kind] += 1
        code = self.bucket.refusal(name)
        if code == 200 and found is None:
            code = 404
        errors = {403: "AccessDenied", 404: "NoSuchKey", 503: "SlowDown"}
        body = (
            found
            if code == 200 and found is not None
            else f"<Error><Code>{errors.get(code, '')}</Code></Error>".encode()
        )
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Tue, 01 Dec 2026 02:00:00 GMT")
        self.send_header("ETag", f'"{quote(self.bucket.mark(name))}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""
