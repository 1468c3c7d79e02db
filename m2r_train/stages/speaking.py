"""A model that speaks in the run's own pods: as a teacher, or as a judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch

from m2r_train.api.common import Engine
from m2r_train.api.errors import naming
from m2r_train.api.refs import ModelRef
from m2r_train.core.records import Sample
from m2r_train.model.folders import TRAINED, model_type
from m2r_train.model.prompts import messages
from m2r_train.rollout.base import SamplingParams
from m2r_train.rollout.chats import Asked, Chats, InProcessChats
from m2r_train.stages.context import Context
from m2r_train.stages.feeding import lay_out, request, stills
from m2r_train.stages.models import device_of, type_of, use_threads
from m2r_train.stages.rollouts import rollout_engine

_ANY = Sample(
    id="any",
    domain="general",
    task="any",
    source="any",
    question="",
    answer="",
    answer_type="text",
    reward="exact",
)
_TOGETHER = 64  # questions that are answered at a time, which bounds memory


class Speaker(Protocol):
    """A model that replies to samples."""

    @property
    def reads_system(self) -> bool:
        """Whether the model's chat template shows it the system turn."""
        ...

    def say(
        self, samples: Sequence[Sample], seeds: Sequence[int], params: SamplingParams
    ) -> Iterator[list[str]]:
        """The replies to each sample, in order: functions of its seed alone."""
        ...


def speaker(ctx: Context, path: str, ref: ModelRef, engine: Engine, system: str | None) -> Speaker:
    """The model of ``spec.<path>``: a Qwen2.5-VL as it is trained, any other by its own template.

    ``system`` is the system turn; None: without. Raises ConfigError, naming ``spec.<path>``, for a
    folder that is no such model.
    """
    if ref.preset is None:
        device = device_of(ctx.run_spec.parsed_spec)
        folder = ctx.model_folder(path)
        with naming(f"spec.{path}"):
            if model_type(folder) != TRAINED:
                return _Conversing(path, _chats(ctx, folder, device, engine), system)
    return _Trained(ctx, path, ref, engine, system)


class _Trained:
    """Implements ``Speaker`` with what rolls out in training."""

    def __init__(
        self, ctx: Context, path: str, ref: ModelRef, engine: Engine, system: str | None
    ) -> None:
        self._system = system
        self._policy = ctx.policy(path, ref)
        self._policy.freeze_vision()
        self._engine = rollout_engine(engine, self._policy)

    @property
    def reads_system(self) -> bool:
        """See ``Speaker``."""
        with_it, without = (lay_out(self._policy, [_ANY], text)[0] for text in (self._system, None))
        return with_it.tokens != without.tokens

    def say(
        self, samples: Sequence[Sample], seeds: Sequence[int], params: SamplingParams
    ) -> Iterator[list[str]]:
        """See ``Speaker``."""
        for start in range(0, len(samples), _TOGETHER):
            some = samples[start : start + _TOGETHER]
            prompts = lay_out(self._policy, some, self._system)
            requests = [request(p, s) for p, s in zip(prompts, some, strict=True)]
            self._policy.show([image for r in requests for image in r.images])
            drawn = self._engine.generate(requests, seeds[start : start + _TOGETHER], params)
            yield from ([self._policy.decode(one.tokens) for one in group] for group in drawn)


class _Conversing:
    """Implements ``Speaker`` with any model; a video is shown it as pictures, in order."""

    def __init__(self, path: str, chats: Chats, system: str | None) -> None:
        self._path, self._chats, self._system = path, chats, system
        self._control = tuple(sorted(chats.folder.tokenizer.all_special_tokens))

    @property
    def reads_system(self) -> bool:
        """See ``Speaker``."""
        return self._chats.folder.reads_system

    def say(
        self, samples: Sequence[Sample], seeds: Sequence[int], params: SamplingParams
    ) -> Iterator[list[str]]:
        """See ``Speaker``."""
        for start in range(0, len(samples), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            with naming(f"spec.{self._path}"):
                asked = [self._asked(sample) for sample in samples[some]]
                yield from self._chats.reply(asked, seeds[some], params)

    def _asked(self, sample: Sample) -> Asked:
        flat = sample.with_(images=(*sample.images, *(sample.video or ())), video=None)
        return Asked(messages(flat, self._control, self._system), stills(flat.images))


def _chats(ctx: Context, folder: Path, device: torch.device, engine: Engine) -> Chats:
    spec = ctx.run_spec.parsed_spec
    use_threads(ctx.run_spec.threads, gpu=device.type == "cuda")
    if engine == "vllm":
        from m2r_train.rollout.vllm_chats import VllmChats  # noqa: PLC0415 - optional

        return VllmChats(folder, type_of(spec))
    return InProcessChats(folder, type_of(spec), device)
