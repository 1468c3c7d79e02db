"""Which histories show which signs of a collapse."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from m2r_train.core.monitors import SIGNS, Record, Thresholds, alarms
from m2r_train.telemetry import metrics

LIMITS = Thresholds(window=3)
WELL: Record = {
    "repetition": 0.1,
    "completion_tokens": 200.0,
    "truncated": 0.1,
    "entropy": 0.5,
    "zero_signal": 0.3,
    "kl": 0.05,
    "loss": 0.1,
    "grad_norm": 1.0,
}


def signs(history: list[Record], limits: Thresholds = LIMITS) -> list[str]:
    return [alarm.sign for alarm in alarms(history, limits)]


def after(calm: int, *steps: dict[str, Any]) -> list[Record]:
    return [WELL] * calm + [{**WELL, **step} for step in steps]


SICK: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # name: sign, the step that shows it, the step that just does not
    "loops": ("Repetition", {"repetition": 0.5}, {"repetition": 0.49}),
    "short chains": ("ShortChains", {"completion_tokens": 50.0}, {"completion_tokens": 51.0}),
    "at the limit": ("Truncation", {"truncated": 0.9}, {"truncated": 0.89}),
    "always the same": ("EntropyCollapse", {"entropy": 0.049}, {"entropy": 0.051}),
    "nothing to learn": ("NoSignal", {"zero_signal": 0.96}, {"zero_signal": 0.94}),
    "far away": ("Divergence", {"kl": 10.0}, {"kl": 9.9}),
    "not a number": ("Divergence", {"loss": math.nan}, {"loss": 9.9}),
    "an endless gradient": ("Divergence", {"grad_norm": math.inf}, {"grad_norm": 1e9}),
}


@pytest.mark.parametrize(("sign", "sick", "almost"), SICK.values(), ids=SICK)
def test_a_sign_is_there_from_its_threshold_on(
    sign: str, sick: dict[str, Any], almost: dict[str, Any]
) -> None:
    assert signs(after(3, sick, sick, sick)) == [sign]
    assert signs(after(3, almost, almost, almost)) == []


def test_every_sign_has_a_case_and_is_a_label_of_the_metric() -> None:
    assert {sign for sign, _, _ in SICK.values()} == set(SIGNS)
    assert metrics.SIGNS == SIGNS


def test_signs_are_means_over_the_window_and_not_single_steps() -> None:
    assert signs(after(2, {"repetition": 1.0})) == []
    assert signs(after(1, {"repetition": 1.0}, {"repetition": 1.0})) == ["Repetition"]
    assert signs(after(0, {"repetition": 1.0}, {"repetition": 1.0})) == [], "no window is full"
    assert signs([*after(0, *[{"repetition": 1.0}] * 3), WELL, WELL]) == [], "it has recovered"


def test_what_has_no_scale_is_compared_once_two_windows_are_full() -> None:
    short = {"completion_tokens": 1.0, "entropy": 0.001}
    assert signs(after(2, short, short, short)) == []
    assert signs(after(3, short, short, short)) == ["ShortChains", "EntropyCollapse"]


def test_steps_that_measured_no_entropy_do_not_count_as_certain() -> None:
    assert signs(after(3, {"entropy": 0.0}, {"entropy": 0.0}, {"entropy": 0.4})) == []
    assert signs(after(3, *[{"entropy": 0.0}] * 3)) == []


def test_a_step_that_is_not_finite_is_no_divergence_yet() -> None:
    assert signs(after(5, {"loss": math.nan})) == []
    assert signs(after(4, {"loss": math.nan}, {"loss": math.nan})) == ["Divergence"]


def test_where_prompts_are_replaced_what_is_left_counts() -> None:
    replaced = {"zero_signal": 1.0, "zero_signal_left": 0.2}
    assert signs(after(3, *[replaced] * 3)) == []
    assert signs(after(3, *[{**replaced, "zero_signal_left": 1.0}] * 3)) == ["NoSignal"]


def test_a_threshold_of_zero_turns_its_sign_off() -> None:
    off = replace(LIMITS, **{f.name: 0.0 for f in fields(LIMITS) if f.name != "window"})
    worst = {key: value for _, step, _ in SICK.values() for key, value in step.items()}
    assert set(signs(after(3, *[worst] * 3))) == set(SIGNS)
    assert signs(after(3, *[worst] * 3), off) == []


def test_a_message_tells_what_was_measured_and_what_may_help() -> None:
    (alarm,) = alarms(after(3, *[{"completion_tokens": 20.0}] * 3), LIMITS)
    assert alarm.message == "completions of 20 tokens, 200 at first; set rewards.short"
    (alarm,) = alarms(after(3, *[{"repetition": 0.75}] * 3), LIMITS)
    assert alarm.message.startswith("75% of completions repeat themselves; ")
