"""``m2r score``: files in, files out, a user's mistakes in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.benchmarks.sets import Records, cv_bench, dynamath, vsi_bench

from m2r_train.cli import main

SET = cv_bench(("ADE20K", 1, 2), ("COCO", 2, 2), ("Omni3D", 1, 2))

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs the command on records, or on the bytes of a file, writing into ``tmp_path/out``."""

    def run(benchmark: str, content: Records | bytes | None, *flags: str) -> tuple[int, str, str]:
        source = tmp_path / "in.jsonl"
        if isinstance(content, list):
            content = "".join(json.dumps(record) + "\n" for record in content).encode()
        if content is not None:
            source.write_bytes(content)
        argv = ["m2r", "score", benchmark, "--input", str(source), "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", [*argv, *flags])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def samples(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]


def summary(tmp_path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((tmp_path / "out/summary.json").read_text())
    return loaded


def test_samples_come_in_the_order_of_the_input_with_their_own_ids(
    score: Command, tmp_path: Path
) -> None:
    code, out, err = score("cv-bench", SET[::-1], "--answer", "raw")
    assert (code, err) == (0, "")
    assert out == "cv-bench cv_bench: 62.50 (n = 6)\n"
    assert [s["id"] for s in samples(tmp_path)] == [r["idx"] for r in SET[::-1]]
    assert samples(tmp_path)[1] == {
        "id": "Omni3D-0",
        "extracted": "A",
        "score": 1.0,
        "cut": "A",
        "prediction": "A",
    }
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["samples.jsonl", "summary.json"]


def test_the_summary_says_what_was_done(score: Command, tmp_path: Path) -> None:
    score("cv-bench", SET, "--answer", "raw", "--rule", "lmms-eval")
    found = summary(tmp_path)
    assert {k: found[k] for k in ("benchmark", "rule", "answer", "n", "headline")} == {
        "benchmark": "cv-bench",
        "rule": "lmms-eval",
        "answer": "raw",
        "n": 6,
        "headline": "cv_bench",
    }
    assert found["scores"]["coco"] == {"value": 100.0, "n": 2, "stderr": 0.0}
    assert found["intervals"]["coco"] == [pytest.approx(1.22, abs=0.01), 100.0]
    assert (found["missing"], found["unscored"]) == ([], 0)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"pid": "9", "index": 3}, "9"),
        ({"index": 3}, 3),
        ({}, 1),
    ],
)
def test_the_id_is_the_records_own_or_its_index(
    score: Command, tmp_path: Path, fields: dict[str, Any], expected: object
) -> None:
    record = {"question_type": "free_form", "answer_type": "list", "answer": "[1]"}
    record |= {"prediction": "[1]"}
    score("mathvista", [record, {**record, **fields}], "--answer", "raw")
    assert samples(tmp_path)[1]["id"] == expected


def test_tagged_is_the_default(score: Command, tmp_path: Path) -> None:
    records = [
        {**r, "prediction": f"<think>x</think><answer>{r['prediction']}</answer>"} for r in SET
    ]
    assert score("cv-bench", records)[0] == 0
    assert summary(tmp_path)["answer"] == "tagged"
    assert [s["score"] for s in samples(tmp_path)] == [1, 0, 1, 1, 1, 0]


def test_a_record_that_cannot_be_scored_has_no_score_and_says_why(
    score: Command, tmp_path: Path
) -> None:
    records: Records = [*SET, {**SET[0], "idx": 7, "answer": "two"}, {**SET[0], "prediction": None}]
    code, out, err = score("cv-bench", records, "--answer", "raw")
    assert (code, out) == (65, "")
    assert err.count("\n") == 1
    assert "in.jsonl: record 7: answer: 'two'" in err
    assert "and 1 more" in err
    last = samples(tmp_path)[-2:]
    assert [(s["id"], s["score"]) for s in last] == [(7, None), ("ADE20K-0", None)]
    assert "answer" in last[0]["error"]
    assert "prediction" in last[1]["error"]
    assert not (tmp_path / "out/summary.json").exists()


def test_partial_figures_of_the_records_that_can_be_scored(score: Command, tmp_path: Path) -> None:
    records: Records = [*SET, {**SET[0], "source": "KITTI"}]
    code, _, err = score("cv-bench", records, "--answer", "raw", "--partial")
    assert code == 65
    assert "source: 'KITTI' is not one of" in err
    assert (summary(tmp_path)["unscored"], summary(tmp_path)["n"]) == (1, 6)


def test_an_incomplete_set_is_an_error_and_takes_an_older_summary_with_it(
    score: Command, tmp_path: Path
) -> None:
    score("dynamath", dynamath({"a": 10}), "--answer", "raw")
    assert (tmp_path / "out/summary.json").exists()
    code, out, err = score("dynamath", dynamath({"a": 10})[:-1], "--answer", "raw")
    assert (code, out, err.count("\n")) == (65, "", 1)
    assert "without seed a: variant 10" in err
    assert "--partial" in err
    assert not (tmp_path / "out/summary.json").exists()
    assert score("dynamath", dynamath({"a": 10})[:-1], "--answer", "raw", "--partial")[0] == 0
    assert summary(tmp_path)["missing"] == ["seed a: variant 10"]


def test_a_long_list_of_missing_parts_is_cut(score: Command) -> None:
    err = score("vsi-bench", vsi_bench()[:1], "--answer", "raw")[2]
    assert "and 4 more" in err


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "no file": (None, "no such file"),
    "an empty file": (b"", "has no records"),
    "only blank lines": (b"\n \n", "has no records"),
    "a line that is cut": (b'{"a": 1}\n{"b"', "in.jsonl:2: is not JSON"),
    "a list": (b"[1]\n", "in.jsonl:1: is a list"),
    "not UTF-8": (b'{"a": "\xff"}\n', "in.jsonl:1: is not JSON"),
    "nested too deeply": (b"[" * 200_000 + b"\n", "in.jsonl:1: is not JSON"),
    "a number too long": (b'{"a": ' + b"9" * 5000 + b"}\n", "in.jsonl:1: is not JSON"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_line_and_writes_nothing(
    score: Command, tmp_path: Path, case: str
) -> None:
    content, named = BAD_FILES[case]
    code, out, err = score("cv-bench", content)
    assert (code, out, err.count("\n")) == (65, "", 1)
    assert named in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("benchmark", "flags", "code", "named"),
    [
        ("mmmu", (), 64, "use one of mathvista"),
        ("mathvista", ("--rule", "lmms-eval"), 64, "use one of official, vlmevalkit"),
        ("cv-bench", ("--answer", "boxed"), 64, "use one of raw, tagged"),
        ("cv-bench", ("--nonsense",), 64, "--nonsense"),
    ],
)
def test_a_wrong_argument_is_one_line(
    score: Command, tmp_path: Path, benchmark: str, flags: tuple[str, ...], code: int, named: str
) -> None:
    found, out, err = score(benchmark, SET, *flags)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert named in err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_line(score: Command, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    code, out, err = score("cv-bench", SET)
    assert (code, out, err.count("\n")) == (78, "", 1)
    assert "--out" in err


def test_what_no_encoding_can_hold_is_written_escaped(score: Command, tmp_path: Path) -> None:
    records: Records = [{**r, "prediction": "\ud800"} for r in SET]
    assert score("cv-bench", records, "--answer", "raw")[0] == 0
    assert samples(tmp_path)[0]["prediction"] == "\ud800"
