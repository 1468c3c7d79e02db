"""Datasets of the Hugging Face hub, from a real server on this machine that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from m2r_train.api.errors import ConfigError, DataError
from m2r_train.store import fetch_uri, folder_digest
from m2r_train.store.hub import HubDataset, parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
URI = f"hf://datasets/lab/maths@{COMMIT}"
FILES = {"data/train.jsonl": b'{"question": "2 + 2?", "answer": "4"}\n', "README.md": b"maths\n"}


class Handler(BaseHTTPRequestHandler):
    """The tree of one commit of ``lab/maths``, and its files."""

    server: Hub

    def do_HEAD(self) -> None:
        self._reply()

    def do_GET(self) -> None:
        self._reply()

    def _reply(self) -> None:
        hub, path = self.server, self.path.partition("?")[0]
        hub.seen.append(path)
        if hub.status != 200:
            return self._send(hub.status, b"{}", **hub.headers)
        tree, files = f"/api/datasets/lab/maths/tree/{COMMIT}", "/datasets/lab/maths/resolve/"
        if path == tree:
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
                for name, data in FILES.items()
            ]
            return self._send(200, json.dumps(entries).encode())
        name = path.removeprefix(f"{files}{COMMIT}/")
        if name not in FILES:
            return self._send(404, b"{}", X_Error_Code="RevisionNotFound")
        data = FILES[name]
        if hub.cut:
            return self._send(200, data[:5], ETag=f'"{_oid(data)}"', X_Repo_Commit=COMMIT)
        return self._send(200, data, ETag=f'"{_oid(data)}"', X_Repo_Commit=COMMIT)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Hub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[str] = []
        self.status, self.headers, self.cut = 200, dict[str, str](), False


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_commit_is_downloaded_once_and_has_the_digest_of_its_files(
    hub: Hub, tmp_path: Path
) -> None:
    folder, digest = fetch_uri(URI, tmp_path)
    found = {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }
    assert found == FILES
    assert digest == folder_digest({n: hashlib.sha256(d).hexdigest() for n, d in FILES.items()})
    asked = len(hub.seen)
    assert fetch_uri(URI, tmp_path) == (folder, digest)
    assert len(hub.seen) == asked


@pytest.mark.parametrize(
    ("status", "headers", "error", "line"),
    [
        (404, {"X_Error_Code": "RevisionNotFound"}, DataError, "has no such commit"),
        (404, {"X_Error_Code": "RepoNotFound"}, DataError, "is not there, or private"),
        (403, {"X_Error_Code": "GatedRepo"}, DataError, "is gated; accept its terms"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line_with_a_remedy(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str], error: Any, line: str
) -> None:
    hub.status, hub.headers = status, headers
    with pytest.raises(error, match=line) as told:
        fetch_uri(URI, tmp_path)
    assert "\n" not in str(told.value)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []  # nothing half-written
    hub.status = 200
    fetch_uri(URI, tmp_path)


def test_a_file_that_is_not_the_commits_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.cut = True
    with pytest.raises(DataError, match="is not as the commit has it"):
        fetch_uri(URI, tmp_path)
    assert [p.name for p in tmp_path.iterdir() if p.is_dir()] == []


def test_without_a_network_a_copy_is_named_as_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)  # of the library's own tries
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discards what it is told
    with pytest.raises(ConfigError, match="check the network and HF_ENDPOINT, or name a copy"):
        fetch_uri(URI, tmp_path)


def test_a_uri_names_owner_name_and_commit() -> None:
    assert parse(URI) == HubDataset("lab/maths", COMMIT)
    for bad in ("hf://datasets/lab/maths", "hf://datasets/lab/maths@main", "hf://lab/maths"):
        with pytest.raises(ConfigError, match="the commit's 40 hex digits"):
            fetch_uri(bad, Path("/nowhere"))
