"""The page of a claim: verdict, comparisons, scores and curves of its arms. Made of its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from m2r_train.report.charts import Chart, forest
from m2r_train.report.scale import number
from m2r_train.report.series import Line
from m2r_train.report.templating import environment
from m2r_train.telemetry.results import Score

_RATIOS = ("reward", "accuracy")


def render_claim(figures: Mapping[str, Any]) -> str:
    """The page as text; ``figures`` are those of ``m2r_train.claims.claim_figures``."""
    arms = list(figures["arms"])
    charts = curve_charts(figures["curves"], arms)
    template = environment().get_template("claim.html.j2")
    return template.render(
        title=f"Claim: {figures['claim']['name']}",
        figures=figures,
        arms=arms,
        rows=[_row(one) for one in figures["comparisons"]],
        pictures=score_pictures(figures["scores"], arms),
        charts=charts,
        chart_data={chart.id: chart.data for chart in charts},
    )


def curve_charts(curves: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> list[Chart]:
    """A chart for each training run and quantity: a line and a band for each arm."""
    charts = []
    for run, key in dict.fromkeys((one["run"], one["key"]) for one in curves):
        own = [one for one in curves if (one["run"], one["key"]) == (run, key)]
        ceiling = 1.0 if key in _RATIOS else None
        floor = None if key == "loss" else 0.0
        charts.append(
            Chart(
                f"{run}-{key}",
                own[0]["title"],
                tuple(_line(one, arms.index(one["arm"])) for one in own),
                f"{run}, {own[0]['unit']}; line: mean, area: range of the seeds",
                floor,
                ceiling,
            )
        )
    return charts


def score_pictures(
    scores: Sequence[Mapping[str, Any]], arms: Sequence[str]
) -> list[tuple[str, Markup]]:
    """Final scores of each evaluation: the mean of the seeds, and as whisker their range."""
    pictures = []
    for run, benchmark in dict.fromkeys((one["run"], one["benchmark"]) for one in scores):
        rows: dict[str, dict[str, Score]] = {}
        for one in scores:
            if (one["run"], one["benchmark"]) == (run, benchmark) and "/" not in one["figure"]:
                values = list(one["seeds"].values())
                ends = (min(values), max(values))
                rows.setdefault(one["figure"], {})[one["arm"]] = Score(one["mean"], told=ends)
        drawn = [(figure, figure == "overall", own) for figure, own in rows.items()]
        drawn.sort(key=lambda row: not row[1])
        if drawn:
            pictures.append((f"{run}: {benchmark}", forest(drawn, arms)))
    return pictures


def _line(one: Mapping[str, Any], colour: int) -> Line:
    steps = one["steps"]
    points = tuple(zip(steps, one["mean"], strict=True))
    area = tuple(zip(steps, one["low"], one["high"], strict=True))
    return Line(one["arm"], points, (), colour, area)


def _row(one: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison as the table prints it."""
    questions = one["questions"]
    return {
        **one,
        "name": f"{one['measure']}: {one['treatment']} against {one['control']}",
        "seed_interval": _interval(one),
        "question_interval": "" if questions is None else _interval(questions),
        "p_text": "" if one["p_holm"] is None else f"{one['p_holm']:.2g}",
        "values": [
            (seed, number(pair["control"]), number(pair["treatment"]))
            for seed, pair in one["seeds"].items()
        ],
    }


def _interval(one: Mapping[str, Any]) -> str:
    if one["advantage"] is None:
        return ""
    if one["low"] is None:
        return f"{one['advantage']:+.3g}"
    return f"{one['advantage']:+.3g} [{one['low']:+.3g}, {one['high']:+.3g}]"
