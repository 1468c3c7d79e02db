"""The dashboard of data synthesis: how fast it goes, what is dropped, and where."""

from __future__ import annotations

from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard

from dashboards.panels import OR_ZERO, RATE, Panel, Query, board, figure, lines, section, variable

_JOB: Final = 'run_kind="DataSynthesisJob", namespace="$namespace", run="$run"'
_OWN: Final = f'{_JOB}, index=~"0|"'  # the pod that joins all others' work
_SAMPLES: Final = "m2r_synthesis_samples_total"


def synthesis_board() -> Dashboard:
    """``m2r-synthesis``."""
    kind = 'run_kind="DataSynthesisJob"'
    made = board(
        "m2r-synthesis",
        "M2R / Data synthesis",
        "One DataSynthesisJob: parts, samples kept and dropped by stage, errors.",
        [
            variable("namespace", "Namespace of the run.", f"m2r_steps_planned{{{kind}}}",
                     "namespace", several=False),
            variable("run", "Name of the run.",
                     f'm2r_steps_planned{{{kind}, namespace="$namespace"}}', "run",
                     several=False),
        ],
        "now-6h",
    )  # fmt: skip
    section(made, "Now", _now())
    section(made, "Samples", _samples())
    section(made, "Work", _work())
    return made


def _of(series: str, more: str = "") -> str:
    return f"{series}{{{_OWN}{more}}}"


def _count(stage: str, outcome: str) -> str:
    return f"sum({_last(_is(stage=stage, outcome=outcome))})"


def _last(more: str = "") -> str:
    """Counts so far; those of the end are scraped once, maybe between two points."""
    return f"last_over_time({_of(_SAMPLES, more)}{RATE})"


def _is(**labels: str) -> str:
    return "".join(f', {name}=~"{values}"' for name, values in labels.items())


def _now() -> list[Panel]:
    kept, dropped = _count("verify", "kept"), f"({_count('verify', 'dropped')}{OR_ZERO})"
    since = f"time() - ({_of('m2r_last_step_timestamp_seconds')} > 0)"
    alerts = f'count(ALERTS{{alertname=~"M2R.*", alertstate="firing", {_JOB}}}){OR_ZERO}'
    return [
        figure("Progress", "Parts of the work that are done.", "percentunit",
               f"{_of('m2r_step')} / ({_of('m2r_steps_planned')} > 0)"),
        figure("Parts", "Parts done; a part is a shard of a source, or a chunk of questions.",
               "short", _of("m2r_step")),
        figure("Since the last part", "Time since a part was done; M2RStalled watches it.", "s",
               since, bad_from=1800),
        figure("Made and right", "Samples that passed their check, of all pods.", "short", kept),
        figure("Yield", "Share of the samples that pass their check.", "percentunit",
               f"{kept} / ({kept} + {dropped})"),
        figure("In the dataset", "Samples in all splits; known at the end.", "short",
               _count("route", "kept")),
        figure("Attempt", "Which attempt runs; each restart and preemption adds one.", "short",
               f"{_of('m2r_attempt')} > 0"),
        figure("Alerts", "M2R's alerts on this run that fire now.", "short", alerts, bad_from=1),
    ]  # fmt: skip


def _samples() -> list[Panel]:
    total = f"sum by (stage, outcome) ({_last()})"
    rate = f"sum by (outcome) (rate({_of(_SAMPLES, _is(stage='verify'))}{RATE}))"
    kept = f"sum by (stage) ({_last(_is(outcome='kept'))})"
    every = f"sum by (stage) ({_last(_is(outcome='kept|dropped'))})"
    return [
        lines("Samples by stage", "Since the attempt began: verify counts each sample that is "
              "made, generate the chains that a teacher writes, quality those that are judged, "
              "route the samples that the splits take or leave.", "short",
              Query(total, "{{stage}}, {{outcome}}"), low=0),
        lines("Yield by stage", "Share of a stage's samples that it keeps.", "percentunit",
              Query(f"{kept} / {every}", "{{stage}}"), low=0, high=1),
        lines("Samples per second", "Samples made, by whether they passed their check.", "short",
              Query(rate, "{{outcome}}"), stacked=True, low=0),
    ]  # fmt: skip


def _work() -> list[Panel]:
    errors = f"sum by (operation, error) (increase({_of('m2r_store_errors_total')}{RATE}))"
    done, planned = _of("m2r_step"), _of("m2r_steps_planned")
    return [
        lines("Parts", "Done and planned.", "short", Query(done, "done"),
              Query(planned, "planned"), low=0),
        lines("Parts per second", "The slope of the parts that are done; flat is a stall.",
              "short", Query(f"deriv({done}{RATE})", "parts"), low=0),
        lines("Errors of the store", "Failed requests, retried or not; a flat line at 0 while "
              "there is none.", "short",
              Query(f"{errors}{OR_ZERO}", "{{operation}} {{error}}"), low=0),
    ]  # fmt: skip
