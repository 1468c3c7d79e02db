"""What a run does about a sign of collapse, and that its history alone decides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.stages.runs_in_memory import context, status

from m2r_train.api.errors import Collapsed
from m2r_train.api.rlvr import Monitors
from m2r_train.stages.context import Context
from m2r_train.stages.watch import Watch

LOOP: dict[str, Any] = {"repetition": 1.0, "zero_signal": 0.0}
WELL: dict[str, Any] = {"repetition": 0.0, "zero_signal": 0.0}


def watch(ctx: Context, **monitors: Any) -> Watch:
    return Watch(ctx, Monitors.model_validate({"windowSteps": 2, **monitors}))


def go(ctx: Context, watching: Watch, *steps: dict[str, Any]) -> None:
    """Steps as the stage makes them."""
    for step in steps:
        watching.end_if_collapsed()
        record = {"step": len(ctx.history), **step}
        ctx.history.append(record | watching.signs(record))


def alarm(ctx: Context) -> float:
    text = ctx.metrics.exposition().decode()
    (line,) = [x for x in text.splitlines() if x.startswith('m2r_alarm{sign="Repetition"}')]
    return float(line.split()[-1])


def test_a_sign_is_told_everywhere_and_the_run_goes_on(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    watching = watch(ctx)
    go(ctx, watching, WELL, WELL)
    assert status(ctx)["alarms"] == [] and alarm(ctx) == 0
    go(ctx, watching, LOOP, LOOP, LOOP)
    assert status(ctx)["alarms"] == ["Repetition"] and alarm(ctx) == 1
    noted = ctx.progress._console.file.getvalue()  # type: ignore[attr-defined]
    assert noted.count("warning: Repetition: ") == 1, "once, not at every step"
    go(ctx, watching, WELL, WELL)
    watching.end_if_collapsed()
    assert status(ctx)["alarms"] == [] and alarm(ctx) == 0
    shown = [record.get("alarms") for record in ctx.history]
    assert shown == [None, None, "Repetition", "Repetition", "Repetition", "Repetition", None]


def test_stop_ends_the_run_with_its_reason_and_a_resumed_one_too(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    go(ctx, watch(ctx, action="Stop"), WELL, LOOP)
    again = context(tmp_path / "again")
    again.history = type(ctx.history).from_bytes(ctx.history.to_bytes())
    for one in (ctx, again):
        with pytest.raises(
            Collapsed, match=r"^run: monitors: collapsed by step 1: Repetition: 50%"
        ) as e:
            go(one, watch(one, action="Stop"), WELL)
        assert e.value.exit_code == 79
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("off", ["Off", False])
def test_off_looks_at_nothing(tmp_path: Path, off: str | bool) -> None:
    ctx = context(tmp_path)
    go(ctx, watch(ctx, action=off), LOOP, LOOP, LOOP)
    assert all("alarms" not in record for record in ctx.history)
    assert status(ctx)["alarms"] == []


def test_the_thresholds_are_those_of_the_spec(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    lax = watch(ctx, repetition=0.0, noSignal=0.4)
    go(ctx, lax, {**LOOP, "zero_signal": 0.4}, {**LOOP, "zero_signal": 0.4})
    assert ctx.history.records[-1]["alarms"] == "NoSignal"
