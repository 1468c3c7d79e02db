"""From runs in a store to a table and a report: reads what the stages published, writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table

from m2r_train.api.runspec import RunSpec
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.core.stats import paired_bootstrap
from m2r_train.data.parquet import read_shard
from m2r_train.datasetpage import dataset_folder, dataset_page, nothing_here
from m2r_train.report import Comparison, RunView, build_report
from m2r_train.report.funnel import Manifest, Stage, funnel
from m2r_train.report.templating import write_page
from m2r_train.store import NotFound, ObjectStore, open_store, read_head
from m2r_train.telemetry.history import from_lines
from m2r_train.telemetry.progress import results_table
from m2r_train.telemetry.results import result_rows

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

    Ordered by kind, evaluations by how many runs their model descends from.
    Raises ``DataError`` for a URI without runs.
    """
    runs: dict[str, StoredRun] = {}
    for uri in uris:
        store = open_store(uri if "://" in uri else str(Path(uri).absolute()), endpoint=endpoint)
        names = [entry.key for entry in store.list()]
        folders = [name.removesuffix(SPEC) for name in names if _is_spec(name)]
        if not folders:
            raise nothing_here(uri, names)
        for folder in folders:
            own = store.under(folder.rstrip("/")) if folder else store
            runs[own.uri] = StoredRun(own, RunSpec.from_json(own.get(SPEC).data, source=own.uri))
    ancestors = {uri: len(_lineage(run, runs)) for uri, run in runs.items()}
    return sorted(
        runs.values(),
        key=lambda r: (
            _KIND_ORDER.index(r.spec.kind),
            ancestors[r.store.uri],
            r.spec.metadata.name,
            r.spec.metadata.uid,
        ),
    )


def write_report(
    uris: Iterable[str], out: Path, *, cache_dir: Path, endpoint: str | None = None
) -> Path:
    """One self-contained page about the runs at ``uris``, or about the dataset that is there."""
    named = list(uris)
    if (dataset := dataset_folder(named, endpoint=endpoint)) is not None:
        return write_page(dataset_page(dataset, cache_dir, endpoint=endpoint), out)
    runs = find_runs(named, endpoint=endpoint)
    if [run.spec.kind for run in runs] == ["DataSynthesisJob"]:
        made = runs[0].store.under("dataset")
        return write_page(dataset_page(made, cache_dir, endpoint=endpoint), out)
    by_uri = {run.store.uri: run for run in runs}
    views = [_view(run, by_uri) for run in runs]
    return build_report(views, out, title="M2R report", comparisons=compare_models(runs))


def final_table(runs: Sequence[StoredRun]) -> Table | None:
    """The scores of all evaluated models side by side; None without an evaluation."""
    results = {run.label: run.json("eval/results.json") for run in runs if _evaluated(run)}
    if not results:
        return None
    return results_table(result_rows(results))


def compare_models(runs: Sequence[StoredRun]) -> list[Comparison]:
    """Each evaluated model less the one before it, paired over the questions they share."""
    evaluated = [run for run in runs if _evaluated(run)]
    out: list[Comparison] = []
    for before, after in pairwise(evaluated):
        for benchmark, scores in after.json("eval/results.json")["benchmarks"].items():
            if not _mean_of_questions(benchmark, scores):
                continue
            a = _question_scores(after, benchmark)
            b = _question_scores(before, benchmark)
            if a.keys() != b.keys():
                continue  # other questions: there is nothing to pair
            for task in ("overall", *sorted({t for t, _ in a})):
                out.append(_compared(benchmark, task, before.label, after.label, a, b))
    return out


def _mean_of_questions(benchmark: str, scores: Mapping[str, Any]) -> bool:
    """Whether the headline is a mean of questions, so that pairs of questions tell its difference.

    Not DynaMath's worst of ten variants, We-Math's problems, nor means of groups of questions.
    """
    rules = BENCHMARKS.get(benchmark)
    return rules is None or rules.headline(scores) == "accuracy"


Scores = dict[tuple[str, str], float]  # (task, id) -> mean score of the question's samples, 0..1


def _question_scores(run: StoredRun, benchmark: str) -> Scores:
    rows = run.lines(f"eval/samples/{benchmark}.jsonl")
    return {(r["task"], r["id"]): fmean(a["score"] for a in r["sampled"]) for r in rows}


def _compared(
    benchmark: str, task: str, baseline: str, model: str, a: Scores, b: Scores
) -> Comparison:
    chosen = [key for key in a if task in ("overall", key[0])]
    weight = _equal_tasks(chosen)
    interval = paired_bootstrap(
        {f"{t}/{i}": 100 * a[t, i] * weight[t] for t, i in chosen},
        {f"{t}/{i}": 100 * b[t, i] * weight[t] for t, i in chosen},
    )
    return Comparison(
        benchmark=benchmark,
        task=task,
        baseline=baseline,
        model=model,
        difference=interval.difference,
        low=interval.low,
        high=interval.high,
        n=len(chosen),
    )


def _equal_tasks(keys: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Weights that turn a mean over questions into the mean over tasks that the headline is."""
    sizes: dict[str, int] = {}
    for task, _ in keys:
        sizes[task] = sizes.get(task, 0) + 1
    return {task: len(keys) / (len(sizes) * n) for task, n in sizes.items()}


def _is_spec(key: str) -> bool:
    return key == SPEC or key.endswith("/" + SPEC)


def _evaluated(run: StoredRun) -> bool:
    return run.spec.kind == "EvalJob" and run.store.exists("eval/results.json")


def _view(run: StoredRun, runs: Mapping[str, StoredRun]) -> RunView:
    head = read_head(run.store)
    return RunView(
        kind=run.spec.kind,
        name=run.spec.metadata.name,
        spec=run.spec.spec,
        status="Succeeded" if head is not None and head.done else "Running",
        history=_records(run, "history.jsonl"),
        timings=_records(run, "timings.jsonl"),
        traces=_records(run, "traces.jsonl"),
        results=run.json("eval/results.json"),
        dataset_stats=_dataset_stats(run),
        lineage=[_named(r) for r in (*_lineage(run, runs), run)],
    )


def _records(run: StoredRun, name: str) -> list[dict[str, Any]]:
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
