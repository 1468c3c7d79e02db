"""RLVR: GRPO with verifiable rewards, task batches, curriculum (paper section 3).

What differs from textbook GRPO, and where it stands: a batch holds one task, drawn uniformly each
step, in ascending difficulty (3.1.2, ``core.schedules.Curriculum``); advantages are weighted by
Eq. 6; the KL coefficient to the frozen start model is annealed by Eq. 7; numeric spatial answers
earn Eq. 9. Rollouts are on-policy, so the ratio's denominator is the policy's own log-probability.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from m2r_train.api.rlvr import RLVRSpec
from m2r_train.core.records import Sample
from m2r_train.core.schedules import Curriculum, kl_coefficient, learning_rate
from m2r_train.engine.base import Engine
from m2r_train.model.policy import Policy
from m2r_train.rollout.base import SamplingParams
from m2r_train.stages.context import Context
from m2r_train.stages.devices import work_of
from m2r_train.stages.engines import choose_what_learns, refuse_idle_ranks, training_engine
from m2r_train.stages.feeding import lay_out
from m2r_train.stages.grpo import (
    Scored,
    UpdateStats,
    reference_of,
    score_groups,
    step_record,
    teaches,
    update,
)
from m2r_train.stages.heldout import Figures, HeldOutSet
from m2r_train.stages.objective import Objective
from m2r_train.stages.ownrewards import OwnRewards, own_rewards
from m2r_train.stages.redraw import Draw, redraw, spares, taken_before
from m2r_train.stages.rollouts import Desk, rollout_engine
from m2r_train.stages.traces import Tracer
from m2r_train.stages.watch import Watch
from m2r_train.telemetry.history import Scalar
from m2r_train.telemetry.metrics import OWN


def run(ctx: Context) -> dict[str, Any]:
    """Improve ``spec.model`` on ``spec.dataset``; publishes ``model/``."""
    spec = cast("RLVRSpec", ctx.run_spec.parsed_spec)
    refuse_idle_ranks(spec, ctx.ranks)
    with own_rewards(ctx, spec.rewards.own, spec.rewards.format_weight) as own:
        return _improve(ctx, spec, own)


def _improve(ctx: Context, spec: RLVRSpec, own: OwnRewards) -> dict[str, Any]:
    opt, sampling = spec.optimization, spec.rollout
    policy = ctx.policy("model", spec.model)
    samples = {s.id: s for s in ctx.samples("dataset", spec.dataset, "rlvr")}
    own.check(samples.values())
    curriculum = _curriculum(spec, samples.values(), ctx.seed)
    ctx.close_labels(task=curriculum.tasks, component=[OWN + term.name for term in own.terms])
    choose_what_learns(policy, opt, ctx.seed)
    ctx.work = work_of(ctx, policy)
    reference = reference_of(policy) if opt.kl.ever else None
    sampler = rollout_engine(sampling.engine, policy, ctx.look)  # copies what ranks may soon share
    engine = training_engine(policy, opt, spec.parallelism, ctx.ranks)
    objective = Objective.of(spec)
    start = ctx.restore(engine.load_state_dict, keep=spec.checkpoint.keep)
    desk = Desk(
        ctx,
        sampler,
        SamplingParams(sampling.group_size, sampling.temperature, sampling.max_completion_tokens),
        prompts=dict(zip(samples, lay_out(policy, list(samples.values())), strict=True)),
        show=policy.show,
        behind=start > 0,
    )

    def draw(step: int, number: int, chosen: Sequence[Sample], places: Sequence[int]) -> Draw:
        with engine.gathered():
            requests, groups = desk.rollouts(step, chosen, number, places)
        with ctx.phase("reward"):
            scored = score_groups(policy, chosen, groups, objective, ctx.ranks, own.adjusted)
            return Draw(requests, scored)

    evaluate = _evaluation(ctx, spec, policy, engine, desk)
    keep = spec.checkpoint.keep
    watch, tracer = Watch(ctx, spec.monitors), Tracer(ctx, spec.traces, spec.steps, policy.text)
    taken = taken_before(ctx.history)
    with ctx.running(spec.steps, start):
        with ctx.stop.when_asked():
            for step in range(start, spec.steps):
                watch.end_if_collapsed()
                ids = curriculum.batch(step, taken)
                chosen = [samples[i] for i in ids]
                beta = _kl_coefficient(spec, step)
                rate = _learning_rate(spec, step)
                with ctx.step(step, engine.state_dict, keep=keep):
                    figures = evaluate(step)
                    first = draw(step, 0, chosen, range(len(chosen)))
                    drawn = redraw(
                        first,
                        objective.redraw_rounds,
                        spares(curriculum, samples, step, taken),
                        partial(draw, step),
                    )
                    with ctx.phase("train"):
                        stats = update(
                            policy,
                            reference,
                            engine,
                            drawn.requests,
                            drawn.scored,
                            objective,
                            beta,
                            rate,
                            ctx.look,
                            ctx.ranks,
                        )
                desk.policy_changed()
                _count_work(ctx, desk, drawn.scored, objective, beta)
                record: dict[str, Scalar] = {
                    **_record(spec, objective, first, drawn, stats),
                    **_difficulty(curriculum, chosen[0].task, step, taken),
                    "kl_coefficient": beta,
                    "lr": rate,
                    **figures,
                }
                taken = {t: taken.get(t, 0) + drawn.taken.get(t, 0) for t in {*taken, *drawn.taken}}
                record |= watch.signs({"step": step, **record})
                tracer.keep(step, drawn.scored, desk.prompts.__getitem__)
                ctx.finish_step(
                    step,
                    spec.steps,
                    record,
                    engine.state_dict,
                    every=spec.checkpoint.every_steps,
                    keep=keep,
                    shown=("reward", "accuracy", "completion_tokens"),
                )
        watch.end_if_collapsed()
        with ctx.step(spec.steps, engine.state_dict, keep=keep):
            ctx.tell_heldout(spec.steps, evaluate(None))
        with engine.gathered():
            outcome = ctx.publish_model(policy)
    return {"step": spec.steps, "steps": spec.steps, **outcome}


def _count_work(
    ctx: Context, desk: Desk, scored: Scored, objective: Objective, beta: float
) -> None:
    """What the update went over."""
    live = [i for i, own in enumerate(scored.advantages) if teaches(own, beta)]
    ctx.work.learn_groups(
        [desk.prompts[scored.samples[i].id] for i in live],
        [scored.groups[i] for i in live],
        updates=objective.updates,
        reference=bool(beta),
    )


def _evaluation(
    ctx: Context, spec: RLVRSpec, policy: Policy, engine: Engine, desk: Desk
) -> Callable[[int | None], Figures]:
    """What evaluates the policy before a step, where it is due, or (None) at the end."""
    if spec.evaluation is None:
        return lambda _step: {}
    held_out = HeldOutSet(ctx, spec.evaluation, policy)

    def evaluate(step: int | None) -> Figures:
        if step is not None and not held_out.due(step):
            return {}
        with ctx.phase("evaluate"), engine.gathered():
            return held_out.accuracy(desk.greedy, spec.rollout.max_completion_tokens)

    return evaluate


def _record(
    spec: RLVRSpec, objective: Objective, first: Draw, drawn: Draw, stats: UpdateStats
) -> dict[str, float | int | str]:
    """What is told of the policy is of the prompts as they came, not of those kept."""
    task = first.scored.samples[0].task if _one(spec) else "mixed"
    told = step_record(first.scored, stats, task)
    return {**told, **drawn.record()} if objective.redraw_rounds else told


def _difficulty(
    curriculum: Curriculum, task: str, step: int, taken: Mapping[str, int]
) -> dict[str, float]:
    """How difficult the task's prompts are by now, where that is known."""
    found = curriculum.current_difficulty(task, step, taken)
    return {} if found is None else {"difficulty": found}


def _curriculum(spec: RLVRSpec, samples: Iterable[Sample], seed: int) -> Curriculum:
    by_task: dict[str, list[tuple[str, float | None]]] = {}
    for sample in samples:
        by_task.setdefault(sample.task, []).append((sample.id, sample.difficulty))
    return Curriculum(
        by_task,
        batch_size=spec.rollout.prompts_per_step,
        seed=seed,
        order=spec.curriculum.order,
        task_sampling=spec.curriculum.task_sampling,
        batch_tasks=spec.curriculum.batch_tasks,
    )


def _learning_rate(spec: RLVRSpec, step: int) -> float:
    opt = spec.optimization
    return learning_rate(
        step,
        spec.steps,
        opt.learning_rate,
        opt.warmup_steps,
        opt.schedule,
        opt.min_learning_rate_ratio,
        opt.decay_ratio,
    )


def _kl_coefficient(spec: RLVRSpec, step: int) -> float:
    """Eq. 7 by the global step, so that a resume goes on where it was."""
    kl = spec.optimization.kl
    return kl_coefficient(step, spec.steps, kl.start, kl.end, kl.schedule)


def _one(spec: RLVRSpec) -> bool:
    return spec.curriculum.batch_tasks == "One"
