"""Two evaluations of the same questions: differences of every figure, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from unit.benchmarks.sets import Records, cv_bench, dynamath, vsi_bench, we_math

from m2r_train.api.errors import DataError
from m2r_train.benchmarks.kept import facts, kept_figures
from m2r_train.benchmarks.pairing import Side, paired
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.benchmarks.scoring import score_set
from m2r_train.core.estimates import difference

MATHVISTA: Records = [
    {
        **{"pid": str(i), "question_type": "free_form", "answer_type": "integer", "answer": "8"},
        **{"metadata": {"skills": ["a", "b"][: 1 + i % 2], "task": "t"}, "source": "s"},
        "prediction": "8" if i % 3 else "9",
    }
    for i in range(9)
]
SETS: dict[str, Records] = {
    "mathvista": MATHVISTA,
    "mathvision": [
        {
            "id": i,
            "answer": "7",
            "level": 1 + i % 2,
            "subject": "algebra",
            "prediction": "78"[i % 2],
        }
        for i in range(6)
    ],
    "mathverse": [
        {
            **{"sample_index": i, "problem_index": i // 2, "answer": "B"},
            "problem_version": ("Vision Only", "Text Lite")[i % 2],
            "metadata": {"subject": "Plane Geometry"},
            "prediction": "AB"[i % 3 == 0],
        }
        for i in range(12)
    ],
    "dynamath": dynamath({"a1": 10, "a2": 9, "b1": 0, "b2": 10}),
    "we-math": we_math({"000": 2, "110": 3, "111": 1}, {"1111": 2, "0001": 1}),
    "logicvista": [
        {"imagename": str(i), "answer": "A", "skill": "spatial", "prediction": "AB"[i % 2]}
        for i in range(6)
    ],
    "cv-bench": cv_bench(("ADE20K", 30, 50), ("COCO", 80, 100), ("Omni3D", 135, 150)),
    "vsi-bench": [r | {"scene_name": r["id"][-1]} for r in vsi_bench(object_counting=8)],
}


def kept(name: str, records: Records, *, flip: int = 0) -> list[dict[str, Any]]:
    """Rows as an evaluation keeps them; the scores of the first ``flip`` are turned around."""
    samples = score_set(BENCHMARKS[name], records, rule="official", answer="raw", partial=True)
    return [
        {
            **{"id": str(number), "task": name, "question": "?", "answer": "!"},
            "record": facts(name, record),
            "sampled": [{"score": 1 - one["score"] if number < flip else one["score"]}],
            "greedy": [],
        }
        for number, (record, one) in enumerate(zip(records, samples.samples, strict=True))
    ]


def side(rows: list[dict[str, Any]], label: str = "sft", **protocol: Any) -> Side:
    return Side(label, rows, protocol)


@pytest.mark.parametrize("name", SETS)
def test_every_figure_can_be_had_from_what_is_kept(name: str) -> None:
    """The record's fields that are kept are all that the figures read."""
    records = SETS[name]
    figures = score_set(
        BENCHMARKS[name], records, rule="official", answer="raw", partial=True
    ).figures
    again = kept_figures(name, kept(name, records))
    headline = BENCHMARKS[name].headline(figures)
    assert again["overall"] == figures[headline]
    own = {k: v for k, v in figures.items() if k != "overall" and not k.startswith("lax/")}
    assert {k: v for k, v in again.items() if k not in ("overall", "all")} == own
    assert "prediction" not in kept(name, records)[0]["record"]


@pytest.mark.parametrize("name", SETS)
def test_the_difference_of_the_headline_is_paired(name: str) -> None:
    rows = kept(name, SETS[name])
    after = kept(name, SETS[name], flip=len(rows) // 3)
    gaps = paired(name, side(rows), side(after, "rlvr"))
    old, new = kept_figures(name, rows)["overall"], kept_figures(name, after)["overall"]
    assert gaps["overall"] == difference(new, old)
    assert old.value is not None and new.value is not None
    assert gaps["overall"].value == pytest.approx(new.value - old.value)
    same = paired(name, side(rows), side(rows, "again"))
    assert all((gap.value, gap.stderr or 0.0) == (0.0, 0.0) for gap in same.values())


def test_a_pair_tells_more_than_two_errors_side_by_side() -> None:
    rows = kept("cv-bench", SETS["cv-bench"])
    gap = paired("cv-bench", side(rows), side(kept("cv-bench", SETS["cv-bench"], flip=9)))
    before = kept_figures("cv-bench", rows)["overall"].stderr
    paired_error = gap["overall"].stderr
    assert before is not None and paired_error is not None
    assert paired_error < math.sqrt(2) * before / 2


def test_the_order_of_the_rows_does_not_count() -> None:
    rows, after = kept("dynamath", SETS["dynamath"]), kept("dynamath", SETS["dynamath"], flip=7)
    assert paired("dynamath", side(rows[::-1]), side(after)) == paired(
        "dynamath", side(rows), side(after)
    )


def test_questions_of_ones_own_are_paired_by_task_and_answers_by_mode() -> None:
    def rows(*scores: float) -> list[dict[str, Any]]:
        return [
            {
                **{"id": "q", "task": f"t{i // 2}", "question": f"{i}?", "answer": "!"},
                "sampled": [{"score": s, "format": 1.0}, {"score": 1.0, "format": 1.0}],
                "greedy": [{"score": s, "format": 1.0}],
            }
            for i, s in enumerate(scores)
        ]

    gaps = paired("synthetic", side(rows(0, 0, 1, 0)), side(rows(1, 0, 1, 1)))
    assert set(gaps) == {
        mode + figure for mode in ("", "greedy/") for figure in ("overall", "t0", "t1", "format")
    }
    assert (gaps["overall"].value, gaps["greedy/overall"].value) == (0.25, 0.5)
    assert gaps["format"].value == 0.0


REFUSED = {
    "another number of questions": (
        lambda rows: rows[1:],
        {},
        "different questions (40 a",
    ),
    "another question of the same id": (
        lambda rows: [rows[0] | {"question": "Why?"}, *rows[1:]],
        {},
        "40 of them by the same id",
    ),
    "another record": (
        lambda rows: [rows[0] | {"record": {"id": "z"}}, *rows[1:]],
        {},
        "different questions",
    ),
    "another rule": (lambda rows: rows, {"rule": "vlmevalkit"}, "rule 'official', rlvr with"),
    "another form": (lambda rows: rows, {"form": "Published"}, "form 'Tagged', rlvr with"),
    "another judge": (lambda rows: rows, {"judge": "a model"}, "scored alike"),
    "no answers": (lambda rows: [], {}, "rlvr kept no answers"),
    "no records": (
        lambda rows: [{k: v for k, v in row.items() if k != "record"} for row in rows],
        {},
        "rlvr was evaluated by a version",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_paired_is_refused_in_one_line(case: str) -> None:
    change, protocol, told = REFUSED[case]
    rows = kept("dynamath", SETS["dynamath"])
    own = {"rule": "official", "form": "Tagged", "judge": "rules"}
    with pytest.raises(DataError) as refused:
        paired("dynamath", side(rows, **own), side(change(rows), "rlvr", **own | protocol))
    assert told in str(refused.value)
    assert str(refused.value).startswith("dynamath: ")
    assert "\n" not in str(refused.value)
