"""From a URI to a store. Kept apart so that nothing else knows which stores there are."""

from __future__ import annotations

from m2r_train.api.errors import ConfigError
from m2r_train.store.base import ObjectStore, OnError
from m2r_train.store.local import LocalStore, local_path


def open_store(
    uri: str,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    on_error: OnError | None = None,
) -> ObjectStore:
    """The store at ``s3://bucket/prefix``, ``file:///path`` or a plain path.

    ``endpoint`` and ``region`` matter to S3 only. ``on_error`` is told of every failed request,
    retried ones too. Opening does not touch the store. Raises ``ConfigError``.
    """
    if uri.startswith("s3://"):
        if not uri.removeprefix("s3://").partition("/")[0]:
            raise ConfigError(f"storage.uri {uri!r}: names no bucket: write s3://bucket/prefix")
        from m2r_train.store.s3 import S3Store  # noqa: PLC0415 - boto3 only for those who use S3

        return S3Store.open(uri, endpoint=endpoint, region=region, on_error=on_error)
    path = local_path(uri)
    if path is None:
        raise ConfigError(
            f"storage.uri {uri!r}: no such kind of store: use s3://, file:/// or a path"
        )
    return LocalStore(path, on_error=on_error)
