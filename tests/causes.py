"""Runs that go wrong, one for each alert, told by the trainer's own server and the operator's own.

`promtool` is played finished series; here the series come about. A run takes a step a moment and
tells it as `stages.context` does; its alert is caused by one thing that changes in it. What a run
measures goes through `MetricSet.record_step`, signs through the trainer's monitors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import operator_objects
from gpuexporter import Gpu

from m2r_operator import names
from m2r_operator.metrics import Metrics
from m2r_operator.state import RunSeen
from m2r_train.core.monitors import SIGNS, Thresholds, alarms
from m2r_train.telemetry.history import StepRecord
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.server import StatusServer

KIND: Final = "RLVRJob"
NAMESPACE: Final = "lab"
TASK: Final = "Rooms"
WINDOW: Final = 4  # steps that the monitors look at
SAVED_EACH: Final = 8  # steps
MEASURED: Final[StepRecord] = {
    "task": TASK, "reward": 0.6, "reward_std": 0.2, "loss": 0.1, "grad_norm": 1.0, "kl": 0.02,
    "completion_tokens": 80.0, "repetition": 0.02, "zero_signal": 0.3, "sampler_logp_diff": 0.01,
}  # fmt: skip


class Run:
    """A run that is well until something in it is changed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.labels = {
            "namespace": NAMESPACE, "run_kind": KIND, "run": name, "index": "0",
            "instance": f"{NAMESPACE}/{KIND}/{name}",
        }  # fmt: skip
        self.metrics = MetricSet(label_values={"task": [TASK]})
        self.server = StatusServer(self.metrics, host="127.0.0.1", port=0)
        pod = f"{names.job_name(KIND, name, 1)}-0-b7kqd"
        self.gpu = Gpu(NAMESPACE, pod, active=0.8, mebibytes=40_000)
        self.measured: StepRecord = dict(MEASURED)
        self.stands = False
        self.saves = True
        self.waits = 0.01  # share of the time, for the store
        self.disruptions = 0
        self._history: list[StepRecord] = []
        self._told = time.time()
        self.save()

    def step(self) -> None:
        """Take a step and tell of it, unless the run stands."""
        passed, self._told = time.time() - self._told, time.time()
        if self.stands:
            return
        record = {"step": len(self._history), **self.measured}
        self._history.append(record)
        self.metrics.record_step(record)
        self.metrics.set("m2r_step", len(self._history))
        self.metrics.set("m2r_last_step_timestamp_seconds", self._told)
        there = {one.sign for one in alarms(self._history, Thresholds(window=WINDOW))}
        for sign in SIGNS:
            self.metrics.set("m2r_alarm", float(sign in there), sign=sign)
        self.metrics.inc("m2r_checkpoint_wait_seconds_total", self.waits * passed)
        if self.saves and self.due:
            self.save()

    @property
    def due(self) -> bool:
        """Whether a checkpoint is due after the last step."""
        return len(self._history) % SAVED_EACH == 0

    def save(self) -> None:
        """Make a checkpoint."""
        self.metrics.set("m2r_checkpoint_last_step", len(self._history))
        self.metrics.set("m2r_checkpoint_last_timestamp_seconds", time.time())

    def seen(self) -> RunSeen:
        """The run as the operator sees it."""
        body = operator_objects.rlvr(self.name, status={
            "phase": "Running", "attempt": 1 + self.disruptions,
            "restarts": {"disruptions": self.disruptions},
        })  # fmt: skip
        body["metadata"]["namespace"] = NAMESPACE
        return operator_objects.seen(body)


@dataclass
class Lab:
    """A run for each alert, one that stays well, and the operator of all."""

    runs: Mapping[str, Run]  # by name
    leads: bool = True
    operator: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.operator.show(
            lambda: [run.seen() for run in self.runs.values()],
            leads=lambda: self.leads, depth=lambda: 0,
        )  # fmt: skip

    def step(self) -> None:
        """A step of each run."""
        for run in self.runs.values():
            run.step()


@dataclass(frozen=True)
class Cause:
    """What makes an alert fire, and what ends that.

    ``begin`` is done once, ``keep`` each moment until ``end``. ``also`` are other alerts that the
    same may cause.
    """

    what: str
    begin: Callable[[Lab, Run], None]
    end: Callable[[Lab, Run], None]
    keep: Callable[[Lab, Run], None] = lambda lab, run: None
    also: frozenset[str] = frozenset()


def _measures(what: str, **measured: float) -> Cause:
    """Steps that measure something else; then as before."""

    def begin(lab: Lab, run: Run) -> None:
        run.measured.update(measured)

    def end(lab: Lab, run: Run) -> None:
        run.measured.update({key: MEASURED[key] for key in measured})

    return Cause(what, begin, end)


def _does(what: str, field: str, then: float, before: float, **more: Any) -> Cause:
    """A run that behaves otherwise."""
    return Cause(
        what,
        lambda lab, run: setattr(run, field, then),
        lambda lab, run: setattr(run, field, before),
        **more,
    )


def _skip_one(lab: Lab, run: Run) -> None:
    run.measured["loss"] = math.nan
    run.step()
    run.measured["loss"] = MEASURED["loss"]


def _take_away(lab: Lab, run: Run) -> None:
    """The attempt is taken away when it would save; what is in no checkpoint begins anew."""
    run.saves = False
    if run.due:
        run.disruptions += 1
        run.metrics.set("m2r_checkpoint_last_timestamp_seconds", time.time())


def _save_again(lab: Lab, run: Run) -> None:
    run.saves = True


def _lead(leads: bool) -> Callable[[Lab, Run], None]:
    return lambda lab, run: setattr(lab, "leads", leads)


CAUSES: Final[Mapping[str, Cause]] = {
    "M2RStalled": _does("no step ends any more", "stands", True, False,
                        also=frozenset({"M2RCheckpointAge"})),
    "M2RNonFinite": Cause("the loss of one step is NaN", _skip_one, lambda lab, run: None),
    "M2RDivergence": _measures("twelve nats a token from the reference", kl=12.0),
    "M2RRewardCollapse": _measures("the reward falls to a sixth", reward=0.1),
    "M2RShortChains": _measures("an eighth of the tokens", completion_tokens=10.0),
    "M2RRepetition": _measures("six completions in ten repeat themselves", repetition=0.6),
    "M2RZeroSignal": _measures("all groups but a twentieth are equal", zero_signal=0.95),
    "M2RSamplerGap": _measures("half a nat", sampler_logp_diff=0.5),
    "M2RPreemptionLoop": Cause("taken away again and again, nothing saved", _take_away,
                               _save_again, keep=_take_away),
    "M2RCheckpointAge": _does("steps go on and none is saved", "saves", False, True),
    "M2RSlowStore": _does("half of the time goes into waiting", "waits", 0.5, 0.01),
    "M2RIdleGPU": Cause("the GPU works for a tenth of the time",
                        lambda lab, run: setattr(run.gpu, "active", 0.1),
                        lambda lab, run: setattr(run.gpu, "active", 0.8)),
    "M2ROperatorDown": Cause("the only replica no longer leads", _lead(False), _lead(True)),
}  # fmt: skip
