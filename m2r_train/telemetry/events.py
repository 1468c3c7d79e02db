"""One JSON line an event, with anything that looks like a credential taken out.

Redaction looks at names (``secret_access_key``) and at values (an AWS key id, a bearer token, a
password inside a URL), because a library's error message may quote what we never logged.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from m2r_train.telemetry.history import to_lines

REDACTED = "[redacted]"

_NAME = re.compile(
    r"pass(word|wd|phrase)|secret|credential|authorization|private_?key|access_?key|api_?key"
    r"|(^|_)token($|_(?!s))|session_?token|bearer|cookie",
    re.IGNORECASE,
)
_VALUES = (
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),  # user:password@host
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"(?<=Bearer )\S+", re.IGNORECASE),
    re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"),  # a JSON web token
    re.compile(r"\b(?:hf|ghp|gho|ghs|sk)[_-][A-Za-z0-9_-]{16,}"),
    re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*KEY-----|$)"),
    re.compile(
        r"(?i)(?<=[?&])(X-Amz-(?:Signature|Credential|Security-Token))=[^&\s\"']+"
    ),
    re.compile(
        r"(?i)\b(?:aws_)?(?:secret(?:_access)?_key|session_token|password|api_key)\b"
        r"\s*[=:]\s*[\"']?[^\s\"',;&]+"
    ),
)  # fmt: skip


def redact(value: Any, name: str = "") -> Any:
    """``value`` with credentials replaced by `REDACTED`; containers are copied, never changed.

    A number or None under a secret's name is kept: ``tokens: 128`` is a count, and ``secretRef:
    {name: s3}`` is the name of a Secret, not its content.
    """
    if isinstance(value, Mapping):
        return {key: redact(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item, name) for item in value]
    if not isinstance(value, str):
        return value
    if value and _NAME.search(_snake(name)):
        return REDACTED
    for pattern in _VALUES:
        value = pattern.sub(REDACTED, value)
    return value


class EventLog:
    """Writes ``{"event": .., "time": .., **fields}`` lines to a stream.

    ``clock`` gives Unix seconds. Fields that JSON does not know are written as their ``str``.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        clock: Callable[[], float] = time.time,
        **always: Any,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._always = always

    def write(self, event: str, **fields: Any) -> None:
        """One line, flushed: the last event before a kill is the one that matters."""
        line = {**self._always, **fields, "event": event, "time": round(self._clock(), 3)}
        self._stream.write(to_lines([_jsonable(redact(line))]).decode())
        self._stream.flush()


def _jsonable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return redact(str(value))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_").lower()
