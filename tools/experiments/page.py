"""docs/experiments.md and its pictures, from the kept runs alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from experiments import kept
from experiments.catalogue import ROOT, Experiment
from experiments.figures import Outcome, outcome
from experiments.pictures import pictures
from m2r_train.report.scale import number

DOCS: Final = ROOT / "docs"
PAGE: Final = "experiments.md"
PICTURES: Final = "experiments"
_EFFECT: Final = ("seed: control → treatment", "advantage over seeds", "over questions")
_HEAD: Final = """\
# Experiments

What the paper claims and leaves open, run in small: a model of 1.2 million parameters, simulated
rooms, minutes a run. A verdict here is about this scale; each experiment's README says what it can
and cannot tell. Every figure on this page is made by `make experiments-page` from the JSON files in
`bench/results/experiments`; `make experiments` makes those that are missing, on this machine.

A seed is the unit: the advantage of the claim's treatment is taken within each seed, and its mean
has a 95 % interval by Student's t over the seeds. *falsified*: the interval excludes an advantage
above the margin. *holds*: it lies above the margin, and p after Holm is below 0.05. *undecided*:
anything else, or a precondition of the claim is not met: there was nothing to test
([sweeps](sweeps.md)). Bands and whiskers of the pictures are the range of the seeds.
"""


def generated(experiments: Iterable[Experiment], have: Mapping[str, kept.Kept]) -> dict[str, str]:
    """Every file, by its path from docs/."""
    outcomes = [outcome(one, have) for one in experiments]
    files: dict[str, str] = {}
    parts = [_HEAD, _summary(outcomes)]
    for one in outcomes:
        drawn = pictures(one)
        files |= {f"{PICTURES}/{name}": text for name, text in drawn.items()}
        parts.append(_section(one, list(drawn)))
    return {PAGE: "\n".join(parts), **files}


def stale(files: Mapping[str, str], docs: Path = DOCS) -> list[Path]:
    """Files that are missing, differ, or are pictures of nothing."""
    wrong = [
        docs / name
        for name, text in files.items()
        if not (docs / name).exists() or (docs / name).read_text() != text
    ]
    there = (docs / PICTURES).glob("*.svg")
    return wrong + sorted(p for p in there if f"{PICTURES}/{p.name}" not in files)


def write(files: Mapping[str, str], docs: Path = DOCS) -> list[Path]:
    """Writes what is stale and removes pictures of nothing; returns what it touched."""
    touched = stale(files, docs)
    (docs / PICTURES).mkdir(parents=True, exist_ok=True)
    for path in touched:
        name = path.relative_to(docs).as_posix()
        if name in files:
            path.write_text(files[name])
        else:
            path.unlink()
    return touched


def _summary(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [
            f"[{o.experiment.name}](#{o.experiment.name})",
            o.claim.text,
            o.word,
            f"{o.made} of {o.wanted}",
        ]
        for o in outcomes
    ]
    return _table(["experiment", "claim", "verdict here", "results"], rows)


def _section(one: Outcome, drawn: Sequence[str]) -> str:
    name = one.experiment.name
    lines = [f"## {name}", "", f"**Claim.** {one.claim.text} ({one.claim.source})", ""]
    lines += [f"**Falsified when.** {one.claim.breaks}", ""]
    lines += [f"**Here: {one.word}.** {_why(one)}", ""]
    lines += [
        f"**What this cannot tell:** {one.experiment.cannot_tell}",
        "",
        f"Manifests and what they can tell: [examples/experiments/{name}]({_link(name)}).",
        "",
    ]
    if one.missing:
        lines += [_missing(one), ""]
    if one.figures:
        lines += [_comparisons(one.figures), ""]
        if len(one.others["claim"]["controls"]) > len(one.claim.controls):
            lines += [_others(one.others, one.claim.controls), ""]
        lines += [_scores(one), ""]
    lines += [f"![{file.removesuffix('.svg')}]({PICTURES}/{file})" for file in drawn]
    return "\n".join(lines).rstrip() + "\n"


def _link(name: str) -> str:
    return f"../examples/experiments/{name}/README.md"


def _why(one: Outcome) -> str:
    if not one.figures:
        return "Runs are missing for a comparison." if one.missing else one.why_not
    return f"{one.figures['verdict']['why']}."


def _missing(one: Outcome) -> str:
    told = [
        f"seed {seed}: all" if len(names) == one.of_a_seed else f"seed {seed}: {', '.join(names)}"
        for seed, names in one.missing.items()
    ]
    return f"Results that are missing ({one.made} of {one.wanted} are there): {'; '.join(told)}."


def _comparisons(figures: Mapping[str, Any]) -> str:
    """What the claim names, with the verdict of each row."""
    rows = [
        [
            *_effect(one, " (decides)" if one["decides"] else ""),
            f"{one['margin']:g}",
            "" if one["p_holm"] is None else f"{one['p_holm']:.2g}",
            one["verdict"],
        ]
        for one in figures["comparisons"]
    ]
    return _table(["the claim", *_EFFECT, "margin", "p (Holm)", "verdict"], rows)


def _others(figures: Mapping[str, Any], controls: Sequence[str]) -> str:
    """Arms that the claim is not about: effects, and no verdict."""
    rows = [_effect(one) for one in figures["comparisons"] if one["control"] not in controls]
    return _table(["other arms", *_EFFECT], rows)


def _effect(one: Mapping[str, Any], note: str = "") -> list[str]:
    pairs = (
        f"{seed}: {number(pair['control'])} → {number(pair['treatment'])}"
        for seed, pair in one["seeds"].items()
    )
    questions = "" if one["questions"] is None else _interval(one["questions"])
    title = f"{one['measure']}: {one['treatment']} against {one['control']}{note}"
    return [title, "; ".join(pairs), _interval(one), questions]


def _interval(one: Mapping[str, Any]) -> str:
    if one["advantage"] is None:
        return ""
    ends = "" if one["low"] is None else f" [{one['low']:+.3g}, {one['high']:+.3g}]"
    return f"{one['advantage']:+.3g}{ends}"


def _scores(one: Outcome) -> str:
    """Final scores in percent: the mean over the seeds and their standard deviation."""
    arms = list(one.others["arms"])
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for score in one.others["scores"]:
        if "/" not in score["figure"] or score["figure"] == "greedy/overall":
            spread = "" if score["deviation"] is None else f" ± {score['deviation']:.1f}"
            own = cells.setdefault((score["run"], score["figure"]), {})
            own[score["arm"]] = f"{score['mean']:.1f}{spread} ({score['n']})"
    rows = [
        [run, figure, *(own.get(arm, "") for arm in arms)] for (run, figure), own in cells.items()
    ]
    before = (
        ""
        if one.before is None
        else f" The cold start that the arms share scores {one.before:.1f} overall."
    )
    note = f"\nPercent: mean ± standard deviation over the seeds (number of seeds).{before}"
    return _table(["evaluation", "figure", *arms], rows) + note


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    told = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(one)} |" for one in told) + "\n"
