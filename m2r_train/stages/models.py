"""Models of a stage: the preset, or a folder; where and how they compute."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from m2r_train.api.common import JobSpec
from m2r_train.api.errors import ConfigError
from m2r_train.api.rlvr import RLVRSpec
from m2r_train.api.sft import SFTSpec
from m2r_train.api.tuning import Precision
from m2r_train.core.rng import derive_seed
from m2r_train.model.policy import Policy
from m2r_train.model.tiny import tiny_model
from m2r_train.sim import VOCABULARY

_TYPES = {"Float32": torch.float32, "BFloat16": torch.bfloat16}


def preset(seed: int, spec: JobSpec) -> Policy:
    """The preset ``tiny``, untrained: a function of the run's seed."""
    device = device_of(spec)
    module, processor = tiny_model(VOCABULARY, derive_seed(seed, "tiny"))
    for parameter in module.parameters():  # buffers are rope frequencies, which stay as they are
        parameter.data = parameter.data.to(type_of(spec))
    return Policy(module.to(device), processor)


def load(folder: Path, spec: JobSpec) -> Policy:
    """A Hugging Face folder; raises as ``Policy.load`` and ``device_of``."""
    device = device_of(spec)
    policy = Policy.load(folder, type_of(spec))
    policy.module.to(device)
    return policy


def device_of(spec: JobSpec) -> torch.device:
    """Where a run computes: the one place that chooses.

    Of several processes on a node each has the GPU of its number (``LOCAL_RANK``). Raises
    ``ConfigError`` where GPUs are asked for and this one is not there.
    """
    asked = spec.resources.gpus_per_node
    if asked == 0:
        return torch.device("cpu")
    number = int(os.environ.get("LOCAL_RANK", "0"))
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= found:
        raise ConfigError(
            f"spec.resources.gpusPerNode is {asked}, and this process finds {found} GPUs; run it "
            "where they are, or set gpusPerNode to 0"
        )
    return torch.device("cuda", number)


def precision_of(spec: JobSpec) -> Precision:
    """Of weights and activations: what the spec says, else BFloat16 on GPUs, Float32 on CPUs."""
    asked: Precision | None = None
    if isinstance(spec, SFTSpec):
        asked = spec.training.precision
    elif isinstance(spec, RLVRSpec):
        asked = spec.optimization.precision
    return asked or ("BFloat16" if spec.resources.gpus_per_node else "Float32")


def type_of(spec: JobSpec) -> torch.dtype:
    """`precision_of` as torch calls it."""
    return _TYPES[precision_of(spec)]


def use_threads(count: int, *, gpu: bool = False) -> None:
    """Compute with ``count`` threads and deterministic kernels: equal runs give equal bits.

    Some kernels of GPUs have no deterministic form; there, torch warns and takes what it has.
    """
    if gpu:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first product
    torch.set_num_threads(count)
    torch.use_deterministic_algorithms(True, warn_only=gpu)
    # a safeguard that writes every new tensor once more, for kernels which read what none wrote
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
