"""The real S3 server of the tests: versitygw, built once from source, run on a free port.

``python tests/s3server.py build`` makes (or finds) the binary and prints its path; ``run DIR``
serves DIR until interrupted. The binary lives outside the tree, in the user's cache, and is built
by ``tools/gotools.py``; nothing is ever skipped in silence.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

# pytest finds tools/ by itself; other users of this module need not know of it.
sys.path.append(str(Path(__file__).resolve().parent.parent / "tools"))

import gotools

USAGE = "usage: python tests/s3server.py build|run [DIR]"


@dataclass(frozen=True)
class Server:
    """A running server; ``env`` is what boto3's normal chain reads its credentials from."""

    endpoint: str
    root: Path
    pid: int
    access_key: str = "m2r-tests"
    secret_key: str = field(default="m2r-tests-secret", repr=False)
    region: str = "us-east-1"

    @property
    def env(self) -> dict[str, str]:
        """Environment for processes that use the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def make_bucket(self, name: str) -> str:
        """A bucket is a directory; returns its ``s3://`` URI."""
        (self.root / name).mkdir(exist_ok=True)
        return f"s3://{name}"


@contextlib.contextmanager
def s3_server(root: Path | None = None, *, startup_seconds: float = 60.0) -> Iterator[Server]:
    """Starts a server over ``root`` (default: a new temporary directory) and stops it again."""
    binary = build()
    with contextlib.ExitStack() as stack:
        if root is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="m2r-s3-")))
        port = free_port()
        log = stack.enter_context(tempfile.TemporaryFile())
        keys = Server("", root, 0)
        command = [str(binary), "--port", f"127.0.0.1:{port}", "--quiet", "--keep-alive"]
        process = subprocess.Popen(
            [*command, "--health", "/healthz", "posix", str(root)],
            env={
                "PATH": os.environ.get("PATH", ""),
                "HOME": str(root),
                "ROOT_ACCESS_KEY": keys.access_key,
                "ROOT_SECRET_KEY": keys.secret_key,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _wait_healthy(process, port, log, startup_seconds)
            yield Server(f"http://127.0.0.1:{port}", root, process.pid)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def build() -> Path:
    """The server's binary, built on first use under a lock that other processes wait for."""
    return gotools.build("versitygw")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_healthy(
    process: subprocess.Popen[bytes], port: int, log: IO[bytes], seconds: float
) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    log.seek(0)
    raise RuntimeError(
        f"the S3 server did not start: {log.read().decode(errors='replace')[-2000:]}"
    )


def main(arguments: list[str]) -> int:
    """The command line: see the module's docstring."""
    match arguments:
        case ["build"]:
            print(build())  # noqa: T201
        case ["run", *rest] if len(rest) <= 1:
            with s3_server(Path(rest[0]).absolute() if rest else None) as server:
                for name, value in {"AWS_ENDPOINT_URL": server.endpoint, **server.env}.items():
                    print(f"export {name}={value}", flush=True)  # noqa: T201
                with contextlib.suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(3600)
        case _:
            print(USAGE, file=sys.stderr)  # noqa: T201
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
