"""Keys and URIs: what is refused, and with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.api.errors import ConfigError
from m2r_train.store import LocalStore, local_path, open_store
from m2r_train.store.base import check_key, check_prefix

REFUSED = ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\nb", "a\0b", "k" * 1025]
REFUSED += ["é" * 513, ".m2r-lock", "a/.m2r-tmp-1"]


@pytest.mark.parametrize("key", REFUSED)
def test_a_key_that_some_store_cannot_hold_is_refused_everywhere(key: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for use in (check_key, store.get, store.delete, store.exists, store.under):
        with pytest.raises(ValueError, match="store key"):
            use(key)
    with pytest.raises(ValueError, match="store key"):
        store.put(key, b"")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["a", "a/b", "HEAD", ".hidden/x", "a b", "é", "a..b", "k" * 1024])
def test_an_ordinary_key_is_accepted_as_it_is(key: str) -> None:
    assert check_key(key) == key
    assert check_prefix(f"{key[:1000]}/") == f"{key[:1000]}/"


@given(st.text(max_size=40))
def test_no_accepted_key_leaves_the_root(key: str) -> None:
    root = Path("/srv/root")
    try:
        check_key(key)
    except ValueError:
        return
    assert root in Path(str(root / key)).parents
    assert ".." not in (root / key).parts


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("file:///data/runs", "/data/runs"),
        ("file:///with%20space", "/with space"),
        ("/data/runs/", "/data/runs"),
        ("/data/../runs", "/runs"),
    ],
)
def test_a_path_and_a_file_uri_open_the_same_store(uri: str, path: str) -> None:
    store = open_store(uri)
    assert local_path(uri) == Path(path)
    assert local_path(store.uri) == Path(path)


def test_a_relative_path_is_taken_from_where_the_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("runs").put("x", b"1")
    assert (tmp_path / "runs" / "x").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("gs://bucket", "use s3://, file:/// or a path"),
        ("", "use s3://, file:/// or a path"),
        ("file://data/runs", "names a host"),
        ("s3://", "storage.uri"),
        ("s3://bucket/a/../b", "storage.uri"),
    ],
)
def test_a_bad_uri_is_one_line_for_the_user(uri: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        open_store(uri).exists("key")
    assert "\n" not in str(caught.value)


def test_an_endpoint_that_is_no_url_is_one_line_for_the_user() -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        open_store("s3://bucket", endpoint="not a url", region="us-east-1")


def test_an_unknown_checksum_setting_is_one_line_for_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("M2R_S3_CHECKSUMS", "sometimes")
    with pytest.raises(ConfigError, match="when_required"):
        open_store("s3://bucket", region="us-east-1")


def test_a_file_store_does_without_boto3() -> None:
    import subprocess
    import sys

    code = "import sys, m2r_train.store as s; s.open_store('/x'); sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
