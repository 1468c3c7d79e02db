"""A teacher and judge of sums behind HTTP that stalls, errs and talks rubbish."""

from __future__ import annotations

import json
import re
from contextlib import AbstractContextManager
from typing import Any

from chatserver import ChatServer, open_server

from m2r_train.core.judging import CANARIES

GOOD = "<think>{a} + {b} is {s}.\nCheck: {s} - {b} = {a}.</think><answer>\\boxed{{{s}}}</answer>"


class Server(ChatServer):
    """Teaches sums and judges them, legibly from a temperature of ``clear_from`` on."""

    def __init__(self, *, fair: bool, clear_from: float = 0.0, **more: Any) -> None:
        super().__init__(**more)
        self.fair, self.clear_from = fair, clear_from

    def reply(self, asked: Any) -> str | None:
        if "response_format" in asked:
            if asked["temperature"] < self.clear_from:
                return "rubbish"
            return grade(asked["messages"][0]["content"][-1]["text"], fair=self.fair)
        return self.teach(asked)

    def teach(self, asked: Any) -> str | None:
        text = asked["messages"][1]["content"][-1]["text"]
        a, b = map(int, re.findall(r"\d+", text))
        if a == 0:
            return None  # a filter's answer
        wrong = a == 1 or asked["seed"] % 2
        return GOOD.format(a=a, b=b, s=a + b + (1 if wrong else 0))


def grade(text: str, *, fair: bool) -> str:
    """A verdict on the chain in a judge's prompt; an unfair judge does not know bad chains."""
    known = [c for c in CANARIES if json.dumps(c.chain, ensure_ascii=False) in text]
    scores = known[0].low if known and fair else None
    values = (5, 5, 5)
    if scores is not None:
        values = (scores.structure, scores.load, scores.verification)
    elif "2 + " in text.partition("chain:")[0]:
        values = (5, 5, 2)  # below the bar
    names = ("structure", "load", "verification")
    return json.dumps({n: {"score": v, "reason": ""} for n, v in zip(names, values, strict=True)})


def serving(
    *,
    faults: bool = True,
    fair: bool = True,
    fails_every: int = 3,
    notes: bool = True,
    clear_from: float = 0.0,
) -> AbstractContextManager[Server]:
    """Runs a server on a free port; ``notes`` keeps every request."""
    return open_server(
        Server(
            fair=fair, faults=faults, fails_every=fails_every, notes=notes, clear_from=clear_from
        )
    )
