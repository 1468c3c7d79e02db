"""``make test``: from nothing to a verdict, with the seconds of each part.

Set-up, checks and tests in the order in which they find mistakes cheapest; all of them run, so that
one pass shows everything that is wrong. The S3 server of the tests is built meanwhile (minutes on
the first time), and waited for before the tests that need it. Fast tests run on two processes of
one thread each, slow ones (whole runs, kills) one after the other.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from setup_env import ROOT, SetupError, bootstrap, setup

HERE = "not gpu and not cluster"  # what needs hardware is not part of this
SIDE_BY_SIDE = ("-n", "2", "--dist", "worksteal")
RESULTS = ROOT / ".venv" / "test-results"


@dataclass
class Clock:
    """The parts run so far: (name, seconds, whether it passed)."""

    parts: list[tuple[str, float, bool]] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def run(self, name: str, command: list[str], **env: str) -> None:
        """Runs one part with its output shown, and notes how it went."""
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        begun = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, **env}, check=False).returncode
        self.note(name, begun, code == 0)

    def note(self, name: str, begun: float, passed: bool) -> None:
        """Adds a part that began at ``begun`` and ends now."""
        self.parts.append((name, time.monotonic() - begun, passed))

    def report(self) -> int:
        """Prints the table; the exit code is 1 if any part failed."""
        print("\nmake test:")
        for name, seconds, passed in self.parts:
            print(f"  {name:<12} {seconds:7.1f} s  {'ok' if passed else 'FAILED'}")
        print(f"  {'total':<12} {time.monotonic() - self.start:7.1f} s", flush=True)
        return 0 if all(passed for _, _, passed in self.parts) else 1


def pytest(python: Path, name: str, *options: str) -> list[str]:
    """A pytest command whose results go to ``junit-<name>.xml``; same examples on every machine."""
    report = RESULTS / f"junit-{name}.xml"
    fixed = ["--hypothesis-profile=ci", "-q", "--durations=10", f"--junit-xml={report}"]
    return [str(python), "-m", "pytest", *fixed, *options]


@contextlib.contextmanager
def s3_server_built(clock: Clock) -> Iterator[None]:
    """Builds the S3 server of the tests beside what is done inside; waits for it at the end."""
    _, python = bootstrap()  # has pip, which the build needs where there is no Go
    command = [str(python), "tests/s3server.py", "build"]
    with tempfile.TemporaryFile("w+") as log:
        build = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield
            begun = time.monotonic()
            built = build.wait() == 0
            clock.note("S3 server", begun, built)
            if not built:
                log.seek(0)
                print(f"\n== the S3 server could not be built:\n{log.read()}", flush=True)
        finally:
            build.terminate()
            build.wait()


def main() -> int:
    """Everything, in order; see the module's docstring."""
    clock = Clock()
    try:
        with s3_server_built(clock):
            begun = time.monotonic()
            python = setup("dev")
            clock.note("set-up", begun, True)
            make = os.environ.get("MAKE", "make")
            clock.run("check", [make, "check"])
            clock.run("verify", [make, "verify"])
            RESULTS.mkdir(exist_ok=True)
            for old in RESULTS.glob("junit-*.xml"):
                old.unlink()
            fast = pytest(python, "fast", *SIDE_BY_SIDE, "-m", f"not slow and not s3 and {HERE}")
            clock.run("fast tests", fast, OMP_NUM_THREADS="1")
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    s3 = pytest(python, "s3", *SIDE_BY_SIDE, "-m", f"s3 and not slow and {HERE}")
    clock.run("S3 tests", s3, OMP_NUM_THREADS="1")
    clock.run("slow tests", pytest(python, "slow", "-n", "0", "-m", f"slow and {HERE}"))
    guard = [str(python), "tools/require_classes.py", *map(str, sorted(RESULTS.glob("junit-*")))]
    clock.run("all classes", guard)
    return clock.report()


if __name__ == "__main__":
    sys.exit(main())
