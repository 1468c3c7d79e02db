"""The programs of a cluster: what each is started with, and how to see that it is healthy."""

from __future__ import annotations

import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cluster import processes
from cluster.layout import CLUSTER_DOMAIN, NODE, Layout
from cluster.parts import SEARCH, command, tool
from cluster.pki import kubeconfig

READY_SECONDS = 60.0


@dataclass(frozen=True)
class Component:
    """A program; ``health`` is a URL that answers 200, a Unix socket that listens, or nothing."""

    argv: list[str]
    health: str = ""
    env: dict[str, str] = field(default_factory=dict)


def component(layout: Layout, name: str, gpus: int) -> Component:
    """How the component ``name`` of ``layout.COMPONENTS`` is started."""
    if name == "gpu-plugin":
        return Component([str(tool("gpu-plugin")), "-count", str(gpus)])
    return BUILDERS[name](layout)


def start(layout: Layout, name: str, gpus: int) -> None:
    """Starts a component in the node's namespaces; does not wait until it is healthy."""
    made = component(layout, name, gpus)
    env = {"PATH": SEARCH, "HOME": str(layout.state), **made.env}
    processes.launch(layout, name, [*processes.enter(layout), *made.argv], env=env)


def healthy(layout: Layout, name: str, gpus: int) -> bool:
    """Whether the component runs and says that it is well."""
    if not processes.alive(layout, name):
        return False
    health = component(layout, name, gpus).health
    if health.startswith("/"):
        return listens(Path(health))
    return not health or answers(layout, health)


def listens(path: Path, seconds: float = 2.0) -> bool:
    """Whether somebody takes connections on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as attempt:
        attempt.settimeout(seconds)
        return attempt.connect_ex(str(path)) == 0


def answers(layout: Layout, url: str, seconds: float = 2.0) -> bool:
    """Whether ``url`` answers with 200; the cluster's own authority is trusted."""
    tls = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(layout.ca)))
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), tls)
    try:
        with direct.open(url, timeout=seconds) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _etcd(layout: Layout) -> Component:
    client, metrics = "http://127.0.0.1:2379", f"http://{layout.node_address}:2381"
    argv = [
        str(command("etcd")),
        "--name=m2r",
        f"--data-dir={layout.data('etcd')}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=m2r=http://127.0.0.1:2380",
        f"--listen-metrics-urls={metrics}",
        "--unsafe-no-fsync",  # a test's cluster need not survive a power cut
        "--log-level=warn",
    ]
    return Component(argv, f"{metrics}/health")


def _apiserver(layout: Layout) -> Component:
    argv = [
        str(tool("kube-apiserver")),
        "--etcd-servers=http://127.0.0.1:2379",
        f"--bind-address={layout.node_address}",
        f"--advertise-address={layout.node_address}",
        "--secure-port=6443",
        *_serving(layout),
        f"--client-ca-file={layout.ca}",
        # Nobody has such a certificate; without these, others ask for them again and again.
        f"--requestheader-client-ca-file={layout.ca}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={layout.service_subnet}",
        f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        f"--service-account-key-file={layout.pki('service-accounts.pub')}",
        f"--service-account-signing-key-file={layout.pki('service-accounts.key')}",
        f"--kubelet-client-certificate={layout.pki('apiserver-kubelet.crt')}",
        f"--kubelet-client-key={layout.pki('apiserver-kubelet.key')}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={layout.config('audit.json')}",
        f"--audit-log-path={layout.audit_log}",
        "--default-not-ready-toleration-seconds=10",
        "--default-unreachable-toleration-seconds=10",
        "--profiling=false",
    ]
    return Component(argv, f"{layout.server}/readyz")


def _controller_manager(layout: Layout) -> Component:
    config = kubeconfig(layout, "controller-manager")
    argv = [
        str(tool("kube-controller-manager")),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={layout.node_address}",
        *_serving(layout),
        f"--root-ca-file={layout.ca}",
        f"--service-account-private-key-file={layout.pki('service-accounts.key')}",
        "--use-service-account-credentials=true",
        f"--cluster-signing-cert-file={layout.ca}",
        f"--cluster-signing-key-file={layout.pki('ca.key')}",
        f"--service-cluster-ip-range={layout.service_subnet}",
        "--allocate-node-cidrs=false",
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--node-monitor-period=2s",
        "--node-monitor-grace-period=20s",
        "--profiling=false",
    ]
    return Component(argv, f"https://{layout.node_address}:10257/healthz")


def _scheduler(layout: Layout) -> Component:
    config = kubeconfig(layout, "scheduler")
    argv = [
        str(tool("kube-scheduler")),
        f"--config={layout.config('scheduler.json')}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={layout.node_address}",
        *_serving(layout),
    ]
    return Component(argv, f"https://{layout.node_address}:10259/healthz")


def _containerd(layout: Layout) -> Component:
    config = str(layout.config("containerd.toml"))
    return Component([str(command("containerd")), "--config", config], str(layout.socket))


def _kubelet(layout: Layout) -> Component:
    argv = [
        str(tool("kubelet")),
        f"--config={layout.config('kubelet.json')}",
        f"--kubeconfig={kubeconfig(layout, 'kubelet')}",
        f"--hostname-override={NODE}",
        f"--node-ip={layout.node_address}",
    ]
    return Component(argv, f"http://{layout.node_address}:10248/healthz")


def _proxy(layout: Layout) -> Component:
    config = f"--config={layout.config('proxy.json')}"
    argv = [str(tool("kube-proxy")), config, f"--hostname-override={NODE}"]
    return Component(argv, f"http://{layout.node_address}:10256/livez")


def _dns(layout: Layout) -> Component:
    argv = [str(tool("coredns")), "-conf", str(layout.config("Corefile")), "-dns.port=53"]
    return Component(argv, f"http://{layout.node_address}:8054/ready")


def _s3(layout: Layout) -> Component:
    address = layout.s3.endpoint.removeprefix("http://")
    options = ["--port", address, "--quiet", "--keep-alive", "--health", "/healthz"]
    keys = {"ROOT_ACCESS_KEY": layout.s3.access_key, "ROOT_SECRET_KEY": layout.s3.secret_key}
    argv = [str(tool("versitygw")), *options, "posix", str(layout.data("s3"))]
    return Component(argv, f"{layout.s3.endpoint}/healthz", keys)


def _prometheus(layout: Layout) -> Component:
    argv = [
        str(command("prometheus")),
        f"--config.file={layout.config('prometheus.yml')}",
        f"--storage.tsdb.path={layout.data('prometheus')}",
        f"--web.listen-address={layout.node_address}:9090",
        "--web.enable-lifecycle",
        "--log.level=warn",
    ]
    return Component(argv, f"http://{layout.node_address}:9090/-/ready")


def _serving(layout: Layout) -> list[str]:
    certificate, key = layout.pki("server.crt"), layout.pki("server.key")
    return [f"--tls-cert-file={certificate}", f"--tls-private-key-file={key}"]


BUILDERS: dict[str, Callable[[Layout], Component]] = {
    "etcd": _etcd,
    "apiserver": _apiserver,
    "controller-manager": _controller_manager,
    "scheduler": _scheduler,
    "containerd": _containerd,
    "kubelet": _kubelet,
    "proxy": _proxy,
    "dns": _dns,
    "s3": _s3,
    "prometheus": _prometheus,
}
