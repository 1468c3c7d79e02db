"""The base of images built without a registry: this machine's own Debian or Ubuntu, minimal.

``debootstrap`` makes the folder, from the mirror that the machine's apt is set up for; it becomes a
docker-archive of one layer, kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from setup_env import locked

from images.archive import write_single_layer
from images.machine import ImageError, cache, run, say

PACKAGES = ("ca-certificates", "python3", "python3-venv")
VERSION = 2  # of what is done to the folder; part of the key
# What a package manager or a person would use, and a container never does.
RUBBISH = ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/man",
           "usr/share/locale", "usr/share/info", "usr/share/lintian",
           "var/cache/debconf")  # fmt: skip
NAME = "localhost/m2r-base"
PATH = "PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Release:
    """A distribution's release and where its packages come from."""

    codename: str
    architecture: str
    mirror: str
    components: tuple[str, ...]
    sources: str = field(repr=False)  # a sources.list for the build; not part of the image


@dataclass(frozen=True)
class Base:
    """A base image: a docker-archive, and the name it has in there."""

    archive: Path
    reference: str


def this_release() -> Release:
    """What this machine is, with the mirror of its own apt sources."""
    lines = Path("/etc/os-release").read_text().splitlines()
    facts = dict(line.split("=", 1) for line in lines if "=" in line)
    codename = facts.get("VERSION_CODENAME", "").strip('"')
    if shutil.which("apt-get") is None:
        raise ImageError("there is no apt-get here: give --base IMAGE")
    fields = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    listing = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]).stdout
    return release_from(listing, codename, run(["dpkg", "--print-architecture"]).stdout.strip())


def release_from(listing: str, codename: str, architecture: str) -> Release:
    """Picks ``codename``'s own mirror from lines of ``RELEASE COMPONENT URI``."""
    rows = [words for line in listing.splitlines() if len(words := line.split()) == 3]
    mirrors = [row[2] for row in rows if row[:2] == [codename, "main"]]
    if not mirrors:
        raise ImageError(
            f"apt's sources have no {codename!r} main: this needs Debian or Ubuntu; elsewhere give "
            "--base IMAGE"
        )
    # A vendor may use the distribution's code name for packages of its own, but has no updates.
    with_updates = [row[2] for row in rows if row[0] == f"{codename}-updates"]
    mirror = next((uri for uri in mirrors if uri in with_updates), mirrors[0])
    own = {row[1] for row in rows if (row[0], row[2]) == (codename, mirror)}
    components = ("main", *sorted(own & {"universe"}))  # Ubuntu's python3-venv is in universe
    suites = (codename, f"{codename}-updates", f"{codename}-security")
    kept = [row for row in rows if row[0] in suites and row[1] in components]
    kept = [row for row in kept if row[0] != codename or row[2] == mirror]
    sources = "".join(f"deb {uri} {release} {component}\n" for release, component, uri in kept)
    return Release(codename, architecture, mirror, components, sources)


def base_image() -> Base:
    """The base image's archive, made on first use (about a minute)."""
    release = this_release()
    what = [VERSION, release.codename, release.architecture, release.components, PACKAGES, RUBBISH]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
    reference = f"{NAME}:{release.codename}-{release.architecture}-{key}"
    archive = cache() / "bases" / f"{release.codename}-{release.architecture}-{key}.tar"
    with locked(archive.with_suffix(".lock")):
        if not archive.exists():
            say(f"base {release.codename} {release.architecture} from {release.mirror}")
            with tempfile.TemporaryDirectory(dir=archive.parent, prefix="making-") as work:
                folder = Path(work) / "root"
                bootstrap(release, folder)
                clean(folder)
                fresh = Path(work) / "base.tar"
                write_archive(folder, fresh, reference, release.architecture)
                fresh.replace(archive)
    return Base(archive, reference)


def bootstrap(release: Release, folder: Path) -> None:
    """Fills ``folder`` with the release's minimal system and `PACKAGES`."""
    options = ["--variant=minbase", f"--arch={release.architecture}"]
    options += [f"--components={','.join(release.components)}", f"--include={','.join(PACKAGES)}"]
    run(["debootstrap", *options, release.codename, str(folder), release.mirror])


def clean(folder: Path) -> None:
    """Takes out what no container uses, so that the layer is half the size."""
    for name in RUBBISH:
        for entry in (folder / name).glob("*"):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    for name in ("etc/hostname", "etc/resolv.conf"):  # this machine's, copied by debootstrap
        (folder / name).write_text("")
    # The mirror is this machine's own business: the build mounts its sources over this file.
    (folder / "etc/apt/sources.list").write_text("# none: the build brought its own\n")


def write_archive(folder: Path, archive: Path, reference: str, architecture: str) -> None:
    """Writes ``folder`` as the one layer of a docker-archive named ``reference``."""
    layer = archive.with_suffix(".layer")
    order = ["--sort=name", "--numeric-owner", "--format=posix"]
    order += ["--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"]
    kept = [f"--exclude=./{name}/*" for name in ("dev", "proc", "sys")]
    run(["tar", "-C", str(folder), *order, *kept, "-cf", str(layer), "."])
    write_single_layer(archive, layer, reference, architecture, {"Env": [PATH]})
    layer.unlink()
