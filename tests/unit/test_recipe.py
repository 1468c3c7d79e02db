"""examples/m2-reasoning-7b: every choice is marked, and what the paper states is what it states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from m2r_train.api import EvalSpec, RLVRSpec, order
from m2r_train.api.manifests import load_manifests
from m2r_train.benchmarks.registry import BENCHMARKS

FOLDER = Path(__file__).parents[2] / "examples" / "m2-reasoning-7b"
EVALUATIONS = ("m2-eval", "m2-eval-video")
MARK = re.compile(r"\b(paper|ours)\b")
# what is the user's own, or says only what belongs together
UNMARKED = re.compile(r"^\s*(- )?(name|kind|apiVersion|metadata|dataset|splits|simulator|engine)\b")


def unmarked(text: str) -> list[str]:
    """Lines that set a value, and neither they nor the comment above say whose choice it is."""
    found, above = [], ""
    for line in text.partition("\nspec:\n")[2].splitlines():
        value, _, comment = line.partition("#")
        if not value.strip():
            above = comment
            continue
        sets = not value.rstrip().endswith(":")
        if sets and not UNMARKED.match(value) and not MARK.search(comment or above):
            found.append(line)
        above = ""
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda p: p.name)
def test_every_choice_says_whose_it_is(file: Path) -> None:
    assert unmarked(file.read_text()) == []


def test_a_line_without_a_mark_is_found() -> None:
    text = "kind: X\nspec:\n  # ours\n  a: 1\n  b: 2   # paper\n  c: 3\n  d:\n    e: {f: 4}\n"
    assert unmarked(text) == ["  c: 3", "    e: {f: 4}"]


def test_what_the_paper_states_stands_in_the_manifests() -> None:
    specs = {r.name: r.spec for r in order(load_manifests([FOLDER]))}
    assert list(specs) == ["m2-data", "m2-ci", "m2-curriculum", "m2-rlvr", *EVALUATIONS]
    outputs = specs["m2-data"].outputs  # type: ignore[attr-defined]
    assert (outputs.sft, outputs.rlvr) == (168_000, 126_200)
    rlvr = specs["m2-rlvr"]
    assert isinstance(rlvr, RLVRSpec)
    assert rlvr.rollout.max_completion_tokens == 1024
    assert (rlvr.rewards.ednm.gamma, rlvr.rewards.ednm.lambda_) == (1.0, 2.0)
    assert rlvr.optimization.advantage_weight.kind == "Eq6"
    assert rlvr.optimization.kl.schedule == "Cosine"
    assert (rlvr.curriculum.order, rlvr.curriculum.batch_tasks) == ("Ascending", "One")
    asked = [b.name for name in EVALUATIONS for b in specs[name].benchmarks]  # type: ignore[attr-defined]
    assert sorted(asked) == sorted(BENCHMARKS)


def test_videos_are_not_asked_of_an_engine_that_cannot_show_them() -> None:
    specs = {r.name: r.spec for r in order(load_manifests([FOLDER]))}
    for name in EVALUATIONS:
        spec = specs[name]
        assert isinstance(spec, EvalSpec)
        if "vsi-bench" in [b.name for b in spec.benchmarks]:
            assert spec.generation.engine == "inprocess"
