"""From a recipe to an archive: found by the digest of all that goes in, else built under a lock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from setup_env import ROOT, locked

from images.base import Base, base_image, this_release
from images.buildah import Buildah
from images.machine import (
    BUNDLE,
    ca_bundle,
    cache,
    index_settings,
    pip_settings,
    require_tools,
    say,
)
from images.recipes import (
    RECIPES,
    REGISTRY,
    Recipe,
    context_files,
    copy_context,
    digest_of,
    version,
)

KEEP = 2  # archives of an image; older ones go
FORMAT = "4"  # raise to build all images anew
UNKNOWN = "unknown"
EPOCH = "SOURCE_DATE_EPOCH"


@dataclass(frozen=True)
class Image:
    """A built image, as a docker-archive on this machine."""

    name: str
    archive: Path
    reference: str
    digest: str
    storage: Path  # of its layers, for `images.container`

    @property
    def short(self) -> str:
        """The name without the registry that the kubelet adds."""
        return self.reference.removeprefix(f"{REGISTRY}/")


def build(name: str, *, base: str | None = None, root: Path = ROOT) -> Image:
    """The image ``name`` (see `RECIPES`) of the sources under ``root``, built if need be.

    ``base`` is a base image that buildah can pull, instead of one made from this machine's
    distribution. Raises ``ImageError``; concurrent callers wait for each other.
    """
    recipe = RECIPES[name]
    files = context_files(root / recipe.dockerfile, root)
    libraries = [Path("requirements") / f"{lock}.lock" for lock in recipe.locks]
    ground = base or repr(this_release())
    dependencies = digest_of(libraries, root, ground)
    more = [
        FORMAT,
        ground,
        json.dumps(dict(recipe.arguments)),
        version(root),
        os.environ.get(EPOCH, ""),
    ]
    key = digest_of([*files, Path(recipe.dockerfile)], root, *more)
    archive = cache() / "archives" / f"{name}-{key[:16]}.tar"
    with locked(cache() / "locks" / f"{name}.lock"):
        found = read(archive)
        if found is not None:
            return found
        start = time.monotonic()
        require_tools()
        image = make(recipe, name, files, root, base, dependencies[:16], archive)
        forget_old(archive.parent, name)
        size = archive.stat().st_size / 1e6
        say(f"{image.short}: {size:.0f} MB in {time.monotonic() - start:.1f} s, {image.digest}")
    return image


def read(archive: Path) -> Image | None:
    """The finished image of ``archive``; None if it is not there or was left half-made."""
    facts = archive.with_suffix(".json")
    if not (archive.is_file() and facts.is_file()):
        return None
    os.utime(facts)  # used: the last to go
    document = json.loads(facts.read_text())
    storage = cache() / "storage" / document["storage"]
    return Image(document["name"], archive, document["reference"], document["digest"], storage)


def make(
    recipe: Recipe,
    name: str,
    files: list[Path],
    root: Path,
    base: str | None,
    dependencies: str,
    archive: Path,
) -> Image:
    """Builds and saves; the archive and its facts appear only when whole."""
    foundation = base_image() if base is None else None
    buildah = Buildah(storage_for(name, dependencies))
    buildah.clean()
    if foundation is not None and not buildah.has(foundation.reference):
        buildah.load(foundation.archive)
    reference = recipe.reference(version(root))
    epoch = os.environ.get(EPOCH)
    arguments = {**recipe.arguments, **labels(root), "BASE": base_name(base, foundation)}
    if epoch:
        arguments[EPOCH] = epoch
    archive.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache(), prefix=f"{name}-") as work:
        context = Path(work) / "context"
        copy_context(files, root, context)
        prepared = partial(
            buildah.build,
            root / recipe.dockerfile,
            context,
            mounts=build_mounts(Path(work), foundation),
            secrets=build_secrets(Path(work)),
            epoch=int(epoch) if epoch else None,
        )
        if recipe.runtime is not None:
            made_from = [Path(recipe.dockerfile), *map(Path, recipe.runtime)]
            tag = digest_of(made_from, root, dependencies)[:16]
            kept = f"localhost/{recipe.name}-runtime:{tag}"
            if not buildah.has(kept):
                prepared(kept, arguments=arguments, target="runtime")
            arguments["RUNTIME"] = kept
        digest = prepared(reference, arguments=arguments)
        fresh = Path(work) / "image.tar"
        buildah.save(reference, fresh)
        image = Image(name, archive, reference, digest, buildah.storage)
        facts = {"name": name, "reference": reference, "digest": digest}
        facts["storage"] = str(buildah.storage.relative_to(cache() / "storage"))
        fresh.replace(archive)
        (Path(work) / "facts").write_text(json.dumps(facts) + "\n")
        (Path(work) / "facts").replace(archive.with_suffix(".json"))
    return image


def base_name(base: str | None, foundation: Base | None) -> str:
    """What ``FROM`` says."""
    return foundation.reference if foundation is not None else str(base)


def labels(root: Path) -> dict[str, str]:
    """Build arguments that become labels: version, revision and its date."""
    facts = {"VERSION": version(root), "REVISION": UNKNOWN, "SOURCE_DATE": UNKNOWN}
    git = ["git", "-C", str(root), "log", "-1", "--format=%H %cI"]
    if shutil.which("git") and (root / ".git").exists():
        done = subprocess.run(git, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            facts["REVISION"], facts["SOURCE_DATE"] = done.stdout.split()
    return facts


def build_mounts(work: Path, foundation: Base | None) -> list[str]:
    """What the build sees of this machine: CA bundle, apt's sources, uv's downloads.

    All lie over files and folders that the base has, so that no layer keeps a trace of them.
    """
    mounts = [f"{downloads()}:/mnt"]
    bundle = ca_bundle()
    if bundle is not None:
        mounts.append(f"{bundle.resolve()}:{BUNDLE}:ro")
    if foundation is not None:
        sources = work / "sources.list"
        sources.write_text(this_release().sources)
        mounts.append(f"{sources}:/etc/apt/sources.list:ro")
    return mounts


def build_secrets(work: Path) -> dict[str, Path]:
    """How pip and uv are set up here, which may name a password: seen by single steps only."""
    settings = {"pip.conf": pip_settings(), "uv.toml": index_settings()}
    for name, text in settings.items():
        (work / name).write_text(text)
    return {name: work / name for name in settings}


def downloads() -> Path:
    """uv's cache on this machine: what `make setup` has downloaded is not downloaded again."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("UV_CACHE_DIR") or base / "uv")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def storage_for(name: str, dependencies: str) -> Path:
    """The folder of an image's layers; when its libraries change, the old ones go as a whole."""
    folder = cache() / "storage" / name
    for old in folder.glob("*") if folder.exists() else ():
        if old.name != dependencies:
            shutil.rmtree(old, ignore_errors=True)
    return folder / dependencies


def forget_old(folder: Path, name: str) -> None:
    """Removes all but the `KEEP` archives of ``name`` that were used last."""
    facts = sorted(
        folder.glob(f"{name}-????????????????.json"), key=lambda path: path.stat().st_mtime
    )
    for path in facts[:-KEEP]:
        path.unlink()
        path.with_suffix(".tar").unlink(missing_ok=True)
