"""What promtool plays to the alerts: for each one series that it must name, and some it must not.

Series are in promtool's notation: a value a minute, ``0x20 1+1x100`` is 21 times 0, then 1, 2, 3…
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2r_train.telemetry.rules import ALERTS

RUN = 'namespace="lab", run_kind="RLVRJob", run="r", index="0"'
OPERATOR = 'namespace="m2r-system", job="m2r-operator"'
NAMED = {"namespace": "lab", "run_kind": "RLVRJob", "run": "r"}
GPU = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
EXPORTER = 'namespace="gpu-operator", pod="dcgm-exporter-x7k2p"'


def of_run(series: str, more: str = "") -> str:
    """A series of the run, as the chart's PodMonitor labels it."""
    return f"{series}{{{RUN}{more and ', '}{more}}}"


def disruptions(replica: str) -> str:
    """A series of one replica of the operator about the run."""
    return f'm2r_run_disruptions{{instance="{replica}", namespace="lab", kind="RLVRJob", run="r"}}'


def leader(replica: str) -> str:
    """Whether this replica leads."""
    return f'm2r_leader{{{OPERATOR}, instance="{replica}"}}'


STEP = of_run("m2r_last_step_timestamp_seconds")
NONFINITE = of_run("m2r_nonfinite_steps_total")
DIVERGENCE = of_run("m2r_alarm", 'sign="Divergence"')
SHORT = of_run("m2r_alarm", 'sign="ShortChains"')
ROOMS, SIZES = (of_run("m2r_reward_mean", f'task="{t}", component="total"') for t in "rs")
FORMAT = of_run("m2r_reward_mean", 'task="r", component="format"')
REPETITION = of_run("m2r_repetition_ratio")
ZERO_SIGNAL = of_run("m2r_zero_signal_groups_ratio")
GAP = of_run("m2r_sampler_logp_diff")
SAVED = of_run("m2r_checkpoint_last_step")
SAVED_AT = of_run("m2r_checkpoint_last_timestamp_seconds")
WAITED = of_run("m2r_checkpoint_wait_seconds_total")
OURS = f'{GPU}{{namespace="lab", pod="r-rlvrj-2-0-b7kqd", gpu="0"}}'
MOVED = f'{GPU}{{{EXPORTER}, exported_namespace="lab", exported_pod="r-rlvrj-2-0-b7kqd", gpu="0"}}'

# A run that is well, two hours long: saved each ten steps, a step a minute.
HEALTHY: Mapping[str, str] = {
    STEP: "1+60x120",
    NONFINITE: "0x120",
    DIVERGENCE: "0x120",
    SHORT: "0x120",
    ROOMS: "0.1+0.005x120",
    SIZES: "0.3x120",
    FORMAT: "0.9x120",
    REPETITION: "0.02x120",
    ZERO_SIGNAL: "0.3x120",
    GAP: "0.01x120",
    SAVED: "0x10 10x10 20x10 30x10 40x10 50x10 60x10 70x10 80x10 90x10 100x20",
    SAVED_AT: "1+60x120",
    WAITED: "0+1x120",
    OURS: "0.8x120",
    disruptions("a"): "0x120",
    leader("a"): "1x120",
    leader("b"): "0x120",
}


@dataclass(frozen=True)
class Case:
    """Series, and whether the alert fires on them ``at`` a time (promtool's notation)."""

    what: str
    alert: str
    series: Mapping[str, str]
    fires: bool = True
    at: str = "100m"
    labels: Mapping[str, str] | None = None  # besides the severity; None: those of the run

    def __str__(self) -> str:
        return f"{self.alert}: {self.what}"


CASES: tuple[Case, ...] = (
    Case("the last step ended an hour ago", "M2RStalled", {STEP: "60x120"}),
    Case("the first step goes on", "M2RStalled", {STEP: "0x120"}, fires=False),
    Case("steps of twenty minutes", "M2RStalled", {STEP: "0x19 1200x19 2400x19 3600x19 4800x30"},
         fires=False),
    Case("half the waiting time", "M2RStalled", {STEP: "60x120"}, fires=False, at="33m"),
    Case("one step was skipped a minute ago", "M2RNonFinite", {NONFINITE: "0x98 1x20"}),
    Case("steps were skipped long ago", "M2RNonFinite", {NONFINITE: "0x20 3x100"}, fires=False),
    Case("the sign is there", "M2RDivergence", {DIVERGENCE: "1x120"}),
    Case("the sign came and went", "M2RDivergence", {DIVERGENCE: "0x96 1x2 0x20"}, fires=False),
    Case("the reward of all tasks falls", "M2RRewardCollapse",
         {ROOMS: "0.6x180 0.1x120", SIZES: "0.8x180 0.2x120"}, at="4h30m"),
    Case("one of two tasks falls a little", "M2RRewardCollapse",
         {ROOMS: "0.6x180 0.4x120", SIZES: "0.8x300"}, fires=False, at="4h30m"),
    Case("the first steps were lucky", "M2RRewardCollapse",
         {ROOMS: "0.9x2 0.3x120"}, fires=False, at="1h"),
    Case("a reward that is small throughout", "M2RRewardCollapse",
         {ROOMS: "0.08x180 0.01x120"}, fires=False, at="4h30m"),
    Case("only the format is forgotten", "M2RRewardCollapse",
         {ROOMS: "0.6x300", FORMAT: "0.9x180 0x120"}, fires=False, at="4h30m"),
    Case("the sign is there", "M2RShortChains", {SHORT: "1x120"}),
    Case("another sign is there", "M2RShortChains", {SHORT: "0x120", DIVERGENCE: "1x120"},
         fires=False),
    Case("four in ten repeat themselves", "M2RRepetition", {REPETITION: "0.4x120"}),
    Case("a tenth does", "M2RRepetition", {REPETITION: "0.1x120"}, fires=False),
    Case("nearly no group teaches", "M2RZeroSignal", {ZERO_SIGNAL: "0.95x120"}),
    Case("one step in two taught nothing", "M2RZeroSignal",
         {ZERO_SIGNAL: "1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0 1 0"},
         fires=False, at="29m"),
    Case("half a nat", "M2RSamplerGap", {GAP: "0.5x120"}),
    Case("a tenth of a nat", "M2RSamplerGap", {GAP: "0.1x120"}, fires=False),
    Case("four were taken away, nothing new was saved", "M2RPreemptionLoop",
         {disruptions("a"): "0x50 1x10 2x10 3x10 4x30", SAVED: "40x120"}),
    Case("nothing was ever saved", "M2RPreemptionLoop",
         {disruptions("a"): "0x50 1x10 2x10 3x10 4x30", SAVED: "0x120"}),
    Case("the operator's other replica took over meanwhile", "M2RPreemptionLoop",
         {disruptions("a"): "0x50 1x10 2x10 _x40", disruptions("b"): "_x70 2x10 4x30",
          SAVED: "0x120"}),
    Case("each attempt saves something", "M2RPreemptionLoop",
         {disruptions("a"): "0x50 1x10 2x10 3x10 4x30", SAVED: "0x50 8x10 15x10 22x10 30x30"},
         fires=False),
    Case("four in four days", "M2RPreemptionLoop",
         {disruptions("a"): "4x120", SAVED: "40x120"}, fires=False),
    Case("an hour and a half without a save", "M2RCheckpointAge", {SAVED_AT: "1+60x10 600x110"}),
    Case("a kind that saves no checkpoints", "M2RCheckpointAge", {SAVED_AT: "0x120"}, fires=False),
    Case("half a minute of every one", "M2RSlowStore", {WAITED: "0+30x120"}),
    Case("three seconds of every minute", "M2RSlowStore", {WAITED: "0+3x120"}, fires=False),
    Case("busy for a tenth of the time", "M2RIdleGPU", {OURS: "0.1x120"}),
    Case("the exporter's pod has a name of its own", "M2RIdleGPU", {MOVED: "0.1x120"}),
    Case("idle while it writes a checkpoint", "M2RIdleGPU",
         {OURS: "0.9x90 0x5 0.9x20"}, fires=False, at="96m"),
    Case("somebody else's pod", "M2RIdleGPU",
         {f'{GPU}{{namespace="lab", pod="notebook-0", gpu="0"}}': "0x120"}, fires=False),
    Case("one GPU that waits for seven", "M2RIdleGPU",
         {OURS: "0.9x120", OURS.replace('gpu="0"', 'gpu="1"'): "0.1x120"}, fires=False),
    Case("no replica leads", "M2ROperatorDown", {leader("a"): "0x120", leader("b"): "0x120"},
         labels={}),
    Case("all are gone", "M2ROperatorDown", {leader("a"): "1x90 _x30"}, labels={}, at="105m"),
    Case("the lead changes hands", "M2ROperatorDown",
         {leader("a"): "1x60 0x60", leader("b"): "0x61 1x59"}, fires=False, at="62m"),
)  # fmt: skip


def promtool(rules: Path) -> dict[str, Any]:
    """The file that ``promtool test rules`` reads: the healthy run, then each case."""
    return {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [_healthy(), *map(_played, CASES)],
    }


def _healthy() -> dict[str, Any]:
    every = [
        {"eval_time": f"{minute}m", "alertname": one.name, "exp_alerts": []}
        for one in ALERTS
        for minute in range(0, 121, 10)
    ]
    return {"name": "healthy", **_series(HEALTHY), "alert_rule_test": every}


def _played(case: Case) -> dict[str, Any]:
    (alert,) = (one for one in ALERTS if one.name == case.alert)
    labels = NAMED if case.labels is None else case.labels
    fired = {
        "exp_labels": {**labels, "severity": alert.severity},
        "exp_annotations": {
            "summary": alert.summary, "description": alert.remedy, "runbook_url": alert.runbook,
        },
    }  # fmt: skip
    wanted = {
        "eval_time": case.at,
        "alertname": case.alert,
        "exp_alerts": [fired] if case.fires else [],
    }
    return {"name": str(case), **_series(case.series), "alert_rule_test": [wanted]}


def _series(series: Mapping[str, str]) -> dict[str, Any]:
    rows = [{"series": name, "values": values} for name, values in series.items()]
    return {"interval": "1m", "input_series": rows}
