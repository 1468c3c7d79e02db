"""What a cluster is made of: binaries, packages, and whether this machine can run it at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import gotools
from setup_env import SetupError

from cluster.errors import ClusterError

TOOLBOX = "m2r.dev/toolbox:1"
PAUSE = "m2r.dev/pause:1"
GO_TOOLS = (
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "gpu-plugin",
    "pause",
    "toolbox",
    "versitygw",
)
# command -> the Debian package that has it
PACKAGES = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
    "openssl": "openssl",
}
CNI_PACKAGE = "containernetworking-plugins"
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICES = "#!/bin/sh\n# for the time of one installation: start no services\nexit 101\n"


def tool(name: str) -> Path:
    """The binary of a Go tool (``gotools.TOOLS``), built on first use; raises ``ClusterError``."""
    try:
        return gotools.build(name)
    except SetupError as error:
        raise ClusterError(str(error)) from error


def command(name: str) -> Path:
    """A program of the system, also from the sbin folders; raises ``ClusterError``."""
    found = _find(name)
    if found is None:
        raise ClusterError(f"no `{name}` on this machine: install {PACKAGES.get(name, name)}")
    return found


def cni_folder() -> Path:
    """Where the CNI plugins are."""
    found = _cni()
    if found is None:
        raise ClusterError(f"no CNI plugins in {CNI_FOLDERS[0]}: install {CNI_PACKAGE}")
    return found


def missing_packages(prometheus: bool = False) -> list[str]:
    """The Debian packages that this machine still needs, in alphabetical order."""
    wanted = {**PACKAGES, **({"prometheus": "prometheus"} if prometheus else {})}
    missing = {package for name, package in wanted.items() if _find(name) is None}
    if _cni() is None:
        missing.add(CNI_PACKAGE)
    return sorted(missing)


def check_machine() -> None:
    """Raises ``ClusterError`` where a node cannot run: not Linux, not root, no cgroups."""
    if sys.platform != "linux":
        raise ClusterError("a node needs Linux: set KUBECONFIG to use another cluster")
    if os.geteuid() != 0:
        raise ClusterError("a node needs root: run as root, or set KUBECONFIG to another cluster")
    if not Path("/sys/fs/cgroup").is_dir():
        raise ClusterError("no /sys/fs/cgroup: mount the cgroup file systems")


def install(packages: Iterable[str]) -> None:
    """Installs Debian packages in one call, without starting the services they bring."""
    packages = list(packages)
    if not packages:
        return
    names = " ".join(packages)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ClusterError(f"missing: {names}: install these packages (Debian's names)")
    say(f"installing {names}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]
    policy = not POLICY.exists()
    if policy:
        POLICY.write_text(NO_SERVICES)
        POLICY.chmod(0o755)
    try:
        done = _apt([*options, "install", *packages], env)
        if done.returncode != 0:  # the lists may be old, or a fresh machine's: none at all
            _apt(["-qq", "update"], env)
            done = _apt([*options, "install", *packages], env)
    finally:
        if policy:
            POLICY.unlink()
    if done.returncode != 0:
        raise ClusterError(f"apt-get could not install {names}: {done.stderr.strip()[-1000:]}")


def say(text: str) -> None:
    """One progress line, on stderr: stdout is for results."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def _apt(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", *arguments], env=env, capture_output=True, text=True, check=False
    )


def _find(name: str) -> Path | None:
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    found = shutil.which(name, path=f"{assets}:{os.environ.get('PATH', '')}:{SEARCH}".lstrip(":"))
    return Path(found) if found else None


def _cni() -> Path | None:
    return next((folder for folder in CNI_FOLDERS if (folder / "ptp").exists()), None)
