"""What a sweep runs: what arms share and what they do not, names, labels, and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import manifests, write

from m2r_train.api import SpecErrors, references
from m2r_train.api.sweep import load_sweep
from m2r_train.sweeps.expansion import Planned, expand, load_base
from m2r_train.sweeps.patching import PatchError, patched, steps

BASE = ("data", "sft", "curriculum", "rlvr", "eval-sft", "eval-rlvr")
ARMS: dict[str, Any] = {"ednm": {}, "binary": {"rlvr.spec.rewards.ednm.kind": "Binary"}}


def sweep_file(folder: Path, **changes: Any) -> Path:
    write(manifests(*BASE), folder / "base")
    content = {"name": "reward", "manifests": ["base"], "seeds": [0, 1], "arms": ARMS, **changes}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def expanded(folder: Path, **changes: Any) -> list[Planned]:
    path = sweep_file(folder, **changes)
    sweep = load_sweep(path)
    return expand(sweep, load_base(sweep, path), path)


def names(runs: list[Planned]) -> list[str]:
    return [run.resource.name for run in runs]


def test_only_what_an_arm_reaches_is_run_for_each_arm(tmp_path: Path) -> None:
    runs = expanded(tmp_path)
    shared = ["data-s0", "sft-s0", "curriculum-s0", "eval-sft-s0"]
    arms = ["rlvr-ednm-s0", "eval-rlvr-ednm-s0", "rlvr-binary-s0", "eval-rlvr-binary-s0"]
    both = shared + arms + [name.replace("-s0", "-s1") for name in shared + arms]
    assert sorted(names(runs)) == sorted(both)


def test_references_lead_to_the_runs_of_the_same_arm_and_seed(tmp_path: Path) -> None:
    by_name = {run.resource.name: run for run in expanded(tmp_path)}
    found = {ref.name for ref in references(by_name["eval-rlvr-binary-s1"].resource)}
    assert found == {"rlvr-binary-s1", "data-s1"}
    assert {ref.name for ref in references(by_name["rlvr-ednm-s0"].resource)} == {
        "sft-s0",
        "curriculum-s0",
    }


def test_the_arms_differ_in_what_the_patch_says_and_in_nothing_else(tmp_path: Path) -> None:
    by_name = {run.resource.name: run.document["spec"] for run in expanded(tmp_path)}
    ednm, binary = by_name["rlvr-ednm-s1"], by_name["rlvr-binary-s1"]
    assert binary["rewards"] == {"ednm": {"kind": "Binary"}}
    assert {**ednm, "rewards": binary["rewards"]} == binary
    assert (ednm["seed"], by_name["sft-s0"]["seed"]) == (1, 0)


def test_runs_are_labelled_where_a_label_applies(tmp_path: Path) -> None:
    labels = {
        run.resource.name: dict(run.resource.job.metadata.labels)
        for run in expanded(tmp_path, fixed=["data"])
    }
    assert labels["data"] == {"m2r.dev/sweep": "reward"}
    assert labels["sft-s1"] == {"m2r.dev/sweep": "reward", "m2r.dev/seed": "1"}
    assert labels["rlvr-binary-s1"] == {
        "m2r.dev/sweep": "reward",
        "m2r.dev/arm": "binary",
        "m2r.dev/seed": "1",
    }


def test_what_is_fixed_runs_once_with_its_own_seed(tmp_path: Path) -> None:
    runs = expanded(tmp_path, fixed=["data", "sft", "curriculum"])
    assert names(runs)[:3] == ["data", "sft", "curriculum"]
    assert "seed" not in runs[0].document["spec"]
    assert len(runs) == 3 + 2 * (1 + 2 * 2)


def test_a_patched_reference_may_lead_to_a_later_manifest(tmp_path: Path) -> None:
    arms = {"late": {"curriculum.spec.difficulty.model.from.name": "zz"}}
    documents = manifests(*BASE)
    documents["zz"] = {**documents["sft"], "metadata": {"name": "zz"}}
    path = sweep_file(tmp_path, arms=arms, seeds=[0])
    write(documents, tmp_path / "base")
    sweep = load_sweep(path)
    order = names(expand(sweep, load_base(sweep, path), path))
    assert order.index("zz-s0") < order.index("curriculum-late-s0")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"arms": {"a": {"rlv.spec.steps": 1}}},
            "arms.a: rlv.spec.steps: no resource rlv; did you mean rlvr?",
        ),
        (
            {"arms": {"a": {"rlvr.spec.rewards.edmn.kind": "Binary"}}},
            "arms.a: RLVRJob/rlvr: spec.rewards.edmn: unknown field; did you mean ednm?",
        ),
        (
            {"arms": {"a": {"rlvr.spec.steps": 0}}},
            "arms.a: RLVRJob/rlvr: spec.steps: must be >= 1 (got 0); set it to 1 or more",
        ),
        (
            {"arms": {"a": {"data.spec.sources[7].name": "x"}}},
            "arms.a: data.spec.sources[7].name: there is no item [7]; name one",
        ),
        (
            {"arms": {"a": {"rlvr.spec.steps.more": 1}}},
            "arms.a: rlvr.spec.steps.more: leads through a plain value; set the field above it",
        ),
        (
            {"arms": {"a": {"rlvr.spec.model.from.name": "stf"}}},
            "arms.a: RLVRJob/rlvr: spec.model.from: SFTJob/stf is not among the manifests",
        ),
        ({"fixed": ["rlvr"]}, "fixed: rlvr: an arm changes it; remove it from fixed"),
        ({"fixed": ["dat"]}, "fixed: no resource dat; name one of the base manifests"),
        (
            {"fixed": ["sft"]},
            "fixed: sft: is made from data, which is run for each seed; add data to fixed",
        ),
        (
            {"arms": {"a" * 40: {"rlvr.spec.steps": 1}}},
            f"arms.{'a' * 40}: RLVRJob/rlvr-{'a' * 40}-s0: is 48 characters long, 45 are allowed",
        ),
        ({"manifests": ["bas"]}, None),
    ],
)
def test_a_mistake_is_told_once_by_file_field_and_remedy(
    changes: dict[str, Any], line: str | None, tmp_path: Path
) -> None:
    with pytest.raises(SpecErrors) as told:
        expanded(tmp_path, **changes)
    if line is None:
        assert told.value.lines[0].startswith(f"{tmp_path / 'bas'}: cannot be read")
    else:
        assert told.value.lines[0].startswith(f"{tmp_path / 'sweep.yaml'}: {line}")
        assert len(set(told.value.lines)) == len(told.value.lines)


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    documents = manifests(*BASE)
    documents["rlvr-a"] = {**documents["sft"], "kind": "SFTJob", "metadata": {"name": "rlvr-a"}}
    documents["rlvr"] = {**documents["sft"], "metadata": {"name": "rlvr"}}
    del documents["eval-rlvr"]
    path = sweep_file(tmp_path, arms={"a": {"rlvr.spec.training.steps": 1}}, seeds=[0])
    (tmp_path / "base/eval-rlvr.yaml").unlink()
    write(documents, tmp_path / "base")
    sweep = load_sweep(path)
    with pytest.raises(SpecErrors, match=r"SFTJob/rlvr-a-s0: two runs have this name \(of "):
        expand(sweep, load_base(sweep, path), path)


def test_a_path_sets_fields_items_and_leaves_out() -> None:
    document = {"spec": {"list": [{"a": 1}, {"a": 2}], "gone": 1, "plain": 3}}
    changes = {"spec.list[1].a": 5, "spec.list[0]": 7, "spec.gone": None, "spec.new.deep": [1]}
    assert patched(document, changes) == {
        "spec": {"list": [7, {"a": 5}], "plain": 3, "new": {"deep": [1]}}
    }
    assert document["spec"]["gone"] == 1, "the original stays as it was"
    assert steps("a.b[0][1].c") == ["a", "b", 0, 1, "c"]


@pytest.mark.parametrize("path", ["spec.none[0]", "spec.list[2]", "spec.plain.x", "spec.list.x"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(PatchError):
        patched({"spec": {"list": [1], "plain": 3}}, {path: 1})
