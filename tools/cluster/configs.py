"""Configuration files of the components: pure functions of the layout.

Intervals are short, so that tests see in seconds what a production cluster does in minutes. What
differs from defaults for the sake of small machines and containers says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.layout import CLUSTER_DOMAIN, Layout
from cluster.parts import PAUSE
from cluster.pki import kubeconfig

TARGETS = "targets.json"  # which pods Prometheus scrapes
FAST_CLIENT = {"qps": 500, "burst": 1000}
EVICTION_SIGNALS = (
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
)


def audit_policy(_: Layout) -> dict[str, Any]:
    """Who did what to which object, once for each finished request; no bodies."""
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata"}],
    }


def scheduler(layout: Layout) -> dict[str, Any]:
    """Unschedulable pods are tried again after 1 to 3 s instead of 1 to 10."""
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig(layout, "scheduler")), **FAST_CLIENT},
        "leaderElection": {"leaderElect": False},
        "podInitialBackoffSeconds": 1,
        "podMaxBackoffSeconds": 3,
    }


def kubelet(layout: Layout) -> dict[str, Any]:
    """A kubelet that runs inside a container too: no cgroup per QoS class, no eviction."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": layout.node_address,
        "healthzBindAddress": layout.node_address,
        "authentication": {"x509": {"clientCAFile": str(layout.ca)}},
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [layout.node_address],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(layout.config("resolv.conf")),
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "localStorageCapacityIsolation": False,
        "oomScoreAdj": 0,  # a lower one needs CAP_SYS_RESOURCE
        "protectKernelDefaults": False,
        "makeIPTablesUtilChains": True,
        "serializeImagePulls": False,
        "maxPods": 200,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "eventRecordQPS": 0,  # no limit: tests read events
        "nodeStatusUpdateFrequency": "2s",
        "nodeStatusReportFrequency": "10s",
        "nodeLeaseDurationSeconds": 8,
        "syncFrequency": "10s",
        # 0 % disables a threshold: a full disk of the machine must not evict the pods of tests.
        "evictionHard": dict.fromkeys(EVICTION_SIGNALS, "0%"),
        "imageGCHighThresholdPercent": 100,  # never: images come by import and stay
    }


def proxy(layout: Layout) -> dict[str, Any]:
    """iptables mode in the node's network namespace; conntrack limits belong to the host."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig(layout, "proxy")), **FAST_CLIENT},
        "mode": "iptables",
        "bindAddress": layout.node_address,
        "healthzBindAddress": f"{layout.node_address}:10256",
        "metricsBindAddress": f"{layout.node_address}:10249",
        "clusterCIDR": layout.pod_subnet,
        "nodePortAddresses": ["primary"],
        "oomScoreAdj": 0,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
    }


def cni(layout: Layout) -> dict[str, Any]:
    """A routed veth for each pod: no bridge, so Services need no bridge netfilter either."""
    return {
        "cniVersion": "0.4.0",
        "name": "m2r",
        "plugins": [
            {
                "type": "ptp",
                "mtu": 1400,
                "ipam": {
                    "type": "host-local",
                    "dataDir": str(layout.data("cni") / "networks"),
                    "ranges": [[{"subnet": layout.pod_subnet}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def containerd(layout: Layout, cni_bin: Path) -> str:
    """A private containerd, able to run where CAP_SYS_RESOURCE and AppArmor are missing."""
    quote = json.dumps  # a TOML basic string is written like a JSON string
    return f"""version = 2
root = {quote(str(layout.data("containerd")))}
state = {quote(str(layout.data("containerd-state")))}
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = {quote(str(layout.socket))}
[plugins."io.containerd.internal.v1.opt"]
path = {quote(str(layout.data("containerd-opt")))}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {quote(PAUSE)}
restrict_oom_score_adj = true
disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {quote(str(cni_bin))}
conf_dir = {quote(str(layout.config("cni")))}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def corefile(layout: Layout) -> str:
    """Names of the cluster without a cache; everything else does not exist: there is no network."""
    bind = layout.node_address
    return f"""{CLUSTER_DOMAIN} in-addr.arpa {{
  bind {bind}
  errors
  health {bind}:8053
  ready {bind}:8054
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
    kubeconfig {kubeconfig(layout, "dns")}
    ttl 1
  }}
}}
. {{
  bind {bind}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""


def prometheus(layout: Layout) -> dict[str, Any]:
    """Scrapes what the file of targets names, every 2 s, and evaluates the rules in ``rules/``."""
    discovery = {"files": [str(layout.config(TARGETS))]}
    return {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "2s"},
        "rule_files": [str(layout.config("rules") / "*.yaml")],
        "scrape_configs": [{"job_name": "pods", "file_sd_configs": [discovery]}],
    }


FILES: dict[str, Callable[[Layout], dict[str, Any]]] = {
    "audit.json": audit_policy,
    "scheduler.json": scheduler,
    "kubelet.json": kubelet,
    "proxy.json": proxy,
    "cni/10-m2r.conflist": cni,
    "prometheus.yml": prometheus,
}


def write(layout: Layout, cni_bin: Path) -> None:
    """Writes all configuration files (JSON is YAML)."""
    texts = {name: json.dumps(make(layout), indent=1) + "\n" for name, make in FILES.items()}
    texts["containerd.toml"] = containerd(layout, cni_bin)
    texts["Corefile"] = corefile(layout)
    texts["resolv.conf"] = f"nameserver {layout.node_address}\n"
    for name, text in texts.items():
        path = layout.config(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
