"""What ``/metrics`` says of an attempt, from its first moment on."""

from __future__ import annotations

from pathlib import Path

from unit.stages.runs_in_memory import context

from m2r_train.stages.context import Context


def gauge(ctx: Context, name: str, **labels: str) -> float | None:
    return ctx.metrics.registry.get_sample_value(name, labels)


def test_an_attempt_tells_its_number_and_its_work_before_its_first_step(tmp_path: Path) -> None:
    ctx = context(tmp_path, attempt=3)
    with ctx.running(10, 4):
        assert gauge(ctx, "m2r_attempt") == 3
        assert gauge(ctx, "m2r_steps_planned") == 10
        assert gauge(ctx, "m2r_step") == 4
        assert gauge(ctx, "m2r_last_step_timestamp_seconds") == 0


def test_labels_that_are_closed_late_lose_nothing_that_was_counted(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.count_tokens(prompt=5)
    with ctx.running(2):
        ctx.show_step(2, 2)
    ctx.close_labels(benchmark=["synthetic"], subtask=["overall"])
    ctx.metrics.set("m2r_eval_score", 0.5, benchmark="synthetic", subtask="overall")
    assert gauge(ctx, "m2r_step") == 2
    assert gauge(ctx, "m2r_tokens_total", kind="prompt") == 5
    assert gauge(ctx, "m2r_eval_score", benchmark="synthetic", subtask="overall") == 0.5
    assert ctx.server is not None
    assert ctx.server.metrics is ctx.metrics
