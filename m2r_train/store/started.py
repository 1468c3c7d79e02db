"""When a run was first started: one small object that its first attempt writes and later ones read.

Figures hang on it (goodput), no result does: one that cannot be read is as good as none.
"""

from __future__ import annotations

import json
import uuid
from contextlib import suppress
from typing import Final

from m2r_train.store.base import CorruptObject, NotFound, ObjectStore, PreconditionFailed

STARTED: Final = "started.json"


def first_start(store: ObjectStore, now: float) -> float:
    """When the run in ``store`` was first started, in Unix seconds; ``now`` for that attempt."""
    try:
        return float(json.loads(store.get(STARTED).data)["time"])
    except NotFound:
        pass
    except (CorruptObject, ValueError, KeyError, TypeError):
        return now
    with suppress(PreconditionFailed):  # an older attempt that still runs was first: as good
        store.put_if(STARTED, _content(now), if_match=None)
    return now


def _content(now: float) -> bytes:
    return json.dumps({"time": now, "writer": str(uuid.uuid4())}).encode()
