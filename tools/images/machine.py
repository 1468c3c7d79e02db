"""What building images needs of this machine: tools, folders, and how its network is set up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from setup_env import cache_dir, tool_env

# Command -> Debian package that has it.
TOOLS = {"buildah": "buildah", "debootstrap": "debootstrap", "skopeo": "skopeo", "tar": "tar"}
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")  # where Debian's images keep theirs
BUNDLE_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


class ImageError(Exception):
    """One line for people: what is wrong and what to do."""


def say(text: str) -> None:
    """One progress line, without passwords of URLs."""
    print(f"images: {USERINFO.sub('', text)}", file=sys.stderr, flush=True)


def cache() -> Path:
    """The folder of bases, layers and archives, in the user's cache."""
    folder = cache_dir() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a tool to its end; ``ImageError`` with its last words if it fails or is missing."""
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ImageError(f"{command[0]} is missing: install it") from None
    if done.returncode != 0:
        words = (done.stderr + done.stdout).strip()[-4000:]
        text = f"`{' '.join(command[:3])} ...` failed ({done.returncode}):\n{words}"
        raise ImageError(USERINFO.sub("", text))
    return done


def require_tools(tools: Mapping[str, str] = TOOLS) -> None:
    """Makes sure of root and of ``tools``; as root, installs what is missing by apt-get."""
    if os.geteuid() != 0:
        raise ImageError(
            "building images needs root (debootstrap, chroot): run it as root, or build "
            "images/*.Dockerfile with Docker or Podman"
        )
    missing = sorted(package for tool, package in tools.items() if shutil.which(tool) is None)
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ImageError(f"missing: {' '.join(missing)}: install them; there is no apt-get here")
    say(f"apt-get install {' '.join(missing)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], env=env)
    run(["apt-get", "install", "--yes", "--no-install-recommends", *missing], env=env)


def ca_bundle(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The CA bundle that this machine trusts; None where it has none of its own."""
    named = [Path(environment[name]) for name in BUNDLE_VARIABLES if environment.get(name)]
    return next((path for path in [*named, BUNDLE] if path.is_file()), None)


def index_settings(environment: Mapping[str, str] | None = None) -> str:
    """What ``/etc/uv/uv.toml`` must say so that uv asks the index that pip is set up for."""
    env = tool_env() if environment is None else environment
    url = env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL")
    return f'[[index]]\nurl = "{url}"\ndefault = true\n' if url else ""


def pip_settings(environment: Mapping[str, str] = os.environ) -> str:
    """What ``/etc/pip.conf`` must say: the index, and nothing else."""
    url = environment.get("PIP_INDEX_URL")
    return f"[global]\nindex-url = {url}\n" if url else ""
