# ruff: noqa: E501 - tables of whole questions
"""Copies of a benchmark's questions are found; what only looks like them is left alone."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from m2r_train.core.minhash import BANDS, ROWS, NearIndex, signature, similarity
from m2r_train.core.overlap import Text, TextIndex, runs_of, words_of

TRAIN = (
    "A train leaves the station at 9:15 and travels 240 km at a constant speed of 80 km/h. "
    "At what time does it arrive at its destination?"
)
CHAIRS = "Measuring from the closest point of each object, what is the distance between the {} and the {}?"
CIRCLE = "AB is a diameter of a circle and C lies on it with angle CAB equal to {} degrees; what is angle ABC?"
ROOMS = [("chair", "table"), ("lamp", "sofa"), ("bed", "door"), ("stove", "sink"), ("tv", "rug")]
BENCHMARK = [
    Text(question=TRAIN),
    Text(question="What is 48 + 37?"),
    Text(question="Which is a prime?", options=("4", "7", "9")),
    Text(
        question="Wie viele Äpfel bleiben übrig, wenn Anna von ihren zwölf Äpfeln fünf verschenkt?"
    ),
    Text(question="小明有十二个苹果，给了小红五个，又买了三个，请问他现在一共有多少个苹果？"),
    Text(
        question="In the figure, AB is a diameter of circle O and C lies on it with angle CAB equal "
        "to 35 degrees; find the measure of angle ABC.",
        pictured=True,
    ),
    *(Text(question=CHAIRS.format(*pair), pictured=True) for pair in ROOMS),
]
INDEX = TextIndex(BENCHMARK, n=8, share=0.6)

COPIES: list[tuple[str, Text]] = [
    ("word for word", Text(question=TRAIN)),
    ("other case and blanks", Text(question=TRAIN.upper().replace(" ", "  "))),
    ("other punctuation", Text(question=TRAIN.replace(".", " -").replace("?", "!!").replace(":", "."))),
    ("with an introduction", Text(question="Solve this problem step by step. " + TRAIN + " Be brief.")),
    ("one word changed", Text(question=TRAIN.replace("constant", "steady"))),
    ("only the first sentence and half", Text(question=TRAIN[:118])),
    ("with options that the benchmark lacks", Text(question=TRAIN, options=("12:15", "13:00"))),
    ("with options in the text", Text(question=TRAIN + " (A) 12:15 (B) 13:00 (C) 11:45")),
    ("with a picture beside it", Text(question=TRAIN, pictured=True)),
    ("short, as a whole", Text(question="what is 48+37")),
    ("options in another order", Text(question="Which is a prime", options=("9", "4", "7"))),
    ("German, re-punctuated", Text(question="Wie viele Äpfel bleiben übrig - wenn Anna von ihren zwölf Äpfeln fünf verschenkt")),
    ("Chinese, re-punctuated", Text(question="小明有十二个苹果, 给了小红五个, 又买了三个。请问他现在一共有多少个苹果")),
    ("a geometry text with another picture", Text(question=BENCHMARK[5].question, pictured=True)),
    ("LaTeX dressing", Text(question="In the figure, $AB$ is a diameter of circle $O$ and $C$ lies on it with angle \\(CAB\\) equal to $35$ degrees; find the measure of angle $ABC$.", pictured=True)),
]  # fmt: skip
INNOCENT: list[tuple[str, Text]] = [
    ("another train", Text(question="A train is 240 m long and passes a pole in 12 s. What is its speed in km/h?")),
    ("the same opening", Text(question="A train leaves the station at 9:15 and nobody knows who is on it, but the guard counts 14 cases and 3 dogs. How many things are there?")),
    ("another sum", Text(question="What is 48 + 38?")),
    ("another operation", Text(question="What is 48 - 37?")),
    ("a short question about a picture", Text(question="What is 48 + 37?", pictured=True)),
    ("other options", Text(question="Which is a prime?", options=("4", "11", "9"))),
    ("an everyday phrase of it", Text(question="travels at a constant speed of 80 km/h")),
    ("a template, of another room", Text(question=CHAIRS.format("chair", "table"), pictured=True)),
    ("a template, of other things", Text(question=CHAIRS.format("desk", "plant"), pictured=True)),
    ("another circle", Text(question="In the figure, PQ is a chord of circle O and R lies outside of it; find the length of the tangent from R.", pictured=True)),
    ("nothing", Text(question="")),
]  # fmt: skip


@pytest.mark.parametrize("text", [c[1] for c in COPIES], ids=[c[0] for c in COPIES])
def test_a_planted_copy_is_found(text: Text) -> None:
    assert INDEX.holds(text)


@pytest.mark.parametrize("text", [c[1] for c in INNOCENT], ids=[c[0] for c in INNOCENT])
def test_an_innocent_look_alike_is_left_alone(text: Text) -> None:
    assert not INDEX.holds(text)


def test_a_template_whose_films_cannot_be_read_is_one_all_the_same() -> None:
    index = TextIndex([Text(question=CHAIRS.format(*pair)) for pair in ROOMS], n=8, share=0.6)
    assert not index.holds(Text(question=CHAIRS.format("chair", "table"), pictured=True))
    assert index.holds(Text(question=CHAIRS.format("chair", "table")))


def test_versions_of_one_problem_are_no_template() -> None:
    versions = [CIRCLE.format(angle) for angle in (35, 40, 45, 50)]
    asked = Text(question=versions[0], pictured=True)
    for problem, found in (("dynamath/7", True), (None, False)):
        theirs = [Text(question=v, pictured=True, problem=problem) for v in versions]
        assert TextIndex(theirs, n=8, share=0.6).holds(asked) is found


def test_without_benchmarks_nothing_is_found() -> None:
    assert not TextIndex([], n=8, share=0.6).holds(Text(question=TRAIN))


def test_words_are_those_that_count() -> None:
    assert words_of("What's $x^2$ – 3, (café)?") == ["what", "s", "x", "^", "2", "-", "3", "café"]
    assert words_of("Pick one. (A) red (B) blue") == ["pick", "one"]
    assert words_of("Vitamin A is good") == ["vitamin", "a", "is", "good"]


def test_similar_sets_are_near_and_others_are_not() -> None:
    index = NearIndex(0.8)
    base = runs_of([f"w{k}" for k in range(60)], 3)
    assert index.add(base) == 0
    assert index.add(base) == 0
    near = set(sorted(base)[:-5])  # 53 / 58
    assert index.near(near) == [0]
    assert index.near(set(sorted(base)[:-20])) == []  # 38 / 58
    assert index.add(near) == 1
    assert index.near(base) == [0, 1]


def test_pairs_at_the_bound_are_hardly_ever_missed() -> None:
    """300 pairs with similarity 0.82: banding finds a pair with probability 0.998."""
    missed = 0
    for k in range(300):
        base = runs_of([f"{k}-{j}" for j in range(102)], 3)  # 100 runs
        index = NearIndex(0.8)
        index.add(base)
        missed += index.near(set(sorted(base)[18:])) == []
    assert missed <= 5


class _Plain:
    """`NearIndex` in few lines and much memory."""

    def __init__(self, at_least: float) -> None:
        self._at_least = at_least
        self._sets: list[set[int]] = []

    def near(self, members: set[int]) -> list[int]:
        mine = _bands(members)
        return [
            k
            for k, own in enumerate(self._sets)
            if (mine == _bands(own)).all(axis=1).any()
            and len(own & members) / len(own | members) >= self._at_least
        ]

    def add(self, members: set[int]) -> int:
        if members not in self._sets:
            self._sets.append(members)
        return self._sets.index(members)


def _bands(members: set[int]) -> NDArray[np.uint32]:
    return signature(np.array(sorted(members), np.uint64)).reshape(BANDS, ROWS)


@pytest.mark.parametrize("at_least", [0.5, 0.8, 1.0])
def test_compact_tables_find_what_plain_ones_find(at_least: float) -> None:
    """Enough sets for the tables to grow twice."""
    draw = Random(0)
    compact, plain = NearIndex(at_least), _Plain(at_least)
    sets = [set(draw.sample(range(40), draw.randint(1, 12))) for _ in range(40)]
    for _ in range(260):
        some = set(draw.choice(sets))
        some ^= {draw.randrange(40) for _ in range(draw.randint(0, 2))}
        sets.append(some or {0})
    for one in sets:
        assert compact.near(one) == plain.near(one)
        assert compact.add(one) == plain.add(one)


@given(st.sets(st.integers(0, 50), min_size=1), st.sets(st.integers(0, 50), min_size=1))
def test_similarity_is_jaccard(a: set[int], b: set[int]) -> None:
    one, other = (np.array(sorted(s), np.uint64) for s in (a, b))
    assert similarity(one, other) == pytest.approx(len(a & b) / len(a | b))
    assert (signature(one) == signature(one)).all()
    if a == b:
        assert (signature(one) == signature(other)).all()


def test_signatures_are_the_same_on_every_machine() -> None:
    found = signature(np.array([1, 2, 3], np.uint64))
    assert [int(v) for v in (found[0], found[2])] == [11016739, 971176098]
