"""Scores, their errors and the gates: values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from m2r_train.api.evaljob import EvalSpec
from m2r_train.benchmarks.kept import all_figures
from m2r_train.stages.evaluate import SYNTHETIC, gates_passed, shown_subtasks


def answers(scores: list[float], valid: bool = True) -> list[dict[str, Any]]:
    return [{"text": "", "extracted": None, "score": s, "format": float(valid)} for s in scores]


def question(task: str, sampled: list[float], greedy: float | None = None, **more: Any) -> Any:
    one = [] if greedy is None else answers([greedy], **more)
    return {"id": "q", "task": task, "sampled": answers(sampled, **more), "greedy": one}


def scores(value: float, n: int, stderr: float | None) -> dict[str, Any]:
    near = None if stderr is None else pytest.approx(stderr, abs=1e-9)
    return {"value": pytest.approx(value, abs=1e-9), "n": n, "stderr": near}


def told(rows: list[Any]) -> dict[str, Any]:
    return {name: figure.percent() for name, figure in all_figures(SYNTHETIC, rows).items()}


# Count: means .5, 1, 0 -> 50 %, deviation .5, error 50 / sqrt 3. Depth: means .25, .75 -> 50 %,
# deviation sqrt .125, error sqrt(.125 / 2) = .25. Overall: the plain mean of the two tasks.
ROWS = [
    question("Count", [1.0, 0.0], 1.0),
    question("Count", [1.0, 1.0], 1.0, valid=False),
    question("Depth", [0.5, 0.0], 0.0),
    question("Count", [0.0, 0.0], 0.0),
    question("Depth", [1.0, 0.5], 0.6, valid=False),
]


def test_scores_and_errors_are_those_worked_out_by_hand() -> None:
    result = told(ROWS)
    count, depth = 50 / math.sqrt(3), 25.0
    assert result == {
        "overall": scores(50.0, 5, math.sqrt(count**2 + depth**2) / 2),
        "Count": scores(50.0, 3, count),
        "Depth": scores(50.0, 2, depth),
        "format": scores(60.0, 10, 100 * math.sqrt(0.3 / 5)),  # five questions, not ten answers
        "greedy/overall": scores((200 / 3 + 30) / 2, 5, math.sqrt((100 / 3) ** 2 + 30**2) / 2),
        "greedy/Count": scores(200 / 3, 3, 100 / 3),
        "greedy/Depth": scores(30.0, 2, 30.0),
        "greedy/format": scores(60.0, 5, 100 * math.sqrt(0.3 / 5)),
    }


def test_tasks_weigh_the_same_however_many_questions_they_have() -> None:
    result = told([question("A", [1.0])] * 9 + [question("B", [0.0])] * 3)
    assert result["overall"] == scores(50.0, 12, 0.0)


def test_more_samples_of_a_question_are_no_more_questions() -> None:
    one = told([question("A", [1.0]), question("A", [0.0])])
    many = told([question("A", [1.0] * 50), question("A", [0.0] * 50)])
    assert one["A"] == many["A"] == scores(50.0, 2, 50.0)


def test_one_question_has_no_error_and_so_has_the_whole() -> None:
    result = told([*ROWS, question("Size", [0.25, 0.75])])
    assert result["Size"] == scores(50.0, 1, None)
    assert result["overall"]["stderr"] is None
    assert result["Count"]["stderr"] is not None
    assert "greedy/Size" not in result


def test_without_greedy_answers_there_are_no_greedy_scores() -> None:
    result = told([question("A", [1.0]), question("A", [0.0])])
    assert set(result) == {"overall", "A", "format"}


@pytest.mark.parametrize(("reached", "passes"), [(39.9, False), (40.0, True), (71.0, True)])
def test_every_gate_must_be_reached(reached: float, passes: bool) -> None:
    spec = EvalSpec.model_validate(
        {
            "model": {"preset": "tiny"},
            "benchmarks": [
                {"name": "synthetic", "data": {"uri": "file:///a"}},
                {"name": "mathvista", "data": {"uri": "file:///b"}},
            ],
            "gates": [
                {"benchmark": "synthetic", "min": 40.0},
                {"benchmark": "mathvista", "min": 10.0},
            ],
        }
    )
    easy = {"overall": {"value": 90.0}}
    assert (
        gates_passed(spec, {"synthetic": {"overall": {"value": reached}}, "mathvista": easy})
        == passes
    )
    assert not gates_passed(spec, {"synthetic": easy, "mathvista": {"overall": {"value": 9.0}}})
    assert gates_passed(spec.model_copy(update={"gates": ()}), {})


def test_a_gate_is_not_reached_by_a_headline_that_is_undefined() -> None:
    spec = EvalSpec.model_validate(
        {
            "model": {"preset": "tiny"},
            "benchmarks": [{"name": "we-math", "data": {"uri": "file:///a"}}],
            "gates": [{"benchmark": "we-math", "min": 0.1}],
        }
    )
    assert not gates_passed(spec, {"we-math": {"overall": {"value": None}}})


def test_the_gauge_has_headlines_and_as_many_tasks_as_its_label_may_have() -> None:
    score = {"value": 1.0}
    own = {"overall": score, "greedy/overall": score, "Count": score, "Area": score}
    published = {"overall": score, "worst": score, "average": score}
    shown = shown_subtasks({"dynamath": published, "synthetic": own})
    assert shown == ["overall", "Area", "Count"]
    assert shown_subtasks({"dynamath": published}) == ["overall"]
    many = {"overall": score} | {f"t{i:02}": score for i in range(99)}
    assert shown_subtasks({"synthetic": many}) == ["overall", *(f"t{i:02}" for i in range(31))]
