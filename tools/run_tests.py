"""``make test``: from nothing to a verdict, with the seconds of each part.

Set-up, checks and tests in the order in which they find mistakes cheapest; all of them run, so that
one pass shows everything that is wrong. What others have written (the S3 server, Kubernetes, helm,
Kueue) and our images are built meanwhile (many minutes on the first time), and waited for before
the tests that need them. Fast tests run on two processes of one thread each, and so do slow ones
(whole runs, kills), file by file; those on the cluster run one after the other.

A machine that cannot run a node (no root, not Linux) and names no other cluster in ``KUBECONFIG``
runs everything else and says so, and so does one that can get no Prometheus; in CI (``CI`` is set)
that is a failure.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from setup_env import ROOT, SetupError, bootstrap, setup

# What needs neither an accelerator nor a Kubernetes node nor vLLM's own environment.
HERE = "not gpu and not cluster and not rollout"
SIDE_BY_SIDE = ("-n", "2", "--dist", "worksteal")
# A file's tests share a run that takes a minute: they stay together.
FILE_BY_FILE = ("-n", "2", "--dist", "loadfile")
RESULTS = ROOT / ".venv" / "test-results"


@dataclass
class Clock:
    """The parts run so far: (name, seconds, whether it passed)."""

    parts: list[tuple[str, float, bool]] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def run(self, name: str, command: list[str], **env: str) -> bool:
        """Runs one part with its output shown, and notes how it went."""
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        begun = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=False).returncode
        self.note(name, begun, code == 0)
        return code == 0

    def run_twice(self, name: str, first: list[str], second: list[str]) -> None:
        """Runs one part; what failed of it gets one more try, which is shown as a part of its own
        and is what counts."""
        if not self.run(name, first):
            tried = self.parts.pop()
            self.parts.append((f"{name}, some failed", tried[1], True))
            self.run(f"{name}, those again", second)

    def note(self, name: str, begun: float, passed: bool) -> None:
        """Adds a part that began at ``begun`` and ends now."""
        self.parts.append((name, time.monotonic() - begun, passed))

    def report(self) -> int:
        """Prints the table; the exit code is 1 if any part failed."""
        print("\nmake test:")
        for name, seconds, passed in self.parts:
            print(f"  {name:<30} {seconds:7.1f} s  {'ok' if passed else 'FAILED'}")
        print(f"  {'total':<30} {time.monotonic() - self.start:7.1f} s", flush=True)
        return 0 if all(passed for _, _, passed in self.parts) else 1


class Beside:
    """Commands that run one after the other beside everything else, at a low priority.

    As a context manager: what has not ended at its end is stopped, with its children.
    """

    def __init__(self, name: str, *commands: list[str]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the commands
        chain = " && ".join(shlex.join(command) for command in commands)
        self._process = subprocess.Popen(
            ["nice", "sh", "-c", chain],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> "Beside":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
        self._log.close()

    def wait(self, clock: Clock) -> bool:
        """Waits for the end and notes how long that took; shows the output of a failure."""
        begun = time.monotonic()
        built = self._process.wait() == 0
        clock.note(self.name, begun, built)
        if not built:
            self._log.seek(0)
            print(f"\n== {self.name} could not be built:\n{self._log.read()}", flush=True)
        return built


def pytest(python: Path, name: str, *options: str) -> list[str]:
    """A pytest command whose results go to ``junit-<name>.xml``; same examples on every machine."""
    report = RESULTS / f"junit-{name}.xml"
    fixed = ["--hypothesis-profile=ci", "-q", "--durations=10", f"--junit-xml={report}"]
    return [str(python), "-m", "pytest", *fixed, *options]


def why_no_node(python: Path) -> str:
    """Why the tests on a cluster cannot run on this machine; empty where they can."""
    command = [str(python), "tools/cluster", "check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.strip()


def why_no_prometheus() -> str:
    """Why the tests of rules and dashboards cannot run on this machine; empty where they can."""
    from debian import program  # noqa: PLC0415 - not readable for a Python that is too old

    try:
        for name in ("prometheus", "promtool"):
            program(name, "prometheus")
    except SetupError as error:
        return str(error)
    return ""


@contextlib.contextmanager
def builds(python: Path, node: bool) -> Iterator[tuple[Beside, Beside | None]]:
    """The S3 server and, where a node can run, all that the cluster tests need."""
    with contextlib.ExitStack() as running:
        s3 = running.enter_context(
            Beside("S3 server", [str(python), "tests/s3server.py", "build"])
        )  # fmt: skip
        rest = None
        if node:
            tools = [str(python), "tools/cluster", "build"]
            images = [str(python), "tools/images", "build", "standin", "operator", "trainer-cpu"]
            rest = running.enter_context(Beside("cluster parts", tools, images))
        yield s3, rest


def main() -> int:
    """Everything, in order; see the module's docstring."""
    clock = Clock()
    try:
        _, bare = bootstrap()  # has pip, which the builds need where there is no Go
        missing = {"cluster": why_no_node(bare), "prometheus": why_no_prometheus()}
        here = f"{HERE} and not prometheus" if missing["prometheus"] else HERE
        with builds(bare, node=not missing["cluster"]) as (s3_server, cluster_parts):
            _quick_parts(clock, here)
            python = ROOT / ".venv" / "bin" / "python"
            s3_server.wait(clock)
            s3 = pytest(python, "s3", *SIDE_BY_SIDE, "-m", f"s3 and not slow and {here}")
            clock.run("S3 tests", s3, OMP_NUM_THREADS="1")
            _rollout_part(clock)
            slow = pytest(python, "slow", *FILE_BY_FILE, "-m", f"slow and {here}")
            clock.run("slow tests", slow, OMP_NUM_THREADS="1")
            if cluster_parts is not None and cluster_parts.wait(clock):
                # A whole cluster on a busy machine: a test may meet somebody else's time-out.
                serial = ("-n", "0", "-m", "cluster")
                again = ("--last-failed", "--last-failed-no-failures=none")
                clock.run_twice(
                    "cluster tests",
                    pytest(python, "cluster", *serial),
                    pytest(python, "cluster2", *serial, *again),
                )
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    guard = [str(python), "tools/require_classes.py", *map(str, sorted(RESULTS.glob("junit-*")))]
    clock.run("all classes", [*guard, *without(missing)])
    return clock.report()


def without(missing: Mapping[str, str]) -> list[str]:
    """Says which classes of tests did not run, and why; what excuses them, except in CI."""
    excused = []
    for name, reason in missing.items():
        if reason:
            print(f"\n== {name} tests: not run: {reason}", flush=True)
            excused += [] if os.environ.get("CI") else ["--without", name]
    return excused


def _rollout_part(clock: Clock) -> None:
    """The tests that run vLLM, in an environment of their own; one engine, one process."""
    begun = time.monotonic()
    python = setup("rollout-cpu")
    clock.note("set-up of vLLM", begun, True)
    tests = pytest(python, "rollout", "-n", "0", "-m", "rollout")
    clock.run("vLLM tests", tests, OMP_NUM_THREADS="1")


def _quick_parts(clock: Clock, here: str) -> None:
    """Set-up, checks and the fast tests."""
    begun = time.monotonic()
    python = setup("dev")
    clock.note("set-up", begun, True)
    make = os.environ.get("MAKE", "make")
    clock.run("check", [make, "check"])
    clock.run("verify", [make, "verify"])
    RESULTS.mkdir(exist_ok=True)
    for old in RESULTS.glob("junit-*.xml"):
        old.unlink()
    fast = pytest(python, "fast", *SIDE_BY_SIDE, "-m", f"not slow and not s3 and {here}")
    clock.run("fast tests", fast, OMP_NUM_THREADS="1")


if __name__ == "__main__":
    sys.exit(main())
