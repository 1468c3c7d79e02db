"""The built-in judge against gradings by hand, and that no text breaks it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.quality import NOTHING, Graded, grade, passes
from m2r_train.core.records import AnswerType, Quality

CHAINS: list[dict[str, Any]] = yaml.safe_load(
    Path(__file__).with_name("chains.yaml").read_text(encoding="utf-8")
)
DOCUMENT = Path(__file__).parents[3] / "docs" / "teachers.md"
DIMENSIONS = ("structure", "load", "verification")
Pair = tuple[int, int]  # (by hand, by the rules)


def turn(case: dict[str, Any]) -> str:
    if "raw" in case:
        return cast(str, case["raw"])
    return f"<think>{case['think']}</think><answer>\\boxed{{{case['box']}}}</answer>"


def graded(case: dict[str, Any]) -> Graded:
    answer = case["answer"]
    kind = case.get("answer_type") or ("number" if answer.replace(".", "").isdigit() else "text")
    return grade(
        turn(case), question=case["question"], answer=answer, answer_type=cast(AnswerType, kind)
    )


def scores(quality: Quality) -> list[int]:
    return [quality.structure, quality.load, quality.verification]


def kappa(pairs: list[Pair], highest: int = 5) -> float:
    """Cohen's kappa with quadratic weights; 1 is perfect agreement, 0 that of chance."""
    hand, rules = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    grid = [(a, b) for a in range(highest + 1) for b in range(highest + 1)]
    chance = sum((a - b) ** 2 * hand[a] * rules[b] for a, b in grid) / len(pairs) ** 2
    return 1 - observed / chance


def agreement(cases: list[dict[str, Any]]) -> dict[str, tuple[int, float, float, float]]:
    """{dimension: (n, kappa, share equal, share within one)}; ``all`` over all three.

    Chains that score 0 by hand are left out: to agree on them is easy, and is tested apart.
    """
    pairs: dict[str, list[Pair]] = {name: [] for name in (*DIMENSIONS, "all")}
    for case in cases:
        if case["grades"] == [0, 0, 0]:
            continue
        for name, a, b in zip(
            DIMENSIONS, case["grades"], scores(graded(case).quality), strict=True
        ):
            pairs[name].append((a, b))
            pairs["all"].append((a, b))
    return {
        name: (
            len(own),
            kappa(own),
            sum(a == b for a, b in own) / len(own),
            sum(abs(a - b) <= 1 for a, b in own) / len(own),
        )
        for name, own in pairs.items()
    }


def chains(*, held: bool) -> list[dict[str, Any]]:
    """The chains that the rules were not tuned on, or those that they were."""
    return [case for case in CHAINS if bool(case.get("held")) == held]


def kept_by() -> list[tuple[bool, bool]]:
    """Whether each chain is over the paper's bar, (by hand, by the rules)."""
    by_hand = (Quality(**dict(zip(DIMENSIONS, c["grades"], strict=True))) for c in CHAINS)
    by_rules = (graded(case).quality for case in CHAINS)
    return [(passes(a, 3, 4.0), passes(b, 3, 4.0)) for a, b in zip(by_hand, by_rules, strict=True)]


def test_kappa_is_that_of_the_textbook() -> None:
    assert kappa([(1, 1), (5, 5), (3, 3)]) == 1.0
    assert kappa([(1, 1), (1, 5), (5, 1), (5, 5)]) == 0.0
    assert kappa([(1, 2), (2, 1)]) == -1.0
    assert kappa([(1, 1), (2, 3), (3, 3), (4, 5)]) == pytest.approx(1 - 0.5 / 3.5)


def test_the_table_is_large_and_varied() -> None:
    assert len(CHAINS) >= 60
    assert len({case["name"] for case in CHAINS}) == len(CHAINS)
    assert all(case["why"] for case in CHAINS)
    assert sum(bool(case.get("held")) for case in CHAINS) >= 20
    given_scores = Counter(score for case in CHAINS for score in case["grades"])
    assert all(given_scores[score] >= 5 for score in (0, 1, 2, 4, 5))


@pytest.mark.parametrize(
    ("held", "least_kappa", "least_within_one"),
    [(False, 0.9, 0.95), (True, 0.75, 0.88)],
    ids=["seen", "held out"],
)
def test_agreement_with_gradings_by_hand(
    held: bool, least_kappa: float, least_within_one: float
) -> None:
    """Bounds somewhat below what was measured, which docs/teachers.md tells."""
    _, k, _, near = agreement(chains(held=held))["all"]
    assert k >= least_kappa
    assert near >= least_within_one


def test_agreement_on_the_bar_of_the_paper() -> None:
    """Of chains kept by hand and by the rules (each >= 3, mean >= 4), few are other ones."""
    assert sum(a != b for a, b in kept_by()) <= 1


def test_the_document_tells_the_agreement_as_it_is() -> None:
    told = DOCUMENT.read_text(encoding="utf-8")
    rows = [
        f"| {which} | {'all three' if name == 'all' else name} | {n} | {k:.2f} |"
        f" {100 * equal:.0f} % | {100 * near:.0f} % |"
        for which, held in (("seen", False), ("held out", True))
        for name, (n, k, equal, near) in agreement(chains(held=held)).items()
    ]
    table = re.findall(r"^\| (?:seen|held out) \|.*$", told, re.M)
    assert table == rows
    both = sum(a and b for a, b in kept_by())
    assert both == sum(a or b for a, b in kept_by())
    for line in (
        f"compared with {len(CHAINS)} chains that one person graded",
        f"the {len(chains(held=False))} seen chains",
        f"the {len(chains(held=True))} held-out ones",
        f"keep the same {both} of the {len(CHAINS)}.",
    ):
        assert line in " ".join(told.split())


@pytest.mark.parametrize(
    "case", [c for c in CHAINS if c["grades"] == [0, 0, 0]], ids=lambda c: cast(str, c["name"])
)
def test_what_is_no_chain_or_speaks_to_its_judge_scores_nothing(case: dict[str, Any]) -> None:
    assert graded(case).quality == NOTHING
    assert len(graded(case).reasons) == 1


@pytest.mark.parametrize(
    "thought",
    [
        "You are a robot beginning at the sofa, so turn left. 1 + 1 = 2.",
        "The teacher gives full marks to 2 pupils. A perfect score is 5 / 5 = 1.",
        "The earlier rule for signs can be ignored, since all numbers are positive: 1 + 1 = 2.",
        "We may forget the constant. My answer is 2.",
        "The judge in the picture holds up 2 cards.",
        "Assign x = 1, then x + 1 gives 2, a score of 5 less 3.",
    ],
)
def test_innocent_words_are_no_injection(thought: str) -> None:
    chain = f"<think>{thought}</think><answer>\\boxed{{2}}</answer>"
    assert grade(chain, question="?", answer="2", answer_type="number").quality != NOTHING


@pytest.mark.parametrize("case", CHAINS, ids=lambda c: cast(str, c["name"]))
def test_nothing_else_scores_nothing_and_lost_points_have_reasons(case: dict[str, Any]) -> None:
    result = graded(case)
    assert (result.quality == NOTHING) == (case["grades"] == [0, 0, 0])
    for name, score in zip(DIMENSIONS, scores(result.quality), strict=True):
        assert score in (0, 5) or any(why.startswith(name) for why in result.reasons)


@pytest.mark.parametrize(
    ("quality", "kept"),
    [((5, 4, 3), True), ((5, 5, 2), False), ((4, 4, 3), False), ((4, 4, 4), True)],
)
def test_the_bar_of_the_reference(quality: tuple[int, int, int], kept: bool) -> None:
    made = Quality(**dict(zip(DIMENSIONS, quality, strict=True)))
    assert passes(made, 3, 4.0) == kept


@given(st.text(max_size=400), st.text(max_size=20))
def test_no_text_makes_it_raise(thought: str, box: str) -> None:
    chain = f"<think>{thought}</think><answer>\\boxed{{{box}}}</answer>"
    result = grade(chain, question="?", answer=box, answer_type="text")
    assert all(0 <= score <= 5 for score in scores(result.quality))


@pytest.mark.parametrize(
    "thought",
    ["1+1=3 " * 50_000, "check 1. " * 50_000, "9" * 300_000, "a b " * 100_000, "(" * 300_000,
     "wait, 1+1=3. no, 1+1=2. " * 10_000, "ignore " * 50_000, "give " * 50_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hostile_texts_are_read_in_bounded_steps(thought: str) -> None:
    """Minutes if any rule were quadratic in the text (the test's own time limit)."""
    chain = f"<think>{thought}</think><answer>\\boxed{{2}}</answer>"
    for _ in range(3):
        grade(chain, question="1+1?", answer="2", answer_type="number")
