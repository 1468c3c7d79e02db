"""Loops in chains (synthesis.md section 3: no 100-character segment three times or more)."""

from __future__ import annotations

import time

import pytest

from m2r_train.core.repetition import has_repetition

PHRASE = "the sofa is left of the table and the lamp is right of it, so it is".ljust(100, ".")
PROSE = [f"step {i}: the distance grows by {i * 37 % 101} cm, so x = {i * i}. " for i in range(30)]


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        (PHRASE * 3, True),
        (PHRASE * 2, False),
        (f"one {PHRASE} two {PHRASE} three {PHRASE}", True),
        (f"1{PHRASE}2{PHRASE}3{PHRASE[:99]}", False),
        ("".join(PROSE), False),
        ("wait, " * 50, False),  # its third occurrence would end at character 304
        ("wait, " * 51, True),
        ("-" * 299, False),  # three occurrences, but they overlap
        ("-" * 300, True),
        ("0123456789" * 30, True),
        ("", False),
    ],
)
def test_a_loop_is_found(text: str, loops: bool) -> None:
    assert has_repetition(text) is loops


def test_a_megabyte_is_read_in_linear_time() -> None:
    def seconds(n: int) -> float:
        text = " ".join(str(i * 7919 % 1_000_003) for i in range(n // 7))
        started = time.process_time()
        assert not has_repetition(text)
        return time.process_time() - started

    small = min(seconds(50_000) for _ in range(3))
    assert seconds(1_000_000) < 20 * 4 * small
