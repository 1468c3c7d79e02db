"""Charts as SVG text: no script needed to see them, themes come from CSS variables.

Every colour is a class (``c0`` .. ``c7``), every text a class, so the light, the dark and the
printed page are the same markup. Labels come from models and users, and are escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup, escape

from m2r_train.report.scale import Axis, tick_step, tick_text
from m2r_train.report.series import Line
from m2r_train.telemetry.results import Score

WIDTH, HEIGHT = 400, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 10, 26
COLOURS = 8


@dataclass(frozen=True, slots=True)
class Chart:
    """A line chart: one quantity, one axis. ``floor`` / ``ceiling``: values the axis must reach.

    ``x_label`` is the unit of the horizontal axis, whose ticks are whole numbers; ``x_range`` its
    ends, where those are not of the first and the last point.
    """

    id: str
    title: str
    lines: tuple[Line, ...]
    note: str = ""
    floor: float | None = None
    ceiling: float | None = None
    x_label: str = "step"
    x_range: tuple[float, float] | None = None

    @property
    def has_points(self) -> bool:
        return any(line.points for line in self.lines)

    @property
    def svg(self) -> Markup:
        """The chart; its frame is the same as in `data`, so a cursor can be laid over it."""
        x, y = self._axes()
        body = [_grid(x, y, self.x_label)]
        body += [_area(line, x, y) for line in self.lines]
        body += [_dots(line, x, y) for line in self.lines]
        body += [_path(line, x, y) for line in self.lines]
        return _svg(self.title, WIDTH, HEIGHT, Markup("").join(body))

    @property
    def data(self) -> dict[str, Any]:
        """What the cursor reads: the frame in both units, and each line's points."""
        x, y = self._axes()
        return {
            "x": [x.low, x.high, x.start, x.end],
            "y": [y.low, y.high, y.start, y.end],
            "lines": [
                {
                    "name": line.name,
                    "colour": line.colour % COLOURS,
                    "points": [[px, float(f"{py:.4g}")] for px, py in line.points],
                }
                for line in self.lines
                if line.points
            ],
        }

    def _axes(self) -> tuple[Axis, Axis]:
        shown = [point for line in self.lines for point in (*line.points, *line.dots)]
        shown += [(x, end) for line in self.lines for x, *ends in line.band for end in ends]
        ends = self.x_range or tuple(p[0] for p in shown)
        x = Axis.around(ends, LEFT, WIDTH - RIGHT, count=5, tight=True)
        x = replace(x, ticks=tuple(tick for tick in x.ticks if tick == int(tick)))  # whole steps
        y = Axis.around(
            (p[1] for p in shown), HEIGHT - BOTTOM, TOP, floor=self.floor, ceiling=self.ceiling
        )
        return x, y


def forest(
    rows: Sequence[tuple[str, bool, Mapping[str, Score]]],
    models: Sequence[str],
) -> Markup:
    """Scores as dots with 95 % whiskers, one band a task: rows of (label, bold, model -> score).

    Each model has its own colour and its own shape.
    """
    left, right, band = 124, 480, 12 * len(models) + 12
    height = band * len(rows) + 34
    shown = [score for _, _, scores in rows for score in scores.values()]
    ends = [end for score in shown for end in score.interval or (score.value,)]
    x = Axis.around(ends, left, right - 12.0, count=4, floor=0.0)
    step = x.ticks[1] - x.ticks[0]
    body = []
    for tick in x.ticks:
        body.append(_rule(x(tick), 6, x(tick), height - 24))
        body.append(_text(x(tick), height - 8, tick_text(tick, step), "middle"))
    for place, (label, bold, scores) in enumerate(rows):
        top = 8 + place * band
        if place % 2 == 0:
            body.append(Markup('<rect class="band" x="0" y="{}" width="{}" height="{}"/>').format(
                top, right, band))  # fmt: skip
        body.append(
            _text(
                left - 10, top + band / 2 + 4, _short(label), "end", name="strong" if bold else ""
            )
        )
        for order, model in enumerate(models):
            if model in scores:
                centre, name = top + 12 + order * 12, f"{label}, {model}"
                body.append(_whisker(x, scores[model], centre, order=order, label=name))
    return _svg("Scores in percent, with 95 % intervals", right, height, Markup("").join(body))


def stack(bars: Sequence[tuple[float, Mapping[str, float]]], names: Sequence[str]) -> Markup:
    """Stacked bars of seconds per step; ``bars`` are (first step, name -> seconds)."""
    width = 2 * WIDTH
    totals = [sum(parts.values()) for _, parts in bars]
    y = Axis.around(totals, HEIGHT - BOTTOM, TOP, floor=0.0)
    room = (width - LEFT - RIGHT) / len(bars)
    body = [_y_grid(y, width)]
    every = max(1, -(-len(bars) // 10))
    for place, (step, parts) in enumerate(bars):
        base, left = 0.0, LEFT + place * room
        for order, name in enumerate(names):
            seconds = parts.get(name, 0.0)
            if seconds > 0:
                high, low = y(base + seconds), y(base)
                title = Markup("<title>step {:.0f}: {} {:.2f} s</title>").format(
                    step, name, seconds)  # fmt: skip
                body.append(
                    Markup('<rect class="fill c{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" '
                           'height="{:.1f}">{}</rect>')
                    .format(order % COLOURS, left, high, room * 0.86, low - high, title)
                )  # fmt: skip
                base += seconds
        if place % every == 0:
            body.append(_text(left + room * 0.43, HEIGHT - 8, f"{step:.0f}", "middle"))
    body.append(_text(LEFT - 6, HEIGHT - 8, "step", "end"))
    return _svg("Seconds per step in each phase", width, HEIGHT, Markup("").join(body))


def histogram(
    counts: Sequence[int],
    low: float = 0.0,
    high: float = 1.0,
    *,
    title: str = "Samples by difficulty",
) -> Markup:
    """Counts of equal bins over [low, high]."""
    y = Axis.around([float(one) for one in counts], HEIGHT - BOTTOM, TOP, floor=0.0)
    room = (WIDTH - LEFT - RIGHT) / len(counts)
    body = [_y_grid(y, WIDTH)]
    for place, count in enumerate(counts):
        left = low + (high - low) * place / len(counts)
        right = low + (high - low) * (place + 1) / len(counts)
        body.append(
            Markup('<rect class="fill c0" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                   "<title>{:.2f} to {:.2f}: {:,}</title></rect>").format(
                LEFT + place * room + 1, y(count), max(1.0, room - 2), y(0) - y(count),
                left, right, count)
        )  # fmt: skip
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        text = f"{low + share * (high - low):g}"
        body.append(_text(LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - 8, text, "middle"))
    return _svg(title, WIDTH, HEIGHT, Markup("").join(body))


def _whisker(x: Axis, score: Score, y: float, *, order: int, label: str) -> Markup:
    parts = [Markup('<g class="mark c{}">').format(order % COLOURS)]
    parts.append(Markup("<title>{}: {}</title>").format(label, score))
    if score.interval is not None:
        low, high = score.interval
        parts.append(_rule(x(low), y, x(high), y, name="whisker"))
    at, size = x(score.value), 4.2
    shapes = (
        Markup('<circle cx="{x:.1f}" cy="{y:.1f}" r="{s}"/>'),
        Markup('<path d="M{x:.1f} {t:.1f}l{d} {d}l-{d} {d}l-{d} -{d}z"/>'),
        Markup('<rect x="{l:.1f}" y="{u:.1f}" width="{w}" height="{w}"/>'),
    )
    geometry = {"x": at, "y": y, "s": size, "d": 5, "t": y - 5, "l": at - 4, "u": y - 4, "w": 8}
    parts.append(shapes[order % len(shapes)].format(**geometry))
    parts.append(Markup("</g>"))
    return Markup("").join(parts)


def _grid(x: Axis, y: Axis, label: str) -> Markup:
    step = tick_step(x.high - x.low, 5)
    labels = [_text(x(tick), HEIGHT - 8, tick_text(tick, step), "middle") for tick in x.ticks]
    labels.append(_text(LEFT - 6, HEIGHT - 8, label, "end"))
    return _y_grid(y, WIDTH) + Markup("").join(labels)


def _y_grid(y: Axis, width: float) -> Markup:
    step = y.ticks[1] - y.ticks[0]
    parts = []
    for tick in y.ticks:
        parts.append(_rule(LEFT, y(tick), width - RIGHT, y(tick)))
        parts.append(_text(LEFT - 6, y(tick) + 3.5, tick_text(tick, step), "end"))
    return Markup("").join(parts)


def _path(line: Line, x: Axis, y: Axis) -> Markup:
    if not line.points:
        return Markup("")
    if len(line.points) == 1:
        return _dots(Line(line.name, (), line.points, line.colour), x, y, 3.0)
    moves = "L".join(f"{x(px):.1f} {y(py):.1f}" for px, py in line.points)
    return Markup('<path class="line c{}" d="M{}"/>').format(line.colour % COLOURS, moves)


def _area(line: Line, x: Axis, y: Axis) -> Markup:
    if len(line.band) < 2:
        return Markup("")
    above = [(px, high) for px, _, high in line.band]
    below = [(px, low) for px, low, _ in reversed(line.band)]
    moves = "L".join(f"{x(px):.1f} {y(py):.1f}" for px, py in (*above, *below))
    return Markup('<path class="area c{}" d="M{}z"/>').format(line.colour % COLOURS, moves)


def _dots(line: Line, x: Axis, y: Axis, radius: float = 1.4) -> Markup:
    """Dots as zero-length strokes with round caps: one path, a tenth of the bytes of circles."""
    if not line.dots:
        return Markup("")
    moves = "".join(f"M{x(px):.1f} {y(py):.1f}h0" for px, py in line.dots)
    return Markup('<path class="{} c{}" style="stroke-width:{:.1f}" d="{}"/>').format(
        "dots" if line.points else "point", line.colour % COLOURS, 2 * radius, moves
    )


def _rule(x1: float, y1: float, x2: float, y2: float, *, name: str = "grid") -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        name, x1, y1, x2, y2
    )


def _text(x: float, y: float, text: str, anchor: str, *, name: str = "") -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        name, x, y, anchor, escape(text)
    )


def _short(label: str, most: int = 18) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _svg(title: str, width: float, height: float, body: Markup) -> Markup:
    return Markup('<svg viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">{}</svg>').format(
        width, height, title, body
    )
