# ruff: noqa: E501 - a table of records
"""What a record asks, without what every record of its benchmark is told."""

from __future__ import annotations

from typing import Any

import pytest

from m2r_train.benchmarks.base import RecordError
from m2r_train.benchmarks.wording import problem_of, wordings

HINT = "Hint: Please answer the question with an integer.\nQuestion: How many?\n(Unit: m)"


@pytest.mark.parametrize(
    ("name", "record", "found"),
    [
        ("mathvision", {"question": " What? "}, ("What?",)),
        ("mathvista", {"question": "How many?", "query": HINT}, ("How many?", "How many?\n(Unit: m)")),
        ("mathvista", {"query": HINT}, ("How many?\n(Unit: m)",)),
        ("mathvista", {"query": "Which?"}, ("Which?",)),
        ("mathverse", {"question": "Find x.", "question_for_eval": "Find x."}, ("Find x.",)),
        ("mathverse", {"question": "x?", "question_for_eval": "Find x."}, ("x?", "Find x.")),
        ("mathverse", {"question": "", "problem_version": "Vision Only"}, ()),
        ("mathverse", {"question": "", "question_for_eval": "Find x."}, ("Find x.",)),
        ("cv-bench", {"question": "Which?", "prompt": "Which?\n(A) x"}, ("Which?", "Which?\n(A) x")),
        ("vsi-bench", {"question": "Hint: none", "options": ["A. x"]}, ("Hint: none",)),
    ],
)  # fmt: skip
def test_the_texts_of_a_question(name: str, record: dict[str, Any], found: tuple[str, ...]) -> None:
    assert wordings(name, record) == found


@pytest.mark.parametrize(
    ("name", "record", "line"),
    [
        ("dynamath", {}, "question: has no text; copy the benchmark again"),
        ("we-math", {"question": "  "}, "question: has no text; copy the benchmark again"),
        ("mathverse", {"question": "", "problem_version": "Text Lite"}, "question: has no text"),
        ("cv-bench", {"question": ["a"]}, "question: is list; give a text"),
    ],
)
def test_a_record_that_asks_nothing_names_the_field(
    name: str, record: dict[str, Any], line: str
) -> None:
    with pytest.raises(RecordError, match=line):
        wordings(name, record)


@pytest.mark.parametrize(
    ("name", "record", "problem"),
    [
        ("dynamath", {"id": 7}, "dynamath/7"),
        ("mathverse", {"problem_index": "1"}, "mathverse/1"),
        ("we-math", {"ID": "2steps_1"}, "we-math/2steps_1"),
        ("we-math", {}, None),
        ("mathvista", {"id": 7}, None),
    ],
)
def test_versions_share_a_problem(name: str, record: dict[str, Any], problem: str | None) -> None:
    assert problem_of(name, record) == problem
