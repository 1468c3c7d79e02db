"""``buildah`` with storage and settings of its own: nothing of the machine's container set-up."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from images.archive import write_docker_archive
from images.machine import USERINFO, ImageError, say

POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}\n'  # archives of our own, no registry
TAIL = 60  # lines of a failed build that are shown


class Buildah:
    """One storage folder. Callers hold a lock: it serves one build at a time."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        storage.mkdir(parents=True, exist_ok=True)
        settings = storage / "settings"
        settings.mkdir(exist_ok=True)
        (settings / "policy.json").write_text(POLICY)
        (settings / "storage.conf").write_text(f'[storage]\ndriver = "{driver(storage)}"\n')
        (settings / "registries.conf").write_text("")
        self._settings = settings
        # Mount counts must not outlive a reboot, nor be shared with another storage.
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        name = hashlib.sha256(f"{boot}{storage.resolve()}".encode()).hexdigest()[:16]
        self._runroot = Path(tempfile.gettempdir()) / f"m2r-images-{name}"

    def command(self, *arguments: str) -> list[str]:
        """The command line, with the storage named before the arguments."""
        where = ["--root", str(self.storage / "root"), "--runroot", str(self._runroot)]
        where += ["--storage-driver", driver(self.storage)]
        where += ["--registries-conf", str(self._settings / "registries.conf")]
        return ["buildah", *where, *arguments]

    def run(self, *arguments: str) -> str:
        """Runs to the end; its standard output, stripped. ``ImageError`` with its last words."""
        return self._stream(self.command(*arguments))

    def _stream(self, command: Sequence[str]) -> str:
        env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(self._settings / "storage.conf")}
        env |= {"TMPDIR": str(self.storage), "BUILDAH_ISOLATION": "chroot"}
        with tempfile.TemporaryFile("w+") as words:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],  # nor does it outlive us
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=words,
                text=True,
                start_new_session=True,
            )
            try:
                out, _ = process.communicate()
            except BaseException:
                # Its steps run in children: the whole group goes, so that none writes on.
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
                raise
            if process.returncode != 0:
                words.seek(0)
                tail = "\n".join([*out.splitlines(), *words.read().splitlines()][-TAIL:])
                raise ImageError(
                    f"{command[0]} {command[-1]}: failed ({process.returncode}):\n"
                    + USERINFO.sub("", tail)
                )
        return out.strip()

    def clean(self) -> None:
        """Removes what an interrupted build has left: working containers and unfinished files."""
        names = self.run("containers", "--format", "{{.ContainerName}}").split()
        for name in names:
            if not self._alive(name):
                self.run("rm", name)
        for left in [*self.storage.glob("buildah*"), *self.storage.glob("tmp*")]:
            shutil.rmtree(left) if left.is_dir() else left.unlink()

    def look(self, image: str) -> str:
        """A container made from ``image`` to look into; `clean` leaves it alone while we live."""
        name = f"look-{os.getpid()}-{time.monotonic_ns()}"
        return self.run("from", "--pull-never", self._policy(), "--name", name, image)

    @staticmethod
    def _alive(container: str) -> bool:
        name, _, pid = container.partition("-")
        return name == "look" and Path("/proc", pid.partition("-")[0]).exists()

    def has(self, reference: str) -> bool:
        """Whether the storage has an image of this name."""
        return bool(self.run("images", "--quiet", "--filter", f"reference={reference}"))

    def load(self, archive: Path) -> None:
        """Takes in a docker-archive under the name it carries."""
        self.run("pull", "--quiet", self._policy(), f"docker-archive:{archive}")

    def build(
        self,
        dockerfile: Path,
        context: Path,
        reference: str,
        *,
        arguments: Mapping[str, str],
        mounts: Sequence[str],
        secrets: Mapping[str, Path],
        epoch: int | None,
        target: str | None = None,
    ) -> str:
        """Builds ``dockerfile`` (or one stage of it) in ``context``; the image's ID."""
        options = ["--isolation", "chroot", "--network", "host", "--layers", "--pull=false"]
        options += ["--format", "oci", "--identity-label=false", "--no-hosts", self._policy()]
        options += [f"--build-arg={name}={value}" for name, value in arguments.items()]
        options += [f"--volume={mount}" for mount in mounts]
        options += [f"--secret=id={name},src={path}" for name, path in secrets.items()]
        if target is not None:
            options += ["--target", target]
        if epoch is not None:
            options += [f"--timestamp={epoch}"]
        with tempfile.NamedTemporaryFile("r", dir=self.storage) as image_id:
            options += ["--iidfile", image_id.name, "--tag", reference, "--file", str(dockerfile)]
            self.run("bud", *options, str(context))
            return Path(image_id.name).read_text().strip()

    def save(self, reference: str, archive: Path) -> None:
        """Writes the image as a docker-archive, under its full name."""
        # Layers that were saved before lie there already: only new ones are read and digested.
        layout = self.storage / "layout"
        place = f"oci:{layout}:{reference.rsplit(':', 1)[1]}"
        where = f"[{driver(self.storage)}@{self.storage / 'root'}+{self._runroot}]"
        skopeo = ["skopeo", "--policy", str(self._settings / "policy.json"), "copy", "--quiet"]
        skopeo += ["--dest-oci-accept-uncompressed-layers"]
        self._stream([*skopeo, f"containers-storage:{where}{reference}", place])
        write_docker_archive(layout, reference, archive)

    def _policy(self) -> str:
        return f"--signature-policy={self._settings / 'policy.json'}"


_drivers: dict[Path, str] = {}


def driver(storage: Path) -> str:
    """``overlay`` where the kernel mounts one in this folder, else ``vfs`` (a copy a layer)."""
    if storage not in _drivers:
        _drivers[storage] = "overlay" if overlay_works(storage) else "vfs"
        if _drivers[storage] == "vfs":
            say(f"no overlay mounts in {storage}: each layer takes a full copy")
    return _drivers[storage]


def overlay_works(folder: Path) -> bool:
    """Tries an overlay mount in ``folder``."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="overlay-") as work:
        parts = {name: Path(work) / name for name in ("lower", "upper", "work", "merged")}
        for part in parts.values():
            part.mkdir()
        options = ",".join(f"{name}dir={parts[name]}" for name in ("lower", "upper", "work"))
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"])]
        if shutil.which("mount") is None or _fails(mount):
            return False
        subprocess.run(["umount", str(parts["merged"])], check=True)
        return True


def _fails(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0
