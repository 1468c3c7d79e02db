"""Scores as tables and pictures take them from ``eval/results.json``."""

from __future__ import annotations

import pytest

from m2r_train.report.charts import forest
from m2r_train.telemetry.results import Score, result_rows, score_of

RIGHT = {"value": 100.0, "n": 20, "stderr": 0.0}
TOLD = [82.0, 100.0]


def test_the_interval_is_the_one_told_else_that_of_two_standard_errors() -> None:
    assert score_of(RIGHT, TOLD) == Score(100.0, 0.0, 20, (82.0, 100.0))
    assert score_of(RIGHT, TOLD).interval == (82.0, 100.0)
    older = score_of({"value": 99.0, "n": 20, "stderr": 10.0})
    assert older.interval == (pytest.approx(79.4), 100.0)
    assert Score(99.0).interval is None


def test_rows_carry_the_interval_and_leave_out_what_is_undefined() -> None:
    undefined = {"value": None, "n": 0, "stderr": None}
    scores = {"we-math": {"overall": RIGHT, "rm_strict": undefined}}
    intervals = {"we-math": {"overall": TOLD, "rm_strict": None}}
    results = {"sft": {"benchmarks": scores, "intervals": intervals}}
    [row] = result_rows(results)
    assert (row.task, row.scores["sft"].interval) == ("overall", (82.0, 100.0))


def test_the_picture_draws_the_interval_and_not_the_standard_error() -> None:
    drawn = forest([("overall", True, {"sft": score_of(RIGHT, TOLD)})], ["sft"])
    assert "whisker" in drawn
    assert "overall, sft: 100.0 ± 0.0" in drawn
    assert "whisker" not in forest([("overall", True, {"sft": Score(50.0)})], ["sft"])
