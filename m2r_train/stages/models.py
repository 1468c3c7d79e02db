"""Models of a stage: the preset, or a folder; and how they compute."""

from __future__ import annotations

from pathlib import Path

import torch

from m2r_train.core.rng import derive_seed
from m2r_train.model.policy import Policy
from m2r_train.model.tiny import tiny_model
from m2r_train.sim import VOCABULARY


def preset(seed: int) -> Policy:
    """The preset ``tiny``, untrained: a function of the run's seed."""
    return Policy(*tiny_model(VOCABULARY, derive_seed(seed, "tiny")))


def load(folder: Path) -> Policy:
    """A Hugging Face folder; raises as ``Policy.load``."""
    return Policy.load(folder)


def use_threads(count: int) -> None:
    """Compute with ``count`` threads and deterministic kernels: equal runs give equal bits."""
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True)
    # a safeguard that writes every new tensor once more, for kernels which read what none wrote
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
