"""The operator's own series, declared once like the trainer's.

Counts of runs and the last facts of finished ones are not kept up to date: they are read from
what is known of the runs when somebody asks, so they cannot drift and go with the resource.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, get_args

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from m2r_operator import names
from m2r_operator.evidence import PERMANENT
from m2r_operator.state import Measured, RunSeen
from m2r_train.api.status import Phase
from m2r_train.telemetry.metrics import BY_RUN, OTHER, MetricSet, Series

KINDS: Final = tuple(names.PLURALS)
PHASES: Final = get_args(Phase)
CLASSES: Final = (
    *PERMANENT.values(), "Crash", "OOMKilled", "Stalled", "Stopped", "Fenced", "Preempted",
    "Evicted", "NodeDisruption", "Disrupted", "PodDeleted", "JobDeleted", "KueueEvicted", OTHER,
)  # fmt: skip
VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", OTHER)
RESOURCES: Final = (
    *names.PLURALS.values(), *(f"{p}/status" for p in names.PLURALS.values()),
    "jobs", "pods", "services", "events", "leases", "discovery", OTHER,
)  # fmt: skip
CODES: Final = ("2xx", "3xx", "4xx", "5xx", "error")
FINISHED: Final = 1000  # finished runs whose last facts are shown, newest first
UNFINISHED: Final = 1000  # begun and unfinished ones whose disruptions are, most disrupted first

_RECONCILE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_RECOVERY_SECONDS = (1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0, 300.0, 1800.0)
_RUN = {"namespace": BY_RUN, "kind": KINDS, "run": BY_RUN}

COUNTED: Final[tuple[Series, ...]] = (
    Series("m2r_reconcile_seconds", "histogram", "Time that one look at a run took.", "seconds",
           {"kind": KINDS}, _RECONCILE_SECONDS),
    Series("m2r_reconcile_errors_total", "counter", "Looks at a run that failed.", "looks",
           {"kind": KINDS}),
    Series("m2r_restarts_total", "counter", "Attempts that ended without a result, by why.",
           "attempts", {"kind": KINDS, "class": CLASSES}),
    Series("m2r_recovery_seconds", "histogram",
           "Time from the end of an attempt until the next one's pods run.", "seconds",
           buckets=_RECOVERY_SECONDS),
    Series("m2r_api_requests_total", "counter", "Requests to the API server.", "requests",
           {"verb": VERBS, "resource": RESOURCES, "code": CODES}),
    Series("m2r_polls_total", "counter", "Looks at a pod's /status.", "looks",
           {"outcome": ("answered", "failed")}),
    Series("m2r_informer_relists_total", "counter", "Full lists of children.", "lists",
           {"resource": ("jobs", "pods")}),
)  # fmt: skip
READ: Final[tuple[Series, ...]] = (
    Series("m2r_jobs", "gauge", "Runs, by phase.", "runs", {"kind": KINDS, "phase": PHASES}),
    Series("m2r_leader", "gauge", "Whether this replica leads.", "ratio"),
    Series("m2r_queue_depth", "gauge", "Runs that wait for a worker.", "runs"),
    Series("m2r_run_disruptions", "gauge",
           "Attempts that an unfinished run has lost to disruptions so far.", "attempts", _RUN),
    Series("m2r_run_phase", "gauge", "1 for the phase that a finished run ended in.", "ratio",
           {**_RUN, "phase": ("Succeeded", "Failed")}),
    Series("m2r_run_steps", "gauge", "Steps that a finished run did.", "steps", _RUN),
    Series("m2r_run_reward_mean", "gauge", "Last mean reward of a finished run.", "reward", _RUN),
    Series("m2r_run_score_ratio", "gauge", "Mean headline score of a finished run.", "ratio", _RUN),
    Series("m2r_run_active_seconds", "gauge", "Running time of a finished run.", "seconds", _RUN),
    Series("m2r_run_attempts", "gauge", "Attempts that a finished run took.", "attempts", _RUN),
    Series("m2r_run_completion_timestamp_seconds", "gauge", "When a run ended (Unix time).",
           "seconds", _RUN),
)  # fmt: skip
OPERATOR_SERIES: Final = (*COUNTED, *READ)


class Metrics:
    """What the operator counts and shows."""

    def __init__(self) -> None:
        self._set = MetricSet(series=COUNTED)

    def show(
        self,
        runs: Callable[[], Iterable[RunSeen]],
        *,
        leads: Callable[[], bool],
        depth: Callable[[], int],
    ) -> None:
        """Read these whenever somebody asks."""
        self._set.registry.register(_Facts(runs, leads, depth))

    def exposition(self) -> bytes:
        """The text of ``GET /metrics``."""
        return self._set.exposition()

    def request(self, verb: str, resource: str, code: str) -> None:
        """Count a request to the API server."""
        self._set.inc(
            "m2r_api_requests_total",
            verb=_known(verb, VERBS),
            resource=_known(resource, RESOURCES),
            code=_known(code, CODES) if code in CODES else "error",
        )

    def reconciled(self, kind: str, seconds: float) -> None:
        """Count a look at a run."""
        self._set.observe("m2r_reconcile_seconds", seconds, kind=kind)

    def failed(self, kind: str) -> None:
        """Count a look at a run that failed."""
        self._set.inc("m2r_reconcile_errors_total", kind=kind)

    def polled(self, answered: bool) -> None:
        """Count a look at a pod's ``/status``."""
        self._set.inc("m2r_polls_total", outcome="answered" if answered else "failed")

    def relisted(self, resource: str) -> None:
        """Count a full list."""
        self._set.inc("m2r_informer_relists_total", resource=resource)

    def measured(self, one: Measured) -> None:
        """Count what a decision has measured."""
        labels = dict(one.labels)
        if "class" in labels:
            labels["class"] = _known(labels["class"], CLASSES)
        if one.series.endswith("_total"):
            self._set.inc(one.series, one.value, **labels)
        else:
            self._set.observe(one.series, one.value, **labels)


class _Facts(Collector):
    """What is read rather than counted."""

    def __init__(
        self,
        runs: Callable[[], Iterable[RunSeen]],
        leads: Callable[[], bool],
        depth: Callable[[], int],
    ) -> None:
        self._runs, self._leads, self._depth = runs, leads, depth

    def describe(self) -> Iterable[Metric]:
        return [_family(one) for one in READ]

    def collect(self) -> Iterator[Metric]:
        families = {one.name: _family(one) for one in READ}
        families["m2r_leader"].add_metric([], float(self._leads()))
        families["m2r_queue_depth"].add_metric([], float(self._depth()))
        runs = list(self._runs())
        counts = Counter((run.key.kind, run.status.phase or "Pending") for run in runs)
        for kind in KINDS:
            for phase in PHASES:
                families["m2r_jobs"].add_metric([kind, phase], float(counts[kind, phase]))
        for run in _most_disrupted(runs):
            families["m2r_run_disruptions"].add_metric(_labels(run), float(_disruptions(run)))
        for run in _newest_finished(runs):
            for name, value in _facts(run).items():
                labels = _labels(run)
                if name == "m2r_run_phase":
                    labels.append(str(run.status.phase))
                families[name].add_metric(labels, value)
        yield from families.values()


def _newest_finished(runs: Iterable[RunSeen]) -> list[RunSeen]:
    ended = [
        (run.status.completion_time.timestamp(), run)
        for run in runs
        if run.status.completion_time is not None and run.status.phase in ("Succeeded", "Failed")
    ]
    ended.sort(key=lambda pair: (-pair[0], pair[1].key))
    return [run for _, run in ended[:FINISHED]]


def _most_disrupted(runs: Iterable[RunSeen]) -> list[RunSeen]:
    begun = [run for run in runs if run.status.attempt and run.status.completion_time is None]
    begun.sort(key=lambda run: (-_disruptions(run), run.key))
    return begun[:UNFINISHED]


def _disruptions(run: RunSeen) -> int:
    return run.status.restarts.disruptions if run.status.restarts is not None else 0


def _labels(run: RunSeen) -> list[str]:
    return [run.key.namespace, run.key.kind, run.key.name]


def _facts(run: RunSeen) -> Mapping[str, float]:
    status = run.status
    metrics, progress = status.metrics, status.progress
    ended = status.completion_time
    facts = {
        "m2r_run_phase": 1.0,
        "m2r_run_steps": progress.step if progress is not None else None,
        "m2r_run_reward_mean": metrics.reward_mean if metrics is not None else None,
        "m2r_run_score_ratio": (
            metrics.score / 100 if metrics is not None and metrics.score is not None else None
        ),
        "m2r_run_active_seconds": status.active_seconds,
        "m2r_run_attempts": status.attempt,
        "m2r_run_completion_timestamp_seconds": ended.timestamp() if ended is not None else None,
    }
    return {name: float(value) for name, value in facts.items() if value is not None}


def _family(one: Series) -> GaugeMetricFamily:
    return GaugeMetricFamily(one.name, one.help, labels=list(one.labels))


def _known(value: str, closed: tuple[str, ...]) -> str:
    return value if value in closed else OTHER
