"""Every series that a trainer exposes, declared once.

`TRAINER_SERIES` is data: the exporter (`MetricSet`), the reference table in the docs, the alert
rules and the dashboards are all made from it, so none can name a series that does not exist.

Conventions (prometheus.io, practices/naming): base units, ratios 0..1, ``_total`` on counters, no
unbounded label values. Which run a series belongs to comes from the scrape, never from a label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric

Kind = Literal["gauge", "counter", "histogram"]

# A label whose values only the run knows (its tasks, its benchmarks): closed by `MetricSet`.
BY_RUN: tuple[str, ...] = ()
OTHER = "other"
MAX_VALUES_PER_LABEL = 64

PHASES = ("generate", "reward", "train", "sync", "checkpoint", "data", "evaluate")
TOKEN_KINDS = ("prompt", "completion", "trained")
COMPONENTS = ("total", "task", "format", "ednm", "exact")
OWN = "own/"  # before the name of a user's reward: its component, and its key in a step record
CHECKPOINT_PHASES = ("snapshot", "upload", "restore")
SYNTHESIS_STAGES = ("collect", "generate", "verify", "quality", "difficulty", "route")
SYNTHESIS_OUTCOMES = ("in", "kept", "dropped")
SIGNS = ("Repetition", "ShortChains", "Truncation", "EntropyCollapse", "NoSignal", "Divergence")
STORE_OPERATIONS = ("get", "put", "head", "list", "delete")
STORE_ERRORS = ("conflict", "denied", "throttled", "server", "timeout", "corrupt", "connection",
                "full", OTHER)  # fmt: skip
# What S3's client calls them; it counts every attempt, so it reports under its own names.
S3_OPERATIONS = {
    "GetObject": "get", "PutObject": "put", "HeadObject": "head", "HeadBucket": "head",
    "ListObjectsV2": "list", "DeleteObject": "delete", "DeleteObjects": "delete",
    "CreateMultipartUpload": "put", "UploadPart": "put", "CompleteMultipartUpload": "put",
    "AbortMultipartUpload": "put",
    "put_if": "put", "upload": "put", "download": "get", "exists": "head",  # as our stores call it
}  # fmt: skip

_STEP_SECONDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
_CHECKPOINT_SECONDS = (1.0, 10.0, 60.0, 300.0)
_TOKENS = (16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)


@dataclass(frozen=True, slots=True)
class Series:
    """One declared series.

    ``labels`` maps a label to its closed set (`BY_RUN`: set by the run), which a run may add to;
    ``aliases`` are more names that are accepted for a value. ``optional``: not exposed before it
    is set, where 0 would be a claim.
    """

    name: str
    kind: Kind
    help: str
    unit: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    buckets: tuple[float, ...] = ()
    aliases: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    optional: bool = False


_TASK = {"task": BY_RUN}
_REWARD = {"task": BY_RUN, "component": COMPONENTS}

TRAINER_SERIES: tuple[Series, ...] = (
    Series("m2r_step", "gauge", "Last finished step.", "steps"),
    Series("m2r_steps_planned", "gauge", "Steps that the run is going to make.", "steps"),
    Series("m2r_attempt", "gauge", "Which attempt at the run this is, from 1.", "attempts"),
    Series("m2r_step_phase_seconds", "histogram", "Time that one step spent in each phase.",
           "seconds", {"phase": PHASES}, _STEP_SECONDS),
    Series("m2r_tokens_total", "counter", "Tokens read and generated; trained on in SFT.", "tokens",
           {"kind": TOKEN_KINDS}),
    Series("m2r_samples_total", "counter", "Samples finished (completions, or evaluated items).",
           "samples"),
    Series("m2r_reward_mean", "gauge",
           "Mean reward of the last step, by task and component; own/NAME is a user's reward.",
           "reward", _REWARD),
    Series("m2r_reward_std", "gauge", "Standard deviation of the reward over the last step.",
           "reward", _REWARD),
    Series("m2r_accuracy_mean", "gauge", "Mean task accuracy of the last step.", "ratio", _TASK),
    Series("m2r_advantage_weight_mean", "gauge",
           "Mean weight of the advantages (paper, equation 6).", "ratio"),
    Series("m2r_kl", "gauge", "Mean KL estimate to the reference, per token.", "nats"),
    Series("m2r_kl_coefficient", "gauge", "Coefficient of the KL term at the last step.", "ratio"),
    Series("m2r_entropy", "gauge", "Mean entropy of the policy, per token.", "nats"),
    Series("m2r_clip_ratio", "gauge", "Share of tokens whose policy ratio was clipped.", "ratio"),
    Series("m2r_loss", "gauge", "Loss of the last step.", "nats"),
    Series("m2r_grad_norm", "gauge", "Norm of the gradient before clipping.", "norm"),
    Series("m2r_learning_rate", "gauge", "Learning rate of the last step.", "ratio"),
    Series("m2r_nonfinite_steps_total", "counter",
           "Steps skipped because loss or gradient was not finite.", "steps"),
    Series("m2r_last_step_timestamp_seconds", "gauge", "When the last step ended (Unix time).",
           "seconds"),
    Series("m2r_completion_tokens", "histogram", "Length of each completion.", "tokens",
           {}, _TOKENS),
    Series("m2r_truncated_ratio", "gauge", "Share of completions cut at the length limit.",
           "ratio"),
    Series("m2r_repetition_ratio", "gauge", "Share of completions that repeat themselves.",
           "ratio"),
    Series("m2r_format_valid_ratio", "gauge",
           "Share of completions with one think and one answer block.", "ratio"),
    Series("m2r_zero_signal_groups_ratio", "gauge",
           "Share of groups whose rewards are all equal, which teach nothing.", "ratio"),
    Series("m2r_curriculum_difficulty", "gauge", "Mean difficulty of the prompts drawn last.",
           "ratio", _TASK),
    Series("m2r_sampler_logp_diff", "gauge",
           "Mean absolute log-probability difference of sampler and trainer, per token.", "nats"),
    Series("m2r_sampler_ratio", "gauge",
           "Mean raw importance ratio of trainer and sampler, where it is corrected.", "ratio"),
    Series("m2r_sampler_ratio_cut", "gauge", "Share of tokens whose importance ratio was cut.",
           "ratio"),
    Series("m2r_heldout_loss", "gauge",
           "Loss per token on samples that are not trained on (evaluation).", "nats"),
    Series("m2r_heldout_score", "gauge",
           "Greedy accuracy on samples that are not trained on (evaluation).", "ratio"),
    Series("m2r_alarm", "gauge", "Whether a sign of collapse is there (1) or not (0).", "bool",
           {"sign": SIGNS}),
    Series("m2r_checkpoint_seconds", "histogram", "Duration of each checkpoint, by phase.",
           "seconds", {"phase": CHECKPOINT_PHASES}, _CHECKPOINT_SECONDS),
    Series("m2r_checkpoint_wait_seconds_total", "counter",
           "Time that a checkpoint waited for the one before it to be stored.", "seconds"),
    Series("m2r_checkpoint_interval_steps", "gauge",
           "Steps between two checkpoints, as chosen from what they cost.", "steps"),
    Series("m2r_checkpoint_bytes", "gauge", "Size of the last checkpoint.", "bytes"),
    Series("m2r_checkpoint_last_step", "gauge", "Step of the last durable checkpoint.", "steps"),
    Series("m2r_checkpoint_last_timestamp_seconds", "gauge",
           "Since when work is in no checkpoint (Unix time): the copy of the last one, or the "
           "beginning of this attempt.", "seconds"),
    Series("m2r_goodput_ratio", "gauge",
           "Share of the time since the run's first start that went into saved steps, as of the "
           "last save.", "ratio"),
    Series("m2r_model_flops_utilization_ratio", "gauge",
           "Model FLOPs per second over the peak of the devices, by the last step; absent where "
           "that peak is not known.", "ratio", optional=True),
    Series("m2r_eval_score", "gauge", "Score of an evaluation, 0..1.", "ratio",
           {"benchmark": BY_RUN, "subtask": BY_RUN}),
    Series("m2r_synthesis_samples_total", "counter",
           "Samples that entered each stage of synthesis, passed it or were dropped by it, of a "
           "whole job at its first pod; generate and quality count a teacher's chains.", "samples",
           {"stage": SYNTHESIS_STAGES, "outcome": SYNTHESIS_OUTCOMES}),
    Series("m2r_store_errors_total", "counter", "Failed requests to the store, retried or not.",
           "requests", {"operation": STORE_OPERATIONS, "error": STORE_ERRORS},
           aliases={"operation": S3_OPERATIONS}),
)  # fmt: skip


# Keys of a step record (telemetry/history.py) and the gauges that show them.
STEP_GAUGES: Mapping[str, str] = MappingProxyType({
    "advantage_weight": "m2r_advantage_weight_mean",
    "kl": "m2r_kl",
    "kl_coefficient": "m2r_kl_coefficient",
    "entropy": "m2r_entropy",
    "clip_ratio": "m2r_clip_ratio",
    "loss": "m2r_loss",
    "grad_norm": "m2r_grad_norm",
    "lr": "m2r_learning_rate",
    "eval_loss": "m2r_heldout_loss",
    "eval_accuracy": "m2r_heldout_score",
    "truncated": "m2r_truncated_ratio",
    "repetition": "m2r_repetition_ratio",
    "format_valid": "m2r_format_valid_ratio",
    "zero_signal": "m2r_zero_signal_groups_ratio",
    "sampler_logp_diff": "m2r_sampler_logp_diff",
    "sampler_ratio": "m2r_sampler_ratio",
    "sampler_ratio_cut": "m2r_sampler_ratio_cut",
})  # fmt: skip
_TASK_GAUGES = {"accuracy": "m2r_accuracy_mean", "difficulty": "m2r_curriculum_difficulty"}
_REWARD_GAUGES = {"reward": "total", "format_valid": "format", "ednm": "ednm", "exact": "exact"}


class UndeclaredSeriesError(LookupError):
    """A series that is not declared, or a label value outside its closed set: a bug in M2R."""


class MetricSet:
    """The declared series as prometheus_client objects on one private registry.

    ``label_values`` closes the labels that only the run knows, for example
    ``{"task": closed(tasks), "benchmark": [..], "subtask": [..]}``; a mapping also folds names
    into the values that are exported.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        label_values: Mapping[str, Iterable[str] | Mapping[str, str]] | None = None,
        series: Sequence[Series] = TRAINER_SERIES,
    ) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._declared = {one.name: one for one in series}
        self._allowed: dict[tuple[str, str], dict[str, str]] = {}
        self.close(label_values or {})
        self._hidden = {one.name for one in series if one.optional}
        self._built = {
            one.name: _build(one, None if one.optional else self.registry) for one in series
        }

    def close(self, label_values: Mapping[str, Iterable[str] | Mapping[str, str]]) -> None:
        """Close the labels that only the run knows, once it knows them; what is counted stays.

        ``ValueError`` for a label with more than `MAX_VALUES_PER_LABEL` values.
        """
        by_run = {name: _folding(values) for name, values in label_values.items()}
        for name, values in by_run.items():
            count = len(set(values.values()))
            if count > MAX_VALUES_PER_LABEL:
                raise ValueError(
                    f"label {name!r} has {count} values, more than {MAX_VALUES_PER_LABEL}; "
                    "pass them through closed()"
                )
        self._allowed = {
            (one.name, label): {
                **_folding(values),
                **by_run.get(label, {}),
                **one.aliases.get(label, {}),
            }
            for one in self._declared.values()
            for label, values in one.labels.items()
        }

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        child = self._child(name, "gauge", labels)
        assert isinstance(child, Gauge)
        child.set(value)

    def inc(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Add to a counter; ``ValueError`` for a negative amount."""
        child = self._child(name, "counter", labels)
        assert isinstance(child, Counter)
        child.inc(amount)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        child = self._child(name, "histogram", labels)
        assert isinstance(child, Histogram)
        child.observe(value)

    def record_step(self, record: Mapping[str, float | int | str]) -> None:
        """Show a step record: every key that has a gauge, per task where the record names one.

        A step with a loss or a gradient that is not finite counts in
        ``m2r_nonfinite_steps_total`` and leaves its gauges alone: a NaN gauge poisons every
        average and compares false in every alert.
        """
        numbers = {key: float(v) for key, v in record.items() if not isinstance(v, str)}
        if not all(math.isfinite(numbers.get(key, 0.0)) for key in ("loss", "grad_norm")):
            self.inc("m2r_nonfinite_steps_total")
        numbers = {key: value for key, value in numbers.items() if math.isfinite(value)}
        for key, name in STEP_GAUGES.items():
            if key in numbers:
                self.set(name, numbers[key])
        task = record.get("task")
        if not isinstance(task, str):
            return
        for key, name in _TASK_GAUGES.items():
            if key in numbers:
                self.set(name, numbers[key], task=task)
        own = {key: key for key in numbers if key.startswith(OWN)}
        for key, component in (_REWARD_GAUGES | own).items():
            if key in numbers:
                self.set("m2r_reward_mean", numbers[key], task=task, component=component)
        if "reward_std" in numbers:
            self.set("m2r_reward_std", numbers["reward_std"], task=task, component="total")

    def exposition(self) -> bytes:
        """The text format of ``GET /metrics``."""
        return generate_latest(_WithoutCreated(self.registry))

    def _child(self, name: str, kind: Kind, labels: Mapping[str, str]) -> object:
        declared = self._declared.get(name)
        if declared is None:
            raise UndeclaredSeriesError(
                f"{name}: no such series; declare it in telemetry/metrics.py"
            )
        if declared.kind != kind:
            raise UndeclaredSeriesError(f"{name}: is a {declared.kind}, used as a {kind}")
        if labels.keys() != declared.labels.keys():
            raise UndeclaredSeriesError(
                f"{name}: labels {sorted(labels)}, not {sorted(declared.labels)}"
            )
        for label, value in labels.items():
            if value not in self._allowed[name, label]:
                known = sorted(self._allowed[name, label])
                raise UndeclaredSeriesError(f"{name}: {label}={value!r} is not one of {known}")
        built = self._built[name]
        if name in self._hidden:
            self._hidden.remove(name)
            self.registry.register(built)
        if not labels:
            return built
        return built.labels(**{key: self._allowed[name, key][v] for key, v in labels.items()})


def closed(values: Iterable[str], limit: int = 32) -> dict[str, str]:
    """A closed label set for names that come from users' data: ``name -> label value``.

    The first ``limit`` names keep their own; the rest share `OTHER`, so that a data set with a
    thousand tasks cannot flood Prometheus.
    """
    names = list(dict.fromkeys(values))
    return {name: name if place < limit else OTHER for place, name in enumerate(names)}


def markdown_table(series: Sequence[Series] = TRAINER_SERIES) -> str:
    """The reference table of the docs, one row a series."""
    rows = ["| series | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    for one in series:
        labels = "; ".join(
            f"`{label}`: {', '.join(values) or 'set by the run'}"
            for label, values in one.labels.items()
        )
        rows.append(f"| `{one.name}` | {one.kind} | {one.unit} | {labels} | {one.help} |")
    return "\n".join(rows) + "\n"


def _folding(values: Iterable[str] | Mapping[str, str]) -> Mapping[str, str]:
    """Accepted value -> exported value."""
    return dict(values) if isinstance(values, Mapping) else {value: value for value in values}


def _build(one: Series, registry: CollectorRegistry | None) -> Gauge | Counter | Histogram:
    labels = tuple(one.labels)
    if one.kind == "gauge":
        return Gauge(one.name, one.help, labels, registry=registry)
    if one.kind == "counter":
        return Counter(one.name, one.help, labels, registry=registry)
    return Histogram(one.name, one.help, labels, registry=registry, buckets=one.buckets)


class _WithoutCreated:
    """The registry less ``_created``: one more series for every counter, of use to nobody here."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            kept = Metric(metric.name, metric.documentation, metric.type)
            kept.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield kept
