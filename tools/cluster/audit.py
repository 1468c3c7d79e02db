"""The API server's audit log: who wrote what, and how often."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

WRITES = ("create", "update", "patch", "delete", "deletecollection")


def events(path: Path) -> Iterator[dict[str, Any]]:
    """The finished requests, oldest first; a line that is still being written is left out."""
    with path.open("rb") as log:
        for line in log:
            if line.endswith(b"\n"):
                yield json.loads(line)


def writes(
    path: Path, *, user_agent: str = "", user: str = "", since: datetime | None = None
) -> Counter[tuple[str, str]]:
    """Writes as ``{(verb, resource or resource/subresource): count}``, refused ones too.

    ``user_agent`` is a prefix, ``user`` a whole user name; ``since`` an aware time by which the
    request had not yet arrived.
    """
    count: Counter[tuple[str, str]] = Counter()
    for event in events(path):
        if event["verb"] not in WRITES or "objectRef" not in event:
            continue
        if user and event["user"].get("username") != user:
            continue
        if not event.get("userAgent", "").startswith(user_agent):
            continue
        if since and datetime.fromisoformat(event["requestReceivedTimestamp"]) < since:
            continue
        reference = event["objectRef"]
        names = [reference.get("resource", ""), reference.get("subresource", "")]
        count[event["verb"], "/".join(filter(None, names))] += 1
    return count
