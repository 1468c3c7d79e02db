"""The last words of a pod: JSON that Kubernetes copies into ``terminated.message``.

The kubelet keeps at most 4096 bytes of the file and cuts the rest, so a longer document would
reach the operator as broken JSON. Long parts are shortened here instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from m2r_train.telemetry.events import redact
from m2r_train.telemetry.history import to_lines

LIMIT_BYTES = 4096
PATH_VARIABLE = "M2R_TERMINATION_LOG"
DEFAULT_PATH = Path("/dev/termination-log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Termination:
    """How a run ended: exit code (design section 4), what happened, and where it stands.

    ``phase``, ``attempt``, ``epoch``, ``last_step_time`` and ``resumed_from`` are those of the
    last ``GET /status``.
    """

    exit_code: int
    reason: str
    message: str = ""
    phase: str | None = None
    attempt: int | None = None
    epoch: int | None = None
    step: int | None = None
    total_steps: int | None = None
    last_step_time: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    last_checkpoint: Mapping[str, Any] | None = None
    resumed_from: Mapping[str, Any] | None = None
    outputs: Mapping[str, Any] | None = None

    def to_bytes(self) -> bytes:
        """One JSON object in camelCase, at most `LIMIT_BYTES` bytes, whatever the fields hold.

        What is dropped first is what can be found elsewhere: all scores but each benchmark's
        headline, the middle of the message, then the metrics, the outputs, the reason's tail and
        the checkpoint.
        """
        document = {_camel(key): item for key, item in redact(asdict(self)).items()}
        document = {key: item for key, item in document.items() if item not in (None, {}, "")}
        for shorten in (_headlines, _cut_message, _drop("metrics"), _drop("outputs"), _cut_reason,
                        _drop("lastCheckpoint"), _drop("message")):  # fmt: skip
            if _size(document) <= LIMIT_BYTES:
                break
            document = shorten(document)
        return _encode(document)


def termination_path(environment: Mapping[str, str] | None = None) -> Path | None:
    """Where to write: ``$M2R_TERMINATION_LOG``, else the kubelet's file, else nowhere (None)."""
    named = (os.environ if environment is None else environment).get(PATH_VARIABLE)
    if named:
        return Path(named)
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


def write_termination(termination: Termination, path: Path | None = None) -> Path | None:
    """Write to ``path`` (default: `termination_path`); the path written, or None for nowhere.

    The file is a mount of the kubelet's, so it is written in place and not replaced.
    """
    target = termination_path() if path is None else path
    if target is not None:
        target.write_bytes(termination.to_bytes())
    return target


def leave_words(words: bytes) -> None:
    """Write a termination message that another process has made as this one's."""
    target = termination_path()
    if target is not None:
        target.write_bytes(words)


def _headlines(document: dict[str, Any]) -> dict[str, Any]:
    """Of each benchmark its headline only: a published one has up to a hundred figures."""
    outputs = document.get("outputs")
    if not isinstance(outputs, Mapping) or not isinstance(outputs.get("scores"), Mapping):
        return document
    scores = {
        name: {"overall": own["overall"]}
        for name, own in outputs["scores"].items()
        if isinstance(own, Mapping) and "overall" in own
    }
    return {**document, "outputs": {**outputs, "scores": scores}}


def _cut_message(document: dict[str, Any]) -> dict[str, Any]:
    """The longest head and tail of the message that fit; the end of a traceback says the most."""
    text = str(document.get("message", ""))
    shortest, longest = 0, len(text)
    while shortest < longest:
        keep = (shortest + longest + 1) // 2
        if _size({**document, "message": _middle_cut(text, keep)}) <= LIMIT_BYTES:
            shortest = keep
        else:
            longest = keep - 1
    return {**document, "message": _middle_cut(text, shortest)}


def _middle_cut(text: str, keep: int) -> str:
    head = keep // 3
    return f"{text[:head]} [..] {text[len(text) - (keep - head) :]}" if keep < len(text) else text


def _cut_reason(document: dict[str, Any]) -> dict[str, Any]:
    return {**document, "reason": str(document.get("reason", ""))[:128]}


def _drop(key: str) -> Any:
    return lambda document: {name: item for name, item in document.items() if name != key}


def _size(document: Mapping[str, Any]) -> int:
    return len(_encode(document))


def _encode(document: Mapping[str, Any]) -> bytes:
    return to_lines([document]).rstrip(b"\n")


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)
