"""Runs a command in a built image without a container engine, as a restricted pod would.

Read-only root, user 65532, group 0, no capability, ``/tmp`` and ``/cache`` as the only places to
write, an own process 1: the image's promises are held against it. Needs root, ``unshare`` and
``chroot``; the network is the machine's. A real kubelet proves more; this takes a second.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from setup_env import locked

from images.archive import documents
from images.buildah import Buildah
from images.building import Image
from images.machine import cache

SCRIPT = """\
set -eu
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for device in null zero urandom random; do
  touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"
done
for place in tmp cache; do
  test -d "$root/$place" || continue
  mount -t tmpfs -o mode=777 tmpfs "$root/$place"
done
while [ "$1" != -- ]; do
  mkdir "$root/tmp/$2" && mount --bind "$1" "$root/tmp/$2"; shift 2
done
shift
mount -o remount,ro,bind "$root"
cd /
exec "$@"
"""


@dataclass(frozen=True)
class Rootfs:
    """An image's files, mounted, and what its configuration says."""

    path: Path
    config: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        """The image's variables."""
        return dict(line.split("=", 1) for line in self.config.get("Env", []))

    def command(
        self,
        *arguments: str,
        shared: Mapping[Path, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> list[str]:
        """The command line that runs ``arguments`` inside; ``shared``: folder -> name in /tmp."""
        pairs = [word for pair in (shared or {}).items() for word in map(str, pair)]
        variables = {**self.environment, **(env or {})}
        inside = ["chroot", "--userspec=65532:0", "--groups=", str(self.path), "/usr/bin/env", "-i"]
        inside += [*(f"{name}={value}" for name, value in variables.items()), *arguments]
        outside = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-c"]
        return [*outside, SCRIPT, "sh", str(self.path), *pairs, "--", *inside]

    def run(
        self, *arguments: str, timeout: float = 300, **how: Mapping[Any, str]
    ) -> subprocess.CompletedProcess[str]:
        """Runs ``arguments`` to the end."""
        return subprocess.run(
            self.command(*arguments, **how), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=timeout,
        )  # fmt: skip


@contextmanager
def mounted(image: Image) -> Iterator[Rootfs]:
    """The files of ``image``, for as long as the context lasts."""
    buildah = Buildah(image.storage)
    with locked(cache() / "locks" / f"{image.name}.lock"):
        buildah.clean()
        if image.digest.removeprefix("sha256:") not in buildah.run(
            "images", "--quiet", "--no-trunc"
        ):
            buildah.load(image.archive)
        container = buildah.look(image.digest)
    try:
        yield Rootfs(Path(buildah.run("mount", container)), configuration(image.archive))
    finally:
        buildah.run("rm", container)


def configuration(archive: Path) -> dict[str, Any]:
    """The ``config`` part of the image in a docker-archive: user, variables, labels, entrypoint."""
    return dict(documents(archive)[1]["config"])
