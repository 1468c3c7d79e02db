"""``m2r_synthesis_samples_total`` adds up, stage by stage, with what the manifest says."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from teacherserver import Server, serving
from unit.data.folders import write_lines
from unit.stages import test_teaching as lessons

from m2r_train.core.records import Sample
from m2r_train.report.funnel import Manifest, chain_funnel, funnel
from m2r_train.stages import collecting, making, measuring, speaking, synthesize
from m2r_train.stages.context import Context
from m2r_train.stages.place import ALONE, Place
from m2r_train.telemetry.metrics import SYNTHESIS_OUTCOMES, SYNTHESIS_STAGES

keys = lessons.keys  # the endpoints' keys, and no waiting between tries

Told = dict[str, dict[str, int]]  # {stage: {outcome: samples}}


def told(ctx: Context) -> Told:
    found: Told = {}
    for stage in SYNTHESIS_STAGES:
        for outcome in SYNTHESIS_OUTCOMES:
            labels = {"stage": stage, "outcome": outcome}
            n = ctx.metrics.registry.get_sample_value("m2r_synthesis_samples_total", labels)
            if n is not None:
                found.setdefault(stage, {})[outcome] = int(n)
    return found


def written(dataset: Path) -> Told:
    """The same of a manifest."""
    manifest = Manifest.parse((dataset / "manifest.json").read_bytes())
    stages = {stage.name: stage for stage in funnel(manifest)}
    checked, judged, best = chain_funnel(manifest)
    verify, own = stages["verify"], manifest.sources["own"]
    drops, kept = sum(stages["difficulty"].dropped.values()), manifest.splits["rlvr"]
    into_out = {
        "collect": (own["made"], own["kept"]),
        "generate": (checked.into, checked.out),
        "verify": (verify.into, verify.out),
        "quality": (judged.into, best.out),
        "difficulty": (kept + drops, kept),
        "route": (verify.out - drops, manifest.samples),
    }
    return {
        name: {"in": into, "kept": out, "dropped": into - out}
        for name, (into, out) in into_out.items()
    }


class _Meter:
    """Instead of a model: a question's rollouts are all right, all wrong, or half right."""

    def __init__(self, *_: object) -> None: ...

    def accuracies(self, samples: Sequence[Sample]) -> list[list[float]]:
        return [[[1.0, 1.0], [0.0, 0.0], [0.0, 1.0]][sum(s.id.encode()) % 3] for s in samples]


class _Pool:
    def submit(self, make: Any, *job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(make(*job))
        return future


@pytest.fixture(autouse=True)
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def inline(_workers: int) -> Iterator[_Pool]:
        yield _Pool()

    fault = making.chain_fault

    def strict(sample: Sample) -> str | None:
        return "answer" if sample.id.endswith("-1") else fault(sample)  # no template errs

    monkeypatch.setattr(making, "chain_fault", strict)
    monkeypatch.setattr(collecting, "worker_pool", inline)
    monkeypatch.setattr(measuring, "Meter", _Meter)
    monkeypatch.setattr("m2r_train.stages.hardness._CHUNK", 3)


def job(
    tmp_path: Path, server: Server, *, attempt: int = 1, place: Place = ALONE, **more: Any
) -> Context:
    own = tmp_path / "own"
    if not own.exists():
        own.mkdir(parents=True)
        lines: list[Any] = [
            {"id": f"q{a}", "question": f"What is {a % 22} + 7?", "answer": str(a % 22 + 7)}
            for a in range(24)
        ]
        write_lines(own / "own.jsonl", [*lines, {"question": "What is it?"}])
    drawn = {"name": "drawn", "figures": {"tasks": ["Arithmetic"], "samples": 12}}
    given = {"name": "own", "dataset": {"uri": own.as_uri(), "maxBadRatio": 0.5}}
    return lessons.context(
        tmp_path,
        attempt,
        place=place,
        sources=[given, {**drawn, "splits": ["rlvr", "eval"]}],
        outputs={"sft": 3, "rlvr": 12, "eval": 2},
        difficulty={"model": {"preset": "tiny"}, "rollouts": 2},
        **(lessons.asked(server) | more),
    )


def ended(tmp_path: Path, server: Server) -> Told:
    """A whole job's counts, which are those of its manifest."""
    ctx = job(tmp_path, server)
    synthesize.run(ctx)
    found = told(ctx)
    assert found == written(tmp_path / "run" / "dataset")
    return found


def test_every_stage_counts_what_came_went_on_and_was_dropped(tmp_path: Path) -> None:
    with serving(faults=False) as server:
        found = ended(tmp_path, server)
    assert found.keys() == set(SYNTHESIS_STAGES)
    for stage, own in found.items():
        assert own.keys() == set(SYNTHESIS_OUTCOMES)
        assert min(own.values()) > 0, (stage, own)
        assert own["in"] == own["kept"] + own["dropped"]
    assert found["generate"]["kept"] == found["quality"]["in"]


@pytest.mark.parametrize("safe", [1, 4, 7], ids=["a shard", "a lesson", "a measured part"])
def test_a_job_that_is_killed_counts_each_part_once_in_its_next_attempt(
    tmp_path: Path, safe: int
) -> None:
    puts = Counter[str]()

    def kill(name: str) -> None:
        puts[name] += 1
        if puts["before-journal"] > safe:
            raise lessons._Killed

    with serving(faults=False) as server:
        first = job(tmp_path, server)
        first.probe = kill
        with pytest.raises(lessons._Killed):
            synthesize.run(first)
        second = job(tmp_path, server, attempt=2)
        synthesize.run(second)
        whole = ended(tmp_path / "undisturbed", server)
    assert told(second) == whole
    assert told(first)["route"]["in"] == 0  # known at the end


def test_pods_that_help_count_nothing_so_that_a_sum_over_pods_is_the_job(tmp_path: Path) -> None:
    with serving(faults=False) as server:
        owner = job(tmp_path, server, place=Place(0, 2))
        helper = job(tmp_path, server, place=Place(1, 2))
        helping = threading.Thread(target=synthesize.run, args=(helper,))
        helping.start()
        synthesize.run(owner)
        helping.join(30)
        whole = ended(tmp_path / "lone", server)
    assert told(owner) == whole
    assert helper.done is not None
    assert told(helper) == {}


def test_chains_that_are_judged_when_all_are_written_count_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = lambda _name, policy: lessons.FairEngine(policy, [])  # noqa: E731
    monkeypatch.setattr(speaking, "rollout_engine", engine)
    judge = {"judge": {"model": {"preset": "tiny"}, "engine": "inprocess", "retries": 1}}
    with serving(faults=False) as server:
        after = job(tmp_path, server, quality=judge)
        synthesize.run(after)
        assert told(after) == ended(tmp_path / "at once", server)


def test_a_stage_that_a_job_does_not_have_is_not_shown(tmp_path: Path) -> None:
    drawn = {"name": "drawn", "figures": {"tasks": ["Arithmetic"], "samples": 12}}
    ctx = lessons.context(tmp_path, sources=[drawn], outputs={"sft": 0, "rlvr": 4, "eval": 1})
    synthesize.run(ctx)
    assert told(ctx) == {
        "verify": {"in": 12, "kept": 11, "dropped": 1},
        "route": {"in": 11, "kept": 5, "dropped": 6},
    }
