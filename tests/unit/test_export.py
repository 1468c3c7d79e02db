"""Runs in trackers, read back by the trackers' own readers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner
from unit.stages.training_runs import STEPS, Died, context, dataset, history, rlvr_spec
from wandbfile import config
from wandbfile import history as wandb_history

from m2r_train.api.errors import ConfigError
from m2r_train.api.evaljob import EvalSpec
from m2r_train.api.runspec import RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.cli import app
from m2r_train.exporting import export
from m2r_train.stages import rlvr
from m2r_train.trackers import KINDS, Tracked, open_tracker

pytestmark = pytest.mark.global_rng("transformers makes a model's parameters with the global one")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def attempt(folder: Path, spec: Mapping[str, Any], number: int = 1, *, dies: bool = False) -> None:
    """An attempt at a run, as ``stages.entry`` makes it; ``dies`` after its first checkpoint."""

    def probe(name: str) -> None:
        if dies and name == "after-save":
            raise Died

    ctx = context("RLVRJob", folder, spec, number, probe)
    ctx.run.store.put("spec.json", ctx.run_spec.to_json().encode())
    ctx.owned.finish(rlvr.run(ctx))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of three steps, and an evaluation."""
    home = tmp_path_factory.mktemp("exported")
    attempt(home / "store/rlvr", rlvr_spec(dataset(home / "data")))
    spec = EvalSpec.model_validate(
        {
            "model": {"preset": "tiny"},
            "benchmarks": [{"name": "synthetic", "data": {"uri": "file:///d"}}],
        }
    )
    told = RunSpec(
        kind="EvalJob", metadata=RunMetadata(name="eval", uid="feedfeedfeed"), attempt=1,
        storage=RunStorage(uri=(home / "store").as_uri()), seed=0, spec=resolved(spec),
    )  # fmt: skip
    folder = home / "store/eval"
    (folder / "eval").mkdir(parents=True)
    (folder / "spec.json").write_text(told.to_json())
    scores = {"overall": {"value": 62.5, "n": 8, "stderr": 3.0}, "void": {"value": None}}
    (folder / "eval/results.json").write_text(
        json.dumps({"benchmarks": {"synthetic": scores}, "intervals": {}})
    )
    return home / "store"


def command(store: Path, kind: str, out: str) -> str:
    done = CliRunner().invoke(
        app, ["export", str(store), "--to", kind, "--out", out], catch_exceptions=False
    )
    assert done.exit_code == 0
    return done.output


def test_tensorboard_reads_every_step_config_scores_and_samples(
    store: Path, tmp_path: Path
) -> None:
    told = command(store, "tensorboard", str(tmp_path / "tb"))
    assert f"RLVRJob/run: {STEPS} steps added" in told and "tensorboard --logdir" in told
    before = sorted(p for p in (tmp_path / "tb").rglob("*") if p.is_file())
    assert "run: 0 steps added" in command(store, "tensorboard", str(tmp_path / "tb"))
    assert sorted(p for p in (tmp_path / "tb").rglob("*") if p.is_file()) == before

    (folder,) = (tmp_path / "tb").glob("run-rlvrjob-run-*")
    events = EventAccumulator(str(folder)).Reload()
    own = history(store / "rlvr")
    for key in ("reward", "loss", "kl", "completion_tokens"):
        read = events.Scalars(key)
        assert [e.step for e in read] == [r["step"] for r in own]
        assert [e.value for e in read] == pytest.approx([r[key] for r in own])
    assert len(events.Scalars("seconds/train")) == STEPS
    assert any(tag.startswith("task/") for tag in events.Tags()["scalars"])
    params = events.Tensors("params/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| optimization.learningRate | 0.001 |" in params and "| seed | 5 |" in params
    samples = [t for t in events.Tags()["tensors"] if t.startswith("samples/")]
    assert samples
    text = events.Tensors(samples[0])[0].tensor_proto.string_val[0].decode()
    assert "advantage" in text and "truth" in text
    (folder,) = (tmp_path / "tb").glob("eval-*")
    assert (
        EventAccumulator(str(folder)).Reload().Scalars("score/synthetic/overall")[0].value == 62.5
    )


def test_mlflow_reads_every_step_config_scores_and_samples(store: Path, tmp_path: Path) -> None:
    uri = (tmp_path / "mlruns").as_uri()
    command(store, "mlflow", uri)
    assert "run: 0 steps added" in command(store, "mlflow", uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("m2r")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["eval", "run"]
    own = history(store / "rlvr")
    number = runs["run"].info.run_id
    for key in ("reward", "loss"):
        read = sorted(client.get_metric_history(number, key), key=lambda m: m.step)
        assert [m.step for m in read] == [r["step"] for r in own]
        assert [m.value for m in read] == pytest.approx([r[key] for r in own])
    params = runs["run"].data.params
    assert params["optimization.learningRate"] == "0.001"
    assert params["rollout.groupSize"] == "4"
    assert runs["eval"].data.metrics["score/synthetic/overall"] == 62.5
    assert runs["eval"].data.params["benchmarks.0.name"] == "synthetic"
    assert [f.path for f in client.list_artifacts(number, "samples")] == [
        f"samples/step-{step:06d}.md" for step in range(STEPS)
    ]


def test_wandb_offline_file_has_every_step_config_and_samples(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "wandb-out"
    command(store, "wandb", str(out))
    files = sorted(out.rglob("*.wandb"))
    assert "run: 0 steps added" in command(store, "wandb", str(out))
    assert sorted(out.rglob("*.wandb")) == files and len(files) == 2
    rows = [r for r in wandb_history(out) if "reward" in r]
    own = history(store / "rlvr")
    assert [r["_step"] for r in rows] == [r["step"] for r in own]
    assert [r["reward"] for r in rows] == pytest.approx([r["reward"] for r in own])
    assert any(key.startswith("samples/") for key in rows[0])
    assert config(out)["optimization.learningRate"] == "0.001"


class Notebook:
    """A tracker that notes what it is given."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def write(self, run: Tracked) -> int:
        self.seen.append([point.step for point in run.points])
        return len(run.points)

    def where(self) -> str:
        return "here"


def test_follow_goes_on_until_the_run_has_ended(tmp_path: Path) -> None:
    spec, folder = rlvr_spec(dataset(tmp_path / "data")), tmp_path / "run"
    with pytest.raises(Died):
        attempt(folder, spec, dies=True)
    notebook = Notebook()
    export([str(folder)], notebook, follow=True, wait=lambda: attempt(folder, spec, 2))
    assert notebook.seen == [[0], list(range(STEPS))]


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_client_that_is_missing_is_one_line(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "torch.utils.tensorboard" if kind == "tensorboard" else kind
    monkeypatch.setitem(sys.modules, name, None)
    line = rf"^--to {kind}: its client is not installed; install M2R"
    with pytest.raises(ConfigError, match=line):
        open_tracker(kind, None, "m2r")


def test_a_tracker_that_is_not_known_is_one_line() -> None:
    assert KINDS == ("tensorboard", "mlflow", "wandb")
    with pytest.raises(ConfigError, match="--to comet: no such tracker; use one of tensorboard"):
        open_tracker("comet", None, "m2r")
