"""An upload in parts that ends early tells why, whatever else goes wrong then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from m2r_train.store._multipart import send_parts


class GoneStore:
    """Answers until it is told to go; from then on nothing reaches it."""

    meta = SimpleNamespace(config=SimpleNamespace(request_checksum_calculation="when_supported"))

    def create_multipart_upload(self, **_: Any) -> dict[str, str]:
        return {"UploadId": "1"}

    def upload_part(self, **_: Any) -> dict[str, str]:
        return {"ETag": "e"}

    def abort_multipart_upload(self, **_: Any) -> None:
        raise ConnectionError("gone")


class CalledBack(Exception):  # noqa: N818 - no error: the writer's way out
    """What the caller's watch raises."""


def test_an_upload_that_is_called_back_says_so_also_where_it_cannot_be_aborted() -> None:
    def watch(_written: int) -> None:
        raise CalledBack

    with pytest.raises(CalledBack):
        send_parts(GoneStore(), {"Bucket": "b", "Key": "k"}, memoryview(b"data"), watch)
