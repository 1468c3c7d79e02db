"""The funnel adds up to the manifest, whatever was dropped where, and says so when it cannot."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.report.manifests import manifest

from m2r_train.api.errors import DataError
from m2r_train.report.funnel import NOT_NEEDED, REASONS, Manifest, chain_funnel, funnel, reasons_of

LATER = ("solved", "unsolved", "no-spread")


def test_each_stage_is_what_came_less_what_was_dropped() -> None:
    stages = funnel(Manifest.parse(manifest()))
    assert [(s.name, s.into, s.out, dict(s.dropped)) for s in stages] == [
        ("verify", 220, 170, {"answer": 40, "format": 10}),
        ("deduplicate", 170, 160, {"duplicate": 6, "conflicting": 4}),
        ("decontaminate", 160, 150, {"benchmark-picture": 7, "benchmark-question": 3}),
        ("route", 150, 120, {NOT_NEEDED: 30}),
        ("difficulty", 120, 100, {"solved": 12, "unsolved": 5, "no-spread": 3}),
    ]


def test_chains_end_with_one_for_each_taught_question() -> None:
    stages = chain_funnel(Manifest.parse(manifest()))
    assert [(s.name, s.into, s.out) for s in stages] == [
        ("verify", 600, 380),
        ("judge", 380, 300),
        ("select", 300, 90),
    ]
    without = manifest()
    del without["teaching"]
    assert chain_funnel(Manifest.parse(without)) == []


counts = st.integers(0, 50)


@given(
    faults=st.dictionaries(st.sampled_from(["format", "answer", "new-fault"]), counts),
    dropped=st.dictionaries(
        st.sampled_from(["duplicate", "near-duplicate", "benchmark-picture", "new", *LATER]), counts
    ),
    unused=counts,
    kept=st.lists(counts, min_size=1, max_size=3),
)
def test_any_losses_add_up(
    faults: dict[str, int], dropped: dict[str, int], unused: int, kept: list[int]
) -> None:
    clean = sum(kept) + unused + sum(dropped.values())
    told = manifest(
        sources={"a": {"made": clean + sum(faults.values()), "kept": clean, **faults}},
        dropped=dropped,
        splits={f"s{i}": {"samples": n, "tasks": {"T": n}} for i, n in enumerate(kept)},
    )
    stages = funnel(Manifest.parse(told))
    assert stages[0].into == told["sources"]["a"]["made"]
    assert stages[-1].out == sum(kept)
    assert all(a.out == b.into for a, b in pairwise(stages))
    expected = {**faults, **dropped, NOT_NEEDED: unused}
    assert {r: n for r, n in reasons_of(stages).items() if n} == {
        r: n for r, n in expected.items() if n
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": {"rooms": {"made": 220, "kept": 171, "format": 50}}},
        {"splits": {"sft": {"samples": 131, "tasks": {}}}},
        {"dropped": {"duplicate": 171}},
    ],
)
def test_counts_that_do_not_add_up_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="do not add up; make the dataset again"):
        funnel(Manifest.parse(manifest(**changes)))


def test_chains_that_do_not_add_up_are_refused() -> None:
    told = manifest()
    told["teaching"]["chains"]["written"] += 1
    with pytest.raises(DataError, match=r"counts of teaching\.chains do not add up"):
        chain_funnel(Manifest.parse(told))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"run": "x"}', b"null", b"[" * 100_000]
)
def test_what_is_no_manifest_gets_one_line(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^d/manifest.json: not the manifest of a Data") as caught:
        Manifest.parse(data, "d/manifest.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [-1, "1", 1.5, True, None])
def test_a_count_is_a_whole_number(wrong: object) -> None:
    with pytest.raises(DataError, match="is no count"):
        Manifest.parse(manifest(dropped={"duplicate": wrong}))


def test_every_reason_is_explained() -> None:
    told = Manifest.parse(manifest())
    assert reasons_of([*funnel(told), *chain_funnel(told)]).keys() <= REASONS.keys()
