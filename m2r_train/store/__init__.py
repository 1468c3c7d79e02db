"""Datasets, checkpoints and results: one small protocol over ``s3://`` and ``file://``.

:func:`open_store` opens a URI; :class:`Run` commits the checkpoints of one run;
:func:`publish_folder` and :func:`fetch_uri` move whole results; :func:`check_store` proves that a
store has the conditional writes all of that needs. boto3 is imported only when an S3 URI is opened.
"""

from __future__ import annotations

from m2r_train.store._helper import Helper, RunFinished
from m2r_train.store.base import (
    Blob,
    CorruptObject,
    Entry,
    NotFound,
    ObjectStore,
    OnError,
    PreconditionFailed,
    StoreUnavailable,
)
from m2r_train.store.check import CheckReport, Finding, check_store
from m2r_train.store.checkpoints import Checkpoint, Damaged, Head, Run, read_head
from m2r_train.store.local import LocalStore, local_path
from m2r_train.store.opening import open_store
from m2r_train.store.pins import pinned
from m2r_train.store.publish import (
    fetch_folder,
    fetch_uri,
    folder_digest,
    publish_folder,
    verify_folder,
)
from m2r_train.store.started import first_start

__all__ = [
    "Blob",
    "CheckReport",
    "Checkpoint",
    "CorruptObject",
    "Damaged",
    "Entry",
    "Finding",
    "Head",
    "Helper",
    "LocalStore",
    "NotFound",
    "ObjectStore",
    "OnError",
    "PreconditionFailed",
    "Run",
    "RunFinished",
    "StoreUnavailable",
    "check_store",
    "fetch_folder",
    "fetch_uri",
    "first_start",
    "folder_digest",
    "local_path",
    "open_store",
    "pinned",
    "publish_folder",
    "read_head",
    "verify_folder",
]
