"""From a dataset in a store to its page: finds it, fetches and verifies it, or says what is wrong.

A dataset is complete when its ``MANIFEST.json`` is there, which is written last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from m2r_train.api.errors import DataError
from m2r_train.data.layout import SUFFIXES
from m2r_train.report.dataset import render_dataset
from m2r_train.store import ObjectStore, fetch_uri, open_store

FACTS, COMPLETE = "manifest.json", "MANIFEST.json"


def dataset_folder(uris: Sequence[str], *, endpoint: str | None = None) -> ObjectStore | None:
    """The dataset that the one URI of ``uris`` is the folder of; None where it is of something
    else.

    Raises:
        DataError: several URIs, one of them a dataset's folder.
    """
    for uri in uris:
        store = open_store(uri if "://" in uri else str(Path(uri).absolute()), endpoint=endpoint)
        if store.exists(FACTS) and not store.exists("spec.json"):
            if len(uris) > 1:
                raise DataError(f"{uri}: is a dataset; a page shows one, so name it alone")
            return store
    return None


def dataset_page(folder: ObjectStore, cache_dir: Path, *, endpoint: str | None = None) -> str:
    """The page of the dataset in ``folder``.

    Raises:
        DataError: not complete, damaged, or of a foreign layout; one line.
    """
    if not folder.exists(COMPLETE):
        raise DataError(
            f"{folder.uri}: not a complete dataset ({COMPLETE}, which is written last, is not "
            "there); let its DataSynthesisJob end, or copy the whole folder"
        )
    path, digest = fetch_uri(folder.uri, cache_dir, endpoint=endpoint)
    if not (path / FACTS).is_file():
        raise nothing_here(folder.uri, ["x.parquet"])
    return render_dataset(path, digest=digest)


def nothing_here(uri: str, names: Iterable[str]) -> DataError:
    """Why there is nothing to report on at ``uri``, which holds files called ``names``."""
    if any(PurePosixPath(name).suffix.lower() in SUFFIXES for name in names):
        return DataError(
            f"{uri}: data that no DataSynthesisJob made ({FACTS} is not there); give it to one as "
            "a source's dataset, and report on the result"
        )
    return DataError(f"{uri}: no runs here; name a run's folder or a store with runs")
