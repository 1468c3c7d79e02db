"""examples/m2-reasoning-7b: every choice is marked, and what the paper states is what it states."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from m2r_train.api import DataSynthesisSpec, EvalSpec, RLVRSpec, SFTSpec, order
from m2r_train.api.common import JobSpec
from m2r_train.api.manifests import load_manifests
from m2r_train.api.sources import PICTURE_TASKS, WALK_TASKS, Source
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.core.sizing import QWEN25_VL_7B, Sharding, state_bytes
from m2r_train.data.parquet import read_shard
from m2r_train.stages.making import make_shard

FOLDER = Path(__file__).parents[2] / "examples" / "m2-reasoning-7b"
DATA = ("m2-data", "m2-spatial")
EVALUATIONS = ("m2-eval", "m2-eval-video")
MARK = re.compile(r"\b(paper|ours)\b")
# what is the user's own, or says only what belongs together
UNMARKED = re.compile(r"^\s*(- )?(name|kind|apiVersion|metadata|dataset|splits|simulator|engine)\b")


def specs() -> dict[str, JobSpec]:
    return {r.name: r.spec for r in order(load_manifests([FOLDER]))}


def data_spec(name: str) -> DataSynthesisSpec:
    spec = specs()[name]
    assert isinstance(spec, DataSynthesisSpec)
    return spec


def unmarked(text: str) -> list[str]:
    """Lines that set a value, and neither they nor the comment above say whose choice it is."""
    found, above = [], ""
    for line in text.partition("\nspec:\n")[2].splitlines():
        value, _, comment = line.partition("#")
        if not value.strip() or value == "---":
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
    found = specs()
    assert list(found) == [*DATA, "m2-ci", "m2-curriculum", "m2-rlvr", *EVALUATIONS]
    general, spatial = (data_spec(name).outputs for name in DATA)
    assert (general.sft, general.rlvr) == (168_000, 100_000)
    assert (spatial.sft, spatial.rlvr) == (0, 26_200)
    assert data_spec("m2-curriculum").outputs.rlvr == general.rlvr + spatial.rlvr == 126_200
    assert general.sft + general.rlvr + spatial.rlvr == 294_200
    rlvr = found["m2-rlvr"]
    assert isinstance(rlvr, RLVRSpec)
    assert rlvr.rollout.max_completion_tokens == 1024
    assert (rlvr.rewards.ednm.gamma, rlvr.rewards.ednm.lambda_) == (1.0, 2.0)
    assert rlvr.optimization.advantage_weight.kind == "Eq6"
    assert rlvr.optimization.kl.schedule == "Cosine"
    assert (rlvr.curriculum.order, rlvr.curriculum.batch_tasks) == ("Ascending", "One")
    asked = [b.name for name in EVALUATIONS for b in found[name].benchmarks]  # type: ignore[attr-defined]
    assert sorted(asked) == sorted(BENCHMARKS)


@pytest.mark.parametrize("name", DATA)
def test_no_benchmark_that_is_reported_is_trained_on(name: str) -> None:
    asked = data_spec(name).decontamination
    assert asked is not None
    assert sorted(b.name for b in asked.against) == sorted(BENCHMARKS)


def test_the_curriculum_is_made_of_all_the_data() -> None:
    sources = data_spec("m2-curriculum").sources
    refs = [s.dataset.from_ for s in sources if s.dataset is not None]
    assert [ref.name for ref in refs if ref is not None] == list(DATA)


def spatial_sources() -> tuple[Source, ...]:
    return data_spec("m2-spatial").sources


def test_the_spatial_data_is_of_fourteen_tasks_and_a_fifth_more_than_is_asked_for() -> None:
    rooms = [s.simulator for s in spatial_sources() if s.simulator is not None]
    assert {t for own in rooms for t in own.tasks} == {*PICTURE_TASKS, *WALK_TASKS}
    assert len({*PICTURE_TASKS, *WALK_TASKS}) == 14
    outputs = data_spec("m2-spatial").outputs
    made = sum(own.scenes * own.questions_per_scene for own in rooms)
    assert made >= 1.2 * (outputs.rlvr + outputs.eval)


@pytest.mark.parametrize("source", spatial_sources(), ids=lambda source: source.name)
def test_few_scenes_ask_about_every_task_of_a_source(source: Source) -> None:
    assert source.simulator is not None
    data, counts = make_shard(source, 0, 0, 4)
    samples = read_shard(data)
    assert {s.task for s in samples} == set(source.simulator.tasks)
    assert {s.video is not None for s in samples} == {source.simulator.video}
    assert len(samples) == counts["kept"] == 4 * source.simulator.questions_per_scene


def test_nobody_teaches_the_spatial_questions() -> None:
    assert any(s.simulator is not None and s.simulator.video for s in spatial_sources())
    assert all("sft" not in s.splits for s in spatial_sources())


def test_a_batch_of_videos_stays_small_in_memory() -> None:
    (video,) = (
        s
        for s in map(specs().get, EVALUATIONS)
        if isinstance(s, EvalSpec) and "vsi-bench" in [b.name for b in s.benchmarks]
    )
    (benchmark,) = video.benchmarks
    pixels = video.generation.batch_size * benchmark.frames * 640 * 480
    assert 3 * pixels < 1e9


def device_bytes(spec: SFTSpec | RLVRSpec) -> float:
    """What training 7B keeps on each GPU between steps, by the estimate of docs/sizing.md."""
    tuning = spec.training if isinstance(spec, SFTSpec) else spec.optimization
    total = QWEN25_VL_7B.parameters
    learning = QWEN25_VL_7B.language if tuning.freeze_vision else total
    strategy = spec.parallelism.strategy
    sharding: Sharding = "None" if strategy == "DataParallel" else strategy
    ranks = spec.resources.nodes * spec.resources.gpus_per_node
    state = state_bytes(total, learning, sharding=sharding, ranks=ranks)
    reference = isinstance(spec, RLVRSpec) and spec.optimization.kl.start > 0
    return state + (2 * total if reference else 0)


@pytest.mark.parametrize("name", ["m2-ci", "m2-rlvr"])
def test_training_leaves_half_of_a_gpu_of_80_gb_for_what_comes_on_top(name: str) -> None:
    spec = specs()[name]
    assert isinstance(spec, SFTSpec | RLVRSpec)
    assert device_bytes(spec) < 40e9
    alone = spec.parallelism.model_copy(update={"strategy": "DataParallel"})
    assert device_bytes(spec.model_copy(update={"parallelism": alone})) > 80e9
