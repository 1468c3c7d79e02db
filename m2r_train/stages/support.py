"""What the API describes and this version cannot do yet, said before anything has run."""

from __future__ import annotations

from collections.abc import Iterator

from m2r_train.api.common import JobSpec
from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.errors import ConfigError
from m2r_train.api.evaljob import EvalSpec
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.sft import SFTSpec
from m2r_train.rollout.available import why_no_vllm

EVALUATED = ("synthetic",)  # benchmarks that an EvalJob can ask the model about


def refuse_unsupported(spec: JobSpec, pods: int = 1) -> None:
    """Raises ``ConfigError`` for the first field that asks for what is not there.

    ``pods`` is how many work on the run; without a cluster one process does all of it.
    """
    for path, problem in _unsupported(spec):
        raise ConfigError(f"spec.{path}: {problem}")
    if pods > 1 and isinstance(spec, SFTSpec | RLVRSpec):
        raise ConfigError(
            f"spec.resources.nodes: training on {pods} nodes is not in this version; set it to 1"
        )


def _unsupported(spec: JobSpec) -> Iterator[tuple[str, str]]:
    if isinstance(spec, DataSynthesisSpec):
        yield from _teachers(spec)
    elif isinstance(spec, RLVRSpec):
        yield from _engine("rollout.engine", spec.rollout.engine)
    elif isinstance(spec, EvalSpec):
        yield from _engine("generation.engine", spec.generation.engine)
        for i, benchmark in enumerate(spec.benchmarks):
            if benchmark.name not in EVALUATED:
                yield (
                    f"benchmarks[{i}].name",
                    f"{benchmark.name} cannot be evaluated in this version, only "
                    f"{', '.join(EVALUATED)}; m2r score scores answers that you have",
                )


def _teachers(spec: DataSynthesisSpec) -> Iterator[tuple[str, str]]:
    for path, given in (
        ("generator.model", spec.generator.model),
        ("quality.judge", spec.quality.judge),
    ):
        if given is not None:
            yield (
                path,
                "model teachers and judges are not in this version; leave the field out to use "
                "the template teacher",
            )


def _engine(path: str, name: str) -> Iterator[tuple[str, str]]:
    if name == "vllm" and (missing := why_no_vllm()):
        yield path, missing
