"""A real Prometheus of the tests: Debian's, on a free port, with targets that come and go."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dashboards.prometheus import Prometheus
from debian import program
from s3server import free_port

SCRAPE_SECONDS = 0.5


@dataclass
class Server:
    """A running server. ``targets`` are scraped each half second."""

    home: Path
    port: int
    targets: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)

    @property
    def api(self) -> Prometheus:
        """Its HTTP API."""
        return Prometheus(f"http://127.0.0.1:{self.port}")

    def scrape(self, port: int, labels: Mapping[str, str]) -> None:
        """Scrape a port of this machine from now on; ``labels`` as a monitor would put them."""
        self.scrape_all([(port, labels)])

    def scrape_all(self, targets: Sequence[tuple[int, Mapping[str, str]]]) -> None:
        """Scrape these from now on; returns once each was tried.

        Prometheus takes up to five seconds to see new targets, in which a small run is over.
        """
        self.targets += targets
        self.write()
        for _, labels in targets:
            self.until(f'up{{instance="{labels["instance"]}"}}')

    def until(self, query: str, within: float = 60) -> None:
        """Wait until a query finds something; raises TimeoutError after ``within`` seconds."""
        deadline = time.monotonic() + within
        while not self.api.at(query, time.time()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"Prometheus finds nothing for {query}")
            time.sleep(0.1)

    def forget(self, port: int) -> None:
        """Scrape it no longer: its series end, as those of a pod that is gone."""
        self.targets = [one for one in self.targets if one[0] != port]
        self.write()

    def write(self) -> None:
        """The file of targets, replaced in one step; Prometheus sees that by itself."""
        found = [
            {"targets": [f"127.0.0.1:{port}"], "labels": dict(labels)}
            for port, labels in self.targets
        ]
        fresh = self.home / "targets.new"
        fresh.write_text(json.dumps(found))
        fresh.replace(self.home / "targets.json")

    def last_seen(self, selector: str) -> float:
        """When a target that ``up{selector}`` names answered last, in Unix seconds."""
        (one,) = self.api.samples(f"up{{{selector}}}[1h]", time.time())
        return max(when for when, value in one.points if value == 1)


@contextlib.contextmanager
def prometheus(home: Path, rules: Path | None = None) -> Iterator[Server]:
    """Starts a server in ``home`` and stops it again; ``rules`` are evaluated each second."""
    binary = program("prometheus", "prometheus")
    home.mkdir(parents=True, exist_ok=True)
    server = Server(home, free_port())
    server.write()
    interval = f"{round(1000 * SCRAPE_SECONDS)}ms"
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval,
                   "evaluation_interval": "1s"},
        "rule_files": [] if rules is None else [str(rules)],
        "scrape_configs": [{
            "job_name": "m2r",
            "honor_labels": True,
            "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
        }],
    }  # fmt: skip
    (home / "prometheus.yml").write_text(json.dumps(config))
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                str(binary), f"--config.file={home}/prometheus.yml", "--log.level=warn",
                f"--storage.tsdb.path={home}/data", f"--web.listen-address=127.0.0.1:{server.port}",
            ],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _wait_ready(process, server.port, home / "log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise RuntimeError(f"Prometheus did not start: {log.read_text()[-2000:]}")
