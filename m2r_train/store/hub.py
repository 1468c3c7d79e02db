"""Datasets of the Hugging Face hub by ``hf://datasets/OWNER/NAME@COMMIT``.

A commit and no branch: a run that goes on tomorrow reads what it read today. The download is the
library's own (mirrors by ``HF_ENDPOINT``, access to gated datasets by ``HF_TOKEN``); each file is
then held against the commit's own hash of it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from m2r_train.api.errors import ConfigError, DataError

SCHEME: Final = "hf://"
_URI = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)@([0-9a-f]{40})", re.ASCII)
_LIBRARY_NOTES: Final = ".cache"  # what the library leaves in the folder beside the files


class HubDataset(NamedTuple):
    """A dataset's repository and the commit that is read."""

    repository: str
    commit: str


def parse(uri: str) -> HubDataset:
    """The dataset that a URI names. Raises ConfigError."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise ConfigError(f"{uri}: write hf://datasets/OWNER/NAME@ and the commit's 40 hex digits")
    return HubDataset(*match.groups())


def download(uri: str, folder: Path) -> None:
    """Every file of a dataset into ``folder``, which is not there before.

    Raises:
        DataError: there is no such dataset or commit, no access to it, or a file is not as the
            commit has it.
        ConfigError: the hub cannot be reached, or the library is not installed.
    """
    name, commit = parse(uri)
    try:
        from huggingface_hub import HfApi, RepoFile, snapshot_download  # noqa: PLC0415 - optional
        from huggingface_hub.errors import (  # noqa: PLC0415
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise ConfigError(
            f"{uri}: huggingface-hub is not installed; install M2R with its extra train"
        ) from error
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        with _online():
            snapshot_download(
                name, repo_type="dataset", revision=commit, local_dir=folder, endpoint=endpoint
            )
            tree = HfApi(endpoint=endpoint).list_repo_tree(
                name, repo_type="dataset", revision=commit, recursive=True
            )
            files = [entry for entry in tree if isinstance(entry, RepoFile)]
    except GatedRepoError as error:
        raise DataError(
            f"{uri}: is gated; accept its terms on the hub and set HF_TOKEN, or name a copy by "
            "s3:// or file:///"
        ) from error
    except RevisionNotFoundError as error:
        raise DataError(f"{uri}: has no such commit; look it up under Files on the hub") from error
    except RepositoryNotFoundError as error:
        raise DataError(f"{uri}: is not there, or private; check the name and HF_TOKEN") from error
    except (HfHubHTTPError, OSError) as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise ConfigError(
            f"{uri}: cannot be downloaded ({reason}); check the network and HF_ENDPOINT, or name a "
            "copy by s3:// or file:///"
        ) from error
    shutil.rmtree(folder / _LIBRARY_NOTES, ignore_errors=True)
    for file in files:
        wanted = file.blob_id if file.lfs is None else file.lfs.sha256
        if _hash(folder / file.path, git=file.lfs is None) != wanted:
            raise DataError(f"{uri}: {file.path} is not as the commit has it; run it again")


@contextmanager
def _online() -> Iterator[None]:
    """The library may use the network: elsewhere ``m2r`` keeps it off, lest it look for models."""
    from huggingface_hub import constants  # noqa: PLC0415 - optional

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _hash(file: Path, *, git: bool) -> str:
    """Hex SHA-256 of a file, or the SHA-1 by which git names its content; "" where it is none."""
    if not file.is_file():
        return ""
    with file.open("rb") as data:
        if not git:
            return hashlib.file_digest(data, "sha256").hexdigest()
        named = hashlib.sha1(b"blob %d\0" % file.stat().st_size, usedforsecurity=False)
        return hashlib.file_digest(data, lambda: named).hexdigest()
