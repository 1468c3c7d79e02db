"""Which optional engines this installation has; light enough to be asked before torch is there."""

from __future__ import annotations

from importlib.util import find_spec


def why_no_vllm() -> str | None:
    """What is missing for rollouts by vLLM, and the remedy; None where it is there."""
    if find_spec("vllm") is not None:
        return None
    return (
        "vllm is not installed; install M2R with its extra rollout (without a GPU: `make "
        "setup-rollout`, and run "
        ".venv-rollout/bin/m2r), or set engine: inprocess"
    )
