"""Answers written to hang, crash or take over the scorer (reliability.md section 4, 8 and 9)."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from m2r_train.core.answers import equivalent, option_letter
from m2r_train.core.contract import extract_answer, format_valid
from m2r_train.core.numerals import parse_number
from m2r_train.core.rewards import RewardConfig, score

MB = 1_000_000

HOSTILE = {
    "a tower of powers": "9^{9^{9^{9}}}",
    "a factorial": "(10^9)!",
    "a huge exponent": "1e999999999",
    "a huge negative exponent": "1e-999999999",
    "a huge power of ten": r"1 \times 10^{999999999}",
    "a long exponent": "1e" + "9" * 250,
    "256 digits": "9" * 256,
    "a megabyte of digits": "9" * MB,
    "3,000 nested braces": "{" * 3000 + "}" * 3000,
    "200 nested braces": "{" * 200 + "}" * 200,
    "200 nested brackets": "(" * 200 + ")" * 200,
    "nested fractions": r"\frac{" * 70 + "}" * 70,
    "bare fractions": r"\frac" * 100,
    "roots of roots": r"\sqrt" * 100,
    "minus upon minus": "^" + "-" * 400,
    "a megabyte of braces": "{" * MB,
    "a megabyte of open boxes": r"\boxed{" * (MB // 7),
    "nested boxes": r"\boxed{" * 1000 + "}" * 1000,
    "a megabyte of backslashes": "\\" * MB,
    "a megabyte of answer blocks": "<answer>7</answer>" * (MB // 18),
    "a megabyte of opening tags": "<answer>" * (MB // 8),
    "a megabyte of think blocks": "<think>a</think>" * (MB // 16),
    "a megabyte of angles": "<" * MB,
    "a megabyte of spaces": " " * MB,
    "a megabyte of accents": "é" * MB,
    "Arabic digits": "٣٤٥",
    "full-width digits": "１２",
    "superscripts": "2²³",
    "fractions of one character": "½ ⅔",
    "a lone surrogate": "\ud800 7",
    "nulls": "7\x00\x00",
    "private-use characters": "\ue000{1}{2}\ue001",
    "bidirectional controls": "\u202e7\u202c",
    "many commas": "1,111" * 60,
    "many units": "5 " + "m " * 120,
    "many exponents": "5" + "m^2" * 80,
    "half a command": "7\\",
    "an unknown command": r"\input{/etc/passwd}",
    "an import": "__import__('os').system('true')",
    "an attribute walk": "().__class__.__base__.__subclasses__()",
    "a format string": "{0.__class__}%s%n",
    "yaml": "!!python/object/apply:os.getpid []",
}

READERS: list[Callable[[str], object]] = [
    extract_answer,
    lambda text: extract_answer(f"<think>a</think><answer>{text}</answer>"),
    lambda text: extract_answer(f"<answer>\\boxed{{{text}}}</answer>"),
    lambda text: format_valid(f"<think>{text}</think><answer>{text}</answer>", True),
    parse_number,
    option_letter,
    lambda text: equivalent(text, "7", "choice"),
    lambda text: equivalent(text, "7", "number"),
    lambda text: equivalent(text, "x+7", "expression"),
    lambda text: equivalent(text, text + " ", "text"),
]


def _plain_work() -> object:
    """A substitution in a quarter of a megabyte: a few milliseconds, more on a busy machine."""
    return re.sub("[<>]", "", "<>" * (MB // 8))


def _seconds(calls: list[Callable[[], object]]) -> list[float]:
    """The least processor time of several turns of each."""
    best = [float("inf")] * len(calls)
    for _ in range(5):
        for i, call in enumerate(calls):
            started = time.process_time()
            call()
            best[i] = min(best[i], time.process_time() - started)
    return best


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_raises_nothing_and_costs_less_than_a_plain_substitution(
    name: str,
) -> None:
    text = HOSTILE[name]
    readers = [lambda reader=reader: reader(text) for reader in READERS]
    peer, *costs = _seconds([_plain_work, *readers])
    assert max(costs) < peer


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_answer_earns_nothing(name: str) -> None:
    completion = f"<think>a</think><answer>\\boxed{{{HOSTILE[name]}}}</answer>"
    assert score("maths", "exact", "42", "number", completion, RewardConfig()).task == 0.0


def test_a_long_thought_does_not_hide_the_answer() -> None:
    completion = f"<think>{'so 1 < 2, ' * 1000}{'x' * MB}</think><answer>\\boxed{{7}}</answer>"
    assert extract_answer(completion) == "7"
    assert format_valid(completion, strict=True)


AUDITED = """
import sys
from m2r_train.core.answers import equivalent
from m2r_train.core.contract import extract_answer, format_valid
from m2r_train.core.numerals import parse_number
texts = eval(sys.stdin.read())
watched = ("exec", "compile", "import", "open", "os.", "subprocess.", "socket.", "ctypes.")
seen = []
sys.addaudithook(lambda event, args: event.startswith(watched) and seen.append(event))
for text in texts:
    extract_answer("<answer>" + text + "</answer>"), format_valid(text, True), parse_number(text)
    for kind in ("choice", "number", "expression", "text"):
        equivalent(text, "7", kind)
found = list(seen)
compile("1", "proof that the hook is on", "eval")
assert "compile" in seen
sys.exit(f"events: {found}" if found else 0)
"""


def test_no_answer_makes_the_scorer_compile_execute_import_or_open_anything() -> None:
    texts = [text for text in HOSTILE.values() if len(text) < 10_000]
    done = subprocess.run(
        [sys.executable, "-c", AUDITED],
        input=ascii(texts),
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
