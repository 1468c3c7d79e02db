"""A running cluster: kubectl for all of them, and for a node of ours the controls of its parts."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from cluster import audit, cgroups, components, configs, processes, scraping
from cluster.errors import ClusterError
from cluster.kubectl import Kubectl
from cluster.layout import COMPONENTS, NODE, S3, Layout
from cluster.parts import command
from cluster.pki import write_kubeconfig
from cluster.waiting import wait_until


class Cluster(Kubectl):
    """See the package's docstring. ``layout`` is None for a cluster that is not a node of ours."""

    def __init__(
        self, kubeconfig: Path, layout: Layout | None, *, gpus: int = 0, prometheus: bool = False
    ) -> None:
        own = layout and (layout.data("kubectl"), cgroups.procs_file(layout.cgroup))
        cache, cgroup = own or (None, None)
        super().__init__(kubeconfig, cache=cache, cgroup=cgroup)
        self._layout, self.gpus, self._prometheus = layout, gpus, prometheus
        self.started = False

    # What there is ---------------------------------------------------------------------------

    @property
    def owned(self) -> bool:
        """Whether the controls work."""
        return self._layout is not None

    @property
    def layout(self) -> Layout:
        """Paths and addresses; raises ``ClusterError`` for a cluster that is not ours."""
        if self._layout is None:
            raise ClusterError(
                f"{self.kubeconfig} is not a node of ours: unset KUBECONFIG to use one of those"
            )
        return self._layout

    @property
    def state(self) -> Path:
        """The state directory."""
        return self.layout.state

    @property
    def node(self) -> str:
        """Name of the (first) node."""
        return NODE if self.owned else str(self.get("nodes")["items"][0]["metadata"]["name"])

    @property
    def host_address(self) -> str:
        """Where pods reach servers that listen on the host (on this address, or on all)."""
        return self.layout.host_address

    @property
    def node_address(self) -> str:
        """Address of the node, for the host and for pods."""
        return self.layout.node_address

    @property
    def dns(self) -> str:
        """Address of CoreDNS (UDP and TCP 53)."""
        return self.layout.node_address

    @property
    def s3(self) -> S3:
        """The S3 server."""
        return self.layout.s3

    @property
    def prometheus(self) -> str | None:
        """URL of Prometheus, where it was asked for."""
        return f"http://{self.layout.node_address}:9090" if self._prometheus else None

    @property
    def component_names(self) -> tuple[str, ...]:
        """Names of the components that belong to this cluster, in the order of their start."""
        return tuple(name for name in COMPONENTS if name != "prometheus" or self._prometheus)

    # Controls --------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL; returns when the process is gone. Containers live on without their manager."""
        processes.end(self.layout, self._known(name), kill=True)

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL after 10 s."""
        processes.end(self.layout, self._known(name), kill=False)

    def launch(self, name: str) -> None:
        """Starts a component that does not run; does not wait until it is healthy."""
        if not processes.alive(self.layout, self._known(name)):
            components.start(self.layout, name, self.gpus)

    def start(self, name: str, *, seconds: float = components.READY_SECONDS) -> None:
        """Starts a component with the same flags and waits until it is healthy."""
        self.launch(name)
        self.wait_healthy(name, seconds=seconds)

    def restart(self, name: str) -> None:
        """SIGKILL and start."""
        self.kill(name)
        self.start(name)

    def pause(self, name: str) -> None:
        """SIGSTOP: whoever talks to it hangs."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """SIGCONT."""
        self._signal(name, signal.SIGCONT)

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """The component is killed inside, and started again afterwards."""
        self.kill(name)
        try:
            yield
        finally:
            self.start(name)

    def alive(self, name: str) -> bool:
        """Whether the component's process runs."""
        return processes.alive(self.layout, self._known(name))

    def healthy(self, name: str) -> bool:
        """Whether the component runs and says that it is well."""
        return components.healthy(self.layout, self._known(name), self.gpus)

    def wait_healthy(self, name: str, *, seconds: float = components.READY_SECONDS) -> None:
        """Waits for that; ``ClusterError`` with the end of its log if it ends or takes too long."""
        done = wait_until(lambda: self.healthy(name) or not self.alive(name), seconds, every=0.05)
        if not done or not self.alive(name):
            state = "does not become healthy" if self.alive(name) else "ended"
            raise ClusterError(
                f"{name} {state}; the end of {self.log(name)}:\n"
                f"{processes.log_tail(self.layout, name)}"
            )

    def log(self, name: str) -> Path:
        """The component's standard output and error."""
        return self.layout.log(self._known(name))

    # Images, identities, audit ---------------------------------------------------------------

    def import_image(self, archive: Path) -> list[str]:
        """Loads a docker-archive or OCI archive (also gzipped); returns the names in it."""
        text = self.ctr("images", "import", "--no-unpack=false", str(archive), seconds=600)
        return [line.split()[1] for line in text.splitlines() if line.startswith("unpacking ")]

    def images(self) -> list[str]:
        """Names of all images that pods can use without a pull."""
        names = self.ctr("images", "list", "--quiet").split()
        return sorted(name for name in names if not name.startswith("sha256:"))

    def ctr(self, *args: str, seconds: float = 60.0) -> str:
        """Runs containerd's client in the kubelet's namespace."""
        prefix = [*processes.enter(self.layout, network=False), str(command("ctr"))]
        address = ["--address", str(self.layout.socket), "--namespace", "k8s.io"]
        try:
            done = subprocess.run(
                [*prefix, *address, *args],
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"ctr {' '.join(args)}: no answer in {seconds:g} s") from error
        if done.returncode != 0:
            raise ClusterError(f"ctr {' '.join(args)} ({done.returncode}): {done.stderr.strip()}")
        return done.stdout

    def service_account_kubeconfig(self, namespace: str, name: str, *, seconds: int = 3600) -> Path:
        """A kubeconfig with a token of the ServiceAccount that is valid for ``seconds``."""
        token = self.kubectl("create", "token", name, f"--duration={seconds}s", namespace=namespace)
        path = self.layout.config(f"sa-{namespace}-{name}.kubeconfig")
        write_kubeconfig(self.layout, path, {"token": token.strip()}, namespace)
        return path

    def audit(self) -> Iterator[dict[str, Any]]:
        """Events of the API server's audit log, oldest first."""
        return audit.events(self.layout.audit_log)

    def writes(
        self, *, user_agent: str = "", user: str = "", since: datetime | None = None
    ) -> Counter[tuple[str, str]]:
        """How often clients wrote: see ``audit.writes``."""
        return audit.writes(self.layout.audit_log, user_agent=user_agent, user=user, since=since)

    def enable_prometheus(self) -> None:
        """Adds Prometheus to a cluster that runs without it."""
        self._prometheus = True
        self.start("prometheus")
        self.save(ready=True)

    def scrape(self, *namespaces: str) -> list[str]:
        """Prometheus scrapes the annotated pods of these namespaces; returns their addresses."""
        pods = [pod for name in namespaces for pod in self.get("pods", namespace=name)["items"]]
        targets = scraping.targets(pods)
        scraping.write(self.layout.config(configs.TARGETS), targets)
        return [address for target in targets for address in target["targets"]]

    def save(self, *, ready: bool) -> None:
        """Records what this cluster consists of, in one step."""
        path = self.state / RECORD
        content = {"slot": self.layout.slot, "gpus": self.gpus, "prometheus": self._prometheus}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps({**content, "ready": ready}))
        fresh.replace(path)

    def _known(self, name: str) -> str:
        if name not in COMPONENTS:
            raise ClusterError(f"no component `{name}`: choose from {', '.join(COMPONENTS)}")
        return name

    def _signal(self, name: str, number: signal.Signals) -> None:
        process = processes.find(self.layout, self._known(name))
        if process is None or not process.alive:
            raise ClusterError(f"{name} does not run: start it first")
        process.signal(number)


RECORD = "cluster.json"
