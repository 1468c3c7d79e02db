"""Where the traces of a step lie in a run: one file a step, named alike by writers and readers."""

from __future__ import annotations

import re
from typing import Final

TRACES: Final = "traces/"
_KEY: Final = re.compile(r"traces/step-(\d{6,})\.jsonl")


def trace_key(step: int) -> str:
    """The key of a step's file; sorted keys are sorted steps up to a million.

    >>> trace_key(12)
    'traces/step-000012.jsonl'
    """
    return f"{TRACES}step-{step:06d}.jsonl"


def traced_step(key: str) -> int | None:
    """The step of a file, None for another key.

    >>> traced_step("traces/step-000012.jsonl")
    12
    """
    found = _KEY.fullmatch(key)
    return int(found[1]) if found else None
