"""Axes hold their data and carry readable ticks."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import m2r_train.report
from m2r_train.report.scale import Axis, number, tick_step, tick_text


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_an_axis_holds_every_value_between_distinct_ticks(values: list[float]) -> None:
    axis = Axis.around(values, 0.0, 100.0)
    assert 2 <= len(axis.ticks) <= 8
    assert all(-1e-6 <= axis(value) <= 100 + 1e-6 for value in values)
    assert list(axis.ticks) == sorted(set(axis.ticks))


@given(st.floats(1e-9, 1e9), st.integers(1, 10))
def test_steps_are_round_and_few_enough(width: float, count: int) -> None:
    step = tick_step(width, count)
    assert width / step <= count * (1 + 1e-6)
    mantissa = step / 10 ** math.floor(math.log10(step * (1 + 1e-9)))
    assert any(mantissa == pytest.approx(m) for m in (1, 2, 2.5, 5, 10))


def test_floor_and_ceiling_are_reached() -> None:
    axis = Axis.around([0.3, 0.4], 0.0, 1.0, floor=0.0, ceiling=1.0)
    assert (axis.low, axis.high) == (0.0, 1.0)


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0, 1e-7])
def test_a_constant_has_an_axis_too(value: float) -> None:
    axis = Axis.around([value, value], 0.0, 1.0)
    assert axis.low < value < axis.high


@pytest.mark.parametrize(
    ("value", "step", "text"),
    [(0, 1, "0"), (0.25, 0.25, "0.25"), (0.5, 0.25, "0.50"), (20, 10, "20"), (2.5, 2.5, "2.5"),
     (12000, 2000, "12k"), (2e-6, 1e-6, "2e-6"), (-0.02, 0.02, "-0.02"), (0.025, 0.025, "0.025")],
)  # fmt: skip
def test_tick_labels(value: float, step: float, text: str) -> None:
    assert tick_text(value, step) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0886, "0.0886"), (0.61234, "0.61"), (96.04, "96.0"), (512.4, "512"),
     (1234567, "1,234,567"), (1e-6, "1.0e-6"), (-0.02, "-0.02")],
)  # fmt: skip
def test_figures(value: float, text: str) -> None:
    assert number(value) == text


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_the_card(theme: int) -> None:
    """WCAG 2.2: 3 to 1 for graphics (1.4.11), 4.5 to 1 for text (1.4.3)."""
    folder = Path(m2r_train.report.__file__).parent / "templates"
    blocks = re.findall(r":root \{(.*?)\}", (folder / "style.css").read_text(), re.S)
    colours = dict(re.findall(r"--([\w]+): (#[0-9a-f]{6})", blocks[theme]))
    assert len(blocks) == 2

    def contrast(name: str) -> float:
        light, dark = sorted((luminance(colours[name]), luminance(colours["card"])), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for place in range(8):
        assert contrast(f"c{place}") >= 3.0, place
    for name in ("ink", "soft", "good", "mid", "bad", "accent"):
        assert contrast(name) >= 4.5, name
