"""Sweeps and claims: what their files may say, and what is told of those that say it wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from m2r_train.api import SpecErrors
from m2r_train.api.claim import load_claim
from m2r_train.api.sweep import load_sweep, parse_seeds

SWEEP: dict[str, Any] = {
    "name": "reward",
    "manifests": ["base"],
    "seeds": [0, 1],
    "arms": {"ednm": {}, "binary": {"rlvr.spec.rewards.ednm.kind": "Binary"}},
}
CLAIM: dict[str, Any] = {
    "name": "smooth",
    "text": "Smooth rewards start spatial learning where binary ones fail.",
    "breaks": "Binary rewards reach the same with equal compute and data.",
    "treatment": "ednm",
    "controls": ["binary"],
    "measures": [{"score": "synthetic/overall", "margin": 1}],
}


def written(folder: Path, content: Any) -> Path:
    path = folder / "file.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_sweep_is_read_with_its_arms_in_order(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, SWEEP))
    assert list(sweep.arms) == ["ednm", "binary"]
    assert sweep.arms["binary"] == {"rlvr.spec.rewards.ednm.kind": "Binary"}
    assert (sweep.seeds, sweep.fixed) == ((0, 1), ())


def test_a_null_in_a_patch_is_kept_for_it_means_to_leave_a_field_out(tmp_path: Path) -> None:
    arms = {"plain": {"rlvr.spec.curriculum": None}}
    assert load_sweep(written(tmp_path, {**SWEEP, "arms": arms})).arms == arms


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"arm": {}}, "arm: unknown field; did you mean arms?"),
        ({"name": "Reward"}, 'name: has the wrong form (got "Reward"); use a-z, 0-9'),
        ({"seeds": [1, 1]}, "seeds: must not hold the same value twice"),
        ({"seeds": []}, "seeds: must have at least 1 item (got []); add one"),
        ({"arms": {}}, "arms: must have at least 1 item"),
        ({"arms": {"a": {"rlvr": 1}}}, "arms.a: rlvr: is no field; write RESOURCE.spec.FIELD"),
        ({"arms": {"a": {"rlvr.metadata.name": "x"}}}, "arms.a: rlvr.metadata.name: is no field"),
        ({"arms": {"a": {"rlvr.spec.": "x"}}}, "arms.a: rlvr.spec.: is no field"),
    ],
)
def test_a_wrong_sweep_is_told_by_file_field_and_remedy(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    path = written(tmp_path, {**SWEEP, **changes})
    with pytest.raises(SpecErrors) as told:
        load_sweep(path)
    (found,) = told.value.lines
    assert found.startswith(f"{path}: {line}")


@pytest.mark.parametrize("text", ["a: [", "", "a: 1\n---\na: 2\n"])
def test_a_file_that_is_not_one_document_is_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(SpecErrors) as told:
        load_sweep(path)
    assert len(told.value.lines) == 1


@pytest.mark.parametrize(
    ("text", "seeds"), [("0-4", (0, 1, 2, 3, 4)), ("7", (7,)), ("0,3,8-9", (0, 3, 8, 9))]
)
def test_seeds_of_the_command_line(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text", ["", "4-0", "0-", "1,1", "0-2,2", "a", "-1", "0-1000", "9999999999"]
)
def test_seeds_that_are_none_are_told(text: str) -> None:
    with pytest.raises(SpecErrors, match="--seeds"):
        parse_seeds(text)


def test_a_claim_is_read_and_its_measures_have_titles(tmp_path: Path) -> None:
    more = [
        {"curve": "reward", "statistic": "Mean", "upToStep": 50},
        {"curve": "accuracy", "task": "RoomSize", "better": "Lower"},
    ]
    claim = load_claim(written(tmp_path, {**CLAIM, "measures": [*CLAIM["measures"], *more]}))
    assert [measure.title for measure in claim.measures] == [
        "synthetic/overall",
        "mean reward until step 50",
        "final accuracy of RoomSize",
    ]
    assert (claim.level, claim.measures[0].margin) == (0.95, 1.0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"controls": ["ednm"]}, "controls: must not hold the treatment; name another arm"),
        ({"measures": [{}]}, "measures[0]: must have exactly one of score or curve"),
        ({"measures": [{"score": "x"}]}, "measures[0].score: must be BENCHMARK/FIGURE"),
        ({"measures": [{"score": "a/b", "margin": -1}]}, "measures[0].margin: must be >= 0"),
        ({"measures": [{"curve": "kl", "better": "Less"}]}, "measures[0].better: must be one of"),
        ({"control": "x"}, "control: unknown field; did you mean controls?"),
    ],
)
def test_a_wrong_claim_is_told_by_file_field_and_remedy(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    path = written(tmp_path, {**CLAIM, **changes})
    with pytest.raises(SpecErrors) as told:
        load_claim(path)
    (found,) = told.value.lines
    assert found.startswith(f"{path}: {line}")
