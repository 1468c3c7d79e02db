"""The declared series: every name of the contract, closed labels, a bounded number of series."""

import math
import re

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from m2r_train.telemetry.metrics import (
    BY_RUN,
    CHECKPOINT_PHASES,
    MAX_VALUES_PER_LABEL,
    OTHER,
    PHASES,
    STEP_GAUGES,
    TOKEN_KINDS,
    TRAINER_SERIES,
    MetricSet,
    Series,
    UndeclaredSeriesError,
    closed,
    markdown_table,
)

# Section 7 of the design, word for word, and what came since: name, then its labels.
CONTRACT = {
    "m2r_step": (), "m2r_steps_planned": (), "m2r_attempt": (),
    "m2r_step_phase_seconds": ("phase",),
    "m2r_tokens_total": ("kind",), "m2r_samples_total": (),
    "m2r_reward_mean": ("task", "component"), "m2r_reward_std": ("task", "component"),
    "m2r_accuracy_mean": ("task",), "m2r_advantage_weight_mean": (), "m2r_kl": (),
    "m2r_kl_coefficient": (), "m2r_entropy": (), "m2r_clip_ratio": (), "m2r_loss": (),
    "m2r_grad_norm": (), "m2r_learning_rate": (), "m2r_nonfinite_steps_total": (),
    "m2r_last_step_timestamp_seconds": (), "m2r_completion_tokens": (),
    "m2r_truncated_ratio": (), "m2r_repetition_ratio": (), "m2r_format_valid_ratio": (),
    "m2r_zero_signal_groups_ratio": (), "m2r_curriculum_difficulty": ("task",),
    "m2r_sampler_logp_diff": (), "m2r_sampler_ratio": (), "m2r_sampler_ratio_cut": (),
    "m2r_heldout_loss": (), "m2r_heldout_score": (),
    "m2r_alarm": ("sign",), "m2r_checkpoint_seconds": ("phase",),
    "m2r_checkpoint_wait_seconds_total": (),
    "m2r_checkpoint_interval_steps": (), "m2r_checkpoint_bytes": (), "m2r_checkpoint_last_step": (),
    "m2r_checkpoint_last_timestamp_seconds": (), "m2r_goodput_ratio": (),
    "m2r_model_flops_utilization_ratio": (), "m2r_eval_score": ("benchmark", "subtask"),
    "m2r_synthesis_samples_total": ("stage", "outcome"),
    "m2r_store_errors_total": ("operation", "error"),
}  # fmt: skip
HISTOGRAMS = {"m2r_step_phase_seconds", "m2r_completion_tokens", "m2r_checkpoint_seconds"}
TASKS = ("count", "depth", "direction", "distance", "room", "size")


def scrape(metrics: MetricSet) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: MetricSet, name: str, **labels: str) -> float | None:
    return scrape(metrics).get((name, tuple(sorted(labels.items()))))


def test_the_declared_series_are_those_of_the_contract() -> None:
    assert {one.name: tuple(one.labels) for one in TRAINER_SERIES} == CONTRACT


def test_only_the_series_that_are_distributions_are_histograms() -> None:
    assert {one.name for one in TRAINER_SERIES if one.kind == "histogram"} == HISTOGRAMS


@pytest.mark.parametrize("series", TRAINER_SERIES, ids=lambda one: one.name)
def test_a_series_keeps_the_naming_rules(series: Series) -> None:
    assert re.fullmatch(r"m2r_[a-z_]+", series.name)
    assert (series.kind == "counter") == series.name.endswith("_total")
    assert (series.kind == "histogram") == bool(series.buckets)
    assert list(series.buckets) == sorted(set(series.buckets))
    assert series.help.endswith(".")
    assert series.unit
    assert "percent" not in series.name


def test_a_new_set_lives_on_a_registry_of_its_own() -> None:
    first, second = MetricSet(), MetricSet()
    first.set("m2r_step", 3)
    assert (value(first, "m2r_step"), value(second, "m2r_step")) == (3, 0)


def test_a_given_registry_is_used() -> None:
    registry = CollectorRegistry()
    MetricSet(registry).set("m2r_kl", 0.5)
    assert registry.get_sample_value("m2r_kl") == 0.5


@pytest.mark.parametrize(
    ("method", "name", "labels", "complaint"),
    [
        ("set", "m2r_rewards", {}, "no such series"),
        ("set", "m2r_tokens_total", {"kind": "prompt"}, "is a counter, used as a gauge"),
        ("inc", "m2r_step", {}, "is a gauge, used as a counter"),
        ("observe", "m2r_step", {}, "is a gauge, used as a histogram"),
        ("inc", "m2r_tokens_total", {}, r"labels \[\], not \['kind'\]"),
        ("set", "m2r_step", {"task": "count"}, r"labels \['task'\], not \[\]"),
        ("inc", "m2r_tokens_total", {"kind": "image"}, "kind='image' is not one of"),
        ("set", "m2r_accuracy_mean", {"task": "cooking"}, "task='cooking' is not one of"),
        ("set", "m2r_eval_score", {"benchmark": "x", "subtask": "y"}, "is not one of"),
    ],
)
def test_a_series_or_label_that_is_not_declared_is_an_error(
    method: str, name: str, labels: dict[str, str], complaint: str
) -> None:
    metrics = MetricSet(label_values={"task": TASKS})
    with pytest.raises(UndeclaredSeriesError, match=complaint):
        getattr(metrics, method)(name, 1.0, **labels)


def test_a_whole_run_of_six_tasks_stays_inside_the_series_budget() -> None:
    metrics = MetricSet(label_values={"task": TASKS})
    for phase in PHASES:
        metrics.observe("m2r_step_phase_seconds", 1.0, phase=phase)
    for phase in CHECKPOINT_PHASES:
        metrics.observe("m2r_checkpoint_seconds", 1.0, phase=phase)
    for kind in TOKEN_KINDS:
        metrics.inc("m2r_tokens_total", 9, kind=kind)
    for place, task in enumerate(TASKS):
        component = "ednm" if place % 2 else "exact"
        metrics.record_step({
            "step": place, "task": task, "reward": 0.5, "reward_std": 0.1, "accuracy": 0.5,
            "difficulty": 0.4, "format_valid": 1.0, component: 0.5,
        })  # fmt: skip
    assert 100 < len(scrape(metrics)) <= 150 + 6 + 14  # signs, evaluation, attempt, age


def test_the_text_has_no_created_series() -> None:
    metrics = MetricSet()
    metrics.inc("m2r_samples_total", 2)
    assert b"_created" not in metrics.exposition()
    assert value(metrics, "m2r_samples_total") == 2


def test_a_thousand_tasks_fold_into_a_closed_set() -> None:
    names = [f"task-{place}" for place in range(1000)]
    metrics = MetricSet(label_values={"task": closed(names, limit=4)})
    for name in names:
        metrics.set("m2r_accuracy_mean", 0.5, task=name)
    exported = {dict(labels)["task"] for name, labels in scrape(metrics) if "accuracy" in name}
    assert exported == {*names[:4], OTHER}


@pytest.mark.parametrize("operation", ["get", "GetObject", "UploadPart", "ListObjectsV2"])
@pytest.mark.parametrize("error", ["server", "connection", "full", "other"])
def test_what_the_stores_report_is_counted_and_never_raises(operation: str, error: str) -> None:
    metrics = MetricSet()
    metrics.inc("m2r_store_errors_total", operation=operation, error=error)
    ours = {"GetObject": "get", "UploadPart": "put", "ListObjectsV2": "list"}
    found = value(
        metrics, "m2r_store_errors_total", operation=ours.get(operation, operation), error=error
    )
    assert found == 1


def test_an_open_label_set_is_refused() -> None:
    names = [f"task-{place}" for place in range(MAX_VALUES_PER_LABEL + 1)]
    with pytest.raises(ValueError, match="pass them through closed"):
        MetricSet(label_values={"task": names})


def test_a_step_record_sets_its_gauges() -> None:
    metrics = MetricSet(label_values={"task": TASKS})
    record = {key: 0.25 + place for place, key in enumerate(STEP_GAUGES)}
    metrics.record_step({**record, "task": "depth", "reward": 0.75, "ednm": 0.5, "accuracy": 0.6})
    for key, name in STEP_GAUGES.items():
        assert value(metrics, name) == record[key]
    assert value(metrics, "m2r_reward_mean", task="depth", component="total") == 0.75
    assert value(metrics, "m2r_reward_mean", task="depth", component="ednm") == 0.5
    assert value(metrics, "m2r_accuracy_mean", task="depth") == 0.6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_not_finite_is_counted_and_poisons_no_gauge(bad: float) -> None:
    metrics = MetricSet()
    metrics.record_step({"step": 1, "loss": 0.5})
    assert value(metrics, "m2r_nonfinite_steps_total") == 0
    metrics.record_step({"step": 2, "loss": bad})
    assert value(metrics, "m2r_nonfinite_steps_total") == 1
    assert value(metrics, "m2r_loss") == 0.5


def test_the_table_of_the_docs_names_every_series_once() -> None:
    rows = markdown_table().splitlines()
    assert rows[1] == "|---|---|---|---|---|"
    assert [row.split("`")[1] for row in rows[2:]] == list(CONTRACT)
    assert all(row.count("|") == 6 for row in rows)


def test_labels_are_either_listed_or_left_to_the_run() -> None:
    by_run = {label for one in TRAINER_SERIES for label, v in one.labels.items() if v == BY_RUN}
    assert by_run == {"task", "benchmark", "subtask"}
