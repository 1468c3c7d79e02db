"""``m2r score``: predictions in a JSON Lines file, ``samples.jsonl`` and ``summary.json`` out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial as partial_of
from pathlib import Path
from typing import Any, get_args

from m2r_train.api.errors import ConfigError, DataError, SpecError
from m2r_train.benchmarks.base import Benchmark, Record, Rule
from m2r_train.benchmarks.comparing import OtherQuestions, answers_in_order, compared
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.benchmarks.scoring import AnswerForm, Result, score_set

SAMPLES, SUMMARY = "samples.jsonl", "summary.json"

_SHOWN = 5  # parts named in a message; samples.jsonl and --partial have them all


def score_file(
    name: str,
    source: Path,
    out: Path,
    *,
    rule: str,
    answer: str,
    partial: bool,
    against: Path | None = None,
) -> dict[str, Any]:
    """Score a file of predictions; returns what ``summary.json`` says.

    With ``against``, another file of predictions to the same questions, it also says under
    ``against`` what the first has more than that, paired by question.

    ``samples.jsonl`` is written whenever the file can be read, ``summary.json`` when its figures
    stand for the whole set, or ``partial`` ones are asked for. Raises SpecError for a benchmark,
    rule or form of answer that there is not, DataError for a file that cannot be read, records
    that cannot be scored, sets that lack parts and files that answer different questions,
    ConfigError where nothing can be written.
    """
    benchmark = _benchmark(name)
    known_rule = _rule(benchmark, rule)
    form = _answer_form(answer)
    records = list(read_records(source))
    score = partial_of(score_set, benchmark, rule=known_rule, answer=form, partial=partial)
    other = None if against is None else score(_others(benchmark, source, records, against))
    result = score(records)
    if against is not None and other is not None:
        _complain(against, other, partial)
        result = _beside(result, other, against)
    _write(out, result)
    _complain(source, result, partial)
    assert result.summary is not None  # records without errors and, but for partial, whole
    return result.summary


def _others(
    benchmark: Benchmark, source: Path, records: Sequence[Record], against: Path
) -> list[dict[str, Any]]:
    try:
        return answers_in_order(benchmark, records, list(read_records(against)))
    except OtherQuestions as error:
        raise DataError(
            f"{against}: {source} and this answer {error}; compare answers to the same questions"
        ) from None


def _beside(result: Result, other: Result, against: Path) -> Result:
    """The result with what it has more than the other one; as it is where a score is missing."""
    if result.summary is None or result.errors:
        return result
    found = compared(result, other)
    told = {
        "file": str(against),
        "differences": {name: gap.percent() for name, gap in found.differences.items()},
        **{"won": found.won, "lost": found.lost, "tied": found.tied},
    }
    pairs = zip(result.samples, other.samples, strict=True)
    samples = [own | {"against": theirs["score"]} for own, theirs in pairs]
    return replace(result, samples=samples, summary=result.summary | {"against": told})


def told_difference(summary: Mapping[str, Any]) -> str:
    """The headline's difference in one line, of a summary that has ``against``."""
    found = summary["against"]
    gap = found["differences"].get(summary["headline"])
    parts = "undefined" if gap is None else f"{gap['value']:+.2f}"
    if gap is not None and gap["stderr"] is not None:
        interval = f"[{gap['low']:+.2f}, {gap['high']:+.2f}]"
        parts += f" ± {gap['stderr']:.2f}, 95 % interval {interval}, p = {gap['p']:.2g}"
    return (
        f"against {found['file']}: {parts}; "
        f"{found['won']} won, {found['lost']} lost, {found['tied']} tied"
    )


def read_records(source: Path) -> Iterator[Mapping[str, Any]]:
    """The objects of a JSON Lines file; blank lines are skipped."""
    try:
        lines = source.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{source}: {_reason(error)}; name a JSON Lines file") from None
    found = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        found = True
        yield _record(line, f"{source}:{number}")
    if not found:
        raise DataError(f"{source}: has no records; give one JSON object a line")


def _record(line: bytes, where: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise DataError(f"{where}: is not JSON ({reason}); give one object a line") from None
    if not isinstance(record, dict):
        raise DataError(
            f"{where}: is a {type(record).__name__}; give an object with the benchmark's fields "
            "and prediction"
        )
    return record


def _benchmark(name: str) -> Benchmark:
    if name not in BENCHMARKS:
        raise SpecError(f"{name[:80]!r} is no benchmark; use one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def _rule(benchmark: Benchmark, rule: str) -> Rule:
    for known in benchmark.rules:
        if known == rule:
            return known
    raise SpecError(
        f"--rule {rule[:80]}: {benchmark.name} has no such rule; use one of "
        f"{', '.join(benchmark.rules)}"
    )


def _answer_form(answer: str) -> AnswerForm:
    for known in get_args(AnswerForm):
        if known == answer:
            form: AnswerForm = known
            return form
    raise SpecError(f"--answer {answer[:80]}: is unknown; use one of raw, tagged")


def _complain(source: Path, result: Result, partial: bool) -> None:
    if result.errors:
        number, reason = result.errors[0]
        rest = len(result.errors) - 1
        more = f" (and {rest} more: see {SAMPLES})" if rest else ""
        raise DataError(f"{source}: record {number + 1}: {reason}{more}")
    if result.missing and not partial:
        raise DataError(
            f"{source}: the set is incomplete, without {_listed(result.missing)}; add what is "
            "missing, or score what there is with --partial"
        )


def _listed(parts: list[str]) -> str:
    rest = len(parts) - _SHOWN
    return "; ".join(parts[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _write(out: Path, result: Result) -> None:
    """Both files or, for figures that are not whole, no summary: not an older one either."""
    lines = (json.dumps(sample) + "\n" for sample in result.samples)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / SUMMARY).unlink(missing_ok=True)
        _replace(out / SAMPLES, lines)
        if result.summary is not None:
            _replace(out / SUMMARY, [json.dumps(result.summary, indent=1) + "\n"])
    except OSError as error:
        raise ConfigError(
            f"{out}: {_reason(error)}; name a folder that can be written with --out"
        ) from None


def _replace(path: Path, chunks: Iterable[str]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(chunks)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
