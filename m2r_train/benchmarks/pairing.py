"""Two evaluations of the same questions: the difference of every figure, paired.

A question that is hard is hard for both models. Pairing takes that out, so that a difference is
told from chance by far fewer questions than two standard errors side by side would need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from m2r_train.api.errors import DataError
from m2r_train.benchmarks.kept import Kept, all_figures
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.core.estimates import Difference, Figure, difference, mean_of_draws

_PROTOCOL = ("rule", "form", "answer", "judge")


class Side(NamedTuple):
    """One evaluation of a benchmark: its name for people, the rows that it kept, and what its
    figures were made by (``protocols`` of ``eval/results.json``).
    """

    label: str
    rows: Sequence[Kept]
    protocol: Mapping[str, Any]


def paired(name: str, baseline: Side, model: Side) -> dict[str, Difference]:
    """``model`` less ``baseline`` for every figure that both have, also under ``greedy/``.

    Raises DataError when they answered other questions, or were scored otherwise.
    """
    return paired_over_runs(name, [(baseline, model)])


def paired_over_runs(name: str, pairs: Sequence[tuple[Side, Side]]) -> dict[str, Difference]:
    """As `paired`, of several (baseline, model): the mean of their differences.

    Questions are the unit. The n-th question of each pair is one cluster: right where they are the
    same questions, and where they are not, only the degrees of freedom are fewer than need be.
    """
    old: list[Mapping[str, Figure]] = []
    new: list[Mapping[str, Figure]] = []
    for baseline, model in pairs:
        _same_protocol(name, baseline, model)
        before, after = _in_order(baseline.rows), _in_order(model.rows)
        _same_questions(name, baseline.label, before, model.label, after)
        old.append(all_figures(name, before))
        new.append(all_figures(name, after))
    common = [f for f in new[0] if all(f in own for own in (*old, *new))] if new else []
    gaps = {
        figure: difference(
            mean_of_draws([own[figure] for own in new]), mean_of_draws([own[figure] for own in old])
        )
        for figure in common
    }
    return {figure: gap for figure, gap in gaps.items() if gap is not None}


def _in_order(rows: Sequence[Kept]) -> list[Kept]:
    return sorted(rows, key=_identity)


def _identity(row: Kept) -> tuple[str, str]:
    return str(row["task"]), str(row["id"])


def _same_protocol(name: str, baseline: Side, model: Side) -> None:
    for field in _PROTOCOL:
        before, after = baseline.protocol.get(field), model.protocol.get(field)
        if before != after:
            raise DataError(
                f"{name}: {baseline.label} was scored with {field} {before!r}, {model.label} with "
                f"{after!r}; compare evaluations that are scored alike"
            )


def _same_questions(
    name: str, baseline: str, before: Sequence[Kept], model: str, after: Sequence[Kept]
) -> None:
    for label, rows in ((baseline, before), (model, after)):
        if not rows:
            raise DataError(f"{name}: {label} kept no answers; evaluate it again")
        if name in BENCHMARKS and any("record" not in row for row in rows):
            raise DataError(
                f"{name}: {label} was evaluated by a version that did not keep the records; "
                "evaluate it again"
            )
    if [_question(row) for row in before] != [_question(row) for row in after]:
        shared = len({_identity(row) for row in before} & {_identity(row) for row in after})
        raise DataError(
            f"{name}: {baseline} and {model} answered different questions ({len(before)} and "
            f"{len(after)}, {shared} of them by the same id); compare evaluations of the same data"
        )


def _question(row: Kept) -> tuple[Any, ...]:
    """What makes a question the same one: its id is not enough where two datasets count alike."""
    return *_identity(row), row.get("question"), row.get("answer"), row.get("record")
