"""What the API describes and this version cannot do yet, said before anything has run."""

from __future__ import annotations

from collections.abc import Iterator

from m2r_train.api.common import JobSpec
from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.errors import ConfigError
from m2r_train.api.evaljob import EvalSpec
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.core.judging import template_fault
from m2r_train.rollout.available import why_no_vllm


def refuse_unsupported(spec: JobSpec) -> None:
    """Raises ``ConfigError`` for the first field that asks for what is not there."""
    for path, problem in _unsupported(spec):
        raise ConfigError(f"spec.{path}: {problem}")


def _unsupported(spec: JobSpec) -> Iterator[tuple[str, str]]:
    if isinstance(spec, DataSynthesisSpec):
        yield from _teachers(spec)
    elif isinstance(spec, RLVRSpec):
        yield from _engine("rollout.engine", spec.rollout.engine)
    elif isinstance(spec, EvalSpec):
        yield from _engine("generation.engine", spec.generation.engine)
        if spec.judge is not None and spec.judge.model is not None:
            yield from _engine("judge.engine", spec.judge.engine)


def _teachers(spec: DataSynthesisSpec) -> Iterator[tuple[str, str]]:
    if spec.generator.model is not None:
        yield from _engine("generator.engine", spec.generator.engine)
    if (judge := spec.quality.judge) is None:
        return
    if not spec.generator.teaches:
        yield "quality.judge", "templates' chains are not judged; name a teacher or leave it out"
    if judge.model is not None:
        yield from _engine("quality.judge.engine", judge.engine)
    if judge.prompt is not None and (fault := template_fault(judge.prompt)):
        yield "quality.judge.prompt", fault


def _engine(path: str, name: str) -> Iterator[tuple[str, str]]:
    if name == "vllm" and (missing := why_no_vllm()):
        yield path, missing
