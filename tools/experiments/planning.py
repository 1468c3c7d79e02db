"""What is to do: runs that have no JSON yet, each once, and how long they take."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from experiments.catalogue import Experiment, Run, with_ancestors
from experiments.costs import minutes


@dataclass(frozen=True, slots=True)
class Share:
    """An experiment's runs of some seeds. ``left`` are to be made, inputs of them included."""

    name: str
    kept: int
    wanted: int
    left: tuple[Run, ...]

    @property
    def minutes(self) -> float:
        """CPU-minutes of what is left, were this experiment alone."""
        return minutes(self.left)


def missing(runs: Sequence[Run], have: Container[str]) -> list[Run]:
    """The runs to make so that every one that is kept has its JSON: those, and their inputs."""
    return with_ancestors(runs, [r.recipe for r in runs if r.is_kept and r.recipe not in have])


def share(experiment: Experiment, seeds: Iterable[int], have: Container[str]) -> Share:
    """Of one experiment."""
    runs = [one for seed in seeds for one in experiment.runs(seed)]
    unique = list({one.recipe: one for one in runs}.values())
    kept = [one for one in unique if one.is_kept]
    return Share(
        experiment.name,
        sum(one.recipe in have for one in kept),
        len(kept),
        tuple(missing(unique, have)),
    )


def together(shares: Iterable[Share]) -> list[Run]:
    """What is left of all of them: a run that several share once."""
    return list({one.recipe: one for part in shares for one in part.left}.values())


def cheapest_first(
    experiments: Iterable[Experiment], seed: int, have: Container[str]
) -> list[Experiment]:
    """In order of what each has left to do of a seed."""
    return sorted(experiments, key=lambda one: (share(one, [seed], have).minutes, one.name))


def table(shares: Sequence[Share]) -> list[str]:
    """The plan for people, a line each; minutes are CPU-minutes of one thread."""
    wide = max([len(one.name) for one in shares] + [len("all, shared runs once")])
    lines = [f"{'experiment':<{wide}}  results  runs to make  CPU-minutes"]
    lines += [
        f"{one.name:<{wide}}  {f'{one.kept}/{one.wanted}':>7}  {len(one.left):>12}"
        f"  {one.minutes:>11.0f}"
        for one in shares
    ]
    left = together(shares)
    total = f"{'all, shared runs once':<{wide}}  {'':>7}  {len(left):>12}  {minutes(left):>11.0f}"
    return [*lines, total]
