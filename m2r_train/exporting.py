"""From runs in a store to other people's trackers: reads what the stages wrote, changes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from m2r_train.reporting import StoredRun, find_runs, records
from m2r_train.store import read_head
from m2r_train.telemetry.events import redact
from m2r_train.telemetry.results import result_rows
from m2r_train.telemetry.tracefiles import trace_key
from m2r_train.tracing import traced_steps
from m2r_train.trackers import Point, Tracked, Tracker

_TEXT_STEPS: Final = 20  # steps of a run whose samples are exported
_BY_TASK: Final = frozenset({"reward", "reward_std", "accuracy", "format_valid", "difficulty"})
_NOT_SCALARS: Final = frozenset({"step", "task"})


def export(
    uris: Sequence[str],
    tracker: Tracker,
    *,
    endpoint: str | None = None,
    follow: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
    wait: Callable[[], None] = lambda: time.sleep(15.0),
) -> None:
    """Write the runs at ``uris`` to a tracker, whatever it does not have yet.

    ``follow``: go on, with a ``wait`` between two looks, until each of them has ended.
    """
    while True:
        runs = find_runs(uris, endpoint=endpoint)
        ended = [_ended(run) for run in runs]  # asked first: what comes later is seen next time
        for run in runs:
            added = tracker.write(tracked(run))
            if added or not follow:
                tell(f"{run.spec.kind}/{run.spec.metadata.name}: {added} steps added")
        if not follow or all(ended):
            return
        wait()


def tracked(run: StoredRun) -> Tracked:
    """A run as trackers take it."""
    results = run.json("eval/results.json") or {}
    rows = result_rows({"": results})
    return Tracked(
        id=_id(run),
        name=run.spec.metadata.name,
        kind=run.spec.kind,
        params={**dict(_flat(redact(dict(run.spec.spec)), "")), "seed": str(run.spec.seed)},
        points=_points(run),
        scores={f"{row.benchmark}/{row.task}": row.scores[""].value for row in rows},
    )


def _id(run: StoredRun) -> str:
    return f"{run.spec.kind.lower()}-{run.spec.metadata.name}-{run.spec.metadata.uid[:8]}"


def _ended(run: StoredRun) -> bool:
    head = read_head(run.store)
    return head is not None and head.done


def _points(run: StoredRun) -> list[Point]:
    scalars: dict[int, dict[str, float]] = {}
    for record in records(run, "history.jsonl"):
        scalars.setdefault(int(record["step"]), {}).update(_figures(record))
    for timing in records(run, "timings.jsonl"):
        own = scalars.setdefault(int(timing["step"]), {})
        for name, value in timing.items():
            if name != "step":
                own["mfu" if name == "mfu" else f"seconds/{name}"] = float(value)
    texts = {step: _text(run, step) for step in _text_steps(run)}
    return [
        Point(step, scalars.get(step, {}), texts.get(step, {}))
        for step in sorted({*scalars, *texts})
    ]


def _figures(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a step's record; those of its task also by the task's name."""
    numbers = {
        name: float(value)
        for name, value in record.items()
        if name not in _NOT_SCALARS and isinstance(value, int | float)
    }
    task = record.get("task")
    if isinstance(task, str):
        numbers |= {f"task/{task}/{n}": v for n, v in numbers.items() if n in _BY_TASK}
    return numbers


def _text_steps(run: StoredRun) -> list[int]:
    """Some steps with traces, the same however far the run is."""
    every = max(1, int(run.spec.spec.get("steps") or 1) // _TEXT_STEPS)
    return [step for step in traced_steps(run) if step % every == 0]


def _text(run: StoredRun, step: int) -> dict[str, str]:
    """Samples of a step as Markdown, the first of each task."""
    found: dict[str, str] = {}
    for trace in run.lines(trace_key(step)):
        found.setdefault(f"samples/{trace['task']}", "\n\n".join(_paragraphs(trace)))
    return found


def _paragraphs(trace: Mapping[str, Any]) -> Iterator[str]:
    yield f"**{trace['question']}** (truth: {trace['answer']})"
    for one in trace["completions"]:
        yield f"reward {one['reward']:.3f}, advantage {one['advantage']:+.3f}"
        yield "\n".join(f"    {line}" for line in str(one["text"]).splitlines())


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Leaves of a spec by their path; what is not set is left out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _flat(item, f"{path}[{number}]")
    elif value is not None:
        yield path, str(value)
