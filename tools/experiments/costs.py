"""How long a run takes on one thread: a line through what was measured, by the run's spec.

CPU-seconds of an Intel Xeon with AVX-512 and AMX. Their sum over the quickstart is what that took
on two cores (bench/results/2026-11-23-quickstart.md). Another machine differs, not the proportions;
completions that loop to their limit take longer than is counted here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, cast

from experiments.catalogue import Run
from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.evaljob import EvalSpec
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.sft import SFTSpec

START: Final = 3.0  # of a run: the model, its data, the report of the end
SAMPLE: Final = 0.0035  # a simulated question with its picture
TOKEN_SFT: Final = 1.2e-4  # a token of a batch, forward and backward
COMPLETION: Final = 0.0016  # sampled, of an ordinary length
TRAINED: Final = 0.0042  # a completion of a GRPO step, reference included


def seconds(run: Run, questions: int) -> float:
    """CPU-seconds of a run; ``questions`` is how many an evaluation has."""
    spec = run.planned.resource.spec
    if isinstance(spec, DataSynthesisSpec):
        return START + _synthesis(spec)
    if isinstance(spec, SFTSpec):
        return START + (spec.training.steps or 0) * spec.training.tokens_per_batch * TOKEN_SFT
    if isinstance(spec, RLVRSpec):
        completions = spec.steps * spec.rollout.prompts_per_step * spec.rollout.group_size
        held_out = spec.evaluation
        asked = (
            0 if held_out is None else held_out.samples * (2 + spec.steps // held_out.every_steps)
        )
        return START + completions * (COMPLETION + TRAINED) + asked * COMPLETION
    generation = cast("EvalSpec", spec).generation
    return START + questions * (generation.samples_per_question + generation.greedy) * COMPLETION


def minutes(runs: Iterable[Run], questions: int = 600) -> float:
    """Of all of them, one after the other."""
    return sum(seconds(one, questions) for one in runs) / 60


def _synthesis(spec: DataSynthesisSpec) -> float:
    made = sum(
        s.simulator.scenes * s.simulator.questions_per_scene for s in spec.sources if s.simulator
    )
    given = max(spec.outputs.rlvr, spec.outputs.sft)
    rollouts = 0 if spec.difficulty is None else given * spec.difficulty.rollouts
    chains = given * spec.generator.chains_per_question if spec.generator.teaches else 0
    return made * SAMPLE + (rollouts + chains) * COMPLETION
