"""What every rollout engine offers: vLLM, the in-process sampler, whatever comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

RequestT_contra = TypeVar("RequestT_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How completions are drawn; ``temperature`` 0 is greedy, and then ``samples`` is 1.

    ``schema`` is a JSON schema that vLLM binds completions to; the in-process sampler does not.
    """

    samples: int
    temperature: float
    max_tokens: int
    schema: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """Sampled tokens (stop token included when one was drawn) and their log-probabilities.

    ``truncated`` means that the length limit came before a stop token.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool


class RolloutEngine(Protocol[RequestT_contra]):
    """Draws completions from the current policy."""

    def update_weights(self) -> None:
        """Take over the policy's current parameters."""
        ...

    def generate(
        self, requests: Sequence[RequestT_contra], seeds: Sequence[int], params: SamplingParams
    ) -> list[list[Completion]]:
        """``params.samples`` completions for each request, [requests][samples].

        Sample g of request i is a function of the weights and ``seeds[i]`` and g alone, so a step
        that is generated again after a kill is the same step.
        """
        ...
