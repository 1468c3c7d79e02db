"""The figures of a set, and what makes a set incomplete: worked examples of the descriptions."""

from __future__ import annotations

import math
from typing import Any

import pytest
from unit.benchmarks.sets import VSI_TYPES, Records, cv_bench, dynamath, vsi_bench, we_math

from m2r_train.benchmarks.base import Rule
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.benchmarks.scoring import AnswerForm, Result, score_set

# 525 problems: IK 150, IG 100, strict CM 120, RM 155, of which 60 have every step wrong.
WORKED_WE_MATH = we_math(
    {"000": 100, "100": 20, "110": 60, "111": 80, "011": 60, "001": 40},
    {"0000": 30, "1110": 40, "1111": 40, "0111": 35, "0001": 20},
)


def scored(
    name: str,
    records: Records,
    *,
    rule: Rule = "official",
    answer: AnswerForm = "raw",
    partial: bool = False,
) -> Result:
    return score_set(BENCHMARKS[name], records, rule=rule, answer=answer, partial=partial)


def values(result: Result) -> dict[str, Any]:
    """Figures in percent, to two decimals as the papers print them."""
    assert result.summary is not None, result.missing
    return {
        name: None if score["value"] is None else round(score["value"], 2)
        for name, score in result.summary["scores"].items()
    }


def test_cv_bench_weighs_sources_then_dimensions() -> None:
    result = scored(
        "cv-bench", cv_bench(("ADE20K", 30, 50), ("COCO", 80, 100), ("Omni3D", 135, 150))
    )
    found = values(result)
    assert (found["2d"], found["3d"], found["cv_bench"]) == (70.0, 90.0, 80.0)
    assert (found["ade20k"], found["coco"], found["omni3d"]) == (60.0, 80.0, 90.0)
    assert (found["sample_mean"], found["2d_pooled"]) == (81.67, 73.33)
    assert result.summary is not None
    assert result.summary["headline"] == "cv_bench"
    assert result.summary["scores"]["cv_bench"]["n"] == result.summary["n"] == 300


def test_the_error_of_cv_bench_comes_from_its_sources() -> None:
    result = scored(
        "cv-bench", cv_bench(("ADE20K", 30, 50), ("COCO", 80, 100), ("Omni3D", 135, 150))
    )
    ade, coco, omni = (p * (1 - p) / (n - 1) for p, n in ((0.6, 50), (0.8, 100), (0.9, 150)))
    assert result.summary is not None
    found = result.summary["scores"]["cv_bench"]["stderr"]
    assert found == pytest.approx(100 * math.sqrt(ade / 16 + coco / 16 + omni / 4))


PICTURES = {
    "where it comes from": lambda i: {"source_filename": f"{i // 2}.jpg", "filename": f"q{i}.png"},
    "its content": lambda i: {"picture_sha256": f"{i // 2:064x}", "filename": f"q{i}.png"},
    "its file": lambda i: {"filename": f"{i // 2}.png"},
}


@pytest.mark.parametrize("told_by", PICTURES)
def test_questions_about_one_picture_are_one_cluster_of_cv_bench(told_by: str) -> None:
    """Pairs of equal answers are half as much evidence: the interval is as much wider."""
    alone = cv_bench(("ADE20K", 30, 50), ("COCO", 80, 100), ("Omni3D", 136, 150))
    shared = [record | PICTURES[told_by](i) for i, record in enumerate(alone)]
    narrow, wide = scored("cv-bench", alone).summary, scored("cv-bench", shared).summary
    assert narrow is not None and wide is not None
    assert wide["scores"]["cv_bench"]["value"] == narrow["scores"]["cv_bench"]["value"]
    for name, rows in {"ade20k": 50, "coco": 100, "omni3d": 150}.items():
        ratio = wide["scores"][name]["stderr"] / narrow["scores"][name]["stderr"]
        assert ratio == pytest.approx(math.sqrt((rows - 1) / (rows / 2 - 1)))
    for name in ("cv_bench", "2d", "sample_mean"):
        low, high = narrow["intervals"][name]
        lower, higher = wide["intervals"][name]
        assert lower < low < high < higher
    assert wide["intervals"]["count"] == narrow["intervals"]["count"]  # one of each pair


def test_pictures_of_two_sources_are_never_the_same() -> None:
    records = cv_bench(("ADE20K", 1, 2), ("COCO", 1, 2), ("Omni3D", 1, 2))
    named = [r | {"source_filename": f"{i % 2}.jpg"} for i, r in enumerate(records)]
    apart, same = scored("cv-bench", records).summary, scored("cv-bench", named).summary
    assert apart is not None and same is not None
    assert same["scores"] == apart["scores"]


def test_vsi_bench_is_the_mean_of_eight_tasks() -> None:
    found = values(
        scored(
            "vsi-bench",
            vsi_bench(
                object_counting=8,
                object_rel_direction_easy=9,
                object_rel_direction_medium=6,
                object_rel_direction_hard=0,
            ),
        )
    )
    assert found["object_rel_direction"] == 50.0
    assert found["object_counting"] == 80.0
    assert found["overall"] == round((80 + 7 * 50) / 8, 2)


def test_vsi_bench_levels_are_not_pooled() -> None:
    records = [
        *vsi_bench(object_rel_direction_easy=10, object_rel_direction_medium=10),
        *[r for r in vsi_bench(object_rel_direction_hard=0) if r["question_type"].endswith("hard")],
    ]
    # hard: 5 of 20 right; pooled it would be 62.5
    assert values(scored("vsi-bench", records))["object_rel_direction"] == 75.0


def test_vsi_bench_logs_the_lax_score_beside_the_strict_one() -> None:
    records = vsi_bench()
    records[0] |= {"prediction": "there are 3"}
    result = scored("vsi-bench", records)
    assert (result.samples[0]["score"], result.samples[0]["lax"]) == (0.0, 1.0)
    found = values(result)
    assert found["lax/overall"] > found["overall"]


def test_questions_of_one_scene_are_one_cluster_of_vsi_bench() -> None:
    """Ten scenes of which five are right in every task: ten pieces of evidence, not a hundred."""
    records = [
        record | {"scene_name": f"scene{i % 10}", "dataset": "scannet"}
        for i, record in enumerate(vsi_bench())
    ]
    result = scored("vsi-bench", records)
    assert result.figures["overall"].stderr == pytest.approx(math.sqrt(0.25 * 10 / 9 / 10))
    assert result.figures["overall"].freedom == 9
    alone = scored("vsi-bench", vsi_bench()).figures["overall"]
    one, level = 0.25 / 9, 0.25 / 9 / 9  # variances of a task's mean, and of a level's share of it
    assert alone.stderr == pytest.approx(math.sqrt((7 * one + 3 * level) / 64))


def test_dynamath_average_and_worst_case() -> None:
    result = scored("dynamath", dynamath({"a1": 10, "a2": 9, "b1": 0, "b2": 10}))
    found = values(result)
    assert (found["average"], found["worst"]) == (72.5, 50.0)
    assert (found["subject/algebra"], found["subject/algebra/worst"]) == (95.0, 50.0)
    assert (found["level/undergraduate"], found["level/undergraduate/worst"]) == (72.5, 50.0)
    assert result.summary is not None
    scores = result.summary["scores"]
    assert (scores["average"]["n"], scores["worst"]["n"]) == (40, 4)


def test_dynamath_variants_of_a_seed_are_one_cluster_for_the_error() -> None:
    result = scored("dynamath", dynamath({"a1": 10, "a2": 10, "b1": 0, "b2": 0}))
    assert result.summary is not None
    # four independent means 1, 1, 0, 0: not forty independent answers
    expected = 100 * math.sqrt(4 * 0.25 / 3 / 4)
    assert result.summary["scores"]["average"]["stderr"] == pytest.approx(expected)


def test_we_math_as_in_the_worked_example() -> None:
    found = values(scored("we-math", WORKED_WE_MATH))
    assert (found["score_strict"], found["rm_strict"]) == (32.38, 56.36)
    assert (found["score_loose"], found["rm_loose"]) == (50.48, 21.82)
    assert (found["ik"], found["ig"]) == (28.57, 19.05)
    assert (found["cm_strict"], found["cm_loose"]) == (22.86, 40.95)
    assert (found["s2"], found["s3"]) == (50.0, round(100 * 95 / 165, 2))
    right = 20 + 2 * 60 + 2 * 80 + 60 + 3 * 40 + 3 * 40 + 2 * 35
    assert found["s1"] == round(100 * right / 1215, 2)


def test_we_math_scores_problems_with_their_errors() -> None:
    figures = scored("we-math", WORKED_WE_MATH).figures
    worth = [1.0] * 120 + [0.5] * 100 + [0.0] * 305
    variance = sum((w - 170 / 525) ** 2 for w in worth) / 524
    assert figures["score_strict"].stderr == pytest.approx(math.sqrt(variance / 525))
    # a rate among the 275 problems whose whole is right
    rate = 155 / 275
    assert figures["rm_strict"].stderr == pytest.approx(math.sqrt(rate * (1 - rate) / 274))
    assert (figures["rm_strict"].n, figures["s1"].n) == (275, 1215)
    steps = figures["s1"].stderr
    assert steps is not None and steps > math.sqrt(0.25 / 1215)  # steps hang together


def test_we_math_without_a_whole_right_has_no_rate_of_rote_memorisation() -> None:
    found = values(scored("we-math", we_math({"110": 360}, {"0000": 165})))
    assert (found["rm_strict"], found["rm_loose"]) == (None, None)
    assert found["score_strict"] == round(100 * 180 / 525, 2)


def test_a_part_of_we_math_is_scored_over_the_problems_that_are_there() -> None:
    """Over 525 the absent problems would be worth as much as mastered ones: 99.9 % here."""
    records = we_math({"110": 1, "000": 1}, {"1111": 1, "0001": 1})
    found = values(scored("we-math", records, partial=True))
    assert (found["score_strict"], found["score_loose"]) == (37.5, 37.5)
    assert (found["ik"], found["ig"], found["cm_strict"]) == (25.0, 25.0, 25.0)
    assert scored("we-math", records).summary is None


def test_mathvista_counts_a_sample_for_each_of_its_skills() -> None:
    base = {"question_type": "free_form", "answer_type": "integer", "answer": "8"}
    records: Records = [
        {**base, "metadata": {"skills": ["a", "b"], "task": "t"}, "prediction": "8"},
        {**base, "metadata": {"skills": ["b"], "task": "t"}, "prediction": "9"},
    ]
    found = values(scored("mathvista", records))
    assert found == {
        "accuracy": 50.0,
        "question_type/free_form": 50.0,
        "answer_type/integer": 50.0,
        "task/t": 50.0,
        "skill/a": 100.0,
        "skill/b": 50.0,
    }


def test_mathvision_by_level_and_subject() -> None:
    records: Records = [
        {"answer": "7", "level": 1, "subject": "algebra", "prediction": "7"},
        {"answer": "7", "level": 5, "subject": "algebra", "prediction": "8"},
    ]
    assert values(scored("mathvision", records)) == {
        "accuracy": 50.0,
        "level/1": 100.0,
        "level/5": 0.0,
        "subject/algebra": 50.0,
        "subject_level/algebra/1": 100.0,
        "subject_level/algebra/5": 0.0,
    }


def test_versions_of_a_problem_are_one_cluster_of_mathverse() -> None:
    records: Records = [
        {"problem_index": i, "problem_version": version, "answer": "B", "prediction": "BA"[i % 2]}
        for i in range(6)
        for version in ("Vision Only", "Text Lite")
    ]
    figures = scored("mathverse", records).figures
    assert figures["accuracy"].stderr == pytest.approx(math.sqrt(0.25 * 6 / 5 / 6))
    assert figures["accuracy"].stderr == pytest.approx(figures["version/Vision Only"].stderr)
    alone = [{k: v for k, v in r.items() if k != "problem_index"} for r in records]
    smaller = scored("mathverse", alone).figures["accuracy"].stderr
    assert smaller == pytest.approx(math.sqrt(0.25 * 12 / 11 / 12))


def test_mathverse_quotes_vision_only() -> None:
    records: Records = [
        {
            "problem_index": i,
            "problem_version": version,
            "answer": "B",
            "metadata": {"subject": "Plane Geometry", "subfield": "Angle"},
            "prediction": prediction,
        }
        for i in (1, 2)
        for version, prediction in (("Vision Only", "B"), ("Text Lite", "A"))
    ]
    result = scored("mathverse", records)
    assert result.summary is not None
    assert result.summary["headline"] == "version/Vision Only"
    assert values(result) == {
        "accuracy": 50.0,
        "version/Text Lite": 0.0,
        "version/Vision Only": 100.0,
        "subject/Plane Geometry": 50.0,
        "subfield/Angle": 50.0,
    }


def test_logicvista_skills_are_found_inside_the_field() -> None:
    records: Records = [
        {"answer": "A", "skill": "inductive", "prediction": "A"},
        {"answer": "A", "skill": "deductive, spatial", "prediction": "B"},
    ]
    assert values(scored("logicvista", records)) == {
        "accuracy": 50.0,
        "skill/inductive": 100.0,
        "skill/deductive": 0.0,
        "skill/spatial": 0.0,
    }


INCOMPLETE = {
    "cv-bench without a source": (
        "cv-bench",
        cv_bench(("ADE20K", 1, 2), ("Omni3D", 1, 2)),
        "source COCO",
    ),
    "cv-bench without a task": (
        "cv-bench",
        cv_bench(("ADE20K", 1, 2), ("COCO", 1, 2), ("Omni3D", 1, 1)),
        "task Distance",
    ),
    "dynamath without a variant": (
        "dynamath",
        dynamath({"a": 10, "b": 10})[:-1],
        "seed b: variant 10",
    ),
    "dynamath without the same variant of each seed": (
        "dynamath",
        dynamath({"a": 9, "b": 9}, variants=9),
        "seed a: variant 10",
    ),
    "dynamath with a variant twice": (
        "dynamath",
        [*dynamath({"a": 10}), *dynamath({"a": 10})[:1]],
        "seed a: a variant occurs twice",
    ),
    "mathverse without a version of a problem": (
        "mathverse",
        [
            {"problem_index": i, "problem_version": version, "answer": "B", "prediction": "B"}
            for i in (1, 2)
            for version in ("Vision Only", "Text Lite", "Text Dominant")
        ][:-2],
        "problem 2: version Text Dominant, Text Lite",
    ),
    "we-math without a sub-problem": (
        "we-math",
        WORKED_WE_MATH[1:],
        "problem 2steps_1: 2steps_1",
    ),
    "we-math without the whole": (
        "we-math",
        WORKED_WE_MATH[:-1],
        "problem 3steps_525: 3steps_multi",
    ),
    "we-math without a problem": ("we-math", WORKED_WE_MATH[3:], "1 of 525 problems"),
} | {
    f"vsi-bench without {kind}": (
        "vsi-bench",
        [r for r in vsi_bench() if r["question_type"] != kind],
        f"question type {kind}",
    )
    for kind in VSI_TYPES
}


@pytest.mark.parametrize("case", INCOMPLETE)
def test_an_incomplete_set_has_figures_only_if_partial_ones_are_asked_for(case: str) -> None:
    name, records, lacking = INCOMPLETE[case]
    result = scored(name, records)
    assert result.summary is None
    assert any(part.startswith(lacking) for part in result.missing), result.missing
    assert len(result.samples) == len(records)
    asked = scored(name, records, partial=True).summary
    assert asked is not None
    assert asked["missing"] == result.missing
    assert asked["headline"] in asked["scores"]


@pytest.mark.parametrize(
    ("name", "records", "whole"),
    [
        ("we-math", WORKED_WE_MATH, True),
        ("cv-bench", cv_bench(("ADE20K", 1, 2), ("COCO", 1, 2), ("Omni3D", 1, 2)), False),
        ("cv-bench", cv_bench(("ADE20K", 1, 700), ("COCO", 1, 738), ("Omni3D", 1, 1200)), True),
        ("logicvista", [{"answer": "A", "skill": "spatial", "prediction": "A"}] * 448, True),
        ("logicvista", [{"answer": "A", "skill": "spatial", "prediction": "A"}] * 447, False),
    ],
)
def test_a_figure_says_whether_it_is_of_a_whole_published_split(
    name: str, records: Records, whole: bool
) -> None:
    summary = scored(name, records).summary
    assert summary is not None
    assert summary["whole"] is whole


def test_variants_without_numbers_are_counted() -> None:
    records = [
        {k: v for k, v in record.items() if k != "varid"} for record in dynamath({"a": 10, "b": 10})
    ]
    assert scored("dynamath", records).missing == []
    assert scored("dynamath", records[1:]).missing == ["seed a: variant 10"]


def test_an_answer_without_tags_is_no_answer_although_the_rule_would_take_it() -> None:
    record = {
        "question_type": "multi_choice",
        "answer_type": "text",
        "choices": ["3", "14"],
        "answer": "3",
        "prediction": "",
    }
    assert scored("mathvista", [record]).samples[0]["score"] == 1.0
    tagged = scored("mathvista", [record], answer="tagged").samples[0]
    assert (tagged["score"], tagged["extracted"]) == (0.0, None)


TAGGED = {
    "mathvista": {
        **{"question_type": "multi_choice", "answer_type": "text"},
        **{"choices": ["3", "14"], "answer": "14"},
    },
    "mathvision": {"answer": "B", "options": ["3", "14"]},
    "mathverse": {"answer": "B", "problem_version": "Vision Only"},
    "dynamath": {"id": "a", "varid": 1, "answer_type": "multiple choice", "answer": "B"},
    "we-math": {"ID": "2steps_1", "key": "2steps_1", "answer": "B", "option": "A. 3;B. 14"},
    "logicvista": {"answer": "B", "skill": "spatial"},
    "cv-bench": {
        **{"type": "2D", "source": "COCO", "task": "Count"},
        **{"choices": ["3", "14"], "answer": "(B)"},
    },
    "vsi-bench": {
        "question_type": "route_planning",
        "ground_truth": "B",
        "options": ["A. x", "B. y"],
    },
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_answer_that_the_prompt_asks_for_is_right_by_every_rule(name: str) -> None:
    right = "<think>A or C, I think \\boxed{A}</think>\n<answer>\\boxed{B}</answer>"
    for rule in BENCHMARKS[name].rules:
        for prediction, score in ((right, 1.0), (right.replace("{B}", "{A}"), 0.0)):
            record = {**TAGGED[name], "prediction": prediction}
            result = scored(name, [record], rule=rule, answer="tagged", partial=True)
            assert result.samples[0]["score"] == score, (rule, prediction)
            assert result.samples[0]["cut"] in ("A", "B")


def test_an_area_that_is_cut_out_of_its_tags_is_the_number_before_its_unit() -> None:
    record = {
        "question_type": "room_size_estimation",
        "ground_truth": "10",
        "prediction": "<think>3 by 3</think><answer>\\boxed{10 m^2}</answer>",
    }
    for rule in BENCHMARKS["vsi-bench"].rules:
        sample = scored("vsi-bench", [record], rule=rule, answer="tagged").samples[0]
        assert sample["score"] == 1.0, rule


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_record_without_its_fields_is_not_scored(name: str) -> None:
    for rule in BENCHMARKS[name].rules:
        result = scored(name, [{"prediction": "B", "id": 4}], rule=rule, partial=True)
        (sample,) = result.samples
        assert (sample["id"], sample["score"], sample["extracted"]) == (4, None, None)
        assert "is missing" in sample["error"]
        assert result.summary is None
