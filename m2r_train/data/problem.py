"""Why one record cannot be used."""

from __future__ import annotations

from typing import Literal, get_args

ProblemKind = Literal[
    "broken line",
    "no question",
    "no answer",
    "bad answer",
    "bad options",
    "bad chain",
    "bad field",
    "image path",
    "image missing",
    "image broken",
    "image too large",
    "duplicate",
]
PROBLEM_KINDS: tuple[ProblemKind, ...] = get_args(ProblemKind)
"""A closed set: fit for a metric's label and for counting."""


class Problem(Exception):  # noqa: N818 - never leaves the reader: it becomes a BadRecord
    """One record's fault: ``kind`` for counting, the message for whoever repairs it."""

    def __init__(self, kind: ProblemKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: ProblemKind = kind
