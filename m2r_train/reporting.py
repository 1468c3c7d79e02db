"""From runs in a store to a table and a report: reads what the stages published, writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from rich.table import Table

from m2r_train.api.errors import DataError
from m2r_train.api.runspec import RunSpec
from m2r_train.benchmarks.pairing import Side, paired
from m2r_train.data.parquet import read_shard
from m2r_train.datasetpage import dataset_folder, dataset_page, nothing_here
from m2r_train.report import Comparison, RunView, build_report
from m2r_train.report.funnel import Manifest, Stage, funnel
from m2r_train.report.templating import write_page
from m2r_train.store import NotFound, ObjectStore, open_store, read_head
from m2r_train.telemetry.history import from_lines
from m2r_train.telemetry.progress import results_table
from m2r_train.telemetry.results import result_rows
from m2r_train.telemetry.tables import markdown
from m2r_train.telemetry.tracefiles import trace_key

SPEC = "spec.json"
_KIND_ORDER = ("DataSynthesisJob", "SFTJob", "RLVRJob", "EvalJob")
_DIFFICULTY_BINS = 20


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it lies in a store."""

    store: ObjectStore
    spec: RunSpec

    @property
    def label(self) -> str:
        """How tables name it: its name, ``eval-`` left out."""
        return self.spec.metadata.name.removeprefix("eval-")

    def json(self, key: str) -> Any:
        """A JSON document of the run, None where there is none."""
        data = self.bytes(key)
        return None if data is None else json.loads(data)

    def lines(self, key: str) -> list[dict[str, Any]]:
        """JSON lines of the run, none where there is no such file."""
        data = self.bytes(key)
        return [] if data is None else from_lines(data, key)

    def bytes(self, key: str) -> bytes | None:
        """An object of the run, None where there is none."""
        try:
            return self.store.get(key).data
        except NotFound:
            return None


def find_runs(uris: Iterable[str], *, endpoint: str | None = None) -> list[StoredRun]:
    """The runs at ``uris``, each a run's folder or a store that holds runs.

    Ordered by kind, evaluations by how many runs their model descends from, then as given.
    Raises ``DataError`` for a URI without runs.
    """
    runs: dict[str, StoredRun] = {}
    given: dict[str, int] = {}
    for place, uri in enumerate(uris):
        store = open_store(uri if "://" in uri else str(Path(uri).absolute()), endpoint=endpoint)
        names = [entry.key for entry in store.list()]
        folders = [name.removesuffix(SPEC) for name in names if _is_spec(name)]
        if not folders:
            raise nothing_here(uri, names)
        for folder in folders:
            own = store.under(folder.rstrip("/")) if folder else store
            runs[own.uri] = StoredRun(own, RunSpec.from_json(own.get(SPEC).data, source=own.uri))
            given.setdefault(own.uri, place)
    ancestors = {uri: len(_lineage(run, runs)) for uri, run in runs.items()}
    return sorted(
        runs.values(),
        key=lambda r: (
            _KIND_ORDER.index(r.spec.kind),
            ancestors[r.store.uri],
            given[r.store.uri],
            r.spec.metadata.name,
            r.spec.metadata.uid,
        ),
    )


def write_report(
    uris: Iterable[str],
    out: Path,
    *,
    cache_dir: Path,
    endpoint: str | None = None,
    compare: bool = False,
    steps: Sequence[int] = (),
) -> list[Comparison]:
    """One self-contained page about the runs at ``uris``, or about the dataset that is there.

    Returns the differences that the page tells. ``compare`` lays the runs of a kind over each
    other, and raises DataError where the evaluations cannot be paired. ``steps`` are those whose
    traces are shown in full; DataError where no run has traces of one.
    """
    named = list(uris)
    dataset = None if compare else dataset_folder(named, endpoint=endpoint)
    runs = [] if dataset is not None else find_runs(named, endpoint=endpoint)
    if [run.spec.kind for run in runs] == ["DataSynthesisJob"]:
        dataset = runs[0].store.under("dataset")
    if dataset is not None:
        if steps:
            raise DataError(f"--step {steps[0]}: a dataset has no steps; leave it out")
        write_page(dataset_page(dataset, cache_dir, endpoint=endpoint), out)
        return []
    by_uri = {run.store.uri: run for run in runs}
    comparisons = compare_models(runs, strict=compare)
    views = [_view(run, by_uri, steps) for run in runs]
    for step in steps:
        if not any(int(trace["step"]) == step for view in views for trace in view.traces):
            raise DataError(f"--step {step}: no run has traces of it; m2r traces RUN lists them")
    build_report(views, out, title="M2R report", comparisons=comparisons, compare=compare)
    return comparisons


def final_table(runs: Sequence[StoredRun]) -> Table | None:
    """The scores of all evaluated models side by side; None without an evaluation."""
    results = {run.label: run.json("eval/results.json") for run in runs if _evaluated(run)}
    if not results:
        return None
    return results_table(result_rows(results))


def differences_table(comparisons: Iterable[Comparison]) -> str:
    """What evaluated models differ by in points of percent, as a Markdown table of the plain
    figures; empty where there are none.
    """
    columns = ("Benchmark", "Metric", "Model", "", "Baseline", "Difference", "", "Stderr")
    rows = [
        [
            *(one.benchmark, one.task, one.model, "-", one.baseline, f"{one.difference:+.2f}"),
            *("±", "" if one.stderr is None else f"{one.stderr:.2f}"),
            f"[{one.low:+.2f}, {one.high:+.2f}]",
            *("" if one.p is None else f"{one.p:.2g}", "" if one.n is None else f"{one.n}"),
        ]
        for one in comparisons
        if "/" not in one.task
    ]
    if not rows:
        return ""
    return markdown((*columns, "95 % interval", "p", "n"), frozenset({5, 7, 9, 10}), rows)


def compare_models(runs: Sequence[StoredRun], *, strict: bool = False) -> list[Comparison]:
    """Each evaluated model less the one before it, paired over their questions, in percent.

    Benchmarks of which they answered other questions, or were scored otherwise, are left out, or
    if ``strict`` raise DataError, as do models without a benchmark in common.
    """
    evaluated = [run for run in runs if _evaluated(run)]
    found: list[Comparison] = []
    for before, after in pairwise(evaluated):
        own = _results(before)["benchmarks"]
        common = [name for name in _results(after)["benchmarks"] if name in own]
        if strict and not common:
            raise DataError(
                f"{before.label} and {after.label} have no benchmark in common; name evaluations "
                "of the same benchmarks"
            )
        for benchmark in common:
            try:
                found += _compared(benchmark, before, after)
            except DataError:
                if strict:
                    raise
    return found


def _compared(benchmark: str, before: StoredRun, after: StoredRun) -> list[Comparison]:
    """The differences of a benchmark's figures whose error is known."""
    gaps = paired(benchmark, _side(benchmark, before), _side(benchmark, after))
    return [
        Comparison(
            benchmark=benchmark,
            task=task,
            baseline=before.label,
            model=after.label,
            difference=100 * gap.value,
            low=100 * gap.low,
            high=100 * gap.high,
            n=gap.n,
            stderr=None if gap.stderr is None else 100 * gap.stderr,
            p=gap.p,
        )
        for task, gap in gaps.items()
        if gap.low is not None and gap.high is not None
    ]


def _side(benchmark: str, run: StoredRun) -> Side:
    protocol = _results(run).get("protocols", {}).get(benchmark, {})
    return Side(run.label, run.lines(f"eval/samples/{benchmark}.jsonl"), protocol)


def _results(run: StoredRun) -> Mapping[str, Any]:
    results: Mapping[str, Any] = run.json("eval/results.json")
    return results


def _is_spec(key: str) -> bool:
    return key == SPEC or key.endswith("/" + SPEC)


def _evaluated(run: StoredRun) -> bool:
    return run.spec.kind == "EvalJob" and run.store.exists("eval/results.json")


def _view(run: StoredRun, runs: Mapping[str, StoredRun], steps: Sequence[int] = ()) -> RunView:
    """``steps``: whose traces are shown, in full, in place of the first and the last ones."""
    head = read_head(run.store)
    traces = [trace for step in sorted(set(steps)) for trace in run.lines(trace_key(step))]
    return RunView(
        kind=run.spec.kind,
        name=run.spec.metadata.name,
        spec=run.spec.spec,
        status="Succeeded" if head is not None and head.done else "Running",
        history=records(run, "history.jsonl"),
        timings=records(run, "timings.jsonl"),
        traces=traces or records(run, "traces.jsonl"),
        whole_traces=bool(traces),
        results=run.json("eval/results.json"),
        dataset_stats=_dataset_stats(run),
        lineage=[_named(r) for r in (*_lineage(run, runs), run)],
    )


def records(run: StoredRun, name: str) -> list[dict[str, Any]]:
    """From the published records, or from the newest checkpoint while the run goes on."""
    published = run.lines(f"records/{name}")
    head = read_head(run.store)
    if published or head is None or not head.chain:
        return published
    return run.lines(head.chain[0].folder + name)


def _lineage(run: StoredRun, runs: Mapping[str, StoredRun]) -> list[StoredRun]:
    """The runs whose results this one was made from, the earliest first."""
    found: dict[str, StoredRun] = {}
    for given in run.spec.inputs.values():
        parent = runs.get(given.uri.rpartition("/")[0])
        if parent is not None:
            for one in (*_lineage(parent, runs), parent):
                found.setdefault(one.store.uri, one)
    return list(found.values())


def _named(run: StoredRun) -> tuple[str, str, str]:
    head = read_head(run.store)
    digest = head.result.get("digest", "") if head is not None and head.result else ""
    return run.spec.kind, run.spec.metadata.name, str(digest)


def _dataset_stats(run: StoredRun) -> dict[str, Any] | None:
    data = run.bytes("dataset/manifest.json")
    if data is None:
        return None
    manifest = Manifest.parse(data, f"{run.store.uri}/dataset/manifest.json")
    return {
        "stages": [_stage(stage) for stage in funnel(manifest)],
        "splits": dict(manifest.splits),
        "tasks": manifest.all_tasks(),
        "difficulty": _histogram(run),
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {"stage": stage.name, "in": stage.into, "out": stage.out, "dropped": stage.dropped}


def _histogram(run: StoredRun) -> list[int]:
    bins = [0] * _DIFFICULTY_BINS
    for entry in run.store.list("dataset/rlvr/"):
        for sample in read_shard(run.store.get(entry.key).data, name=entry.key):
            if sample.difficulty is not None:
                bins[min(int(sample.difficulty * _DIFFICULTY_BINS), _DIFFICULTY_BINS - 1)] += 1
    return bins if any(bins) else []
