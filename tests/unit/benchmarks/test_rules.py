"""Every rule of every benchmark against tables written from its published description."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from m2r_train.benchmarks.base import Rule
from m2r_train.benchmarks.registry import BENCHMARKS

TABLES = Path(__file__).parent / "cases"


def _cases(name: str) -> Iterator[tuple[str, dict[str, Any], str, float, str]]:
    for table in yaml.safe_load((TABLES / f"{name}.yaml").read_text()):
        for text, score, *why in table["rows"]:
            reason = ", ".join(map(str, why))
            yield table.get("rule", "official"), table["record"], text, float(score), reason


@pytest.mark.parametrize("name", BENCHMARKS)
def test_scores_are_those_of_the_table(name: str) -> None:
    scorers = BENCHMARKS[name].rules
    wrong = [
        f"{rule}: {text!r} scores {judged.score}, not {score} ({why})"
        for rule, record, text, score, why in _cases(name)
        for judged in [scorers[rule](record, text)]  # type: ignore[index]
        if judged.score != score
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "rule"), [(name, rule) for name in BENCHMARKS for rule in BENCHMARKS[name].rules]
)
def test_every_rule_of_every_benchmark_has_at_least_thirty_cases(name: str, rule: Rule) -> None:
    texts = [(str(record), text) for own, record, text, *_ in _cases(name) if own == rule]
    assert len(set(texts)) == len(texts) >= 30


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_table_is_of_a_rule_that_the_benchmark_has(name: str) -> None:
    assert {rule for rule, *_ in _cases(name)} == set(BENCHMARKS[name].rules)
