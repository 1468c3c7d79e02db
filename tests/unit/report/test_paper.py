"""The paper's printed figures beside ours: whose they are, and that they are copied right."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

import pytest
from unit.benchmarks.sets import cv_bench, vsi_bench
from unit.report.test_report import Page

from m2r_train.benchmarks.kept import with_headline
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.benchmarks.scoring import score_set
from m2r_train.report import RunView
from m2r_train.report.page import render_report
from m2r_train.report.paper import GENERAL, beside_paper, paper

VSI = (
    *("object_counting", "object_abs_distance", "object_size_estimation"),
    *("room_size_estimation", "object_rel_distance", "object_rel_direction"),
    *("route_planning", "obj_appearance_order"),
)


def printed(benchmark: str, figure: str = "overall") -> list[float | None]:
    for one in paper()["figures"]:
        if one[:2] == [benchmark, figure]:
            values: list[float | None] = one[3:]
            return values
    raise KeyError(benchmark)


def score(value: float | None, stderr: float | None = 1.0) -> dict[str, Any]:
    return {"value": value, "n": 10, "stderr": stderr}


def results(*names: str, value: float = 50.0, **protocol: Any) -> dict[str, Any]:
    return {
        "benchmarks": {name: {"overall": score(value)} for name in names},
        "protocols": {name: {"rule": "official", **protocol} for name in names},
    }


def test_every_row_has_a_value_or_a_gap_for_each_model() -> None:
    assert paper()["models"][-1] == "M2-Reasoning-7B"
    assert "e97f684" in paper()["source"]
    for one in paper()["figures"]:
        assert len(one) == 3 + len(paper()["models"])
        assert all(v is None or 0.0 < v < 100.0 for v in one[3:])


@pytest.mark.parametrize("model", [0, 2, 3])
def test_the_means_that_the_paper_prints_are_those_of_its_columns(model: int) -> None:
    """Not of the Base, whose printed mean is 0.2 above that of its columns: the note says so."""
    columns = [printed(name)[model] for name in GENERAL]
    assert fmean(v for v in columns if v is not None) == pytest.approx(
        printed("general")[model], abs=0.06
    )


@pytest.mark.parametrize("model", [0, 3])
def test_the_paper_s_vsi_bench_is_the_mean_of_its_eight_tasks(model: int) -> None:
    tasks = [printed("vsi-bench", task)[model] for task in VSI]
    assert fmean(v for v in tasks if v is not None) == pytest.approx(
        printed("vsi-bench")[model], abs=0.06
    )


def test_every_row_of_the_spatial_benchmarks_is_a_figure_of_ours() -> None:
    sets = {
        "cv-bench": cv_bench(("ADE20K", 1, 2), ("COCO", 1, 2), ("Omni3D", 1, 2)),
        "vsi-bench": vsi_bench(),
    }
    for name, records in sets.items():
        rules = BENCHMARKS[name]
        own = score_set(rules, records, rule="official", answer="raw").figures
        figures = with_headline(own, rules.headline(own))
        assert {f for b, f, *_ in paper()["figures"] if b == name} <= figures.keys()


def test_ours_stand_beside_the_paper_s_with_their_errors() -> None:
    table = beside_paper({"sft": results("mathvista"), "rlvr": results("mathvista", "cv-bench")})
    assert table is not None
    assert [row.name for row in table.rows] == ["MathVista", "CV-Bench"]
    assert table.models == ("sft", "rlvr")
    assert table.rows[0].paper == (68.1, 70.2, 71.7, 75.0)
    assert [str(one) for one in table.rows[0].ours] == ["50.0 ± 1.0", "50.0 ± 1.0"]
    assert table.rows[1].ours[0] is None


def test_the_general_mean_needs_all_six() -> None:
    table = beside_paper({"rlvr": results(*GENERAL)})
    assert table is not None
    mean = table.rows[-1].ours[0]
    assert (table.rows[-1].name, table.rows[-1].paper[-1]) == ("General, mean of six", 45.0)
    assert mean is not None
    assert (mean.value, mean.n, mean.stderr) == (50.0, 60, pytest.approx(math.sqrt(6) / 6))
    five = beside_paper({"rlvr": results(*GENERAL[:5])})
    assert five is not None
    assert [row.name for row in five.rows][-1] == "We-Math (strict)"


def test_without_a_published_benchmark_there_is_no_table() -> None:
    assert beside_paper({}) is None
    assert beside_paper({"rlvr": results("synthetic")}) is None
    undefined = {"benchmarks": {"mathvista": {"overall": score(None, None)}}}
    assert beside_paper({"rlvr": undefined}) is None


def test_models_without_a_published_benchmark_have_no_column() -> None:
    table = beside_paper({"base": results("synthetic"), "rlvr": results("logicvista")})
    assert table is not None
    assert table.models == ("rlvr",)
    assert all(len(row.ours) == 1 for row in table.rows)


def test_the_page_says_whose_figures_are_whose() -> None:
    judge = "none: quick match only"
    views = [
        RunView(
            kind="EvalJob",
            name="eval-tiny",
            results=results("mathverse", value=12.5, judge=judge, whole=False),
        )
    ]
    page = Page(render_report(views))
    assert page.open == []
    for text in (
        "Beside the paper",
        "README of github.com/inclusionAI/M2-Reasoning",
        "nothing of them was measured here",
        "the models that these runs evaluated, not the paper's",
        "MathVerse (Vision Only) * 41.1 30.5 42.1 44.7 12.5 ± 1.0",
        "* ours is of a part of the benchmark.",
        "mathverse: rule official; judge none: quick match only",
    ):
        assert text in page.text, text
    own = [RunView(kind="EvalJob", name="eval-tiny", results=results("synthetic"))]
    assert "Beside the paper" not in Page(render_report(own)).text
