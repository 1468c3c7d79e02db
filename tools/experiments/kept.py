"""What is kept of a run in git, and a run made of it again: a few kilobytes of JSON.

An answer is one character, which stands for its pair of score and format: so every score, interval
and paired difference comes out of the file as it would of the store. Texts are not kept. Curves are
rounded to four digits.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from experiments.catalogue import ROOT, Run
from m2r_train.api.runspec import RunMetadata, RunSpec, RunStorage, canonical_json
from m2r_train.claims import ArmRun, arm_run
from m2r_train.reporting import StoredRun
from m2r_train.store import Blob, NotFound, ObjectStore

RESULTS: Final = ROOT / "bench" / "results" / "experiments"
CURVES: Final = (
    *("reward", "accuracy", "completion_tokens", "kl", "entropy", "repetition", "zero_signal"),
    *("loss", "format_valid", "truncated", "eval_accuracy"),
)
MODES: Final = ("sampled", "greedy")
_DIGITS: Final = 4
_FIRST: Final = ord("0")

Kept = dict[str, Any]


def kept_of(run: Run, stored: StoredRun) -> Kept:
    """The JSON document of a finished run."""
    results = stored.json("eval/results.json") or {}
    benchmarks = results.get("benchmarks", {})
    return {
        "kind": run.kind,
        "name": run.name,
        "recipe": run.recipe,
        "uid": stored.spec.metadata.uid,
        "scores": benchmarks,
        "protocols": results.get("protocols", {}),
        "answers": {
            name: _answers(stored.lines(f"eval/samples/{name}.jsonl")) for name in benchmarks
        },
        "history": _columns(stored.lines("records/history.jsonl")),
    }


def arm_run_of(run: Run, kept: Mapping[str, Any]) -> ArmRun:
    """A run of an arm, as `m2r_train.claims` compares it, from its JSON."""
    planned = run.planned
    assert planned.arm is not None
    assert planned.seed is not None
    spec = RunSpec(
        kind=planned.resource.job.kind,
        metadata=RunMetadata(name=run.name, uid=kept["uid"]),
        storage=RunStorage(uri="file:///kept"),
        seed=planned.resource.spec.seed,
        spec={},
    )
    files = {"records/history.jsonl": _lines(_records(kept["history"]))}
    if kept["scores"]:
        results = {"benchmarks": kept["scores"], "protocols": kept["protocols"]}
        files["eval/results.json"] = json.dumps(results).encode()
    for name, answers in kept["answers"].items():
        files[f"eval/samples/{name}.jsonl"] = _lines(_rows(answers))
    stored = StoredRun(cast("ObjectStore", _Shelf(f"kept:{run.name}", files)), spec)
    return arm_run(stored, planned.base, planned.arm, planned.seed)


def path_of(run: Run, folder: Path) -> Path:
    """Where its JSON stands."""
    return folder / f"{run.name}-{run.recipe[:8]}.json"


def write(run: Run, stored: StoredRun, folder: Path) -> Path:
    """Keeps a finished run: whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(run, folder)
    draft = path.with_suffix(".part")
    draft.write_text(canonical_json(kept_of(run, stored)) + "\n")
    draft.replace(path)
    return path


def read_all(folder: Path = RESULTS) -> dict[str, Kept]:
    """Every kept run by its recipe."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return {one["recipe"]: one for one in found}


@dataclass(frozen=True, slots=True)
class _Shelf:
    """As much of a store as reading a finished run takes."""

    uri: str
    files: Mapping[str, bytes]

    def get(self, key: str) -> Blob:
        if key not in self.files:
            raise NotFound(key)
        return Blob(self.files[key], "")


def _answers(rows: Sequence[Mapping[str, Any]]) -> Kept:
    """Rows of an evaluation as strings of one character an answer, in the order of the rows."""
    pairs: dict[tuple[float, float], str] = {}
    tasks: dict[str, str] = {}

    def symbol(answer: Mapping[str, Any]) -> str:
        pair = (float(answer["score"]), float(answer["format"]))
        return pairs.setdefault(pair, chr(_FIRST + len(pairs)))

    asked = [[row["task"], row["id"], row.get("question"), row.get("answer")] for row in rows]
    return {
        "questions": hashlib.sha256(canonical_json(asked).encode()).hexdigest(),
        "task": "".join(tasks.setdefault(r["task"], chr(_FIRST + len(tasks))) for r in rows),
        **{
            mode: [len(rows[0][mode]), "".join(symbol(one) for r in rows for one in r[mode])]
            for mode in MODES
        },
        "tasks": list(tasks),
        "pairs": [list(pair) for pair in pairs],
    }


def _rows(answers: Mapping[str, Any]) -> list[Kept]:
    """The inverse, but for texts: a question is told by its place and by the digest of all."""
    tasks = [answers["tasks"][ord(one) - _FIRST] for one in answers["task"]]
    rows: list[Kept] = [
        {"id": f"{n:06}", "task": task, "question": answers["questions"]}
        for n, task in enumerate(tasks)
    ]
    for mode in MODES:
        draws, text = answers[mode]
        for n, row in enumerate(rows):
            own = (answers["pairs"][ord(c) - _FIRST] for c in text[n * draws : (n + 1) * draws])
            row[mode] = [{"score": score, "format": valid} for score, valid in own]
    return rows


def _columns(records: Sequence[Mapping[str, Any]]) -> Kept:
    """Step records as columns, null where a record does not have a key."""
    columns: Kept = {"step": [one["step"] for one in records]} if records else {}
    if any("task" in one for one in records):
        columns["task"] = [one.get("task") for one in records]
    for key in CURVES:
        own = [one.get(key) for one in records]
        if any(isinstance(value, int | float) for value in own):
            columns[key] = [None if v is None else _rounded(float(v)) for v in own]
    return columns


def _records(columns: Mapping[str, Any]) -> list[Kept]:
    steps = columns.get("step", [])
    return [
        {key: own[n] for key, own in columns.items() if own[n] is not None}
        for n in range(len(steps))
    ]


def _rounded(value: float) -> float | None:
    """Null for what JSON cannot write: the step counts as one without the figure."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def _lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(canonical_json(one).encode() + b"\n" for one in records)
