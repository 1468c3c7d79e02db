"""Which images there are, and what each is made from."""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from setup_env import ROOT

REGISTRY = "docker.io/library"  # what the kubelet puts before a name without a registry
IGNORE_ALWAYS = ("__pycache__", "*.pyc")


@dataclass(frozen=True)
class Recipe:
    """An image: its name, its Dockerfile, and the build arguments that differ from the defaults."""

    name: str
    dockerfile: str
    tag: str = "{version}"
    arguments: Mapping[str, str] = field(default_factory=dict)
    locks: tuple[str, ...] = ()
    # What the stage `runtime` is made from, besides: it is kept as an image, since comparing its
    # gigabytes with those of the last build takes longer than all else.
    runtime: tuple[str, ...] | None = None

    def reference(self, version: str) -> str:
        """The full name; a pod may leave out the registry."""
        return f"{REGISTRY}/{self.name}:{self.tag.format(version=version)}"


RECIPES = {
    "operator": Recipe("m2r-operator", "images/operator.Dockerfile", locks=("operator",)),
    "trainer-cpu": Recipe(
        "m2r-train",
        "images/trainer.Dockerfile",
        tag="{version}-cpu",
        arguments={"LOCK": "trainer-cpu", "PACKAGES": ""},
        locks=("trainer-cpu",),
        runtime=("images/cuda_stubs.py", "requirements/setup.lock"),
    ),
    "standin": Recipe("m2r-standin", "tests/cluster/standin/Dockerfile"),
}


def version(root: Path = ROOT) -> str:
    """The project's version."""
    return str(tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"])


def allowed(dockerfile: Path) -> list[str]:
    """What the Dockerfile's own ignore file lets in: its lines that begin with ``!``."""
    lines = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text().splitlines()
    return [line[1:].strip() for line in lines if line.startswith("!")]


def context_files(dockerfile: Path, root: Path = ROOT) -> list[Path]:
    """The files that the build sees, relative to ``root``, sorted."""
    return sorted(
        path.relative_to(root) for name in allowed(dockerfile) for path in walk(root / name)
    )


def walk(path: Path) -> Iterator[Path]:
    """``path`` if it is a file, else the files below it that are not byte code."""
    if path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not ignored(name)]
        yield from (Path(folder, name) for name in names if not ignored(name))


def ignored(name: str) -> bool:
    """Whether no build wants a file or folder of this name."""
    return any(fnmatch(name, pattern) for pattern in IGNORE_ALWAYS)


def digest_of(paths: list[Path], root: Path, *more: str) -> str:
    """sha256 over names and contents of ``paths`` and over ``more``."""
    digest = hashlib.sha256()
    for word in more:
        digest.update(word.encode() + b"\0")
    for path in paths:
        content = (root / path).read_bytes()
        mode = "x" if os.access(root / path, os.X_OK) else "-"
        digest.update(f"{path} {mode} {len(content)}\0".encode() + content)
    return digest.hexdigest()


def copy_context(paths: list[Path], root: Path, target: Path) -> None:
    """Copies ``paths`` to ``target``, with one mode whatever this machine's umask was."""
    for path in paths:
        copy = target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / path, copy)
        copy.chmod(0o755 if os.access(root / path, os.X_OK) else 0o644)
    for folder in [target, *(path for path in target.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
