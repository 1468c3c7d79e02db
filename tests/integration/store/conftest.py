"""Every test that takes ``place`` or ``store`` runs on files and on the real S3 server."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from integration.store.helpers import Place

from m2r_train.store import ObjectStore


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of its own for each test."""
    if request.param == "file":
        return Place((tmp_path / "store").as_uri(), None, tmp_path / "store")
    server = request.getfixturevalue("s3")
    bucket = f"t-{uuid.uuid4().hex}"
    uri = server.make_bucket(bucket)
    return Place(f"{uri}/some/prefix", server.endpoint, server.root / bucket / "some/prefix")


@pytest.fixture
def store(place: Place) -> ObjectStore:
    """The store at ``place``."""
    return place.open()
