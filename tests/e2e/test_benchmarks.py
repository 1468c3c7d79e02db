"""The eight public benchmarks put to a model, from copies as they are published.

The model has learnt one chain, that of the answer A: so it is known what each benchmark is worth.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runs import M2R, Golden, Manifests, change, manifests, run, write
from trials import Trial
from unit.data.folders import write_lines
from unit.stages import published

from m2r_train.api.evaljob import Benchmark
from m2r_train.stages.asking import questions

CHAIN = "<think> so </think><answer>\\boxed{A}</answer>"
PARTS: dict[str, Callable[[Path], None]] = {
    **published.COPIES,
    "we-math": lambda folder: published.we_math(folder, two=1, three=1),  # of 525 problems
}
WORTH = {  # an A, in percent
    "mathvista": 50.0,  # one choice of which A is right, one number
    "mathvision": 0.0,  # one choice of which B is right, one number
    "mathverse": 100.0,
    "dynamath": 0.0,  # numbers
    "we-math": 100.0,
    "logicvista": 100.0,
    "cv-bench": 100.0,
    "vsi-bench": 50.0,  # four kinds of questions for numbers, four of choices
}
ASKED = {"mathvista": 2, "mathvision": 2, "mathverse": 2, "dynamath": 10} | {
    **{"we-math": 7, "logicvista": 1, "cv-bench": 4, "vsi-bench": 10}
}


PROMPTS = (
    *("Which?", "What?", "How many?", "Reason, then answer.", "Which?\n(A) x\n(B) y"),
    "Which?\nA. 1;B. 2\nAnswer with the letter of the right option.",
)


def lesson(folder: Path) -> str:
    """A dataset of pictures and questions like theirs, with one chain for all of them."""
    (folder / "photos").mkdir(parents=True)
    (folder / "photos" / "0.png").write_bytes(published.picture())
    row = {"answer": "A", "image": "photos/0.png", "chain": CHAIN}
    write_lines(folder / "train.jsonl", [row | {"question": asked} for asked in PROMPTS])
    return folder.as_uri()


def exam(folder: Path) -> Manifests:
    """A model that learns the chain, and its evaluation on copies of the benchmarks."""
    benchmarks: list[dict[str, Any]] = []
    for name, copy in PARTS.items():
        copy(folder / name)
        data = {"uri": (folder / name).as_uri()}
        benchmarks.append({"name": name, "data": data, "frames": 2, "partial": name == "we-math"})
    documents = manifests("sft", "eval-sft")
    documents = change(documents, "sft", "dataset", {"uri": lesson(folder / "lesson")})
    documents = change(documents, "eval-sft", "benchmarks", benchmarks)
    gates = [{"benchmark": "we-math", "min": 90.0}, {"benchmark": "logicvista", "min": 90.0}]
    return change(documents, "eval-sft", "gates", gates)


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    folder = tmp_path_factory.mktemp("exam")
    files = write(exam(folder / "data"), folder / "manifests")
    report = ("--report", str(folder / "report.html"))
    return run(M2R(folder), files, (folder / "store").as_uri(), *report)


def results(examined: Golden) -> dict[str, Any]:
    file = examined.folder("eval-sft") / "eval/results.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def answers(examined: Golden, name: str) -> list[dict[str, Any]]:
    file = examined.folder("eval-sft") / f"eval/samples/{name}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_a_model_that_always_says_a_is_worth_what_each_benchmark_says_of_it(
    examined: Golden,
) -> None:
    found = results(examined)
    worth = {name: own["greedy/overall"]["value"] for name, own in found["benchmarks"].items()}
    assert worth == pytest.approx(WORTH)
    assert {name: len(answers(examined, name)) for name in PARTS} == ASKED
    assert found["questions"] == sum(ASKED.values())
    partial = {name for name, own in found["protocols"].items() if own["partial"]}
    assert partial == {"we-math"}
    assert found["protocols"]["we-math"]["missing"] == ["523 of 525 problems"]
    assert examined.resource("eval-sft")["scores"] == found["benchmarks"]
    whole = {name for name, own in found["protocols"].items() if own["whole"]}
    assert whole == set()  # the copies are tiny
    assert all("record" in row for name in PARTS for row in answers(examined, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_m2r_score_says_the_same_of_the_answers_that_were_kept(
    examined: Golden, m2r: M2R, tmp_path: Path, name: str
) -> None:
    PARTS[name](tmp_path / "copy")
    asked = Benchmark.model_validate(
        {"name": name, "data": {"uri": (tmp_path / "copy").as_uri()}, "partial": True}
    )
    records = questions(asked, tmp_path / "copy").records
    kept = answers(examined, name)
    rows = [
        record | {"prediction": row["greedy"][0]["text"]}
        for record, row in zip(records, kept, strict=True)
    ]
    write_lines(tmp_path / "answers.jsonl", rows)
    files = ("--input", tmp_path / "answers.jsonl", "--out", tmp_path / "scored")
    done = m2r("score", name, *files, "--partial")
    assert done.code == 0, done.err
    summary = json.loads((tmp_path / "scored/summary.json").read_text())
    found = results(examined)["benchmarks"][name]
    assert found["greedy/overall"] == summary["scores"][summary["headline"]]
    lines = (tmp_path / "scored/samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["score"] for line in lines] == [r["greedy"][0]["score"] for r in kept]


@pytest.mark.slow
def test_an_evaluation_that_is_killed_goes_on_and_ends_the_same(
    examined: Golden, m2r: M2R, tmp_path: Path
) -> None:
    trial = Trial(m2r, examined, "eval-sft", tmp_path)
    for point in ("before-journal:3", "before-publish:1"):
        trial.killed_at(point)
    trial.finish()
