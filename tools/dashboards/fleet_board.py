"""The dashboard of all runs: what runs, how well, what restarts, what came out."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import (
    OR_ZERO,
    RATE,
    Column,
    Panel,
    Query,
    board,
    figure,
    grid,
    lines,
    section,
    variable,
)

_LIVE: Final = 'namespace=~"$namespace", run_kind=~"$kind", run=~"$run", index=~"0|"'
_ENDED: Final = 'namespace=~"$namespace", kind=~"$kind", run=~"$run"'
_KEYS: Final = ("namespace", "run_kind", "run")
_BY: Final = "namespace, run_kind, run"
_NAME: Final = "{{namespace}}/{{run}}"


def fleet_board() -> Dashboard:
    """``m2r-fleet``."""
    made = board(
        "m2r-fleet",
        "M2R / Fleet",
        "All runs: phases, progress, throughput, restarts, and the last facts of finished runs.",
        [
            variable("namespace", "Namespaces of runs.", "m2r_steps_planned", "namespace",
                     several=True),
            variable("kind", "Kinds of runs.", "m2r_jobs", "kind", several=True),
            variable("run", "Names of runs.",
                     'm2r_steps_planned{namespace=~"$namespace", run_kind=~"$kind"}', "run",
                     several=True),
        ],
        "now-24h",
    )  # fmt: skip
    section(made, "Runs", _runs())
    section(made, "Live", _live())
    section(made, "Trouble", _trouble())
    section(made, "Finished", _finished())
    section(made, "GPUs", _gpus())
    return made


def _of(series: str, more: str = "") -> str:
    return f"{series}{{{_LIVE}{more}}}"


def _runs() -> list[Panel]:
    def count(phases: str) -> str:
        return f'sum(m2r_jobs{{kind=~"$kind", phase=~"{phases}"}})'

    firing = 'ALERTS{alertname=~"M2R.*", alertstate="firing", namespace=~"$namespace"}'
    everywhere = "In all namespaces that the operator serves."
    return [
        figure("Running", f"Runs whose pods run. {everywhere}", "short", count("Running")),
        figure("Waiting", f"Runs that wait for a queue or for their turn. {everywhere}", "short",
               count("Pending|Queued|Suspended")),
        figure("Preempted", f"Runs whose pods were taken away. {everywhere}", "short",
               count("Preempted")),
        figure("Failed", f"Runs that ended without a result. {everywhere}", "short",
               count("Failed")),
        figure("Succeeded", f"Runs that ended with a result. {everywhere}", "short",
               count("Succeeded")),
        figure("Tokens per second", "Of all runs that are chosen.", "short",
               f"sum(rate({_of('m2r_tokens_total')}{RATE}))"),
        figure("Goodput", "Mean of the runs that are chosen.", "percentunit",
               f"avg({_of('m2r_goodput_ratio')})"),
        figure("Alerts", "M2R's alerts that fire now.", "short",
               f"count({firing}){OR_ZERO}", bad_from=1),
    ]  # fmt: skip


def _live() -> list[Panel]:
    def one(inner: str) -> str:
        return f"max by ({_BY}) ({inner})"

    tokens = f"sum by ({_BY}) (rate({_of('m2r_tokens_total')}{RATE}))"
    total = _of("m2r_reward_mean", ', component="total"')
    reward = f"avg by ({_BY}) ({total})"
    accuracy = f"avg by ({_BY}) ({_of('m2r_accuracy_mean')})"
    progress = f"{_of('m2r_step')} / ({_of('m2r_steps_planned')} > 0)"
    since = f"time() - ({_of('m2r_last_step_timestamp_seconds')} > 0)"
    return [
        grid("Live runs", "One row a run that Prometheus scrapes now.", [
            Column("Progress", "percentunit", one(progress)),
            Column("Step", "short", one(_of("m2r_step"))),
            Column("Attempt", "short", one(f"{_of('m2r_attempt')} > 0")),
            Column("Tokens per second", "short", tokens),
            Column("Reward", "short", reward),
            Column("Accuracy", "percentunit", accuracy),
            Column("Goodput", "percentunit", one(_of("m2r_goodput_ratio"))),
            Column("Since the last step", "s", one(since)),
        ], keys=_KEYS),
        lines("Runs by phase", "As the operator counts them, in all namespaces that it serves.",
              "short", Query('sum by (phase) (m2r_jobs{kind=~"$kind"}) > 0', "{{phase}}"),
              stacked=True, low=0),
        lines("Tokens per second", "Of each run.", "short", Query(tokens, _NAME), stacked=True,
              low=0),
        lines("Goodput", "Share of the time since a run's first start spent on steps that count.",
              "percentunit", Query(one(_of("m2r_goodput_ratio")), _NAME), low=0, high=1),
        lines("Reward", "Mean over tasks.", "short", Query(reward, _NAME)),
        lines("Accuracy", "Mean over tasks.", "percentunit", Query(accuracy, _NAME), low=0, high=1),
        lines("Since the last step", "A line that climbs is a run that stalls.", "s",
              Query(one(since), _NAME), low=0),
    ]  # fmt: skip


def _trouble() -> list[Panel]:
    def quantile(q: float) -> str:
        inner = f"sum by (le) (rate(m2r_recovery_seconds_bucket{RATE}))"
        return f"histogram_quantile({q}, {inner})"

    restarts = f'sum by (class) (increase(m2r_restarts_total{{kind=~"$kind"}}{RATE}))'
    skipped = f"sum by ({_BY}) (increase({_of('m2r_nonfinite_steps_total')}{RATE}))"
    errors = f"sum by ({_BY}) (increase({_of('m2r_store_errors_total')}{RATE}))"
    return [
        lines("Restarts", "Attempts that ended without a result, by why; preemptions and lost "
              "nodes are not charged to the run.", "short",
              Query(f"{restarts}{OR_ZERO}", "{{class}}"), width=6, low=0),
        lines("Recovery", "From the end of an attempt until the next one's pods run.", "s",
              Query(quantile(0.5), "median"), Query(quantile(0.95), "95 %"), width=6, low=0),
        lines("Steps that were skipped", "Loss or gradient was not finite.", "short",
              Query(skipped, _NAME), width=6, low=0),
        lines("Errors of the store", "Failed requests, retried or not.", "short",
              Query(f"{errors}{OR_ZERO}", _NAME), width=6, low=0),
    ]  # fmt: skip


def _finished() -> list[Panel]:
    def fact(series: str) -> str:
        return f"max by (namespace, kind, run) ({series}{{{_ENDED}}})"

    succeeded = f'max by (namespace, kind, run) (m2r_run_phase{{{_ENDED}, phase="Succeeded"}})'
    failed = f'0 * max by (namespace, kind, run) (m2r_run_phase{{{_ENDED}, phase="Failed"}})'
    ended = f"time() - {fact('m2r_run_completion_timestamp_seconds')}"
    return [
        grid("Finished runs", "Last facts, as the operator tells them while the resource is "
             "there; success is 1 or 0.", [
            Column("Success", "bool", f"{succeeded} or {failed}"),
            Column("Steps", "short", fact("m2r_run_steps")),
            Column("Reward", "short", fact("m2r_run_reward_mean")),
            Column("Score", "percentunit", fact("m2r_run_score_ratio")),
            Column("Running time", "s", fact("m2r_run_active_seconds")),
            Column("Attempts", "short", fact("m2r_run_attempts")),
            Column("Ended before", "s", ended),
        ], keys=("namespace", "kind", "run")),
    ]  # fmt: skip


def _gpus() -> list[Panel]:
    def each(aggregate: str, series: str) -> str:
        """Of the GPUs that a pod holds: the others have no pod, and are in no namespace."""
        ours = f'{series}{{namespace=~"$namespace", pod!="", exported_pod=""}}'
        moved = f'{series}{{exported_namespace=~"$namespace", exported_pod!=""}}'
        return (
            f"{aggregate} by (namespace) ({ours}) or {aggregate} by (exported_namespace) ({moved})"
        )

    name = "{{namespace}}{{exported_namespace}}"
    busy = each("avg", "DCGM_FI_PROF_GR_ENGINE_ACTIVE")
    return [
        lines("GPUs at work", "Mean share of the time that any engine is busy, of the GPUs in "
              "these namespaces (dcgm-exporter).", "percentunit", Query(busy, name),
              width=12, low=0, high=1),
        lines("GPUs in use", "GPUs that pods in these namespaces hold (dcgm-exporter).", "short",
              Query(each("count", "DCGM_FI_DEV_FB_USED"), name), width=12, low=0),
    ]  # fmt: skip
