"""What every sample of the simulator promises: contract, vocabulary, answers, determinism."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from m2r_train.core.answers import equivalent
from m2r_train.core.contract import extract_answer, format_valid
from m2r_train.core.records import Sample
from m2r_train.sim import GENERAL_TASKS, TASKS, VOCABULARY, generate, generate_scene_questions
from m2r_train.sim.vocabulary import words

SAMPLES_PER_TASK = {"solids": 150, "furniture": 60}


def digest(samples: tuple[Sample, ...] | list[Sample]) -> str:
    """One hash over every field of the samples."""
    whole = hashlib.sha256()
    for sample in samples:
        whole.update(repr(sample).encode() + b"".join(sample.images))
    return whole.hexdigest()


def numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)]


def thought(sample: Sample) -> str:
    found = re.fullmatch(r"<think> (.+) </think><answer>.*</answer>", sample.chain or "")
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """All tasks in both styles; furniture is asked at 64 pixels, for speed."""
    return [
        generate(task, 5, index, image_size=64, style=style)
        for style in ("solids", "furniture")
        for task in TASKS
        for index in range(SAMPLES_PER_TASK[style])
    ]


def test_every_chain_keeps_the_output_contract_and_boxes_the_truth(samples):
    for sample in samples:
        assert sample.chain is not None
        assert format_valid(sample.chain, strict=True), sample
        boxed = extract_answer(sample.chain)
        assert boxed == sample.answer
        assert equivalent(boxed, sample.answer, sample.answer_type)


def test_the_vocabulary_is_exactly_the_words_that_occur(samples):
    used = {word for s in samples for word in words(f"{s.question} {s.answer} {s.chain}")}
    assert used - set(VOCABULARY) == set()
    # "centers" belongs to another way of measuring, below.
    assert set(VOCABULARY) - used == {"centers"}


def test_measuring_between_centres_is_said_in_the_question_and_in_the_vocabulary():
    sample = generate("AbsoluteDistance", 0, 0, distance="centre")
    assert "between the centers of" in sample.question
    assert set(words(f"{sample.question} {sample.chain}")) <= set(VOCABULARY)
    x, z, x2, z2, answer = numbers(thought(sample))
    assert answer == pytest.approx(np.hypot(x - x2, z - z2), abs=0.15)


def test_questions_and_chains_are_short(samples):
    for sample in samples:
        assert len(words(sample.question)) <= 20
        assert len(thought(sample).split()) <= 36


def test_numeric_answers_are_finite_positive_and_short(samples):
    for sample in samples:
        if sample.reward == "ednm":
            assert re.fullmatch(r"\d+(\.\d)?", sample.answer)
            assert float(sample.answer) > 0
            assert sample.unit in ("m", "m2")
        elif sample.answer_type == "number":
            assert re.fullmatch(r"\d+", sample.answer)


def derive(sample: Sample) -> str | float:  # noqa: PLR0911 - one rule a task
    """The answer by the chain's facts, without its conclusion."""
    facts, _, _ = thought(sample).rpartition(" so ")
    values = numbers(facts)
    match sample.task:
        case "ObjectCount":
            return str(len(re.findall(r"\bat ", facts)))
        case "RelationHorizontal":
            return "left" if values[0] < values[1] else "right"
        case "RelationVertical":
            return "above" if values[0] < values[1] else "below"
        case "RelativeDepth" | "RelativeDistance":
            candidates = re.findall(r"the ([a-z ]+?)(?: or|,|\?)", sample.question)[-2:]
            return candidates[0] if values[0] < values[1] else candidates[1]
        case "RoomSize":
            return values[0] * values[1]
        case "Arithmetic":
            symbols = {"plus": "+", "minus": "-", "times": "*"}
            one, word, two = facts.split()
            operate = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[symbols[word]]
            return str(operate(int(one), int(two)))
        case "BarChart":
            bars = dict(re.findall(r"([a-z]+) (\d)", facts))
            if "tallest" in sample.question:
                return max(bars, key=lambda name: bars[name])
            if "shortest" in sample.question:
                return min(bars, key=lambda name: bars[name])
            base = sample.question.split()[-2]
            return str(sum(height > bars[base] for height in bars.values()))
        case "ShapeCount":
            return str(len(facts.split()) // 2)
    raise AssertionError(f"{sample.task} has no rule")


def test_the_answer_follows_from_the_chain(samples):
    without_rule = ("AbsoluteDistance", "ObjectSize", "SceneDescription", "ObjectLocation")
    for sample in samples:
        if sample.task in without_rule:
            continue
        derived = derive(sample)
        if isinstance(derived, str):
            assert derived == sample.answer, sample
        else:
            assert derived == pytest.approx(float(sample.answer), rel=0.04), sample


def test_counts_and_sides_are_balanced(samples):
    counts = [s.answer for s in samples if s.task == "ObjectCount"]
    assert set(counts) == set("01234")
    assert min(counts.count(answer) for answer in "01234") > len(counts) / 10
    for task, one in (("RelationHorizontal", "left"), ("RelationVertical", "above")):
        answers = [s.answer for s in samples if s.task == task]
        assert 0.35 < answers.count(one) / len(answers) < 0.65


def test_ids_are_unique_and_domains_follow_the_task(samples):
    solids = samples[: SAMPLES_PER_TASK["solids"] * len(TASKS)]
    assert len({sample.id for sample in solids}) == len(solids)
    for sample in samples:
        assert sample.domain == ("general" if sample.task in GENERAL_TASKS else "spatial")


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(TASKS),
    st.integers(-(2**40), 2**40),
    st.integers(0, 10**6),
    st.sampled_from([32, 64, 96]),
)
def test_the_same_seed_and_index_give_the_same_bytes(task, seed, index, size):
    one = generate(task, seed, index, image_size=size)
    two = generate(task, seed, index, image_size=size)
    assert digest([one]) == digest([two])
    assert Image.open(io.BytesIO(one.images[0])).size == (size, size)
    assert digest([one]) != digest([generate(task, seed, index + 1, image_size=size)])


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from(TASKS), min_size=1, max_size=6, unique=True),
    st.integers(0, 10**6),
    st.integers(0, 50),
    st.integers(1, 5),
)
def test_questions_of_a_scene_share_its_picture_and_differ(tasks, seed, index, wanted):
    found = generate_scene_questions(tasks, seed, index, wanted)
    assert 1 <= len(found) <= wanted
    assert found[0].task == tasks[index % len(tasks)]
    assert len({sample.images for sample in found}) == 1
    assert len({sample.question for sample in found}) == len(found)
    assert len({sample.id for sample in found}) == len(found)
    assert {sample.task for sample in found} <= set(tasks)
    again = generate_scene_questions(tasks, seed, index, wanted)
    assert digest(found) == digest(again)


def test_another_process_with_another_hash_seed_makes_the_same_bytes():
    program = (
        "import hashlib\n"
        "from m2r_train.sim import TASKS, generate, generate_scene_questions\n"
        "samples = [generate(t, 7, i) for t in reversed(TASKS) for i in (1, 0)]\n"
        "samples += generate_scene_questions(TASKS[:6], 7, 3, 4)\n"
        "samples += [generate('ObjectCount', 7, 0, image_size=160)]\n"
        "whole = hashlib.sha256()\n"
        "for s in samples: whole.update(repr(s).encode() + b''.join(s.images))\n"
        "print(whole.hexdigest())\n"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2024")
    }
    here = [generate(task, 7, index) for task in reversed(TASKS) for index in (1, 0)]
    here += generate_scene_questions(TASKS[:6], 7, 3, 4)
    here += [generate("ObjectCount", 7, 0, image_size=160)]
    assert seen == {digest(here) + "\n"}
