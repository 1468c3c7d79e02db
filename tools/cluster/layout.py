"""Where a cluster keeps what: paths, addresses and names, all from its directory and its slot.

Several clusters may run side by side, each in its own *slot* (0, 1, ...), from which its subnets
and the names of its link and cgroup follow. Nothing here touches the machine.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cluster.errors import ClusterError

COMPONENTS = (
    "etcd",
    "apiserver",
    "controller-manager",
    "scheduler",
    "containerd",
    "kubelet",
    "proxy",
    "dns",
    "gpu-plugin",
    "s3",
    "prometheus",
)
DEFAULT_STATE = Path("/var/lib/m2r-cluster")  # not /run: images fill gigabytes, and /run is memory
LONGEST_STATE = 60  # characters: a unix socket's whole path may have 107
NODE = "m2r-node"
CLUSTER_DOMAIN = "cluster.local"
SLOTS = range(16)
# Where programs insist on a folder of their own: inside the mount namespace, ours lie there.
MOUNTS = {
    "kubelet": Path("/var/lib/kubelet"),  # the device plugins' folder is a constant
    "cni": Path("/var/lib/cni"),
    "containerd-run": Path("/run/containerd"),  # the shims' sockets
    "netns": Path("/run/netns"),
    "pod-logs": Path("/var/log/pods"),
    "container-logs": Path("/var/log/containers"),
}


@dataclass(frozen=True)
class S3:
    """The cluster's S3 server: one endpoint for the host and for pods, and one bucket."""

    endpoint: str
    access_key: str = "m2r-cluster"
    secret_key: str = field(default="m2r-cluster-secret", repr=False)
    region: str = "us-east-1"
    bucket: str = "m2r"

    @property
    def env(self) -> dict[str, str]:
        """Environment from which boto3's normal chain reads the credentials and the endpoint."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


def state_dir(given: Path | None = None) -> Path:
    """The state directory: as given, else ``$M2R_CLUSTER_DIR``, else the default."""
    path = (given or Path(os.environ.get("M2R_CLUSTER_DIR") or DEFAULT_STATE)).absolute()
    if len(str(path)) > LONGEST_STATE:
        raise ClusterError(
            f"{path}: longer than {LONGEST_STATE} characters, so unix sockets in it cannot be "
            "bound: choose a shorter M2R_CLUSTER_DIR"
        )
    return path


@dataclass(frozen=True)
class Layout:
    """Paths, addresses and names of the cluster in ``state`` and ``slot``."""

    state: Path
    slot: int

    @property
    def link(self) -> str:
        """The host's end of the veth pair between the host and the node."""
        return f"m2r{self.slot}"

    @property
    def cgroup(self) -> str:
        """Root of every process and container of this cluster, in each cgroup hierarchy."""
        return f"m2r-cluster-{self.slot}"

    @property
    def host_address(self) -> str:
        """The host, as the node and the pods see it."""
        return f"10.245.{self.slot}.1"

    @property
    def node_address(self) -> str:
        """The node: all components listen here."""
        return f"10.245.{self.slot}.2"

    @property
    def pod_subnet(self) -> str:
        """Addresses of pods (CIDR)."""
        return f"10.244.{self.slot}.0/24"

    @property
    def service_subnet(self) -> str:
        """Addresses of Services (CIDR); the first one is the API server's."""
        return f"10.96.{self.slot}.0/24"

    @property
    def api_service(self) -> str:
        """Address of the Service ``kubernetes``."""
        return f"10.96.{self.slot}.1"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.node_address}:6443"

    @cached_property
    def s3(self) -> S3:
        """The S3 server."""
        return S3(f"http://{self.node_address}:7070")

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "admin.kubeconfig"

    @property
    def ca(self) -> Path:
        """The certificate authority that signed everything here."""
        return self.pki("ca.crt")

    @property
    def socket(self) -> Path:
        """The private containerd's socket."""
        return self.state / "containerd.sock"

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON object a line."""
        return self.state / "audit.log"

    def pki(self, name: str) -> Path:
        """A key or certificate."""
        return self.state / "pki" / name

    def config(self, name: str) -> Path:
        """A configuration file of a component."""
        return self.state / "config" / name

    def data(self, name: str) -> Path:
        """A directory of data."""
        return self.state / "data" / name

    def log(self, component: str) -> Path:
        """Standard output and error of a component."""
        return self.state / "log" / f"{component}.log"

    def record(self, process: str) -> Path:
        """The file that says which process a component is."""
        return self.state / "run" / f"{process}.json"
