"""``m2r score --against``: two files of answers to the same questions, paired."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.benchmarks.sets import Records, cv_bench, dynamath, vsi_bench, we_math

from m2r_train.cli import main

Command = Callable[..., tuple[int, str, str]]


def flipped(records: Records, every: int, to: str) -> Records:
    """Each so many-th answer replaced."""
    return [r | {"prediction": to} if i % every == 0 else r for i, r in enumerate(records)]


def write(path: Path, records: Records) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Scores the first records against the second ones, or a file."""

    def run(name: str, ours: Records, theirs: Records | Path, *flags: str) -> tuple[int, str, str]:
        source = write(tmp_path / "ours.jsonl", ours)
        if not isinstance(theirs, Path):
            theirs = write(tmp_path / "theirs.jsonl", theirs)
        argv = ["m2r", "score", name, "--input", str(source), "--out", str(tmp_path / "out")]
        monkeypatch.setattr(
            "sys.argv", [*argv, "--against", str(theirs), "--answer", "raw", *flags]
        )
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def told(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tmp_path / "out/summary.json").read_text())["against"]
    return found


SET = cv_bench(("ADE20K", 30, 50), ("COCO", 80, 100), ("Omni3D", 135, 150))


def test_a_plain_mean_has_the_error_of_its_pairs(compare: Command, tmp_path: Path) -> None:
    """By hand: 20 of 150 gains and 5 losses among the rows of one source."""
    ours = [r | {"prediction": "A" if i < 120 else "B"} for i, r in enumerate(SET[150:])]
    theirs = [r | {"prediction": "A" if 20 <= i < 125 else "B"} for i, r in enumerate(SET[150:])]
    code, out, err = compare("cv-bench", SET[:150] + ours, SET[:150] + theirs)
    assert (code, err) == (0, "")
    found = told(tmp_path)
    gap = found["differences"]["omni3d"]
    assert gap["value"] == pytest.approx(100 * 15 / 150)
    gains = [1] * 20 + [-1] * 5 + [0] * 125
    variance = sum((g - 0.1) ** 2 for g in gains) / 149
    assert gap["stderr"] == pytest.approx(100 * math.sqrt(variance / 150))
    assert gap["low"] < gap["value"] < gap["high"]
    assert (found["won"], found["lost"], found["tied"]) == (20, 5, 275)
    assert found["file"].endswith("theirs.jsonl")
    headline = found["differences"]["cv_bench"]
    assert headline["value"] == pytest.approx(5.0)
    assert out.splitlines()[1] == (
        f"against {tmp_path}/theirs.jsonl: +5.00 ± {headline['stderr']:.2f}, 95 % interval "
        f"[{headline['low']:+.2f}, {headline['high']:+.2f}], p = {headline['p']:.2g}; "
        "20 won, 5 lost, 275 tied"
    )


def test_pairs_of_one_cluster_are_one_piece_of_evidence(compare: Command, tmp_path: Path) -> None:
    ours, theirs = SET, flipped(SET, 5, "B")
    compare("cv-bench", ours, theirs)
    alone = told(tmp_path)["differences"]["cv_bench"]
    named = [{"source_filename": f"{i // 5}.jpg"} for i in range(len(SET))]
    compare(
        "cv-bench",
        [r | n for r, n in zip(ours, named, strict=True)],
        [r | n for r, n in zip(theirs, named, strict=True)],
    )
    shared = told(tmp_path)["differences"]["cv_bench"]
    assert shared["value"] == alone["value"]
    assert shared["stderr"] != alone["stderr"]
    again = [r | {"source_filename": f"{i}.jpg"} for i, r in enumerate(ours)]
    compare("cv-bench", again, theirs)
    assert told(tmp_path)["differences"]["cv_bench"] == alone


SETS: dict[str, tuple[Records, str]] = {
    "cv-bench": (SET, "B"),
    "dynamath": (dynamath({"a": 4, "b": 9, "c": 10}), '{"short answer": "A"}'),
    "vsi-bench": (vsi_bench(object_counting=8), "900"),
    "we-math": (we_math({"111": 200, "110": 160}, {"1111": 100, "0000": 65}), "Answer: H"),
}


@pytest.mark.parametrize("name", SETS)
def test_a_comparison_is_the_difference_of_two_scorings(
    name: str, compare: Command, tmp_path: Path
) -> None:
    ours, wrong = SETS[name]
    theirs = flipped(ours, 7, wrong)
    assert compare(name, theirs, ours)[0] == 0
    before = json.loads((tmp_path / "out/summary.json").read_text())
    assert compare(name, ours, theirs)[0] == 0
    after = json.loads((tmp_path / "out/summary.json").read_text())
    gaps, back = after["against"], before["against"]
    for figure, gap in gaps["differences"].items():
        value = after["scores"][figure]["value"] - before["scores"][figure]["value"]
        assert gap["value"] == pytest.approx(value)
        assert back["differences"][figure]["value"] == pytest.approx(-value)
        assert back["differences"][figure]["stderr"] == pytest.approx(gap["stderr"])
    assert (gaps["won"], gaps["lost"]) == (back["lost"], back["won"])
    assert gaps["won"] > 0 == gaps["lost"]
    assert gaps["won"] + gaps["tied"] == after["n"]
    lines = [json.loads(x) for x in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    assert sum(line["score"] > line["against"] for line in lines) == gaps["won"]


def test_the_same_answers_differ_by_nothing(compare: Command, tmp_path: Path) -> None:
    assert compare("cv-bench", SET, SET)[0] == 0
    found = told(tmp_path)
    assert (found["won"], found["lost"], found["tied"]) == (0, 0, 300)
    assert found["differences"]["cv_bench"] | {"n": 0} == {
        **{"value": 0.0, "stderr": 0.0, "low": 0.0, "high": 0.0, "p": 1.0, "n": 0}
    }


def test_neither_order_nor_form_of_the_other_file_counts(compare: Command, tmp_path: Path) -> None:
    """Whole records in any order, ids with predictions alone, or samples.jsonl of a scoring."""
    theirs = flipped(SET, 4, "B")
    compare("cv-bench", theirs, SET)
    scored = tmp_path / "scored.jsonl"
    scored.write_bytes((tmp_path / "out/samples.jsonl").read_bytes())
    compare("cv-bench", SET, theirs)
    expected = told(tmp_path) | {"file": ""}
    bare = [{"idx": r["idx"], "prediction": r["prediction"]} for r in theirs]
    for other in (theirs[::-1], bare, scored):
        assert compare("cv-bench", SET, other)[0] == 0
        assert told(tmp_path) | {"file": ""} == expected


DIFFERENT: dict[str, tuple[Records, str]] = {
    "fewer": (SET[:-1], r"(300 and 299, 299 of them by the same id; only one has"),
    "more": ([*SET, SET[0] | {"idx": "new"}], "(300 and 301, 300 of them by the same id"),
    "others": ([r | {"idx": f"x{i}"} for i, r in enumerate(SET)], "0 of them by the same id"),
    "another answer": ([SET[0] | {"answer": "(B)"}, *SET[1:]], "answer is not the same)"),
    "one twice": ([*SET[:-1], SET[0]], "299 of them by the same id"),
    "no prediction": (
        [{k: v for k, v in SET[0].items() if k != "prediction"}, *SET[1:]],
        "theirs.jsonl: record 1: prediction: is missing",
    ),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_answers_to_other_questions_are_one_line(
    case: str, compare: Command, tmp_path: Path
) -> None:
    theirs, message = DIFFERENT[case]
    code, out, err = compare("cv-bench", SET, theirs)
    assert (code, out, err.count("\n")) == (65, "", 1)
    assert "theirs.jsonl: " in err
    assert message in err
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_not_there_is_one_line(compare: Command, tmp_path: Path) -> None:
    code, _, err = compare("cv-bench", SET, tmp_path / "none.jsonl")
    assert (code, err.count("\n")) == (65, 1)
    assert "none.jsonl: no such file" in err
