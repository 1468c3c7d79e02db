"""Which differences of two evaluated models are told, on the page and by the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.benchmarks.sets import dynamath

from m2r_train.api.errors import DataError
from m2r_train.api.evaljob import EvalSpec
from m2r_train.api.runspec import RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.benchmarks.kept import facts
from m2r_train.cli import main
from m2r_train.reporting import StoredRun, compare_models
from m2r_train.store.local import LocalStore

Rows = list[dict[str, Any]]


def own(*scores: float) -> Rows:
    """Questions of one's own, with their scores."""
    return [
        {
            **{"id": str(i), "task": "Count", "question": f"{i}?", "answer": "!"},
            "sampled": [{"score": score, "format": 1.0}],
            "greedy": [],
        }
        for i, score in enumerate(scores)
    ]


def seeds(right_by_seed: dict[str, int]) -> Rows:
    """Answers to DynaMath: a seed's first so many variants are right."""
    return [
        {
            **{"id": f"{r['id']}/{r['varid']}", "task": "dynamath", "question": "?", "answer": "B"},
            "record": facts("dynamath", r),
            "sampled": [{"score": float(r["varid"] <= right_by_seed[r["id"]])}],
            "greedy": [],
        }
        for r in dynamath(right_by_seed)
    ]


def evaluated(folder: Path, rule: str = "official", **rows: Rows) -> StoredRun:
    """An evaluation in a store, with what the report reads of it."""
    benchmarks = [{"name": name, "data": {"uri": "file:///d"}} for name in rows]
    spec = EvalSpec.model_validate({"model": {"preset": "tiny"}, "benchmarks": benchmarks})
    run = RunSpec(
        kind="EvalJob",
        metadata=RunMetadata(name=f"eval-{folder.name}", uid="0123456789abcdef"),
        attempt=1,
        storage=RunStorage(uri=folder.as_uri()),
        seed=0,
        spec=resolved(spec),
    )
    score = {"value": 50.0, "n": 4, "stderr": 1.0}
    results = {
        "benchmarks": {name: {"overall": score} for name in rows},
        "protocols": {"dynamath": {"rule": rule, "headline": "worst"}},
    }
    store = LocalStore(folder)
    store.put("spec.json", run.to_json().encode())
    store.put("eval/results.json", json.dumps(results).encode())
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        store.put(f"eval/samples/{name}.jsonl", text.encode())
    return StoredRun(store, run)


def test_differences_are_those_of_the_headline_and_of_every_figure(tmp_path: Path) -> None:
    """DynaMath's worst case rises by one seed of four, its average by three answers of forty."""
    before = evaluated(
        tmp_path / "sft",
        synthetic=own(0, 0, 1, 0),
        dynamath=seeds({"a": 10, "b": 7, "c": 0, "d": 0}),
    )
    after = evaluated(
        tmp_path / "rlvr",
        synthetic=own(1, 0, 1, 1),
        dynamath=seeds({"a": 10, "b": 10, "c": 0, "d": 0}),
    )
    pairs = {(pair.benchmark, pair.task): pair for pair in compare_models([before, after])}
    assert {pair.baseline for pair in pairs.values()} == {"sft"}
    assert {pair.model for pair in pairs.values()} == {"rlvr"}
    gaps = {key: round(pair.difference, 2) for key, pair in pairs.items()}
    assert gaps["synthetic", "overall"] == gaps["synthetic", "Count"] == 50.0
    assert gaps["dynamath", "overall"] == gaps["dynamath", "worst"] == 25.0
    assert gaps["dynamath", "average"] == 7.5
    worst = pairs["dynamath", "overall"]
    assert (worst.n, worst.stderr) == (4, pytest.approx(25.0))
    assert worst.low == pytest.approx(25.0 - 3.182446 * 25.0)
    assert worst.p == pytest.approx(0.391002, abs=1e-6)  # t = 1, 3 degrees of freedom


def test_what_cannot_be_paired_is_left_out_or_refused(tmp_path: Path) -> None:
    before = evaluated(tmp_path / "sft", synthetic=own(0, 1), dynamath=seeds({"a": 9, "b": 10}))
    after = evaluated(tmp_path / "rlvr", synthetic=own(0, 1, 1), dynamath=seeds({"a": 10, "b": 10}))
    assert {pair.benchmark for pair in compare_models([before, after])} == {"dynamath"}
    with pytest.raises(DataError, match="synthetic: sft and rlvr answered different questions"):
        compare_models([before, after], strict=True)
    other = evaluated(tmp_path / "other", "vlmevalkit", dynamath=seeds({"a": 9, "b": 10}))
    assert compare_models([other, after]) == []
    alone = evaluated(tmp_path / "alone", mathvista=own(1.0))
    assert compare_models([alone, after]) == []
    with pytest.raises(DataError, match="alone and rlvr have no benchmark in common"):
        compare_models([alone, after], strict=True)


Report = Callable[..., tuple[int, str, str]]


@pytest.fixture
def report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Report:
    """Runs ``m2r report`` on runs, writing ``page.html``."""

    def run(*arguments: str) -> tuple[int, str, str]:
        page = str(tmp_path / "page.html")
        monkeypatch.setattr("sys.argv", ["m2r", "report", *arguments, "-o", page])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_command_prints_the_differences_and_puts_them_on_the_page(
    report: Report, tmp_path: Path
) -> None:
    evaluated(tmp_path / "sft", synthetic=own(0, 0, 1, 0, 1, 1))
    evaluated(tmp_path / "rlvr", synthetic=own(1, 0, 1, 1, 1, 1))
    runs = [str(tmp_path / name) for name in ("sft", "rlvr")]
    code, out, err = report(*runs, "--compare")
    assert (code, err) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines()]
    assert rows[0][:3] == ["Benchmark", "Metric", "Model"]
    pair = ["rlvr", "-", "sft", "+33.33", "±", "21.08", "[-20.86, +87.53]", "0.17", "6"]
    assert rows[2:4] == [["synthetic", "overall", *pair], ["synthetic", "Count", *pair]]
    assert "rlvr − sft" in (tmp_path / "page.html").read_text()
    assert report(*runs[::-1], "--compare")[1].splitlines()[2].split("|")[6].strip() == "-33.33"
    assert report(*runs)[1] == f"{tmp_path / 'page.html'}\n"


def test_the_command_refuses_other_questions_in_one_line_and_writes_nothing(
    report: Report, tmp_path: Path
) -> None:
    evaluated(tmp_path / "sft", synthetic=own(0, 1))
    evaluated(tmp_path / "rlvr", synthetic=own(0, 1, 1))
    runs = [str(tmp_path / name) for name in ("sft", "rlvr")]
    code, out, err = report(*runs, "--compare")
    assert (code, out, err.count("\n")) == (65, "", 1)
    assert "answered different questions (2 and 3, 2 of them by the same id)" in err
    assert not (tmp_path / "page.html").exists()
    assert report(*runs)[0] == 0
