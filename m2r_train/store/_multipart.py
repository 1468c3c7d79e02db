"""One large object in parts, several at a time, from memory that is not copied as a whole.

The threads are daemons: a process that has to leave is not held up by a request that hangs, as it
would be by those of boto3's own transfers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from m2r_train.store.base import Watch

_PART = 16 << 20
_MOST_PARTS = 10_000  # the limit of S3
_WORKERS = 4
_LOOK_SECONDS = 0.5  # how often ``watch`` is asked while no part comes to its end


def send_parts(client: Any, where: dict[str, str], data: memoryview, watch: Watch) -> None:
    """Writes ``data`` as the object at ``where`` (``Bucket``, ``Key``): whole or not at all.

    ``watch`` is called in this thread with the bytes that have arrived; what it raises ends the
    upload. Raises what the client raises.
    """
    summed = client.meta.config.request_checksum_calculation == "when_supported"
    checksum = {"ChecksumAlgorithm": "CRC32"} if summed else {}
    upload = where | {"UploadId": client.create_multipart_upload(**where, **checksum)["UploadId"]}
    try:
        parts = _Parts(client, upload, checksum, data).send(watch)
    except BaseException:
        with suppress(Exception):  # what ended the upload is what the caller has to know
            client.abort_multipart_upload(**upload)
        raise
    client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


class _Parts:
    """Numbers are handed out to workers, which hand back what the completion has to list."""

    def __init__(
        self, client: Any, upload: dict[str, str], checksum: dict[str, str], data: memoryview
    ) -> None:
        self._client, self._upload, self._checksum, self._data = client, upload, checksum, data
        self._size = max(_PART, -(-len(data) // _MOST_PARTS))
        self._starts = range(0, len(data), self._size)
        self._numbers: Iterator[int] = iter(range(len(self._starts)))
        self._turn = threading.Lock()
        self._ended: queue.SimpleQueue[tuple[int, dict[str, Any] | BaseException]] = (
            queue.SimpleQueue()
        )

    def send(self, watch: Watch) -> list[dict[str, Any]]:
        """All parts; the list for the completion, in order."""
        for _ in range(min(_WORKERS, len(self._starts))):
            threading.Thread(target=self._work, name="m2r-part", daemon=True).start()
        parts: dict[int, dict[str, Any]] = {}
        arrived = 0
        try:
            while len(parts) < len(self._starts):
                watch(arrived)
                try:
                    number, outcome = self._ended.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                if isinstance(outcome, BaseException):
                    raise outcome
                parts[number] = outcome
                arrived += len(self._slice(number))
            watch(arrived)
        finally:
            self._numbers = iter(())
        return [parts[number] for number in sorted(parts)]

    def _work(self) -> None:
        while (number := self._next()) is not None:
            try:
                self._ended.put((number, self._send(number)))
            except BaseException as error:
                self._ended.put((number, error))
                return

    def _next(self) -> int | None:
        with self._turn:
            return next(self._numbers, None)

    def _send(self, number: int) -> dict[str, Any]:
        reply = self._client.upload_part(
            **self._upload, **self._checksum, PartNumber=number + 1, Body=bytes(self._slice(number))
        )
        kept = {key: reply[key] for key in ("ETag", "ChecksumCRC32") if key in reply}
        return {"PartNumber": number + 1, **kept}

    def _slice(self, number: int) -> memoryview:
        start = self._starts[number]
        return self._data[start : start + self._size]
