"""Experiments: files that agree, results that survive as JSON, a page that is made of those."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from experiments import catalogue, cli, kept, page, planning, running
from experiments.catalogue import Experiment, Run
from experiments.figures import outcome

from m2r_train.api.errors import Preempted
from m2r_train.api.graph import order
from m2r_train.api.manifests import load_manifests
from m2r_train.api.problems import SpecErrors
from m2r_train.api.runspec import RunStorage, recipe
from m2r_train.api.sweep import load_sweep
from m2r_train.benchmarks.kept import all_figures
from m2r_train.claims import ArmRun, claim_figures
from m2r_train.reporting import StoredRun
from m2r_train.stages.stop import StopRequest
from m2r_train.store import Head, open_store
from m2r_train.sweeps.command import RunsFailed, board_of
from m2r_train.sweeps.expansion import Planned
from m2r_train.sweeps.judging import finished_arms
from m2r_train.sweeps.running import Board

ALL = {one.name: one for one in catalogue.experiments()}
NAMES = {
    *("quality-filter", "reward", "reward-per-task", "order", "static-settings", "cold-start"),
    *("completion-length", "repetition", "sim-to-real"),
}
TASKS = ("AbsoluteDistance", "ObjectCount", "ObjectSize")


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every plain value of a document by its path, as a patch writes it."""
    if isinstance(value, dict) and value:
        return {k: v for key, own in value.items() for k, v in leaves(own, f"{path}.{key}").items()}
    if isinstance(value, list) and value:
        return {k: v for n, own in enumerate(value) for k, v in leaves(own, f"{path}[{n}]").items()}
    return {path.lstrip("."): value}


def differing(one: Run, other: Run) -> set[str]:
    """Paths of the manifests in which two runs differ, but for the names of what they refer to."""
    a, b = (leaves(recipe(run.planned.resource.spec)) for run in (one, other))
    paths = {path for path in a.keys() | b.keys() if a.get(path) != b.get(path)}
    ours = f"-{one.planned.arm}-s{one.planned.seed}", f"-{other.planned.arm}-s{other.planned.seed}"
    return {
        path
        for path in paths
        if not (
            path.endswith("from.name")
            and str(a.get(path)).removesuffix(ours[0]) == str(b.get(path)).removesuffix(ours[1])
        )
    }


def test_every_experiment_that_was_asked_for_is_there() -> None:
    assert set(ALL) == NAMES


@pytest.mark.parametrize("name", sorted(ALL))
def test_an_experiment_expands_and_its_claim_is_about_its_arms(name: str) -> None:
    one = ALL[name]
    sweep, claim, runs = load_sweep(one.sweep), one.claim, one.runs(7)
    assert sweep.name == name
    assert {claim.treatment, *claim.controls} <= sweep.arms.keys()
    assert sweep.arms.get("recipe", sweep.arms.get(claim.treatment)) == {}  # the base as it is
    bases = {run.planned.base for run in runs}
    for measure in claim.measures:
        assert measure.run in bases, f"{measure.title} must name its run: a store has several"
    assert any(run.is_kept and run.planned.arm for run in runs)


@pytest.mark.parametrize("name", sorted(ALL))
def test_arms_differ_from_the_control_in_the_fields_that_they_name_alone(name: str) -> None:
    one = ALL[name]
    sweep = load_sweep(one.sweep)
    control = next(arm for arm, patch in sweep.arms.items() if not patch)
    runs = {(r.planned.base, r.planned.arm): r for r in one.runs(3) if r.planned.arm}
    for arm, patch in sweep.arms.items():
        found = {
            f"{base}.spec.{path}"
            for base, other in runs
            if other == arm
            for path in differing(runs[base, arm], runs[base, control])
        }
        strangers = [path for path in found if not path.startswith(tuple(patch))]
        assert (strangers, bool(found)) == ([], bool(patch)), arm


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_readme_says_what_falsifies_what_it_can_tell_and_how_to_run(name: str) -> None:
    text = (ALL[name].folder / "README.md").read_text()
    wanted = ("**Claim**", "**Falsified**", "**What this can tell:**", "**What it cannot:**")
    commands = (f"m2r sweep examples/experiments/{name}/sweep.yaml", "kubectl apply -f")
    assert [one for one in (*wanted, *commands) if one not in text] == []


def test_a_run_that_two_experiments_share_is_one_and_a_change_upstream_makes_another() -> None:
    ours, reward = (
        {run.name: run.recipe for run in ALL[name].runs(0)} for name in ("order", "reward")
    )
    shared = ours.keys() & reward.keys()
    assert {"data", "sft-s0", "rlvr-recipe-s0", "eval-recipe-s0"} <= shared
    assert all(ours[name] == reward[name] for name in shared)
    assert ours["eval-shuffled-s0"] != ours["eval-recipe-s0"]  # its own fields are the same
    other = {run.name: run.recipe for run in ALL["order"].runs(1)}
    assert other["data"] == ours["data"]
    assert other["eval-recipe-s1"] != ours["eval-recipe-s0"]


def test_what_is_missing_are_runs_without_result_and_their_inputs_each_once() -> None:
    runs = ALL["order"].runs(0)
    have = {run.recipe for run in runs if run.name != "eval-shuffled-s0"}
    names = [run.name for run in planning.missing(runs, have)]
    assert names == ["data", "sft-s0", "curriculum-s0", "rlvr-shuffled-s0", "eval-shuffled-s0"]
    assert planning.missing(runs, {run.recipe for run in runs if run.is_kept}) == []
    shares = [planning.share(ALL[name], [0], set()) for name in ("order", "reward")]
    assert len(planning.together(shares)) < sum(len(one.left) for one in shares)
    assert 0 < planning.minutes(shares[0].left) < planning.minutes(planning.together(shares))
    lines = planning.table(shares)
    assert lines[1].split()[:2] == ["order", "0/7"]
    assert lines[-1].startswith("all, shared runs once")


def test_the_estimate_of_the_quickstart_is_what_was_measured_of_it() -> None:
    base = [
        Planned(one, {}, one.name, None, 0)
        for one in order(load_manifests([catalogue.ROOT / "examples" / "quickstart"]))
    ]
    told = planning.minutes(catalogue.identified(base), 1200)
    measured = 2 * 7.7  # two cores for 7:34 to 7:57: bench/results/2026-11-23-quickstart.md
    assert told == pytest.approx(measured, rel=0.2)


def answers(right: float, count: int = 30) -> list[dict[str, Any]]:
    """Rows of an evaluation: of ten questions of a task ``right`` are right, numbers half so."""
    rows = []
    for n in range(count):
        score = float(n % 10 < right) * (0.5 if n % 3 == 0 else 1.0)
        one = {"text": "t", "extracted": "1", "score": score, "format": 1.0}
        rows.append(
            {
                **{"id": f"q{count - n}", "task": TASKS[n % 3], "question": "?", "answer": "1"},
                **{"sampled": [one, {**one, "score": 1.0, "format": 0.0}], "greedy": [one]},
            }
        )
    return rows


def history(last: float) -> list[dict[str, Any]]:
    told = {"reward": 0.123456, "accuracy": 0.5, "kl": 0.0, "completion_tokens": 17.2}
    return [
        {"step": n, "task": "ObjectCount", **told, **({"eval_accuracy": last * n} if n < 2 else {})}
        for n in range(3)
    ]


def finish(store: StoredRun, right: float) -> dict[str, Any]:
    """Publishes what a stage of the kind would."""
    result = {"step": 1, "steps": 1, "digest": store.spec.metadata.uid}
    for key in ("datasetUri", "modelUri", "resultsUri"):
        result[key] = f"{store.store.uri}/made"
    store.store.put("HEAD", Head(attempt=1, epoch=1, writer="w", done=True, result=result).encode())
    if store.spec.kind == "EvalJob":
        rows = answers(right)
        figures = {k: f.percent() for k, f in all_figures("synthetic", rows).items()}
        results = {"benchmarks": {"synthetic": figures}, "protocols": {}}
        store.store.put("eval/results.json", json.dumps(results, sort_keys=True).encode())
        lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        store.store.put("eval/samples/synthetic.jsonl", lines)
    if store.spec.kind == "RLVRJob":
        lines = b"".join(json.dumps(one).encode() + b"\n" for one in history(right / 10))
        store.store.put("records/history.jsonl", lines)
    return result


class Stage:
    """Stands in for the code of ``m2r sweep``: publishes at once, and may break off or fail."""

    def __init__(self, *, break_after: int = 1000, fails: str = "") -> None:
        self.ran: list[str] = []
        self.break_after, self.fails = break_after, fails

    def __call__(self, board: Board, lanes: int, stop: StopRequest) -> None:
        for run in board.runs:
            if run.resource.name == self.fails:
                raise RunsFailed([f"{self.fails}: broke"], 1)
            if board.is_done(run):
                continue
            if len(self.ran) == self.break_after:
                raise Preempted("stopped")
            spec = board.spec_of(run)
            self.ran.append(run.resource.name)
            own = StoredRun(open_store(spec.storage.uri).under(spec.run_prefix), spec)
            seed = run.seed or 0
            board.done(run, spec, finish(own, (8 if run.arm == "recipe" else 3) + seed % 2))


def run(tmp_path: Path, stage: Stage, *names: str, seeds: tuple[int, ...] = (0,)) -> list[str]:
    """`running.run_all` with a stage that does no work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "run_sweep", stage)
        return running.run_all(
            [ALL[name] for name in names],
            seeds,
            store=RunStorage(uri=(tmp_path / "store").as_uri()),
            cache_dir=tmp_path / "cache",
            lanes=1,
            stop=StopRequest(),
            results=tmp_path / "results",
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path


def test_runs_are_made_once_and_kept_as_they_are_done(folder: Path) -> None:
    first = Stage()
    assert run(folder, first, "order", "reward") == []
    assert len(first.ran) == len(set(first.ran))
    have = kept.read_all(folder / "results")
    wanted = {r.recipe for n in ("order", "reward") for r in ALL[n].runs(0) if r.is_kept}
    assert have.keys() == wanted
    again = Stage()
    run(folder, again, "order", "reward")
    assert again.ran == []


def test_a_machine_without_the_store_makes_only_what_has_no_result(folder: Path) -> None:
    run(folder, Stage(), "order")
    shuffled = next((folder / "results").glob("eval-shuffled-s0-*.json"))
    shuffled.unlink()
    (folder / "store").rename(folder / "lost")
    (folder / "store").mkdir()
    again = Stage()
    run(folder, again, "order")
    assert again.ran == ["data", "sft-s0", "curriculum-s0", "rlvr-shuffled-s0", "eval-shuffled-s0"]
    assert shuffled.exists()


def test_a_night_that_breaks_off_keeps_what_was_done_and_the_next_goes_on(folder: Path) -> None:
    with pytest.raises(Preempted):
        run(folder, Stage(break_after=6), "order")
    before = {path.name[:-14] for path in (folder / "results").glob("*.json")}
    assert before == {"eval-sft-s0", "rlvr-recipe-s0", "eval-recipe-s0"}
    rest = Stage()
    run(folder, rest, "order")
    assert len(rest.ran) == 10 - 6


def test_a_result_that_was_lost_is_kept_again_from_the_store(folder: Path) -> None:
    run(folder, Stage(), "order")
    lost = next((folder / "results").glob("rlvr-shuffled-s0-*.json"))
    text = lost.read_text()
    lost.unlink()
    again = Stage()
    run(folder, again, "order")
    assert (again.ran, lost.read_text()) == ([], text)


def test_an_experiment_that_fails_does_not_keep_the_next_from_running(folder: Path) -> None:
    stage = Stage(fails="rlvr-shuffled-s0")
    assert run(folder, stage, "order", "static-settings") == ["rlvr-shuffled-s0: broke"]
    assert "eval-static-s0" in stage.ran


def real_runs(folder: Path, seeds: Sequence[int]) -> list[ArmRun]:
    """The runs of arms of ``order`` as they lie in the store."""
    planned = [run.planned for seed in seeds for run in ALL["order"].runs(seed)]
    storage = RunStorage(uri=(folder / "store").as_uri())
    return finished_arms(board_of(planned, storage, folder / "cache"))


def test_figures_of_kept_runs_are_those_of_the_store(folder: Path) -> None:
    run(folder, Stage(), "order", seeds=(0, 1, 2))
    claim = ALL["order"].claim
    expected = claim_figures(claim, real_runs(folder, (0, 1, 2)), file="claim.yaml")
    got = outcome(ALL["order"], kept.read_all(folder / "results")).figures
    assert got["verdict"] == expected["verdict"]
    for mine, theirs in zip(got["comparisons"], expected["comparisons"], strict=True):
        assert mine["questions"] == theirs["questions"]
        assert mine["advantage"] == pytest.approx(theirs["advantage"], rel=1e-3)
        assert mine["decides"] is False or mine["seeds"] == theirs["seeds"]
    assert got["scores"] == expected["scores"]
    one = next(curve for curve in got["curves"] if curve["key"] == "reward")
    assert one["mean"] == pytest.approx([0.123456] * 3, rel=1e-3)  # four digits are kept


def test_a_kept_run_is_small(folder: Path) -> None:
    rows = answers(5, 600)
    packed = kept._answers(rows)
    assert len(json.dumps(packed)) < 3_000
    back = kept._rows(packed)
    assert {k: f.percent() for k, f in all_figures("synthetic", back).items()} == {
        k: f.percent() for k, f in all_figures("synthetic", rows).items()
    }


def test_other_questions_are_told_by_their_digest() -> None:
    changed = answers(5)
    changed[3]["answer"] = "2"
    assert kept._answers(changed)["questions"] != kept._answers(answers(5))["questions"]


def test_a_figure_that_json_cannot_write_is_left_out() -> None:
    records = [{"step": 0, "kl": float("nan")}, {"step": 1, "kl": 1.0, "task": "ObjectSize"}]
    assert kept._records(kept._columns(records)) == [{"step": 0}, records[1]]


def test_the_page_tells_verdict_effects_and_pictures_and_what_is_missing(folder: Path) -> None:
    run(folder, Stage(), "order", seeds=(0, 1))
    files = page.generated([ALL["order"], ALL["reward"]], kept.read_all(folder / "results"))
    text = files[page.PAGE]
    ours, reward = text.split("\n## ")[1:]
    assert "| [order](#order) |" in text
    assert "seed 2: all" in ours
    assert "recipe against shuffled (decides)" in ours
    assert f"**What this cannot tell:** {ALL['order'].cannot_tell}" in ours
    assert len(ALL["order"].cannot_tell) > 20
    assert "recipe against descending" in ours
    assert "**Here: no result yet.** Runs are missing" in reward
    assert "seed 0: rlvr-binary-s0" in reward  # what it shares with order is there
    pictures = [name for name in files if name.endswith(".svg")]
    assert set(pictures) >= {
        "experiments/order-eval-scores.svg", "experiments/order-rlvr-eval_accuracy.svg"
    }  # fmt: skip
    for name in pictures:
        assert f"]({name})" in ours
        assert ElementTree.fromstring(files[name]).tag == "{http://www.w3.org/2000/svg}svg"
    assert 'class="area' in files["experiments/order-rlvr-eval_accuracy.svg"]
    assert page.generated([ALL["order"]], {})[page.PAGE].count("no result yet") == 2


def test_an_arm_that_is_half_done_does_not_keep_the_claim_from_its_verdict(folder: Path) -> None:
    run(folder, Stage(), "order", seeds=(0, 1))
    for path in (folder / "results").glob("eval-descending-*.json"):
        path.unlink()
    found = outcome(ALL["order"], kept.read_all(folder / "results"))
    assert found.word == "undecided"
    assert {one["control"] for one in found.others["comparisons"]} == {"shuffled"}
    for path in (folder / "results").glob("eval-shuffled-*.json"):
        path.unlink()
    assert outcome(ALL["order"], kept.read_all(folder / "results")).word == "no result yet"


def test_one_seed_decides_nothing(folder: Path) -> None:
    run(folder, Stage(), "order")
    found = outcome(ALL["order"], kept.read_all(folder / "results"))
    assert (found.word, found.made, found.wanted) == ("undecided", 7, 35)


def test_results_of_a_seed_beyond_those_asked_for_are_shown(folder: Path) -> None:
    run(folder, Stage(), "order", seeds=(7,))
    assert outcome(ALL["order"], kept.read_all(folder / "results")).seeds == (0, 1, 2, 3, 4, 7)


def test_pages_are_written_where_stale_and_pictures_of_nothing_go(tmp_path: Path) -> None:
    files = {"experiments.md": "a", "experiments/x.svg": "b"}
    assert len(page.write(files, tmp_path)) == 2
    assert page.write(files, tmp_path) == []
    (tmp_path / "experiments" / "old.svg").write_text("c")
    (tmp_path / "experiments.md").write_text("d")
    assert {path.name for path in page.stale(files, tmp_path)} == {"old.svg", "experiments.md"}
    page.write(files, tmp_path)
    assert page.stale(files, tmp_path) == []


def test_the_page_and_the_results_in_the_tree_belong_together() -> None:
    have = kept.read_all()
    assert page.stale(page.generated(ALL.values(), have)) == [], "run `make experiments-page`"
    known = _recipes(have)
    assert [one["name"] for one in have.values() if one["recipe"] not in known] == [], (
        "results of manifests that have changed since: delete them, or run the experiments again"
    )


def _recipes(have: Mapping[str, kept.Kept]) -> set[str]:
    seeds = {int(one["name"].rpartition("-s")[2]) for one in have.values()}
    return {r.recipe for one in ALL.values() for seed in seeds for r in one.runs(seed)}


def test_commands_and_their_mistakes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["plan", "order", "--seeds", "0-1"]) == 0
    assert capsys.readouterr().out.startswith("seeds 0, 1\nexperiment")
    assert cli.main(["plan", "ordr"]) == SpecErrors.exit_code
    assert "ordr: no such experiment; did you mean order?" in capsys.readouterr().err
    assert cli.main(["run", "order", "--lanes", "0"]) == 64
    assert "--lanes: must be at least 1" in capsys.readouterr().err
    monkeypatch.setattr(cli.page, "generated", lambda *_given: {})
    monkeypatch.setattr(cli.page, "stale", lambda _files: [page.DOCS / page.PAGE])
    assert cli.main(["page", "--check"]) == 1
    assert "docs/experiments.md is stale: run `make experiments-page`" in capsys.readouterr().err


def test_an_experiment_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sweep.yaml").write_text("name: own\n")
    assert catalogue.experiments(folder=tmp_path) == [Experiment("own", tmp_path / "own")]
