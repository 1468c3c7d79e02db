"""The alerts, declared once: data from which the file of Prometheus rules is made.

A run is identified by the labels that the chart's PodMonitor puts on a scrape: ``namespace``,
``run_kind`` and ``run``. Alerts on one run keep exactly these, so that a new pod of the same run
neither resolves an alert nor doubles it. The time of the last step is 0 until the first one ends:
that is no stall. Thresholds are rules of thumb, not from the paper.

What two rules or a dashboard share is recorded under a name of its own: its labels, its series, and
what was done to it (Prometheus, best practices, recording rules). ``docs/runbook.md`` has a section
for each alert.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

RUN: Final = "namespace, run_kind, run"
RUNBOOK: Final = "docs/runbook.md"
GPU_ACTIVE: Final = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"  # of NVIDIA's dcgm-exporter, 0..1
# How the pods of each kind of run are called: NAME-SHORT-ATTEMPT-INDEX-RANDOM.
KINDS_IN_POD_NAMES: Final = {
    "dsj": "DataSynthesisJob",
    "sftj": "SFTJob",
    "rlvrj": "RLVRJob",
    "evj": "EvalJob",
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """An expression that is kept as a series of its own, one for each run."""

    series: str
    done: str
    expression: str

    @property
    def name(self) -> str:
        """Its series, as Prometheus calls recorded ones: ``labels:series:what was done``."""
        return f"namespace_run_kind_run:{self.series}:{self.done}"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: ``expression`` in PromQL, true for ``wait`` (a Prometheus duration).

    ``summary`` says what is wrong, ``remedy`` what to do first.
    """

    name: str
    expression: str
    wait: str
    severity: Literal["warning", "critical"]
    summary: str
    remedy: str

    @property
    def runbook(self) -> str:
        """Its section of the runbook."""
        return f"{RUNBOOK}#{self.name.lower()}"


def _by_run(aggregation: str, inner: str) -> str:
    return f"{aggregation} by ({RUN}) ({inner})"


def _sign(sign: str) -> str:
    return _by_run("max", f'm2r_alarm{{sign="{sign}"}}') + " == 1"


def _relabelled(inner: str, label: str, value: str, source: str, pattern: str) -> str:
    return f'label_replace({inner}, "{label}", "{value}", "{source}", "{pattern}")'


def _pods(short: str) -> str:
    return f"(.+)-(?:{short})-[0-9]+-[0-9]+-[a-z0-9]+"


def _gpus_of_runs() -> str:
    """The exporter's series of the pods of runs, under the labels of runs.

    It names pods in ``pod``, or in ``exported_pod`` where the scrape's own labels win.
    """
    every = _pods("|".join(KINDS_IN_POD_NAMES))
    moved = f'{GPU_ACTIVE}{{exported_pod=~"{every}"}}'
    for label in ("pod", "namespace"):
        moved = _relabelled(moved, label, "$1", f"exported_{label}", "(.+)")
    found = f'{GPU_ACTIVE}{{pod=~"{every}"}} or {moved}'
    for short, kind in KINDS_IN_POD_NAMES.items():
        found = _relabelled(found, "run_kind", kind, "pod", _pods(short))
    return _relabelled(found, "run", "$1", "pod", every)


_REWARD = 'm2r_reward_mean{component="total"}'
# Not before it is 20 minutes old: the mean of a run's first steps says little.
REWARD: Final = Recorded(
    "m2r_reward_mean", "avg30m",
    _by_run("avg", f"avg_over_time({_REWARD}[30m]) and {_REWARD} offset 20m"),
)  # fmt: skip
SAVED: Final = Recorded(
    "m2r_checkpoint_last_step", "max", _by_run("max", "m2r_checkpoint_last_step > 0")
)
# A series of the operator: it calls the kind `kind`.
DISRUPTED: Final = Recorded(
    "m2r_run_disruptions", "max",
    _by_run("max", _relabelled("m2r_run_disruptions", "run_kind", "$1", "kind", "(.+)")),
)  # fmt: skip
GPUS: Final = Recorded(GPU_ACTIVE, "avg", _by_run("avg", _gpus_of_runs()))
RECORDED: Final[tuple[Recorded, ...]] = (REWARD, SAVED, DISRUPTED, GPUS)

ALERTS: Final[tuple[Alert, ...]] = (
    Alert("M2RStalled", f"time() - {_by_run('max', 'm2r_last_step_timestamp_seconds > 0')} > 1800",
          "5m", "critical", "No step ended for half an hour.",
          "Look at the pods' logs: which phase does not end? The operator starts a stalled attempt "
          "again after watchdog.stallSeconds, unless watchdog.action says otherwise."),
    Alert("M2RNonFinite",
          f"{_by_run('sum', 'increase(m2r_nonfinite_steps_total[10m])')} > 0",
          "0m", "critical", "Steps were skipped: loss or gradient was not finite.",
          "Nothing was learned from them. Where it goes on, lower optimization.learningRate, and "
          "look for the samples in the report."),
    Alert("M2RDivergence", _sign("Divergence"),
          "5m", "critical", "The policy diverges from its reference.",
          "Stop the run. An RLVRJob should begin with a model that an SFTJob has trained (the cold "
          "start); without one, raise optimization.kl and lower the learning rate."),
    Alert("M2RRewardCollapse",
          f"{REWARD.name} < 0.5 * max_over_time({REWARD.name}[6h]) "
          f"and max_over_time({REWARD.name}[6h]) > 0.1",
          "15m", "critical", "The mean reward fell below half of its best in six hours.",
          "Compare the samples of then and now in the report; go on from the checkpoint before the "
          "fall, with a lower learning rate or a higher KL coefficient."),
    Alert("M2RShortChains", _sign("ShortChains"),
          "15m", "warning", "Chains of thought became much shorter than at first.",
          "Read some samples in the report; set rewards.short, or check that the format reward "
          "asks for a chain."),
    Alert("M2RRepetition", f"{_by_run('max', 'm2r_repetition_ratio')} > 0.2",
          "15m", "warning", "More than a fifth of the completions repeat themselves.",
          "Set rewards.repetition, or raise the KL coefficient."),
    Alert("M2RZeroSignal", f"{_by_run('max', 'm2r_zero_signal_groups_ratio')} > 0.9",
          "20m", "warning", "Nine groups in ten teach nothing: all their rewards are equal.",
          "Draw other prompts instead (rollout.dynamicSampling), raise rollout.groupSize, filter "
          "the data by difficulty, or begin with a better cold start."),
    Alert("M2RSamplerGap", f"{_by_run('max', 'm2r_sampler_logp_diff')} > 0.2",
          "10m", "warning", "Sampler and trainer disagree on log-probabilities.",
          "Correct for it (rollout.importanceSampling), and check that both compute in the same "
          "precision."),
    Alert("M2RPreemptionLoop",
          f"{DISRUPTED.name} - min_over_time({DISRUPTED.name}[1h]) >= 3 "
          f"unless max_over_time({SAVED.name}[1h]) > min_over_time({SAVED.name}[1h])",
          "0m", "warning", "Attempts are taken away faster than they save anything.",
          "Save more often (checkpoint.everySteps, or checkpoint.interval: Auto), raise "
          "disruption.terminationGracePeriodSeconds, or give the run a higher priority."),
    Alert("M2RCheckpointAge",
          f"time() - {_by_run('max', 'm2r_checkpoint_last_timestamp_seconds > 0')} > 3600",
          "10m", "warning", "An hour of training would be lost with the pod: nothing was saved.",
          "Lower checkpoint.everySteps or set checkpoint.interval: Auto; look for errors of the "
          "store (m2r_store_errors_total)."),
    Alert("M2RSlowStore",
          f"{_by_run('sum', 'increase(m2r_checkpoint_wait_seconds_total[30m])')} > 180",
          "5m", "warning", "Checkpoints waited for the store for a tenth of the time.",
          "Save less often (checkpoint.everySteps, or checkpoint.interval: Auto), or use a store "
          "that is nearer or faster."),
    Alert("M2RIdleGPU", f"avg_over_time({GPUS.name}[15m]) < 0.3",
          "15m", "warning", "The GPUs of a run were busy less than a third of the time.",
          "See in the run's dashboard which phase the time goes to. Needs dcgm-exporter with its "
          "profiling fields."),
    Alert("M2ROperatorDown", "absent(m2r_leader == 1)",
          "5m", "critical", "No replica of the operator leads: no run is started or started again.",
          "Look at the operator's Deployment and its logs. Pods that run go on by themselves. "
          "Needs the operator scraped (metrics.serviceMonitor.enabled)."),
)  # fmt: skip


def rules(declared: Iterable[Alert] = ALERTS) -> dict[str, Any]:
    """The content of a Prometheus rules file; also the ``spec`` of a ``PrometheusRule``."""
    recorded = [{"record": one.name, "expr": one.expression} for one in RECORDED]
    alerts = [
        {
            "alert": one.name,
            "expr": one.expression,
            "for": one.wait,
            "labels": {"severity": one.severity},
            "annotations": {
                "summary": one.summary,
                "description": one.remedy,
                "runbook_url": one.runbook,
            },
        }
        for one in declared
    ]
    return {
        "groups": [
            {"name": "m2r-recorded", "rules": recorded},
            {"name": "m2r-alerts", "rules": alerts},
        ]
    }
