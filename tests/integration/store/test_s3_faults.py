"""Lost replies, broken bodies, errors after the fact, and configurations that cannot work."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.store.faultproxy import FaultProxy, fault_proxy
from integration.store.helpers import Place
from s3server import Server, free_port

from m2r_train.api.errors import ConfigError
from m2r_train.store import (
    CorruptObject,
    NotFound,
    PreconditionFailed,
    Run,
    StoreUnavailable,
    open_store,
    read_head,
)
from m2r_train.store.s3 import S3Store

pytestmark = [
    pytest.mark.s3,
    pytest.mark.global_rng("boto3 draws the jitter of its retries and names of temporary files"),
]


@pytest.fixture
def bucket(s3: Server) -> Place:
    name = f"t-{uuid.uuid4().hex}"
    return Place(s3.make_bucket(name) + "/pre", s3.endpoint, s3.root / name / "pre")


@pytest.fixture
def proxy(s3: Server) -> Iterator[FaultProxy]:
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture
def heard() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def store(bucket: Place, proxy: FaultProxy, heard: list[tuple[str, str]]) -> S3Store:
    return S3Store.open(
        bucket.uri, endpoint=proxy.endpoint, on_error=lambda *what: heard.append(what)
    )


UNCERTAIN = ["lose-reply", "error-after"]


@pytest.mark.parametrize("fault", UNCERTAIN)
def test_a_repeated_conditional_put_fails_in_boto3_itself(
    store: S3Store, proxy: FaultProxy, fault: str
) -> None:
    """The negative control: without the read-back our own success looks like a lost race."""
    from botocore.exceptions import ClientError

    proxy.add(fault, "PUT", "/raw")  # type: ignore[arg-type]
    with pytest.raises(ClientError, match="PreconditionFailed"):
        store.connection.client.put_object(
            Bucket=store.connection.bucket, Key="raw", Body=b"mine", IfNoneMatch="*"
        )
    assert proxy.used_up


PARTS = memoryview(b"part" * (5 << 20))  # 20 MiB


@pytest.mark.parametrize("fault", [*UNCERTAIN, "error-before"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_an_object_in_parts_arrives_whole_although_replies_are_lost(
    store: S3Store, proxy: FaultProxy, fault: str, method: str
) -> None:
    """POST twice: the first begins the upload, the second completes it."""
    proxy.add(fault, method, "/x", times=2)  # type: ignore[arg-type]
    store.put_parts("x", PARTS, lambda _: None)
    assert proxy.used_up
    assert store.get("x").data == PARTS


def test_a_completion_whose_reply_is_lost_is_found_to_be_done(
    store: S3Store, proxy: FaultProxy
) -> None:
    """Some servers know nothing of an upload that they have completed before."""

    def lose_the_next(written: int) -> None:
        if written == len(PARTS):
            proxy.add("lose-reply", "POST", "/x")
            proxy.add("no-upload", "POST", "/x")

    store.put_parts("x", PARTS, lose_the_next)
    assert proxy.used_up
    assert store.get("x").data == PARTS


def test_an_upload_that_somebody_has_removed_is_no_success(
    store: S3Store, proxy: FaultProxy
) -> None:
    store.put("x", b"old")
    proxy.add("no-upload", "PUT", "/x")
    with pytest.raises(StoreUnavailable, match="upload of x was removed"):
        store.put_parts("x", PARTS, lambda _: None)
    assert store.get("x").data == b"old"


def test_an_object_in_parts_that_the_store_does_not_take_is_no_object(
    store: S3Store, proxy: FaultProxy
) -> None:
    proxy.add("error-before", "PUT", "/x", times=1000)
    small = S3Store.open(store.uri, endpoint=proxy.endpoint, attempts=2)
    with pytest.raises(StoreUnavailable, match="put x"):
        small.put_parts("x", PARTS, lambda _: None)
    assert not store.exists("x")


@pytest.mark.parametrize("fault", UNCERTAIN)
def test_our_own_success_is_recognised_when_its_reply_is_lost(
    store: S3Store, proxy: FaultProxy, fault: str, heard: list[tuple[str, str]]
) -> None:
    proxy.add(fault, "PUT", "/x")  # type: ignore[arg-type]
    first = store.put_if("x", b"writer-1 step 1", if_match=None)
    proxy.add(fault, "PUT", "/x")  # type: ignore[arg-type]
    second = store.put_if("x", b"writer-1 step 2", if_match=first)
    assert store.get("x").data == b"writer-1 step 2"
    assert store.get("x").etag == second
    assert proxy.used_up
    assert heard == [("PutObject", "connection" if fault == "lose-reply" else "server")] * 2


@pytest.mark.parametrize("fault", UNCERTAIN)
def test_a_lost_reply_does_not_hide_that_somebody_else_has_written(
    store: S3Store, proxy: FaultProxy, bucket: Place, fault: str
) -> None:
    def rival() -> None:
        other = bucket.open()
        other.put_if("x", b"rival", if_match=other.get("x").etag)

    proxy.add(fault, "PUT", "/x", then=rival)  # type: ignore[arg-type]
    with pytest.raises(PreconditionFailed):
        store.put_if("x", b"mine", if_match=None)
    assert store.get("x").data == b"rival"


@pytest.mark.parametrize("fault", UNCERTAIN)
def test_a_run_survives_lost_replies_of_every_write(
    store: S3Store, proxy: FaultProxy, fault: str
) -> None:
    for path in ("/HEAD", "/a", "/MANIFEST.json"):
        proxy.add(fault, "PUT", path, times=2)  # type: ignore[arg-type]
    run = Run.claim(store, 1)
    run.commit(1, {"a": b"1"})
    run.commit(2, {"a": b"2"})
    run.finish({"ok": True})
    assert proxy.used_up
    head = read_head(store)
    assert head is not None
    assert (head.epoch, head.step, head.done) == (1, 2, True)
    latest = run.latest()
    assert latest is not None
    assert dict(latest.files) == {"a": b"2"}


def test_a_conflict_between_two_conditional_writes_is_tried_again(
    store: S3Store, proxy: FaultProxy, heard: list[tuple[str, str]]
) -> None:
    proxy.add("conflict", "PUT", "/x", times=3)
    store.put_if("x", b"mine", if_match=None)
    assert store.get("x").data == b"mine"
    assert heard == [("PutObject", "conflict")] * 3


def test_throttling_is_waited_out_and_counted(
    store: S3Store, proxy: FaultProxy, heard: list[tuple[str, str]]
) -> None:
    for method in ("PUT", "GET", "DELETE"):
        proxy.add("error-before", method, "/x")
    store.put("x", b"1")
    assert store.get("x").data == b"1"
    store.delete("x")
    assert [kind for _, kind in heard] == ["throttled"] * 3


def test_a_body_that_breaks_off_goes_on_where_it_stopped(store: S3Store, proxy: FaultProxy) -> None:
    data = bytes(range(256)) * 20_000
    store.put("x", data)
    proxy.add("cut-body", "GET", "/x", times=3)
    proxy.seen.clear()
    assert store.get("x").data == data
    ranges = [span for method, _, span in proxy.seen if method == "GET"]
    assert ranges[0] is None
    starts = [int(str(span).removeprefix("bytes=").rstrip("-")) for span in ranges[1:]]
    assert starts == sorted(starts)
    assert starts[0] > 0


def test_two_versions_of_an_object_are_never_joined(
    store: S3Store, proxy: FaultProxy, bucket: Place
) -> None:
    store.put("x", b"a" * 1_000_000)
    proxy.add("cut-body", "GET", "/x", then=lambda: bucket.open().put("x", b"b" * 1_000_000))
    assert store.get("x").data == b"b" * 1_000_000


def test_an_object_deleted_while_it_is_read_is_not_found(
    store: S3Store, proxy: FaultProxy, bucket: Place
) -> None:
    store.put("x", b"a" * 1000)
    proxy.add("cut-body", "GET", "/x", then=lambda: bucket.open().delete("x"))
    with pytest.raises(NotFound):
        store.get("x")


def test_a_download_that_breaks_off_is_tried_again(
    store: S3Store, proxy: FaultProxy, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 4000
    store.put("x", data)
    proxy.add("cut-body", "GET", "/x", times=2)
    store.download("x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == data


@pytest.mark.parametrize("times", [1, 2])
def test_a_bit_that_flips_on_the_way_is_read_again(
    store: S3Store, proxy: FaultProxy, tmp_path: Path, times: int
) -> None:
    store.put("x", b"content")
    proxy.add("flip-body", "GET", "/x", times=times)
    assert store.get("x").data == b"content"
    proxy.add("flip-body", "GET", "/x", times=times)
    store.download("x", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"content"


def test_a_bit_that_is_flipped_in_the_store_is_reported(
    bucket: Place, store: S3Store, tmp_path: Path
) -> None:
    store.put("x", b"content")
    bucket.flip("x")
    with pytest.raises(CorruptObject, match="checksum") as caught:
        store.get("x")
    assert caught.value.exit_code == 65
    with pytest.raises(CorruptObject, match="checksum"):
        store.download("x", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_without_checksums_of_the_store_the_manifest_still_notices(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2R_S3_CHECKSUMS", "when_required")
    store, heard = open_store(bucket.uri, endpoint=bucket.endpoint), []
    run = Run.claim(store, 1)
    run.commit(1, {"a": b"1" * 100})
    run.commit(2, {"a": b"2" * 100})
    bucket.flip("checkpoints/e1-s2/a")
    assert store.get("checkpoints/e1-s2/a").data != b"2" * 100  # nobody checked
    latest = Run.claim(store, 2, on_corrupt=heard.append).latest()
    assert latest is not None
    assert latest.step == 1
    assert "SHA-256" in heard[0]


def one_line(error: BaseException, *words: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert "secret" not in text.replace("secretRef", "")
    for word in words:
        assert word in text


def test_a_missing_bucket_is_one_line_for_the_user(s3: Server) -> None:
    store = open_store("s3://no-such-bucket/x", endpoint=s3.endpoint)
    for use in (
        lambda: store.put("a", b""),
        lambda: store.get("a"),
        lambda: list(store.list()),
        lambda: store.put_if("a", b"", if_match=None),
        lambda: Run.claim(store, 1),
    ):
        with pytest.raises(ConfigError) as caught:
            use()
        one_line(caught.value, "s3://no-such-bucket/x", s3.endpoint, "create it", "storage.uri")


def test_wrong_credentials_are_one_line_for_the_user(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    heard: list[tuple[str, str]] = []
    store = open_store(
        bucket.uri, endpoint=bucket.endpoint, on_error=lambda *what: heard.append(what)
    )
    with pytest.raises(ConfigError) as caught:
        store.put("a", b"")
    one_line(caught.value, bucket.uri, "access denied", "credentials")
    assert heard == [("PutObject", "denied")]


def test_no_credentials_are_one_line_for_the_user(
    bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(ConfigError) as caught:
        open_store(bucket.uri, endpoint=bucket.endpoint).put("a", b"")
    one_line(caught.value, "storage.secretRef", "AWS_ACCESS_KEY_ID")


def test_an_endpoint_that_never_answered_is_a_wrong_address(bucket: Place) -> None:
    endpoint = f"http://127.0.0.1:{free_port()}"
    store = S3Store.open(bucket.uri, endpoint=endpoint, attempts=2)
    with pytest.raises(ConfigError) as caught:
        store.get("a")
    one_line(caught.value, endpoint, "cannot be reached", "storage.endpoint")


def test_an_endpoint_that_has_answered_before_is_in_trouble(s3: Server, bucket: Place) -> None:
    with fault_proxy(s3.endpoint) as proxy:
        store = S3Store.open(bucket.uri, endpoint=proxy.endpoint, attempts=2)
        store.put("a", b"1")
    with pytest.raises(StoreUnavailable) as caught:
        store.put("a", b"2")
    assert caught.value.exit_code == 1  # not permanent: the next attempt may find it again
    one_line(caught.value, bucket.uri)


def test_a_server_that_keeps_failing_is_in_trouble(bucket: Place, proxy: FaultProxy) -> None:
    store = S3Store.open(bucket.uri, endpoint=proxy.endpoint, attempts=2)
    proxy.add("error-before", "PUT", "/a", times=2)
    with pytest.raises(StoreUnavailable):
        store.put("a", b"")


def test_a_file_in_place_of_a_folder_is_one_line_for_the_user(bucket: Place) -> None:
    store = bucket.open()
    store.put("a", b"")
    with pytest.raises(ConfigError) as caught:
        store.put("a/b", b"")
    one_line(caught.value, "a file stands where a folder is needed")


def test_the_transfer_client_that_ignores_endpoints_is_never_chosen() -> None:
    from m2r_train.store import s3 as module

    assert module._TRANSFER.preferred_transfer_client == "classic"
