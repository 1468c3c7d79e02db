"""From the runs of a sweep in a store to the figures and the verdict of a claim.

Reads what the stages published. Only finished runs of an arm count; which measure one has is found
by its results or its history.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from m2r_train.api.claim import Claim, Measure
from m2r_train.api.errors import DataError
from m2r_train.api.problems import nearest
from m2r_train.api.sweep import ARM_LABEL, SEED_LABEL, SWEEP_LABEL
from m2r_train.benchmarks.pairing import Side, paired_over_runs
from m2r_train.core.verdicts import Effect, Verdict, effect, holm, tested, together, verdict
from m2r_train.report.arms import SHOWN, band, points_of, spread, statistic
from m2r_train.reporting import StoredRun
from m2r_train.store import read_head


@dataclass(frozen=True, slots=True)
class ArmRun:
    """A finished run of an arm. ``base`` is the base manifest's name."""

    run: StoredRun
    base: str
    arm: str
    seed: int
    results: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]

    def value(self, measure: Measure) -> float | None:
        """The measure's number; None where this run does not have it."""
        if measure.run not in (None, self.base):
            return None
        if measure.score is not None:
            benchmark, _, figure = measure.score.partition("/")
            score = self.results.get("benchmarks", {}).get(benchmark, {}).get(figure)
            told = None if not isinstance(score, Mapping) else score.get("value")
            return None if told is None else float(told)
        assert measure.curve is not None
        return statistic(points_of(self.history, measure.curve, measure.task), measure)

    def names(self, measure: Measure) -> list[str]:
        """All that a measure of this sort could be of."""
        if measure.curve is not None:
            return [key for record in self.history[:1] for key in record]
        own = self.results.get("benchmarks", {})
        return [f"{benchmark}/{figure}" for benchmark in own for figure in own[benchmark]]


def labelled_runs(runs: Iterable[StoredRun], claim: Claim) -> list[ArmRun]:
    """The finished runs with the labels of an arm and a seed, of the claim's sweep or of all.

    Raises DataError where one arm, seed and name has two runs.
    """
    found: dict[tuple[str, str, str, int], ArmRun] = {}
    for run in runs:
        labels = run.spec.metadata.labels
        arm, seed = labels.get(ARM_LABEL), labels.get(SEED_LABEL, "")
        sweep = labels.get(SWEEP_LABEL)
        if arm is None or not seed.isdecimal() or claim.sweep not in (None, sweep):
            continue
        head = read_head(run.store)
        if head is None or not head.done:
            continue
        name = run.spec.metadata.name
        own = arm_run(run, name.removesuffix(f"-{arm}-s{seed}"), arm, int(seed))
        other = found.setdefault((run.spec.kind, own.base, arm, own.seed), own)
        if other is not own:
            raise DataError(
                f"{other.run.store.uri} and {run.store.uri} are both {name}; name the folders of "
                "one, the sweep in the claim, or the sweep's file with --sweep"
            )
    return list(found.values())


def arm_run(run: StoredRun, base: str, arm: str, seed: int) -> ArmRun:
    """A finished run with what its stage has published."""
    results = run.json("eval/results.json") or {}
    return ArmRun(run, base, arm, seed, results, run.lines("records/history.jsonl"))


def claim_figures(claim: Claim, own: Sequence[ArmRun], *, file: str) -> dict[str, Any]:
    """Everything that is told of a claim, as JSON (docs/sweeps.md has the fields).

    Raises DataError, naming ``file`` and field, for an arm or measure that no run has.
    """
    _check_arms(claim, own, file)
    comparisons = [
        _comparison(claim, place, control, own, file)
        for place in range(len(claim.measures))
        for control in claim.controls
    ]
    adjusted = holm({str(n): c["p"] for n, c in enumerate(comparisons) if c["p"] is not None})
    verdicts: list[Verdict] = []
    for number, one in enumerate(comparisons):
        one["p_holm"] = adjusted.get(str(number))
        told = verdict(
            Effect(one["advantage"], one["n"], one["stderr"], one["low"], one["high"], one["p"]),
            margin=one["margin"],
            adjusted_p=one["p_holm"],
            control=one["control"],
            level=claim.level,
        )
        one["verdict"], one["why"] = told.word, told.why
        if one["decides"]:
            verdicts.append(told)
    needed = [_needed(claim, place, own, file) for place in range(len(claim.preconditions))]
    final = next((one for one, _ in needed if one is not None), together(verdicts))
    return {
        "claim": claim.model_dump(mode="json", by_alias=True),
        "verdict": {"word": final.word, "why": final.why},
        "arms": {arm: _seeds(own, arm) for arm in _arms(own)},
        "preconditions": [told for _, told in needed],
        "comparisons": comparisons,
        "scores": _scores(own),
        "curves": _curves(own),
    }


def _comparison(
    claim: Claim, place: int, control: str, runs: Sequence[ArmRun], file: str
) -> dict[str, Any]:
    """Treatment less control by seed; ``advantage`` and its ends are positive where better."""
    measure = claim.measures[place]
    where = f"{file}: measures[{place}]"
    treated = _by_seed(runs, claim.treatment, measure, where)
    plain = _by_seed(runs, control, measure, where)
    seeds = sorted(treated.keys() & plain.keys())
    sign = 1.0 if measure.better == "Higher" else -1.0
    pairs = [(_number(plain[s], measure), _number(treated[s], measure)) for s in seeds]
    found = effect([sign * (after - before) for before, after in pairs], level=claim.level)
    return {
        "measure": claim.measure_title(place),
        "unit": "points of percent" if measure.score is not None else "as the curve",
        "treatment": claim.treatment,
        "control": control,
        "better": measure.better,
        "margin": measure.margin,
        "decides": place == 0,
        "seeds": {
            str(s): {"control": before, "treatment": after}
            for s, (before, after) in zip(seeds, pairs, strict=True)
        },
        "advantage": found.value,
        "stderr": found.stderr,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "n": found.n,
        "questions": _by_questions(measure, [(plain[s], treated[s]) for s in seeds], sign),
    }


def _needed(
    claim: Claim, place: int, runs: Sequence[ArmRun], file: str
) -> tuple[Verdict | None, dict[str, Any]]:
    """A verdict where a precondition is not met, and what is told of it."""
    one = claim.preconditions[place]
    having = _by_seed(runs, one.arm, one.measure, f"{file}: preconditions[{place}].measure")
    values = {seed: _number(run, one.measure) for seed, run in sorted(having.items())}
    value = fmean(values.values())
    found = tested(one.text, arm=one.arm, value=value, least=one.at_least)
    told = {
        "text": one.text,
        "arm": one.arm,
        "measure": one.measure.title,
        "seeds": {str(seed): number for seed, number in values.items()},
        "mean": value,
        "atLeast": one.at_least,
        "met": found is None,
    }
    return found, told


def _by_questions(
    measure: Measure, pairs: Sequence[tuple[ArmRun, ArmRun]], sign: float
) -> dict[str, Any] | None:
    """The mean advantage with questions as the unit, in points; None where they differ."""
    if measure.score is None or not pairs:
        return None
    benchmark, _, figure = measure.score.partition("/")
    sides = [(_side(benchmark, before), _side(benchmark, after)) for before, after in pairs]
    try:
        gap = paired_over_runs(benchmark, sides).get(figure)
    except DataError:  # other questions, or scored otherwise: there is nothing to pair
        return None
    if gap is None or gap.low is None or gap.high is None:
        return None
    low, high = sorted((sign * 100 * gap.low, sign * 100 * gap.high))
    value = sign * 100 * gap.value
    stderr = None if gap.stderr is None else 100 * gap.stderr
    return {"advantage": value, "stderr": stderr, "low": low, "high": high, "p": gap.p, "n": gap.n}


def _side(benchmark: str, one: ArmRun) -> Side:
    protocol = one.results.get("protocols", {}).get(benchmark, {})
    return Side(one.run.label, one.run.lines(f"eval/samples/{benchmark}.jsonl"), protocol)


def _by_seed(runs: Sequence[ArmRun], arm: str, measure: Measure, where: str) -> dict[int, ArmRun]:
    """The run of each seed that has the measure."""
    having = [one for one in runs if one.arm == arm and one.value(measure) is not None]
    title = measure.title
    if not having:
        remedy = _meant(runs, measure)
        raise DataError(f"{where}: no finished run of arm {arm} has {title}; {remedy}")
    bases = sorted({one.base for one in having})
    if len(bases) > 1:
        raise DataError(f"{where}.run: {' and '.join(bases)} have {title}; name one of them")
    return {one.seed: one for one in having}


def _meant(runs: Sequence[ArmRun], measure: Measure) -> str:
    """What could have been meant."""
    wanted = measure.score or measure.curve or ""
    guess = nearest(wanted, dict.fromkeys(name for one in runs for name in one.names(measure)))
    if guess and guess != wanted:
        return f"did you mean {guess}?"
    return "run the sweep to its end, or correct it"


def _number(one: ArmRun, measure: Measure) -> float:
    value = one.value(measure)
    assert value is not None
    return value


def _check_arms(claim: Claim, runs: Sequence[ArmRun], file: str) -> None:
    arms = _arms(runs)
    wanted = [("treatment", claim.treatment), *(("controls", one) for one in claim.controls)]
    wanted += [(f"preconditions[{n}].arm", one.arm) for n, one in enumerate(claim.preconditions)]
    for field, arm in wanted:
        if arm not in arms:
            known = f"there are {', '.join(arms)}" if arms else "none has the label of an arm"
            raise DataError(
                f"{file}: {field}: no finished run of arm {arm} among those given ({known}); "
                "run m2r sweep first, or correct the name"
            )


def _arms(runs: Sequence[ArmRun]) -> list[str]:
    return sorted({one.arm for one in runs})


def _seeds(runs: Sequence[ArmRun], arm: str) -> list[int]:
    return sorted({one.seed for one in runs if one.arm == arm})


def _scores(runs: Sequence[ArmRun]) -> list[dict[str, Any]]:
    """Final scores: a row for each evaluation, figure and arm, in percent, by seed."""
    found: dict[tuple[str, str, str, str], dict[int, float]] = {}
    for one in sorted(runs, key=lambda r: (r.base, r.arm, r.seed)):
        for benchmark, figures in one.results.get("benchmarks", {}).items():
            for figure, score in figures.items():
                if isinstance(score, Mapping) and score.get("value") is not None:
                    key = one.base, benchmark, figure, one.arm
                    found.setdefault(key, {})[one.seed] = float(score["value"])
    return [
        {
            **dict(zip(("run", "benchmark", "figure", "arm"), key, strict=True)),
            "seeds": {str(seed): value for seed, value in by_seed.items()},
            **spread(list(by_seed.values())),
        }
        for key, by_seed in found.items()
    ]


def _curves(runs: Sequence[ArmRun]) -> list[dict[str, Any]]:
    """Bands over the seeds: for each training run, quantity and arm."""
    found = []
    for base in sorted({one.base for one in runs if one.history}):
        for key, title, unit in SHOWN:
            for arm in _arms(runs):
                lines = [
                    points_of(one.history, key, None)
                    for one in runs
                    if (one.base, one.arm) == (base, arm)
                ]
                made = band([line for line in lines if line])
                if made.steps:
                    named = {"run": base, "key": key, "title": title, "unit": unit, "arm": arm}
                    found.append({**named, **made.as_json()})
    return found
