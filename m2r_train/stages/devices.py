"""What the devices of a run can compute, and with that how its work is counted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from m2r_train.core.peaks import peak_flops
from m2r_train.stages.context import Context
from m2r_train.stages.work import Work

if TYPE_CHECKING:
    from m2r_train.model.policy import Policy


def work_of(ctx: Context, policy: Policy) -> Work:
    """How a run's work is counted; says once where the peak of its accelerators is not known.

    Call it when what learns is chosen, and before an engine takes the parameters apart. Raises
    ``ConfigError`` for a peak in the environment that is no positive number.
    """
    from m2r_train.model.architecture import parts_of, window_of  # noqa: PLC0415 - torch

    device, dtype = _device(policy)
    told = ctx.run_spec.parsed_spec.resources.peak_tflops
    peak = peak_flops(device, dtype, os.environ, told=told)
    if peak is None and device != "cpu" and ctx.ranks.leads:
        ctx.progress.note(
            f"no MFU: the peak of {device} in {dtype} is not known; "
            "resources.peakTflops can tell it"
        )
    return Work(
        parts_of(policy.module),
        merge=policy.merge,
        window=window_of(policy.module),
        peak=None if peak is None else peak * ctx.ranks.size,
    )


def _device(policy: Policy) -> tuple[str, str]:
    """Name of the device and of the data type that a policy computes with."""
    import torch  # noqa: PLC0415

    device = policy.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name, str(policy.module.dtype).removeprefix("torch.")
