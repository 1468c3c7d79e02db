"""An S3 server in memory that overwrites whatever the condition says, as some old ones do."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@contextlib.contextmanager
def careless_server() -> Iterator[str]:
    """Runs the server on a free port; yields its endpoint. Any bucket is there, and empty."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes] = {}  # noqa: RUF012 - by path; a test process has one such server

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.objects[self._key] = data
        self._reply(200, b"", data)

    def do_GET(self) -> None:
        if "list-type" in self.path:
            self._reply(200, self._listing())
        elif self._key in self.objects:
            self._reply(200, self.objects[self._key], self.objects[self._key])
        else:
            self._reply(404, b"<Error><Code>NoSuchKey</Code></Error>")

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        self.objects.pop(self._key, None)
        self._reply(204, b"")

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path)

    def _listing(self) -> bytes:
        bucket = self._key.split("/")[1]
        prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
        keys = sorted(k.removeprefix(f"/{bucket}/") for k in self.objects)
        found = [
            f"<Contents><Key>{escape(key)}</Key>"
            f"<Size>{len(self.objects[f'/{bucket}/{key}'])}</Size>"
            f"<ETag>{_tag(self.objects[f'/{bucket}/{key}'])}</ETag></Contents>"
            for key in keys
            if key.startswith(prefix)
        ]
        return (
            '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
            f"{''.join(found)}</ListBucketResult>"
        ).encode()

    def _reply(self, status: int, body: bytes, stored: bytes | None = None) -> None:
        self.send_response_only(status)
        if stored is not None:
            self.send_header("ETag", f'"{_tag(stored)}"')
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _tag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
