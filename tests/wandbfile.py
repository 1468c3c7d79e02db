"""Reads the records of a W&B offline file: a LevelDB log (doc/log_format.md of LevelDB) behind a
header of seven bytes, each record a protocol buffer of the client's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32 * 1024
_HEADER = 7


def records(path: Path) -> Iterator[Any]:
    """Every record of the file in order."""
    data, at, part = path.read_bytes(), _HEADER, b""
    assert data.startswith(b":W&B")
    while at + _HEADER <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        part += data[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (1, 4):  # full, last
            yield Record.FromString(part)
            part = b""


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of all offline runs below a folder, oldest first."""
    rows = []
    for path in sorted(folder.rglob("*.wandb")):
        for record in records(path):
            if record.HasField("history"):
                items = record.history.item
                rows.append(
                    {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
                )
    return rows


def config(folder: Path) -> dict[str, Any]:
    """The settings of the runs."""
    found = {}
    for path in folder.rglob("*.wandb"):
        for record in records(path):
            for update in (record.config, record.run.config):
                found |= {
                    i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in update.update
                }
    return found
