"""Resources run after what they refer to; what cannot work is told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.api.cases import DESIGN, changed, small

from m2r_train.api import Resource, SpecErrors, load_manifests, order, references
from m2r_train.api.manifests import parse_document


def resource(manifest: dict[str, Any]) -> Resource:
    parsed = parse_document(manifest, Path("f.yaml"), 1)
    assert isinstance(parsed, Resource), parsed
    return parsed


def sft(name: str, model_from: str | None = None, data_from: str | None = None) -> Resource:
    manifest = changed(small("SFTJob"), "metadata.name", name)
    if model_from:
        source = {"from": {"kind": "SFTJob", "name": model_from}}
        manifest = changed(manifest, "spec.model", source)
    if data_from:
        source = {"from": {"kind": "DataSynthesisJob", "name": data_from}, "split": "sft"}
        manifest = changed(manifest, "spec.dataset", source)
    return resource(manifest)


def data(name: str, **outputs: int) -> Resource:
    manifest = changed(small("DataSynthesisJob"), "metadata.name", name)
    return resource(changed(manifest, "spec.outputs", outputs) if outputs else manifest)


def names(resources: list[Resource]) -> list[str]:
    return [r.name for r in resources]


def lines_for(*resources: Resource, external: bool = False) -> tuple[str, ...]:
    with pytest.raises(SpecErrors) as caught:
        order(resources, external=external)
    return caught.value.lines


def test_references_have_the_field_paths_that_inputs_are_keyed_by() -> None:
    found = {r.kind: references(r) for r in load_manifests([DESIGN])}
    assert [(r.field_path, r.kind, r.name, r.split) for r in found["RLVRJob"]] == [
        ("model", "SFTJob", "m2-ci", None),
        ("dataset", "DataSynthesisJob", "m2-data", "rlvr"),
    ]
    assert [r.field_path for r in found["EvalJob"]] == ["model", "benchmarks[2].data"]
    assert found["DataSynthesisJob"] == []


def test_design_in_reverse_is_put_in_the_order_of_the_recipe() -> None:
    resources = load_manifests([DESIGN])
    assert names(order(resources[::-1])) == ["m2-data", "m2-ci", "m2-rlvr", "m2-eval"]


@pytest.mark.parametrize(
    ("given_order", "expected"),
    [
        ([sft("b"), sft("a"), sft("c")], ["b", "a", "c"]),
        ([sft("c", model_from="a"), sft("b"), sft("a")], ["a", "c", "b"]),
        ([sft("z"), sft("c", "b"), sft("b", "a"), sft("a")], ["z", "a", "b", "c"]),
        ([sft("c", data_from="d"), data("d"), sft("a")], ["d", "c", "a"]),
        ([], []),
    ],
)
def test_order_follows_references_and_else_the_files(
    given_order: list[Resource], expected: list[str]
) -> None:
    assert names(order(given_order)) == expected


@given(st.data())
def test_order_is_a_permutation_in_which_references_come_first(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 7))
    parents = [data.draw(st.none() | st.integers(0, i - 1)) if i else None for i in range(count)]
    made = [sft(f"n{i}", f"n{p}" if p is not None else None) for i, p in enumerate(parents)]
    shuffled = data.draw(st.permutations(made))
    result = order(shuffled)
    assert sorted(names(result)) == sorted(names(made))
    for i, parent in enumerate(parents):
        if parent is not None:
            assert names(result).index(f"n{parent}") < names(result).index(f"n{i}")
    assert names(order(result)) == names(result)


def test_cycle_is_told_with_its_chain() -> None:
    chain = (sft("start", "a"), sft("a", "b"), sft("b", "c"), sft("c", "a"))
    assert lines_for(*chain) == (
        "f.yaml: SFTJob/a: refers to itself: "
        "SFTJob/a -> SFTJob/b -> SFTJob/c -> SFTJob/a; remove one reference",
    )
    assert "SFTJob/a -> SFTJob/a" in lines_for(sft("a", "a"))[0]
    assert "refers to itself" in lines_for(sft("a", "a"), external=True)[0]


def test_missing_resources_are_told_all_at_once_with_the_nearest_name() -> None:
    assert lines_for(sft("m2-ci"), sft("x", "m2-cl", "m2-data")) == (
        "f.yaml: SFTJob/x: spec.model.from: SFTJob/x -> SFTJob/m2-cl, which is missing; "
        "did you mean m2-ci?",
        "f.yaml: SFTJob/x: spec.dataset.from: SFTJob/x -> DataSynthesisJob/m2-data, "
        "which is missing; add its manifest or correct the name",
    )


def test_missing_resources_may_live_in_the_cluster() -> None:
    assert names(order([sft("x", "elsewhere", "data"), sft("y")], external=True)) == ["x", "y"]


def test_reference_to_a_split_that_is_not_made_is_told() -> None:
    assert lines_for(data("d", rlvr=5), sft("x", data_from="d")) == (
        "f.yaml: SFTJob/x: spec.dataset.split: DataSynthesisJob/d makes no sft samples; "
        "set its spec.outputs.sft above 0",
    )


def test_reference_stays_in_its_namespace() -> None:
    other = resource(changed(small("SFTJob"), "metadata", {"name": "a", "namespace": "lab"}))
    (line,) = lines_for(other, sft("x", "a"))
    assert "SFTJob/a, which is missing" in line
