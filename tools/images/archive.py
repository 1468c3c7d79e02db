"""Archives of images: what ``docker load`` and ``ctr images import`` take, read and written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

REF_NAME = "org.opencontainers.image.ref.name"


def write_docker_archive(layout: Path, reference: str, archive: Path) -> None:
    """Writes the image that an OCI layout has under the tag of ``reference``, with that name."""
    tag = reference.rsplit(":", 1)[1]
    index = json.loads((layout / "index.json").read_text())
    names = {one.get("annotations", {}).get(REF_NAME): one["digest"] for one in index["manifests"]}
    manifest = json.loads(blob(layout, names[tag]).read_text())
    config, layers = manifest["config"]["digest"], [one["digest"] for one in manifest["layers"]]
    entry = {"Config": place(config), "RepoTags": [reference], "Layers": [*map(place, layers)]}
    with tarfile.open(archive, "w") as out:
        add_bytes(out, "manifest.json", json.dumps([entry]).encode())
        for digest in dict.fromkeys([config, *layers]):
            add_file(out, place(digest), blob(layout, digest))


def place(digest: str) -> str:
    """Where a blob lies in a layout, and in our archives."""
    return f"blobs/{digest.replace(':', '/')}"


def blob(layout: Path, digest: str) -> Path:
    """A blob's file."""
    return layout / place(digest)


def write_single_layer(
    archive: Path, layer: Path, reference: str, architecture: str, config: dict[str, Any]
) -> None:
    """Writes a docker-archive ``reference`` whose one layer is the file ``layer`` (a tar)."""
    with layer.open("rb") as data:
        digest = f"sha256:{hashlib.file_digest(data, 'sha256').hexdigest()}"
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "debootstrap"}],
    }
    text = json.dumps(document).encode()
    name = place(f"sha256:{hashlib.sha256(text).hexdigest()}")
    entry = {"Config": name, "RepoTags": [reference], "Layers": [place(digest)]}
    with tarfile.open(archive, "w") as out:
        add_bytes(out, "manifest.json", json.dumps([entry]).encode())
        add_bytes(out, name, text)
        add_file(out, place(digest), layer)


def add_bytes(out: tarfile.TarFile, name: str, content: bytes) -> None:
    """Adds a file with no date and no owner."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    out.addfile(entry, io.BytesIO(content))


def add_file(out: tarfile.TarFile, name: str, path: Path) -> None:
    """Adds the content of ``path`` likewise."""
    entry = tarfile.TarInfo(name)
    entry.size = path.stat().st_size
    with path.open("rb") as data:
        out.addfile(entry, data)


def documents(archive: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest's one entry and the image's configuration, of a docker-archive."""
    with tarfile.open(archive) as content:
        manifest = json.loads(_read(content, "manifest.json"))[0]
        return manifest, json.loads(_read(content, manifest["Config"]))


def _read(content: tarfile.TarFile, name: str) -> bytes:
    handle = content.extractfile(name)
    if handle is None:
        raise FileNotFoundError(f"no {name}: not a docker-archive")
    return handle.read()
