"""Programs from Debian's packages, unpacked into the user's cache: no root, nothing is installed.

``apt-get`` downloads and checks the package; what the system has on its PATH is taken first.
Standard library only.
"""

import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import setup_env
from gotools import say
from setup_env import SetupError


def program(name: str, package: str) -> Path:
    """The path of ``name``, from the PATH or out of ``package``; raises ``SetupError``."""
    found = shutil.which(name)
    if found:
        return Path(found)
    folder = setup_env.cache_dir() / "tools" / f"debian-{package}-{platform.machine()}"
    target = folder / "usr" / "bin" / name
    if not target.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with setup_env.locked(folder.with_name(f"{folder.name}.lock")):
            if not target.exists():
                _unpack(package, folder)
    if not target.exists():
        raise SetupError(f"Debian's package {package} has no usr/bin/{name}: install {name}")
    return target


def _unpack(package: str, folder: Path) -> None:
    """Downloads beside the target and renames, so that no reader sees a part of it."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise SetupError(f"no {package} on the PATH, and no Debian to get it from: install it")
    say(f"downloading Debian's package {package} (once)")
    with tempfile.TemporaryDirectory(prefix=f".{package}.", dir=folder.parent) as fresh:
        home = Path(fresh)
        done = _apt(["download", package], home)
        if done.returncode != 0 and os.geteuid() == 0:  # the lists may be old, or none at all
            _apt(["update"], home)
            done = _apt(["download", package], home)
        archives = sorted(home.glob("*.deb"))
        if done.returncode != 0 or not archives:
            raise SetupError(
                f"apt-get cannot download {package}: check the network, or install it: "
                f"{done.stderr.strip()[-1000:]}"
            )
        root = home / "root"
        subprocess.run(["dpkg-deb", "-x", str(archives[0]), str(root)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        root.rename(folder)


def _apt(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["apt-get", "-qq", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
