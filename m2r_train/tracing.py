"""What the model was asked and said at a step of a run, from the store, for people and programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from m2r_train.api.errors import DataError
from m2r_train.reporting import StoredRun, find_runs
from m2r_train.telemetry.tracefiles import TRACES, trace_key, traced_step

Trace = Mapping[str, Any]
_NAMED = 12  # steps that a message names


def traced_run(uri: str, *, endpoint: str | None = None) -> StoredRun:
    """The one RLVRJob's run at ``uri``; ``DataError`` where there is none, or more than one."""
    runs = [run for run in find_runs([uri], endpoint=endpoint) if run.spec.kind == "RLVRJob"]
    if len(runs) == 1:
        return runs[0]
    there = "no run of an RLVRJob" if not runs else f"{len(runs)} runs of RLVRJobs"
    hint = "give the folder of one" + "".join(f"\n  {run.store.uri}" for run in runs)
    raise DataError(f"{uri}: {there}; {hint}")


def traced_steps(run: StoredRun) -> list[int]:
    """The steps that have traces, in order."""
    steps = (traced_step(entry.key) for entry in run.store.list(TRACES))
    return sorted(step for step in steps if step is not None)


def traces_of(
    run: StoredRun, step: int, *, task: str | None = None, problem: str | None = None
) -> list[Trace]:
    """The traces of a step: of one ``task``, of one ``problem`` (its id), or all of them.

    ``DataError`` where nothing fits, which says what is there.
    """
    found: Sequence[Trace] = run.lines(trace_key(step))
    if not found:
        kept = traced_steps(run)
        raise DataError(
            f"{run.store.uri}: step {step} has no traces; {_kept(kept)} (spec.traces.every)"
        )
    chosen: list[Trace] = [
        trace
        for trace in found
        if (task is None or trace["task"] == task)
        and (problem is None or str(trace["id"]) == problem)
    ]
    if not chosen:
        there = ", ".join(f"{trace['id']} ({trace['task']})" for trace in found)
        raise DataError(f"{run.store.uri}: no such trace in step {step}; it has {there}")
    return chosen


def renderables(traces: Sequence[Trace]) -> Iterator[RenderableType]:
    """A panel a prompt: what was asked, then each completion with what it earned."""
    for trace in traces:
        title = f"step {trace['step']} · {trace['task']} · {trace['id']}"
        head = Table.grid(padding=(0, 1))
        for label, value in _asked(trace):
            head.add_row(Text(label, style="dim"), Text(value))
        parts: list[RenderableType] = [head]
        for number, one in enumerate(trace["completions"], start=1):
            parts += [Text(), _figures(number, one), Text(str(one["text"]))]
        yield Panel(Group(*parts), title=Text(title), title_align="left")


def _asked(trace: Trace) -> Iterator[tuple[str, str]]:
    yield "question", str(trace["question"])
    if trace.get("pictures"):
        yield "pictures", str(trace["pictures"])
    yield "truth", str(trace["answer"])
    yield "prompt", f"{trace['prompt_tokens']} tokens: {trace['prompt']}"
    yield "weight", f"{trace['weight']:.3f}"


def _figures(number: int, one: Trace) -> Text:
    extracted = "none" if one["extracted"] is None else str(one["extracted"])
    line = Text(f"#{number} ", style="bold")
    line.append(f"answer {extracted}", style="cyan")
    for key in ("reward", "reward_task", "reward_format", "accuracy"):
        line.append(f"  {key.removeprefix('reward_')} {one[key]:.3f}")
    for name, value in one.get("reward_own", {}).items():
        line.append(f"  {name} {value:.3f}")
    line.append(f"  advantage {one['advantage']:+.3f}  tokens {one['tokens']}")
    if one["truncated"]:
        line.append("  truncated", style="yellow")
    return line


def _kept(steps: Sequence[int]) -> str:
    if not steps:
        return "nor has any other"
    shown = ", ".join(map(str, steps[:_NAMED]))
    return f"kept are {shown}" + (f", … {steps[-1]}" if len(steps) > _NAMED else "")
