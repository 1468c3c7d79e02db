"""A store in an S3 bucket. The only module that imports boto3.

Three things that S3 clients get wrong are handled here:

- A reply that is lost after the server has stored the object makes boto3 repeat the request, and
  turns our own success into 412. ``put_if`` then reads back and compares bytes, which is safe
  because conditional bodies hold their writer's uuid: nobody else can have written the same ones.
- A body that breaks off in the middle is not retried by botocore. ``get`` goes on from the byte
  where it stopped, under If-Match, so that it never joins two versions of an object.
- boto3's other transfer client ignores the endpoint (boto/boto3#4839): "classic" is asked for.

Credentials come from boto3's own chain alone. ``M2R_S3_CHECKSUMS=when_required`` is for stores
that reject the checksums boto3 sends since 1.36; our manifests have their own SHA-256 either way.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from m2r_train.api.errors import ConfigError
from m2r_train.core.rng import derive_seed
from m2r_train.store._multipart import send_parts
from m2r_train.store._s3errors import (
    BROKEN_BODY,
    code_of,
    configuration_problem,
    is_corrupt,
    label,
    status_of,
)
from m2r_train.store.base import (
    Blob,
    CorruptObject,
    Entry,
    NotFound,
    OnError,
    PreconditionFailed,
    StoreUnavailable,
    Watch,
    check_key,
    check_prefix,
    config_error,
)

_PART = 64 << 20
_WHOLE = 16 << 20  # what is sent in parts of its own is larger than this
_CHUNK = 1 << 20
_CORRUPT_READS = 3  # a bit may flip on the way; one that flips every time is flipped in the store
_TRANSFER = TransferConfig(
    preferred_transfer_client="classic",
    multipart_threshold=_PART,
    multipart_chunksize=_PART,
    max_concurrency=4,
)


@dataclass(slots=True)
class _Connection:
    """One client, shared by all views of a bucket; boto3 clients are thread-safe."""

    client: Any
    bucket: str
    attempts: int
    on_error: OnError | None
    reached: bool = False  # whether any reply has ever come back

    def watch(self, response: Any, caught_exception: Any, operation: Any, **_: Any) -> None:
        """Called by botocore after every attempt; returns None so as not to decide anything."""
        if response is not None:
            self.reached = True
        error = caught_exception
        if response is not None and response[0].status_code >= 400:
            error = ClientError(response[1], operation.name)
        if error is not None:
            self.report(operation.name, error)

    def report(self, operation: str, error: Exception) -> None:
        """Tells the caller's counter, unless the error is an ordinary answer (404, 412)."""
        kind = label(error)
        if self.on_error is not None and kind is not None:
            self.on_error(operation, kind)


@dataclass(frozen=True, slots=True)
class S3Store:
    """Objects below ``prefix`` (empty, or ending in a slash) of a bucket."""

    connection: _Connection
    prefix: str

    @staticmethod
    def open(
        uri: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        on_error: OnError | None = None,
        attempts: int = 10,
    ) -> S3Store:
        """The store at ``s3://bucket/prefix``. Raises ``ConfigError``; sends nothing yet."""
        bucket, _, prefix = uri.removeprefix("s3://").strip("/").partition("/")
        checksums = os.environ.get("M2R_S3_CHECKSUMS", "when_supported")
        if checksums not in ("when_supported", "when_required"):
            raise ConfigError(
                f"M2R_S3_CHECKSUMS={checksums!r}: use when_supported or when_required"
            )
        config = Config(
            signature_version="s3v4",
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=16,
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        )
        try:
            if prefix:
                check_key(prefix)
            client = boto3.session.Session().client(
                "s3", endpoint_url=endpoint, region_name=region, config=config
            )
        except (ValueError, BotoCoreError) as error:
            raise ConfigError(f"store {uri}: {error}: check storage.uri and endpoint") from error
        connection = _Connection(client, bucket, attempts, on_error)
        client.meta.events.register("needs-retry.s3", connection.watch)
        return S3Store(connection, f"{prefix}/" if prefix else "")

    @property
    def uri(self) -> str:
        return f"s3://{self.connection.bucket}/{self.prefix}".rstrip("/")

    def __repr__(self) -> str:
        return f"S3Store({self.uri})"

    def under(self, prefix: str) -> S3Store:
        return replace(self, prefix=f"{self._key(prefix)}/")

    def get(self, key: str) -> Blob:
        full = self._key(key)
        body, etag, corrupt = bytearray(), "", 0
        for attempt in range(self.connection.attempts):
            where = {"IfMatch": etag, "Range": f"bytes={len(body)}-"} if body else {}
            try:
                with self._errors("get", key):
                    reply = self._client.get_object(Bucket=self._bucket, Key=full, **where)
            except PreconditionFailed:  # replaced while we were reading: take the new one whole
                body.clear()
                continue
            etag = str(reply["ETag"])
            try:
                for chunk in reply["Body"].iter_chunks(_CHUNK):
                    body += chunk
            except BROKEN_BODY as error:
                self.connection.report("GetObject", error)
                corrupt += is_corrupt(error)
                if corrupt == _CORRUPT_READS:
                    raise self._corrupt(key, etag) from error
                if is_corrupt(error) or len(body) >= _total(reply):
                    body.clear()
                time.sleep(_pause(full.encode(), attempt))
                continue
            return Blob(bytes(body), etag)
        raise StoreUnavailable(
            f"store {self.uri}: the body of {key} broke off {self.connection.attempts} times"
        )

    def put(self, key: str, data: bytes) -> str:
        full = self._key(key)
        with self._errors("put", key):
            if len(data) <= _PART:
                reply = self._client.put_object(Bucket=self._bucket, Key=full, Body=data)
            else:
                self._client.upload_fileobj(io.BytesIO(data), self._bucket, full, Config=_TRANSFER)
                reply = self._client.head_object(Bucket=self._bucket, Key=full)
        return str(reply["ETag"])

    def put_parts(self, key: str, data: memoryview, watch: Watch) -> None:
        watch(0)
        if len(data) <= _WHOLE:
            self.put(key, bytes(data))
            watch(len(data))
            return
        where = {"Bucket": self._bucket, "Key": self._key(key)}
        try:
            with self._errors("put", key):
                send_parts(self._client, where, data, watch)
        except NotFound as gone:  # also a completion whose reply was lost, asked for again
            if self._size(key) != len(data):
                raise StoreUnavailable(
                    f"store {self.uri}: the upload of {key} was removed before its end"
                ) from gone

    def put_if(self, key: str, data: bytes, *, if_match: str | None) -> str:
        full = self._key(key)
        condition = {"IfNoneMatch": "*"} if if_match is None else {"IfMatch": if_match}
        for attempt in range(self.connection.attempts):
            try:
                with self._errors("put_if", key):
                    reply = self._client.put_object(
                        Bucket=self._bucket, Key=full, Body=data, **condition
                    )
                return str(reply["ETag"])
            except _ConflictError:  # two conditional writes met: the server asks to try again
                time.sleep(_pause(data, attempt))
            except (PreconditionFailed, NotFound) as refused:
                return self._own_success(key, data, refused)
        raise StoreUnavailable(
            f"store {self.uri}: {key} met other writers {self.connection.attempts} times"
        )

    def upload(self, key: str, path: Path) -> None:
        full = self._key(key)
        with self._errors("upload", key), path.open("rb") as source:
            self._client.upload_fileobj(source, self._bucket, full, Config=_TRANSFER)

    def download(self, key: str, path: Path) -> None:
        full = self._key(key)
        for attempt in range(1, _CORRUPT_READS + 1):
            try:
                with self._errors("download", key):
                    self._client.download_file(self._bucket, full, str(path), Config=_TRANSFER)
                return
            except CorruptObject:
                if attempt == _CORRUPT_READS:
                    raise
            except OSError as error:
                readable = config_error(str(path.parent), f"downloading {key}", error)
                raise readable or error from error

    def list(self, prefix: str = "") -> Iterator[Entry]:
        start = self.prefix + check_prefix(prefix)
        pages = self._client.get_paginator("list_objects_v2")
        found = []
        with self._errors("list", prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=start):
                for item in page.get("Contents", ()):
                    key = item["Key"].removeprefix(self.prefix)
                    if key and not key.endswith("/"):  # consoles make empty "folder" objects
                        found.append(Entry(key, item["Size"], item["ETag"]))
        return iter(sorted(found, key=lambda entry: entry.key))

    def delete(self, key: str) -> None:
        full = self._key(key)
        with contextlib.suppress(NotFound), self._errors("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=full)

    def tidy(self, prefix: str = "") -> None:
        check_prefix(prefix)  # there is nothing but objects

    def exists(self, key: str) -> bool:
        return self._size(key) is not None

    def _size(self, key: str) -> int | None:
        full = self._key(key)
        try:
            with self._errors("exists", key):
                reply = self._client.head_object(Bucket=self._bucket, Key=full)
        except NotFound:
            return None
        return int(reply["ContentLength"])

    @property
    def _client(self) -> Any:
        return self.connection.client

    @property
    def _bucket(self) -> str:
        return self.connection.bucket

    def _key(self, key: str) -> str:
        return check_key(self.prefix + check_key(key))

    def _corrupt(self, key: str, etag: str) -> CorruptObject:
        line = "does not match the checksum that the store keeps of it"
        return CorruptObject(f"{self.uri}/{key}: {line}: restore it, or write it again", etag)

    def _own_success(self, key: str, data: bytes, refused: Exception) -> str:
        """After 412: the tag of our own write whose reply was lost, else ``PreconditionFailed``."""
        try:
            blob = self.get(key)
        except (NotFound, CorruptObject):
            blob = None
        if blob is not None and blob.data == data:
            return blob.etag
        raise PreconditionFailed(f"{self.uri}/{key}: has changed") from refused

    @contextlib.contextmanager
    def _errors(self, operation: str, key: str) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            self._translate(operation, key, error)

    def _translate(self, operation: str, key: str, error: Exception) -> NoReturn:
        doing = f"{operation} {key or 'the store'}"
        code, status = code_of(error), status_of(error)
        if status == 412:
            raise PreconditionFailed(f"{self.uri}/{key}: has changed") from error
        if code in ("ConditionalRequestConflict", "OperationAborted"):
            raise _ConflictError(f"store {self.uri}: {key} met another writer") from error
        if is_corrupt(error):
            raise self._corrupt(key, "") from error
        problem = configuration_problem(error, self._bucket, self.connection.reached)
        if problem is not None:
            endpoint = self._client.meta.endpoint_url
            raise ConfigError(f"store {self.uri} at {endpoint}: {problem} ({doing})") from error
        if status == 404:
            raise NotFound(f"{self.uri}/{key}") from error
        line = " ".join(str(error).split())
        raise StoreUnavailable(f"store {self.uri}: {line} while doing {doing}") from error


class _ConflictError(StoreUnavailable):
    """409: the server could not decide between two conditional writes."""


def _total(reply: Any) -> int:
    """Bytes of the whole object, also in the reply to a request for a range."""
    span = reply.get("ContentRange")
    return int(span.rpartition("/")[2]) if span else int(reply["ContentLength"])


def _pause(what: bytes, attempt: int) -> float:
    """Seconds to wait: doubling up to 2 s, spread so that rivals do not meet again."""
    spread = derive_seed(0, hashlib.sha256(what).hexdigest(), attempt) / 2**63
    return float(min(2.0, 0.05 * 2**attempt) * (0.5 + spread / 2))
