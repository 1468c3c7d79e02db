"""The dashboard of the operator itself: does it lead, keep up, and get what it asks for."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import OR_ZERO, RATE, Panel, Query, board, figure, lines, section, variable


def operator_board() -> Dashboard:
    """``m2r-operator``."""
    made = board(
        "m2r-operator",
        "M2R / Operator",
        "The operator: leadership, its queue, reconciling, requests to the API server, recovery.",
        [
            variable("namespace", "Namespace of the operator.", "m2r_leader", "namespace",
                     several=False),
            variable("kind", "Kinds of runs.", 'm2r_jobs{namespace="$namespace"}', "kind",
                     several=True),
        ],
        "now-3h",
    )  # fmt: skip
    section(made, "Now", _now())
    section(made, "Reconciling", _reconciling())
    section(made, "API server and pods", _requests())
    section(made, "Restarts", _restarts())
    return made


def _of(series: str, more: str = "") -> str:
    return f'{series}{{namespace="$namespace"{more}}}'


def _kinds(series: str, more: str = "") -> str:
    return _of(series, f', kind=~"$kind"{more}')


def _sum(by: str, selector: str) -> str:
    return f"sum by ({by}) (rate({selector}{RATE}))"


def _now() -> list[Panel]:
    requests = f"sum(rate({_of('m2r_api_requests_total')}{RATE}))"
    failing = f"sum(rate({_kinds('m2r_reconcile_errors_total')}{RATE})){OR_ZERO}"
    return [
        figure("Leaders", "Replicas that lead; it must be one.", "short",
               f"sum({_of('m2r_leader')})", width=4, bad_below=1),
        figure("Replicas", "Replicas that are scraped; those that do not lead stand by.", "short",
               f"count({_of('m2r_leader')})", width=4, bad_below=1),
        figure("Runs", "Runs that the operator knows, of the kinds that are chosen.", "short",
               f"sum({_kinds('m2r_jobs')})", width=4),
        figure("Queue", "Runs that wait for a worker.", "short",
               f"sum({_of('m2r_queue_depth')})", width=4),
        figure("Requests per second", "To the API server; apiRate limits them.", "reqps",
               requests, width=4),
        figure("Failed looks per second", "Looks at a run that raised an error.", "ops", failing,
               width=4, bad_from=0.1),
    ]  # fmt: skip


def _reconciling() -> list[Panel]:
    seconds = _kinds("m2r_reconcile_seconds_bucket")

    def quantile(q: float) -> str:
        return f"histogram_quantile({q}, {_sum('le', seconds)})"

    mean = (
        f"{_sum('kind', _kinds('m2r_reconcile_seconds_sum'))} / "
        f"{_sum('kind', _kinds('m2r_reconcile_seconds_count'))}"
    )
    failed = _sum("kind", _kinds("m2r_reconcile_errors_total"))
    return [
        lines("Looks per second", "Looks at a run, by kind.", "ops",
              Query(_sum("kind", _kinds("m2r_reconcile_seconds_count")), "{{kind}}"),
              stacked=True, low=0),
        lines("Time of a look", "Quantiles over all kinds that are chosen.", "s",
              Query(quantile(0.5), "median"), Query(quantile(0.99), "99 %"), low=0),
        lines("Mean time of a look", "By kind.", "s", Query(mean, "{{kind}}"), low=0),
        lines("Failed looks", "By kind. The run is looked at again, later each time.", "ops",
              Query(f"{failed}{OR_ZERO}", "{{kind}}"), low=0),
        lines("Queue", "Runs that wait for a worker, of each replica.", "short",
              Query(_of("m2r_queue_depth"), "{{instance}}"), low=0),
        lines("Runs by phase", "Of the kinds that are chosen.", "short",
              Query(f"sum by (phase) ({_kinds('m2r_jobs')}) > 0", "{{phase}}"),
              stacked=True, low=0),
    ]  # fmt: skip


def _requests() -> list[Panel]:
    total = "m2r_api_requests_total"
    refused = _sum("code", _of(total, ', code=~"4xx|5xx|error"'))
    return [
        lines("Requests by verb", "To the API server.", "reqps",
              Query(_sum("verb", _of(total)), "{{verb}}"), stacked=True, low=0),
        lines("Requests by resource", "To the API server.", "reqps",
              Query(_sum("resource", _of(total)), "{{resource}}"), stacked=True, low=0),
        lines("Requests that failed", "Refused (4xx: conflicts and absent objects are a part of "
              "the work), failed (5xx), or without an answer (error).", "reqps",
              Query(f"{refused}{OR_ZERO}", "{{code}}"), low=0),
        lines("Looks at pods", "GET /status of the pods of runs, by what came of it.", "reqps",
              Query(_sum("outcome", _of("m2r_polls_total")), "{{outcome}}"), width=12, low=0),
        lines("Full lists", "Lists of all children: one at the start, one after each lost watch.",
              "short",
              Query(f"sum by (resource) (increase({_of('m2r_informer_relists_total')}{RATE}))",
                    "{{resource}}"), width=12, low=0),
    ]  # fmt: skip


def _restarts() -> list[Panel]:
    recovery = _sum("le", _of("m2r_recovery_seconds_bucket"))
    restarts = f"sum by (class) (increase({_kinds('m2r_restarts_total')}{RATE}))"
    return [
        lines("Restarts", "Attempts that ended without a result, by why.", "short",
              Query(f"{restarts}{OR_ZERO}", "{{class}}"), width=12, low=0),
        lines("Recovery", "From the end of an attempt until the next one's pods run.", "s",
              Query(f"histogram_quantile(0.5, {recovery})", "median"),
              Query(f"histogram_quantile(0.95, {recovery})", "95 %"), width=12, low=0),
    ]  # fmt: skip
