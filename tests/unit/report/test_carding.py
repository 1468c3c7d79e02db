"""``m2r card``: which EvalJobs count, and what is refused; on runs as they lie in a store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from m2r_train.api.errors import DataError
from m2r_train.api.evaljob import EvalSpec
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, recipe, resolved
from m2r_train.api.sft import SFTSpec
from m2r_train.carding import scored_card
from m2r_train.report.modelcard import ModelFacts, model_card

SFT: dict[str, Any] = {"model": {"preset": "tiny"}, "dataset": {"uri": "file:///d"}}
EVAL: dict[str, Any] = {
    "model": {"uri": "file:///m"},
    "benchmarks": [{"name": "synthetic", "data": {"uri": "file:///d"}}],
}


def put(store: Path, kind: str, name: str, spec: Any, files: dict[str, str], **inputs: str) -> Path:
    """A run's folder with its spec and some results."""
    run = RunSpec(
        kind=kind,
        metadata=RunMetadata(name=name, uid="0123456789abcdef"),
        storage=RunStorage(uri=store.as_uri()),
        seed=0,
        spec=resolved(spec),
        inputs={path: RunInput(uri=uri) for path, uri in inputs.items()},
    )
    folder = store / run.run_prefix
    for file, text in {"spec.json": run.to_json(), **files}.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    return folder


def model(store: Path, name: str = "sft") -> Path:
    spec = SFTSpec.model_validate(SFT)
    card = model_card(ModelFacts(kind="SFTJob", name=name, seed=0, spec=recipe(spec)))
    return put(store, "SFTJob", name, spec, {"model/README.md": card})


def evaluation(store: Path, name: str, of: Path, value: float) -> Path:
    results = {"benchmarks": {"synthetic": {"overall": {"value": value, "n": 4, "stderr": 1.0}}}}
    return put(
        store,
        "EvalJob",
        name,
        EvalSpec.model_validate(EVAL),
        {"eval/results.json": json.dumps(results)},
        model=f"{of.as_uri()}/model",
    )


def test_the_scores_are_of_this_model_and_of_no_other(tmp_path: Path) -> None:
    own, other = model(tmp_path), model(tmp_path, "other")
    evaluation(tmp_path, "eval-sft", own, 61.0)
    evaluation(tmp_path, "eval-other", other, 12.0)
    card = scored_card(str(own), [str(tmp_path)])
    assert "| eval-sft | synthetic | overall | 61.00 | 1.00 | 4 |" in card
    assert "eval-other" not in card
    assert (own / "model/README.md").read_text() != card


def test_what_has_no_scores_or_no_model_gets_one_line(tmp_path: Path) -> None:
    own = model(tmp_path / "a")
    with pytest.raises(DataError, match=r"no finished EvalJob of this model was found"):
        scored_card(str(own), [str(own)])
    model(tmp_path / "a", "second")
    with pytest.raises(DataError, match=r"2 runs with models are here; name one run's folder"):
        scored_card(str(tmp_path / "a"), [str(own)])
    (own / "model/README.md").unlink()
    with pytest.raises(DataError, match=r"no model/README.md yet; let the run end"):
        scored_card(str(own), [str(own)])
