"""Whole folders: what is fetched is what was published, or an error that names the file."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from integration.store.helpers import Place, start, wait

from m2r_train.api.errors import ConfigError, DataError
from m2r_train.store import (
    LocalStore,
    fetch_folder,
    fetch_uri,
    folder_digest,
    publish_folder,
    verify_folder,
)

pytestmark = pytest.mark.global_rng("boto3 draws the names of its temporary files")

MODEL = {"config.json": b"{}", "model-1.safetensors": b"weights" * 100, "sub/tokenizer.json": b"[]"}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "MANIFEST.json"
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in MODEL.items():
        path = tmp_path / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "source"


def test_a_published_folder_is_fetched_as_it_was(
    place: Place, folder: Path, tmp_path: Path
) -> None:
    store = place.open()
    digest = publish_folder(store, "run/model", folder)
    assert publish_folder(store, "run/model", MODEL) == digest
    assert verify_folder(store, "run/model") == digest
    fetched = fetch_folder(store, "run/model", tmp_path / "cache")
    assert files_of(fetched) == MODEL
    by_uri = fetch_uri(f"{place.uri}/run/model/", tmp_path / "cache", endpoint=place.endpoint)
    assert by_uri == (fetched, digest)
    if place.endpoint is None:
        assert fetched == place.files / "run/model"
    else:
        assert fetched.parent == tmp_path / "cache"


def test_the_digest_is_what_standard_tools_say(folder: Path) -> None:
    script = "find . -type f | cut -c3- | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    said = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, check=True)
    digest = publish_folder(LocalStore(folder.parent), "out", folder)
    assert said.stdout.decode().split()[0] == digest


@given(st.dictionaries(st.text("ab/ ", min_size=1, max_size=4), st.text("01", max_size=2)))
def test_the_digest_depends_on_names_and_contents_alone(files: dict[str, str]) -> None:
    digest = folder_digest(files)
    assert folder_digest(dict(reversed(files.items()))) == digest
    assert folder_digest({**files, "new": "0"}) != digest
    for name, content in files.items():
        assert folder_digest({**files, name: content + "2"}) != digest


def test_a_new_publication_replaces_the_old_one_and_spares_what_is_not_its_own(
    place: Place,
) -> None:
    store = place.open()
    publish_folder(store, "model", MODEL)
    store.put("model/notes.txt", b"somebody's")
    digest = publish_folder(store, "model", {"config.json": b"{1}"})
    assert verify_folder(store, "model") == digest
    assert sorted(entry.key for entry in store.list("model/")) == [
        "model/MANIFEST.json",
        "model/config.json",
        "model/notes.txt",
    ]


@pytest.mark.parametrize("name", ["config.json", "sub/tokenizer.json"])
@pytest.mark.parametrize("damage", ["flip", "missing", "replaced"])
def test_a_damaged_publication_is_refused_with_the_name_of_the_file(
    place: Place, tmp_path: Path, name: str, damage: str
) -> None:
    store = place.open()
    publish_folder(store, "model", MODEL)
    if damage == "flip":
        place.flip(f"model/{name}")
    elif damage == "missing":
        store.delete(f"model/{name}")
    else:
        store.put(f"model/{name}", b"of another writer")
    for use in (
        lambda: verify_folder(store, "model"),
        lambda: fetch_folder(store, "model", tmp_path / "cache"),
    ):
        with pytest.raises(DataError, match=f"{place.uri}/model/{name}: ") as caught:
            use()
        assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("*/*"))


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{}", b'{"files": {"../x": {"sha256": ""}}, "digest": ""}']
)
def test_a_damaged_manifest_is_refused(place: Place, tmp_path: Path, manifest: bytes) -> None:
    store = place.open()
    publish_folder(store, "model", MODEL)
    store.put("model/MANIFEST.json", manifest)
    with pytest.raises(DataError, match=r"MANIFEST\.json: is damaged: publish it again"):
        fetch_folder(store, "model", tmp_path)
    assert publish_folder(store, "model", MODEL) == verify_folder(store, "model")


def test_a_manifest_with_another_digest_is_refused(place: Place) -> None:
    store = place.open()
    publish_folder(store, "model", MODEL)
    manifest = store.get("model/MANIFEST.json").data
    digest = verify_folder(store, "model").encode()
    store.put("model/MANIFEST.json", manifest.replace(digest, b"0" * 64))
    with pytest.raises(DataError, match="not that of its files"):
        verify_folder(store, "model")


def test_a_changed_publication_is_never_believed_before_it_is_complete(place: Place) -> None:
    class FullStore(LocalStore):
        def put(self, key: str, data: bytes) -> str:
            if key == "model-1.safetensors":
                raise ConfigError("full")
            return super().put(key, data)

        def under(self, prefix: str) -> FullStore:
            return FullStore(self.root / prefix)

    store = FullStore(place.files)
    publish_folder(store, "model", {"config.json": b"old"})
    with pytest.raises(ConfigError, match="full"):
        publish_folder(store, "model", MODEL)
    assert not store.exists("model/MANIFEST.json")


def test_a_users_folder_needs_no_manifest_and_hidden_files_do_not_count(
    place: Place, tmp_path: Path
) -> None:
    store = place.open()
    for name, data in MODEL.items():
        store.put(f"theirs/{name}", data)
    path, digest = fetch_uri(f"{place.uri}/theirs", tmp_path, endpoint=place.endpoint)
    assert files_of(path) == MODEL
    assert digest == folder_digest({n: hashlib.sha256(d).hexdigest() for n, d in MODEL.items()})
    store.put("theirs/.cache/lock", b"x")
    assert fetch_uri(f"{place.uri}/theirs", tmp_path, endpoint=place.endpoint)[1] == digest
    store.put("theirs/config.json", b"changed")
    changed, other = fetch_uri(f"{place.uri}/theirs", tmp_path, endpoint=place.endpoint)
    assert other != digest
    assert (changed / "config.json").read_bytes() == b"changed"


def test_a_single_file_is_fetched_too(place: Place, tmp_path: Path) -> None:
    place.open().put("data/train.jsonl", b"{}\n")
    path, digest = fetch_uri(f"{place.uri}/data/train.jsonl", tmp_path, endpoint=place.endpoint)
    assert path.name == "train.jsonl"
    assert path.read_bytes() == b"{}\n"
    assert digest == folder_digest({"train.jsonl": hashlib.sha256(b"{}\n").hexdigest()})


@pytest.mark.parametrize("name", ["nothing", "nothing/here", "mod"])
def test_a_missing_folder_is_named(place: Place, tmp_path: Path, name: str) -> None:
    publish_folder(place.open(), "model", MODEL)
    for use in (
        lambda: fetch_uri(f"{place.uri}/{name}", tmp_path, endpoint=place.endpoint),
        lambda: fetch_folder(place.open(), name, tmp_path),
        lambda: verify_folder(place.open(), name),
    ):
        with pytest.raises(DataError, match=f"{place.uri}/{name}: there are no files"):
            use()
    with pytest.raises(DataError, match="no files to publish"):
        publish_folder(place.open(), "empty", tmp_path / "none")


@pytest.mark.s3
def test_a_damaged_cache_is_fetched_again(s3: object, place: Place, tmp_path: Path) -> None:
    publish_folder(place.open(), "model", MODEL)
    fetched = fetch_folder(place.open(), "model", tmp_path / "cache")
    if place.endpoint is None:
        return
    (fetched / "config.json").write_bytes(b"rot")
    assert files_of(fetch_folder(place.open(), "model", tmp_path / "cache")) == MODEL


def test_ranks_that_fetch_at_once_get_one_whole_copy(place: Place, tmp_path: Path) -> None:
    publish_folder(place.open(), "model", {f"f{n}": bytes([n]) * 10_000 for n in range(20)})

    def fetch() -> None:
        assert len(files_of(fetch_folder(place.open(), "model", tmp_path / "cache"))) == 20

    children = [start(fetch) for _ in range(3)]
    assert [wait(pid) for pid in children] == [0] * 3
    copies = [path for path in (tmp_path / "cache").glob("*") if path.is_dir()]
    assert len(copies) == (0 if place.endpoint is None else 1)
