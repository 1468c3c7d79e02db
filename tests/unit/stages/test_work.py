"""MFU of runs: what a step is counted as, and when the series is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from unit.model.tinies import picture, png, sample, small_policy
from unit.stages.training_runs import STEPS, dataset, rlvr_spec, run, sft_spec

from m2r_train.api.errors import ConfigError
from m2r_train.core.flops import forward_flops, picture_load, row_load, update_flops
from m2r_train.core.peaks import VARIABLE
from m2r_train.model.architecture import parts_of, window_of
from m2r_train.model.policy import Policy
from m2r_train.rollout.base import Completion
from m2r_train.stages import devices
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, lessons
from m2r_train.stages.work import Work

SERIES = "m2r_model_flops_utilization_ratio"
GROUP = [Completion((1, 2, 3), (0.0,) * 3, False), Completion((4, 5), (0.0,) * 2, False)]


def counting(policy: Policy, peak: float | None = None) -> Work:
    parts = parts_of(policy.module)
    return Work(parts, merge=policy.merge, window=window_of(policy.module), peak=peak)


def seen(policy: Policy, *grids: tuple[int, int, int]) -> float:
    """Operations of one look at pictures."""
    loads = [picture_load(g, merge=policy.merge, window=window_of(policy.module)) for g in grids]
    return sum(forward_flops(parts_of(policy.module), load) for load in loads)


def questions() -> list[Any]:
    """Two about one picture, one about another."""
    a, b = png(picture(32, 16, 1)), png(picture(16, 48, 2))
    return [sample(id=str(i), images=(x,), chain="so 3") for i, x in enumerate((a, a, b))]


def test_a_tower_that_never_learns_looks_at_each_picture_of_a_step_once() -> None:
    policy = small_policy()
    policy.freeze_vision()
    samples = questions()
    prompts, work = lay_out(policy, samples), counting(policy)
    work.see(samples, prompts)
    assert work.flops == seen(policy, prompts[0].grids[0], prompts[2].grids[0])
    before = work.flops
    work.draw(prompts[:1], [GROUP])
    text = row_load(len(prompts[0].tokens), [3, 2], 5)
    assert work.flops - before == forward_flops(parts_of(policy.module), text)


def test_a_tower_that_learns_looks_again_in_each_pass() -> None:
    policy = small_policy()
    samples = questions()[:1]
    (prompt,) = lay_out(policy, samples)
    work, parts = counting(policy), parts_of(policy.module)
    work.see(samples, [prompt])
    assert work.flops == 0
    work.draw([prompt], [GROUP])
    load = row_load(len(prompt.tokens), [3, 2], 5) + picture_load(
        prompt.grids[0], merge=policy.merge, window=window_of(policy.module)
    )
    forward = forward_flops(parts, load)
    assert work.flops == forward > seen(policy, prompt.grids[0])
    work.learn_groups([prompt], [GROUP], updates=2, reference=True)
    assert work.flops == 2 * forward + 2 * update_flops(parts, load)


def test_a_lesson_is_one_row_with_its_picture() -> None:
    policy = small_policy()
    course, work = lessons(policy, questions()), counting(policy)
    work.learn_lessons(course)
    assert [len(lesson.grids) for lesson in course] == [1, 1]
    row = course[0].row
    assert [len(b.tokens) > b.scored_from > 0 for b in row.branches] == [True, True]
    alone = 0.0
    for lesson in course:
        lengths = [len(b.tokens) for b in lesson.row.branches]
        targets = sum(len(b.tokens) - b.scored_from for b in lesson.row.branches)
        load = row_load(len(lesson.row.prefix), lengths, targets) + picture_load(
            lesson.grids[0], merge=policy.merge, window=window_of(policy.module)
        )
        alone += update_flops(parts_of(policy.module), load)
    assert work.flops == pytest.approx(alone)


def test_a_step_is_measured_by_its_own_seconds_and_operations() -> None:
    work = counting(small_policy(), peak=1e6)
    work.flops = 3e6
    phases = {"train": 2.0, "generate": 4.0, "evaluate": 100.0, "checkpoint": 100.0}
    assert work.utilization(phases) == pytest.approx(0.5)
    assert work.utilization(phases) is None  # the next step has computed nothing yet
    unknown = counting(small_policy())
    unknown.flops = 3e6
    assert unknown.utilization(phases) is None


def gauge(ctx: Context) -> float | None:
    return ctx.metrics.registry.get_sample_value(SERIES)


def notes(ctx: Context) -> str:
    text: str = ctx.progress._console.file.getvalue()  # type: ignore[attr-defined]
    return text


@pytest.mark.parametrize(("kind", "made"), [("SFTJob", sft_spec), ("RLVRJob", rlvr_spec)])
def test_a_run_tells_it_where_the_peak_is_known(
    kind: str, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.1")
    ctx = run(kind, tmp_path / "run", made(dataset(tmp_path / "data")))
    told = gauge(ctx)
    assert told is not None and 0 < told < 1
    assert all(0 < float(row["mfu"]) < 1 for row in ctx.timings.rows[:STEPS])
    assert ctx.timings.rows[STEPS - 1]["mfu"] == told
    assert "no MFU" not in notes(ctx)


def test_a_manifest_tells_the_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    spec = sft_spec(dataset(tmp_path / "data"))
    half, whole = (
        {**spec, "resources": {**spec.get("resources", {}), "peakTflops": peak}}
        for peak in (0.05, 1e6)
    )
    figures = [gauge(run("SFTJob", tmp_path / str(i), s)) for i, s in enumerate((half, whole))]
    assert all(figure is not None and figure > 0 for figure in figures)
    assert figures[0] / figures[1] > 1e6  # twenty million times, but for what the clock says


@pytest.mark.parametrize(("device", "lines"), [("Some GPU", 1), ("cpu", 0)])
def test_a_run_says_once_that_its_gpus_peak_is_not_known(
    device: str, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(devices, "_device", lambda _policy: (device, "float32"))
    ctx = run("SFTJob", tmp_path / "run", sft_spec(dataset(tmp_path / "data")))
    assert gauge(ctx) is None
    assert SERIES.encode() not in ctx.metrics.exposition()
    assert notes(ctx).count(f"no MFU: the peak of {device} in float32 is not known") == lines
    assert not any("mfu" in row for row in ctx.timings.rows)


def test_a_peak_that_is_no_number_ends_the_run_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "fast")
    with pytest.raises(ConfigError, match="M2R_PEAK_TFLOPS: 'fast' is no positive number"):
        run("SFTJob", tmp_path / "run", sft_spec(dataset(tmp_path / "data")))


def test_what_comes_from_the_journal_was_not_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.1")
    drawn: list[int] = []
    monkeypatch.setattr(Work, "draw", lambda _self, prompts, _groups: drawn.append(len(prompts)))
    spec = rlvr_spec(dataset(tmp_path / "data"))
    spec["checkpoint"] = {"everySteps": STEPS}

    class Stop(Exception):  # noqa: N818
        pass

    def dies(name: str) -> None:
        if name == "before-save":
            raise Stop

    with pytest.raises(Stop):
        run("RLVRJob", tmp_path / "run", spec, probe=dies)
    assert drawn == [2] * STEPS
    run("RLVRJob", tmp_path / "run", spec, number=2)
    assert drawn == [2] * STEPS
