"""The real S3 server, one for each test process, and its credentials in the environment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from s3server import Server, s3_server


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """A running server; boto3's own chain finds its credentials."""
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "M2R_S3_CHECKSUMS"):
            patch.delenv(name, raising=False)
        for name, value in server.env.items():
            patch.setenv(name, value)
        yield server
