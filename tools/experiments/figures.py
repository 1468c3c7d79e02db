"""The figures of an experiment from kept runs: those of ``m2r report --compare --claim``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Final

from experiments import kept
from experiments.catalogue import Experiment, Run
from m2r_train.api.claim import Claim
from m2r_train.api.errors import DataError
from m2r_train.claims import ArmRun, claim_figures
from m2r_train.report.arms import band, points_of
from m2r_train.report.series import Point

_SEED: Final = re.compile(r"-s([0-9]+)$")  # as m2r sweep names runs


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is there of an experiment, and what it says.

    ``figures`` are of the claim; ``others`` compares the treatment with every arm. Either is empty
    where runs are missing, and ``why_not`` says which. ``held_out``
    has bands of the accuracy during training, ``before`` is the score of the cold start.
    """

    experiment: Experiment
    claim: Claim
    seeds: tuple[int, ...]
    made: int
    missing: Mapping[int, Sequence[str]]
    figures: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)
    held_out: Sequence[Mapping[str, Any]] = ()
    why_not: str = ""
    before: float | None = None

    @property
    def word(self) -> str:
        """``holds``, ``falsified``, ``undecided``, or that there is no result."""
        return str(self.figures["verdict"]["word"]) if self.figures else "no result yet"

    @property
    def of_a_seed(self) -> int:
        """Results of one seed."""
        return self.wanted // max(1, len(self.seeds))

    @property
    def wanted(self) -> int:
        return self.made + sum(map(len, self.missing.values()))


def outcome(experiment: Experiment, have: Mapping[str, kept.Kept]) -> Outcome:
    """From the kept runs by their recipes."""
    runs = _by_seed(experiment, have)
    there = [one for own in runs.values() for one in own if one.recipe in have]
    missing = {
        seed: [one.name for one in own if one.recipe not in have] for seed, own in runs.items()
    }
    claim = experiment.claim
    found = Outcome(
        experiment=experiment,
        claim=claim,
        seeds=tuple(runs),
        made=len(there),
        missing={seed: names for seed, names in missing.items() if names},
        before=_before(there, have),
    )
    own = [kept.arm_run_of(one, have[one.recipe]) for one in there if one.planned.arm is not None]
    others = tuple(arm for arm in _whole(claim, own) if arm != claim.treatment)
    every = claim.model_copy(update={"controls": others})
    try:
        return replace(
            found,
            figures=claim_figures(claim, own, file="claim.yaml"),
            others=claim_figures(every, own, file="claim.yaml"),
            held_out=_held_out(own),
        )
    except DataError as error:
        return replace(found, why_not=str(error))


def _whole(claim: Claim, runs: Sequence[ArmRun]) -> list[str]:
    """The arms of which some run has each measure of the claim."""
    return [
        arm
        for arm in dict.fromkeys(one.arm for one in runs)
        if all(
            any(one.arm == arm and one.value(measure) is not None for one in runs)
            for measure in claim.measures
        )
    ]


def _by_seed(experiment: Experiment, have: Mapping[str, Any]) -> dict[int, list[Run]]:
    """The kept runs of the seeds that are asked for, and of others that have a result."""
    asked = experiment.seeds
    told = (_SEED.search(one["name"]) for one in have.values())
    found = {}
    for seed in sorted({*asked, *(int(match[1]) for match in told if match)}):
        runs = [one for one in experiment.runs(seed) if one.is_kept]
        if seed in asked or any(one.recipe in have and one.planned.arm for one in runs):
            found[seed] = runs
    return found


def _held_out(runs: Sequence[ArmRun]) -> list[dict[str, Any]]:
    """Bands over the seeds of the greedy accuracy during training, as `claim_figures`' curves."""
    lines: dict[tuple[str, str], list[Sequence[Point]]] = {}
    for one in runs:
        if points := points_of(one.history, "eval_accuracy", None):
            lines.setdefault((one.base, one.arm), []).append(points)
    named = {"key": "eval_accuracy", "title": "Held-out accuracy", "unit": "greedy, share right"}
    return [
        {"run": base, "arm": arm, **named, **band(own, smoothed=False).as_json()}
        for (base, arm), own in sorted(lines.items())
    ]


def _before(runs: Iterable[Run], have: Mapping[str, kept.Kept]) -> float | None:
    """Percent of the cold start that the arms share, the mean over the seeds."""
    scores = [
        have[one.recipe]["scores"]["synthetic"]["overall"]["value"]
        for one in runs
        if one.kind == "EvalJob" and one.planned.arm is None
    ]
    return fmean(scores) if scores else None
