"""Pictures of an experiment as SVG files that stand alone: curves with bands, scores with ranges.

The charts are the report's; what a page gives them (style, title, legend) is added here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import escape

from experiments.figures import Outcome
from m2r_train.report.claimpage import curve_charts, score_pictures

_COLOURS: Final = (
    *("#0b62b5", "#c2500a", "#0a7d5c", "#a03a86"),
    *("#8f6a00", "#2a86a8", "#5b4bb5", "#6b7280"),
)
_STYLE: Final = (
    "svg{background:#fff}text{font:11px system-ui,sans-serif;fill:#5d6570}"
    "text.strong,text.title{fill:#1c1f24;font-weight:600}text.title{font-size:13px}"
    ".grid{stroke:#eceef0}.band{fill:#f5f6f7}.area{fill:currentColor;opacity:.16}"
    ".line{fill:none;stroke:currentColor;stroke-width:1.8}"
    ".dots,.point{fill:none;stroke:currentColor;stroke-linecap:round}"
    ".mark,.swatch{fill:currentColor}.whisker{stroke:currentColor;stroke-width:1.8}"
    + "".join(f".c{n}{{color:{colour}}}" for n, colour in enumerate(_COLOURS))
)
_TOP: Final = 46
_HELD_OUT: Final = "eval_accuracy"


def pictures(outcome: Outcome) -> dict[str, str]:
    """By file name: the scores of each evaluation, held-out accuracy, and what the claim names."""
    figures = outcome.others
    if not figures:
        return {}
    arms, name = list(figures["arms"]), outcome.experiment.name
    made = {
        f"{name}-{title.partition(':')[0]}-scores.svg": standalone(
            str(drawn), f"{title}, percent", arms
        )
        for title, drawn in score_pictures(figures["scores"], arms)
    }
    wanted = {_HELD_OUT, *(one.curve for one in outcome.claim.measures)}
    shown = [one for one in (*outcome.held_out, *figures["curves"]) if one["key"] in wanted]
    for chart in curve_charts(shown, arms):
        drawn = _names(shown, chart.id)
        made[f"{name}-{chart.id}.svg"] = standalone(
            str(chart.svg), f"{chart.title}: {chart.note.partition(';')[0]}", arms, drawn
        )
    return made


def standalone(
    svg: str, title: str, arms: Sequence[str], drawn: Sequence[str] | None = None
) -> str:
    """The chart with its style, a title, and a legend of the arms that are ``drawn``."""
    box = svg.partition('viewBox="0 0 ')[2].partition('"')[0]
    width, height = (float(one) for one in box.split())
    inner = svg.replace("<svg ", f'<svg y="{_TOP}" width="{width:g}" height="{height:g}" ', 1)
    legend, left = [], 10.0
    for number, arm in enumerate(arms):
        if drawn is None or arm in drawn:
            legend.append(
                f'<rect class="swatch c{number % len(_COLOURS)}" x="{left:g}" y="29" width="10" '
                f'height="8"/><text x="{left + 14:g}" y="37">{escape(arm)}</text>'
            )
            left += 26 + 6.2 * len(arm)
    wide = max(width, left, 20 + 7.5 * len(title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:g} {height + _TOP:g}" '
        f'width="{wide * 1.5:g}"><style>{_STYLE}</style>'
        f'<text class="title" x="10" y="18">{escape(title)}</text>{"".join(legend)}{inner}</svg>\n'
    )


def _names(shown: Sequence[Mapping[str, Any]], chart: str) -> list[str]:
    return [one["arm"] for one in shown if f"{one['run']}-{one['key']}" == chart]
