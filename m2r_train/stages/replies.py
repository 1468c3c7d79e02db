"""A judge's replies, however it is reached: each is kept in the journal as it comes.

A question has the key of what it says, so a run that is killed in the middle asks for nothing that
was answered, and two answers with the same words are asked about once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from m2r_train.stages.context import Context

_ENTRY = "/reply-"


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt without pictures; equal ones have the same reply."""

    prompt: str
    temperature: float
    max_tokens: int

    @property
    def key(self) -> str:
        """32 hex digits of what is asked."""
        whole = json.dumps([self.prompt, self.temperature, self.max_tokens])
        return hashlib.sha256(whole.encode()).hexdigest()[:32]

    @property
    def path(self) -> tuple[str, str]:
        """What its random numbers hang on, after the run's seed."""
        return ("judge", self.key)


class Client(Protocol):
    """Whoever replies: an endpoint, or a model in this process."""

    def answer(self, requests: Sequence[Question], keep: Callable[[int, str], None]) -> None:
        """Give every reply to ``keep`` with its request's number, as soon as it is there.

        ``keep`` may be called by several threads; what it raises ends the rest.
        """
        ...


class Replies:
    """What a client says to the questions of one part of the run."""

    def __init__(self, ctx: Context, part: int, client: Client) -> None:
        self._ctx, self._part, self._client = ctx, part, client
        self._kept = ctx.run.journal_keys()
        self._known: dict[str, str] = {}

    def to(self, questions: Sequence[Question]) -> list[str]:
        """Replies in order. Raises ``Preempted`` when a stop was asked for: nothing is lost."""
        new = {q.key: q for q in questions if self._find(q.key) is None}
        asked = list(new.values())
        if asked:
            self._client.answer(asked, lambda number, reply: self._keep(asked[number].key, reply))
        return [self._known[q.key] for q in questions]

    def _find(self, key: str) -> str | None:
        name = self._name(key)
        if key not in self._known and name in self._kept:
            entry = self._ctx.run.journal_get(name)
            if entry is not None:
                self._known[key] = str(json.loads(entry))
        return self._known.get(key)

    def _keep(self, key: str, reply: str) -> None:
        sound = reply.encode(errors="replace").decode()  # half a surrogate pair is no text
        self._ctx.probe("before-reply")
        self._ctx.run.journal_put(self._name(key), json.dumps(sound).encode())
        self._known[key] = sound
        self._ctx.leave_if_asked(self._ctx.done or 0)

    def _name(self, key: str) -> str:
        return f"s{self._part}{_ENTRY}{key}"


def is_part(key: str) -> bool:
    """Whether a journal entry is a part of a run, and no reply on the way to one."""
    return _ENTRY not in key
