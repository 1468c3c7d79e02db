"""Published benchmarks: loaded whole, asked, and scored by their own rules."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.stages import published

from m2r_train.api.errors import DataError
from m2r_train.api.evaljob import Benchmark
from m2r_train.benchmarks.kept import all_figures
from m2r_train.benchmarks.prompts import question
from m2r_train.data.spacing import evenly
from m2r_train.stages.asking import Questions, questions

COUNTS = {
    **{"mathvista": 2, "mathvision": 2, "mathverse": 2, "dynamath": 10},
    **{"we-math": 1740, "logicvista": 1, "cv-bench": 4, "vsi-bench": 10},
}


def load(name: str, folder: Path, **more: Any) -> Questions:
    data = {"uri": folder.as_uri()}
    return questions(Benchmark.model_validate({"name": name, "data": data, **more}), folder)


def copy(name: str, folder: Path, **more: Any) -> Questions:
    published.COPIES[name](folder)
    return load(name, folder, **more)


def row(*sampled: str, greedy: str = "") -> dict[str, Any]:
    return {"sampled": [{"text": text} for text in sampled], "greedy": [{"text": greedy}]}


def tagged(answer: str) -> str:
    return f"<think>t</think><answer>\\boxed{{{answer}}}</answer>"


def scores_of(own: Questions, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: figure.percent() for name, figure in own.figures(rows).items()}


def truths(own: Questions) -> list[str]:
    return [sample.answer.strip("()") for sample in own.samples]


@pytest.mark.parametrize("name", COUNTS)
def test_right_answers_are_worth_everything_and_wrong_ones_nothing(
    name: str, tmp_path: Path
) -> None:
    own = copy(name, tmp_path)
    assert len(own.samples) == len(own.records) == COUNTS[name]
    assert len({s.id for s in own.samples}) == COUNTS[name]
    right = [row(tagged(t), greedy=tagged("99999")) for t in truths(own)]
    scores = scores_of(own, right)
    assert scores["overall"]["value"] == pytest.approx(100.0)
    assert scores["greedy/overall"]["value"] == pytest.approx(50.0 if name == "mathvista" else 0.0)
    assert [own.score(i, tagged(t)) for i, t in enumerate(truths(own))] == [1.0] * len(own.samples)


@pytest.mark.parametrize("name", COUNTS)
def test_every_question_shows_its_pictures_or_frames(name: str, tmp_path: Path) -> None:
    for sample in copy(name, tmp_path, frames=3).samples:
        assert sample.question.strip()
        if name == "vsi-bench":
            assert sample.video == tuple(published.picture(i) for i in (0, 2, 4))
        else:
            assert sample.images == (published.picture(),)
            assert sample.video is None


PUBLISHED_FORM = {
    "mathvision": (r"\boxed{}", lambda truth: f"Thus \\boxed{{{truth}}}"),
    "dynamath": ('"short answer"', lambda truth: json.dumps({"short answer": truth})),
    "we-math": ('"Answer: "', lambda truth: f"We see it.\nAnswer: {truth}"),
    "mathvista": ("?", str),
    "cv-bench": ("(A)", lambda truth: f"The answer is ({truth})"),
    "vsi-bench": ("These are frames of a video.", str),
}


@pytest.mark.parametrize("name", PUBLISHED_FORM)
def test_the_published_form_is_asked_for_and_scored_as_it_is(name: str, tmp_path: Path) -> None:
    own = copy(name, tmp_path, form="Published")
    asked, told = PUBLISHED_FORM[name]
    assert all(asked in sample.question for sample in own.samples)
    assert own.protocol()["form"] == "Published"
    assert own.protocol()["answer"] == "raw"
    assert [own.score(i, told(t)) for i, t in enumerate(truths(own))] == [1.0] * len(own.samples)
    tagged_form = load(name, tmp_path)
    assert tagged_form.protocol()["answer"] == "tagged"
    assert [tagged_form.score(i, told(t)) for i, t in enumerate(truths(own))] == [0.0] * len(
        own.samples
    )
    if name in ("mathvision", "dynamath", "we-math"):
        assert all(asked not in sample.question for sample in tagged_form.samples)


PROMPTS = {
    "mathvista": ["Which?", "How many?"],
    "mathvision": [
        "Which?\n(A) 4\n(B) 5\nAnswer with the letter of the right option.",
        "How many?",
    ],
    "mathverse": ["Reason, then answer."] * 2,
    "dynamath": [
        f"What is {i}?\nAnswer with a number, to three decimals where it is not whole."
        for i in (1, 10, *range(2, 10))  # in the order of the files' names
    ],
    "logicvista": [
        "Which?\nAnswer with the letter of the right option; with several right, with all their "
        "letters."
    ],
    "cv-bench": ["Which?\n(A) x\n(B) y"] * 4,
    "vsi-bench": [
        *[
            "These are frames of a video.\nWhat?\n"
            "Please answer the question using a single word or phrase."
        ]
        * 4,
        *[
            "These are frames of a video.\nWhat?\nOptions:\nA. x\nB. y\n"
            "Answer with the option's letter from the given choices directly."
        ]
        * 6,
    ],
}


@pytest.mark.parametrize("name", PROMPTS)
def test_questions_are_asked_in_these_words(name: str, tmp_path: Path) -> None:
    assert [sample.question for sample in copy(name, tmp_path).samples] == PROMPTS[name]


def test_we_math_is_asked_with_its_options(tmp_path: Path) -> None:
    published.we_math(tmp_path, two=1, three=0)
    asked = {s.question for s in load("we-math", tmp_path, partial=True).samples}
    assert asked == {"Which?\nA. 1;B. 2\nAnswer with the letter of the right option."}


def test_dynamath_asks_for_a_letter_where_a_letter_is_scored() -> None:
    record = {"question": "Which? choice: (A) 1 (B) 2", "answer_type": "multiple choice"}
    assert question("dynamath", record).endswith("\nAnswer with the letter of the right option.")
    assert question("dynamath", record | {"answer_type": "text"}) == record["question"]


def test_a_split_is_chosen_where_a_copy_holds_several(tmp_path: Path) -> None:
    """MathVista's test split has no answers; MathVerse has its text-only questions beside."""
    published.mathvista(tmp_path / "a")
    data = tmp_path / "a" / "data"
    (data / "test-00000-of-00002-6b81bd7f7e2065e6.parquet").write_bytes(b"not read")
    asked = {"uri": (tmp_path / "a").as_uri(), "split": "testmini"}
    assert len(load("mathvista", tmp_path / "a", data=asked).samples) == 2
    published.mathverse(tmp_path / "b")
    (tmp_path / "b" / "testmini_text_only.parquet").write_bytes(b"not read")
    asked = {"uri": (tmp_path / "b").as_uri(), "split": "testmini"}
    assert len(load("mathverse", tmp_path / "b", data=asked).samples) == 2


def test_a_missing_variant_is_an_error_unless_a_part_is_wanted(tmp_path: Path) -> None:
    published.dynamath(tmp_path, variants=9)
    with pytest.raises(DataError, match=r"seed 7: variant 10; .*partial: true"):
        load("dynamath", tmp_path)
    own = load("dynamath", tmp_path, partial=True)
    assert own.protocol()["missing"] == ["seed 7: variant 10"]
    assert own.protocol()["partial"] is True


@pytest.mark.parametrize("name", COUNTS)
def test_a_copy_that_is_smaller_than_what_is_published_says_so(name: str, tmp_path: Path) -> None:
    protocol = copy(name, tmp_path).protocol()
    assert (protocol["partial"], protocol["whole"]) == (False, name == "we-math")


@pytest.mark.parametrize("name", COUNTS)
def test_what_is_kept_has_the_figures_of_the_answers(name: str, tmp_path: Path) -> None:
    """Scores and the facts of the records are enough: no answer is read again."""
    own = copy(name, tmp_path)
    rows = [
        row(*(tagged(t if (i + j) % 3 else "99999") for j in range(2)), greedy=tagged(t))
        for i, t in enumerate(truths(own))
    ]
    kept = [
        {
            "record": json.loads(json.dumps(own.facts(i))),
            **{
                mode: [{"score": own.score(i, one["text"])} for one in answers]
                for mode, answers in given.items()
            },
        }
        for i, given in enumerate(rows)
    ]
    again, figures = all_figures(name, kept), own.figures(rows)
    assert {n: f for n, f in figures.items() if "lax/" not in n} == again
    assert own.protocol()["headline"] in again


def test_absent_problems_of_we_math_do_not_count_as_right(tmp_path: Path) -> None:
    published.we_math(tmp_path, two=1, three=1)
    with pytest.raises(DataError, match=r"523 of 525 problems; .*partial: true"):
        load("we-math", tmp_path)
    own = load("we-math", tmp_path, partial=True)
    wrong = scores_of(own, [row(tagged("B"))] * 7)
    assert wrong["overall"]["value"] == pytest.approx(0.0)
    right = scores_of(own, [row(tagged("A"))] * 7)
    assert right["overall"]["value"] == pytest.approx(100.0)


def test_a_record_that_cannot_be_scored_is_named_before_anything_is_asked(tmp_path: Path) -> None:
    published.logicvista(tmp_path)
    file = tmp_path / "data" / "dataset.json"
    good = json.loads(file.read_text())["1"]
    file.write_text(json.dumps([good, {k: v for k, v in good.items() if k != "answer"}]))
    with pytest.raises(DataError, match=r"1\.png: answer: is missing"):
        load("logicvista", tmp_path)
    own = load("logicvista", tmp_path, partial=True)
    assert len(own.samples) == 1
    assert len(own.protocol()["unscored"]) == 1


def test_more_draws_are_no_more_questions(tmp_path: Path) -> None:
    own = copy("mathvision", tmp_path)
    one = scores_of(own, [row(tagged("B")), row(tagged("0"))])["overall"]
    two = scores_of(own, [row(tagged("B"), tagged("B")), row(tagged("0"), tagged("0"))])["overall"]
    assert one == two
    assert one["value"] == pytest.approx(50.0)
    assert one["n"] == 2
    mixed = scores_of(own, [row(tagged("B"), tagged("0")), row(tagged("7"), tagged("7"))])
    assert mixed["overall"]["value"] == pytest.approx(75.0)


def test_mathverse_is_quoted_by_its_vision_only_questions(tmp_path: Path) -> None:
    own = copy("mathverse", tmp_path)
    scores = scores_of(own, [row(tagged("B")), row(tagged("A"))])
    assert scores["overall"]["value"] == pytest.approx(100.0)
    assert scores["accuracy"]["value"] == pytest.approx(50.0)
    assert own.protocol()["judge"] != "not needed"


def test_a_video_without_frames_says_what_to_do(tmp_path: Path) -> None:
    published.vsi_bench(tmp_path)
    for file in (tmp_path / "scannet" / "scene0").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"record 1: video scannet/scene0\.mp4: neither the file"):
        load("vsi-bench", tmp_path)


def test_a_scene_outside_of_the_folder_is_not_read(tmp_path: Path) -> None:
    published.vsi_bench(tmp_path / "a")
    published.vsi_bench(tmp_path / "b")
    file = tmp_path / "a" / "test.jsonl"
    file.write_text(file.read_text().replace('"scannet"', '"../b/scannet"'))
    with pytest.raises(DataError, match=r"leaves the dataset's folder"):
        load("vsi-bench", tmp_path / "a")


@given(st.integers(1, 500), st.integers(1, 100))
def test_frames_are_spread_from_first_to_last(count: int, wanted: int) -> None:
    chosen = evenly(count, wanted)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, wanted)
    assert chosen[0] == 0
    assert chosen[-1] == count - 1 or wanted == 1
    gaps = [b - a for a, b in pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_rules_that_a_benchmark_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="official or vlmevalkit"):
        Benchmark.model_validate(
            {"name": "mathvista", "data": {"uri": "file:///a"}, "rule": "lmms-eval"}
        )


def test_a_picture_of_cv_bench_is_known_by_its_content(tmp_path: Path) -> None:
    """Where the copy does not say where it comes from; the kept rows have it as well."""
    own = copy("cv-bench", tmp_path)
    digest = hashlib.sha256(published.picture()).hexdigest()
    assert [own.facts(i)["picture_sha256"] for i in range(4)] == [digest] * 4
