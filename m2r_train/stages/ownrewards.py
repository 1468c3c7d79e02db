"""A run's own rewards: their files fetched, pinned, tried before the first step, and asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from m2r_train.api.common import parse_quantity
from m2r_train.api.errors import DataError, naming
from m2r_train.api.ownreward import OwnReward
from m2r_train.core.contract import read_completion
from m2r_train.core.records import Sample
from m2r_train.core.rewards import OwnTerm, Reward, with_own
from m2r_train.ownrewards.process import Limits, RewardFile, RewardProcess
from m2r_train.ownrewards.purity import Question, check_purity
from m2r_train.stages.context import Context
from m2r_train.store import pinned

_TRIED_SAMPLES = 8  # each with every form of completion below
_FORMS = (
    "<think>I count them.</think><answer>\\boxed{{{answer}}}</answer>",
    "<think>I count them.</think>\n<answer>not {answer}</answer>",
    "<think>I count them, and then I count",  # cut at the limit
    "{answer}",
    "",
    "<answer>\\boxed{{½ ≤ 😀\x00}}</answer>",
)


@dataclass(frozen=True, slots=True)
class OwnRewards:
    """Open processes by name, and how what they say counts; nothing of both without own rewards."""

    terms: tuple[OwnTerm, ...] = ()
    processes: Mapping[str, RewardProcess] | None = None
    files: tuple[tuple[RewardFile, Limits], ...] = ()
    format_weight: float = 0.0

    def adjusted(self, sample: Sample, text: str, reward: Reward) -> Reward:
        """``reward`` with the user's rewards. Raises as ``RewardProcess``."""
        if not self.terms or self.processes is None:
            return reward
        problem = problem_of(sample, reward.extracted)
        values = {t.name: self.processes[t.name](text, problem) for t in self.terms}
        return with_own(reward, values, self.terms, self.format_weight)

    def check(self, samples: Iterable[Sample]) -> None:
        """Raises ``DataError`` for a reward that gives equal arguments different values."""
        for file, limits in self.files:
            check_purity(file, limits, canaries(list(samples)))


@contextmanager
def own_rewards(
    ctx: Context, own: Sequence[OwnReward], format_weight: float
) -> Iterator[OwnRewards]:
    """The processes of a run's own rewards, until the block ends.

    Raises ``DataError`` for a file that is not there, that is not what ``sha256`` says, that is
    another than the one that the run began with, or that cannot be imported.
    """
    if not own:
        yield OwnRewards()
        return
    files = [_read(ctx, i, one) for i, one in enumerate(own)]
    _hold_to_the_first(ctx, own, files)
    limits = [Limits(float(one.timeout_seconds), int(parse_quantity(one.memory))) for one in own]
    with ExitStack() as stack:
        yield OwnRewards(
            tuple(OwnTerm(o.name, o.weight, o.use == "Replace") for o in own),
            {
                file.name: stack.enter_context(RewardProcess(file, limit))
                for file, limit in zip(files, limits, strict=True)
            },
            tuple(zip(files, limits, strict=True)),
            format_weight,
        )


def _read(ctx: Context, index: int, one: OwnReward) -> RewardFile:
    path = f"rewards.own[{index}]"
    with naming(f"spec.{path}"):
        found = ctx.folder(path)
        if not found.is_file():
            raise DataError(f"{one.uri} is no file; name one Python file")
        file = RewardFile(one.name, one.uri, found.read_bytes())
        if one.sha256 not in (None, file.sha256):
            raise DataError(
                f"{one.uri} has sha256 {file.sha256}, the manifest says {one.sha256}; bring the "
                "file back or set rewards.own.sha256"
            )
    return file


def _hold_to_the_first(ctx: Context, own: Sequence[OwnReward], files: Sequence[RewardFile]) -> None:
    kept = pinned(ctx.run.store, {file.name: file.sha256 for file in files})
    for index, (one, file) in enumerate(zip(own, files, strict=True)):
        if kept.get(file.name, file.sha256) != file.sha256:
            raise DataError(
                f"spec.rewards.own[{index}]: {one.uri} has changed since the run began (sha256 "
                f"{file.sha256[:12]}, began with {kept[file.name][:12]}); bring the file back, or "
                "start a new run under another name"
            )


def problem_of(sample: Sample, extracted: str | None) -> dict[str, Any]:
    """What a reward function is told besides the completion (docs/own-rewards.md lists it)."""
    return {
        "id": sample.id,
        "domain": sample.domain,
        "task": sample.task,
        "source": sample.source,
        "question": sample.question,
        "options": None if sample.options is None else list(sample.options),
        "answer": sample.answer,
        "answer_type": sample.answer_type,
        "unit": sample.unit,
        "extracted": extracted,
    }


def canaries(samples: Sequence[Sample]) -> list[Question]:
    """What a reward is tried with: each form of completion for samples of different tasks."""
    by_task: dict[str, Sample] = {}
    for sample in samples:
        by_task.setdefault(sample.task, sample)
    first = list(by_task.values())
    rest = [s for s in samples if by_task[s.task] is not s]
    asked = [
        (s, form.format(answer=s.answer))
        for s in (first + rest)[:_TRIED_SAMPLES]
        for form in _FORMS
    ]
    return [(text, problem_of(s, read_completion(text)[0])) for s, text in asked]
