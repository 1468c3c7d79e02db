"""Cold start: supervised fine-tuning on chains (paper section 2.3).

Next-token loss on the assistant's turn alone. Questions about one picture share a row, so the
picture is seen once; batches are filled by tokens, not by samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from m2r_train.api.errors import DataError
from m2r_train.api.sft import SFTSpec
from m2r_train.core.losses import sft_loss
from m2r_train.core.packing import PackedRows, cells, pack_rows
from m2r_train.core.records import Sample
from m2r_train.core.schedules import learning_rate
from m2r_train.engine.base import Engine
from m2r_train.engine.ranks import ALONE, Ranks, shares
from m2r_train.model.policy import Policy
from m2r_train.rollout.sampler import InProcessSampler
from m2r_train.stages.context import Context
from m2r_train.stages.devices import work_of
from m2r_train.stages.engines import (
    choose_what_learns,
    extra_passes,
    logprobs,
    training_engine,
)
from m2r_train.stages.feeding import Lesson, lessons, micro_batches, sft_batches, shown
from m2r_train.stages.heldout import Figures, HeldOutSet

_CELLS = 4096  # tokens of a micro-batch: bounds memory, changes no gradient


def run(ctx: Context) -> dict[str, Any]:
    """Train ``spec.model`` on ``spec.dataset``; publishes ``model/``."""
    spec = cast("SFTSpec", ctx.run_spec.parsed_spec)
    training = spec.training
    policy = ctx.policy("model", spec.model)
    samples = _with_chains(ctx.samples("dataset", spec.dataset, "sft"))
    course = lessons(policy, samples)
    batches = sft_batches(
        [lesson.row.length for lesson in course],
        training.tokens_per_batch,
        epochs=training.epochs,
        steps=training.steps,
        seed=ctx.seed,
    )
    choose_what_learns(policy, training, ctx.seed)
    ctx.work = work_of(ctx, policy)
    engine = training_engine(policy, training, spec.parallelism, ctx.ranks)
    total = len(batches)
    start = ctx.restore(engine.load_state_dict, keep=spec.checkpoint.keep)
    evaluate = _evaluation(ctx, spec, policy, engine)
    warmup = round(training.warmup_ratio * total)
    keep = spec.checkpoint.keep
    with ctx.running(total, start):
        with ctx.stop.when_asked():
            for step in range(start, total):
                batch = [course[i] for i in batches[step]]
                with ctx.step(step, engine.state_dict, keep=keep):
                    figures = evaluate(step)
                with ctx.phase("train"):
                    with ctx.step(step, engine.state_dict, keep=keep):
                        loss, tokens, padding = _accumulate(
                            policy, engine, batch, ctx.look, ctx.ranks
                        )
                    lr = learning_rate(
                        step,
                        total,
                        training.learning_rate,
                        warmup,
                        training.schedule,
                        training.min_learning_rate_ratio,
                        training.decay_ratio,
                    )
                    norm = engine.step(lr)
                ctx.count_tokens(trained=tokens)
                ctx.work.learn_lessons(batch)
                ctx.finish_step(
                    step,
                    total,
                    {
                        "loss": loss,
                        "lr": lr,
                        "grad_norm": norm,
                        "tokens": tokens,
                        "padding": padding,
                        **figures,
                    },
                    engine.state_dict,
                    every=spec.checkpoint.every_steps,
                    keep=keep,
                    shown=("loss",),
                )
        with ctx.step(total, engine.state_dict, keep=keep):
            ctx.tell_heldout(total, evaluate(None))
        with engine.gathered():
            outcome = ctx.publish_model(policy)
    return {"step": total, "steps": total, **outcome}


def _evaluation(
    ctx: Context, spec: SFTSpec, policy: Policy, engine: Engine
) -> Callable[[int | None], Figures]:
    """What evaluates the model before a step, where it is due, or (None) at the end."""
    asked = spec.evaluation
    if asked is None:
        return lambda _step: {}
    held_out = HeldOutSet(ctx, asked, policy)
    sampler = InProcessSampler(policy, look=ctx.look) if asked.accuracy else None

    def evaluate(step: int | None) -> Figures:
        if step is not None and not held_out.due(step):
            return {}
        with ctx.phase("evaluate"), engine.gathered():
            figures = held_out.loss(_CELLS)
            if sampler is not None:
                sampler.update_weights()
                figures |= held_out.accuracy(sampler.generate, asked.max_completion_tokens)
        return figures

    return evaluate


def _accumulate(
    policy: Policy,
    engine: Engine,
    batch: Sequence[Lesson],
    look: Callable[[], None],
    ranks: Ranks = ALONE,
) -> tuple[float, int, float]:
    """Gradient of the batch's mean loss per scored token, in micro-batches.

    Returns loss, scored tokens and ``core.packing.padding_ratio`` of all ranks, each of which
    computes its share. ``look`` is called before each micro-batch; what it raises ends the step.
    """
    tokens = sum(len(b.tokens) - b.scored_from for lesson in batch for b in lesson.row.branches)
    total = 0.0
    packs: list[PackedRows] = []
    own = [batch[i] for i in shares([b.row.length for b in batch], ranks.size)[ranks.seat.index]]
    parts = [[own[i] for i in p] for p in micro_batches([b.row.length for b in own], _CELLS)]
    empty = extra_passes(engine, ranks, len(parts))
    shortest = min(batch, key=lambda lesson: lesson.row.length)
    for number, chosen in enumerate([*parts, *[[shortest]] * empty]):
        look()
        packed = pack_rows([lesson.row for lesson in chosen])
        images = [x for lesson in chosen for x in shown(lesson.images, lesson.video)]
        logp_1N = logprobs(engine, policy, packed, images)[0][None]
        loss = sft_loss(logp_1N, logp_1N.new_ones(logp_1N.shape), normalizer=float(tokens))
        if number >= len(parts):
            engine.backward(0.0 * loss)
            continue
        packs.append(packed)
        engine.backward(loss)
        total += loss.item()
    told = ranks.gather([total, *cells(packs)])
    total, padded, computed = (math.fsum(one[k] for one in told) for k in range(3))
    return total, tokens, padded / computed if computed else 0.0


def _with_chains(samples: Sequence[Sample]) -> list[Sample]:
    without = [s for s in samples if s.chain is None]
    if without:
        raise DataError(
            f"spec.dataset: {len(without)} of {len(samples)} samples have no chain, the first is "
            f"{without[0].id!r}; map a column to chain, or make chains with a DataSynthesisJob"
        )
    return list(samples)
