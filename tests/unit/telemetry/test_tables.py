"""Results as a Markdown table."""

from __future__ import annotations

from m2r_train.telemetry.tables import markdown, results_markdown

SCORE = {"value": 50.0, "n": 501, "stderr": 2.236}
UNKNOWN = {"value": None, "n": 0, "stderr": None}
INTERVAL = [45.6, 54.41]


def test_results_look_as_those_of_lm_evaluation_harness() -> None:
    results = {
        "benchmarks": {
            "dynamath": {
                "average": SCORE,
                "greedy/average": SCORE,
                "greedy/overall": SCORE | {"value": 49.0},
                "overall": SCORE,
                "subject/algebra": SCORE,
                "worst": SCORE,
            },
            "we-math": {"ik": SCORE, "overall": UNKNOWN, "score_strict": UNKNOWN},
            "synthetic": {"Count": SCORE, "overall": SCORE},
        },
        "intervals": {
            "dynamath": dict.fromkeys(("average", "greedy/overall", "overall"), INTERVAL),
            "we-math": {"ik": INTERVAL, "overall": None},
            "synthetic": {"Count": INTERVAL, "overall": INTERVAL},
        },
        "protocols": {
            "dynamath": {"headline": "worst", "rule": "official"},
            "we-math": {"headline": "score_strict", "rule": "vlmevalkit"},
        },
    }
    assert (
        results_markdown(results)
        == """\
|Benchmark|   Rule   |   Metric   |   |Value|   |Stderr|95 % interval | n |
|---------|----------|------------|---|----:|---|-----:|--------------|--:|
|dynamath |official  |worst       |↑  |50.00|±  |  2.24|[45.60, 54.41]|501|
|         |          |greedy/worst|↑  |49.00|±  |  2.24|[45.60, 54.41]|501|
|         |          |average     |↑  |50.00|±  |  2.24|[45.60, 54.41]|501|
|we-math  |vlmevalkit|score_strict|↑  |    -|±  |     -|              |  0|
|         |          |ik          |↓  |50.00|±  |  2.24|[45.60, 54.41]|501|
|synthetic|          |overall     |↑  |50.00|±  |  2.24|[45.60, 54.41]|501|
|         |          |Count       |↑  |50.00|±  |  2.24|[45.60, 54.41]|501|
"""
    )


def test_a_cell_cannot_break_its_table() -> None:
    table = markdown(["a", "b"], frozenset({1}), [["x|y\\", "1\n2"]])
    assert table == "|  a   | b |\n|------|--:|\n|x\\|y\\\\|1 2|\n"
