"""Which trackers there are; each is loaded where it is asked for, with its client."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Final

from m2r_train.api.errors import ConfigError
from m2r_train.trackers.base import MissingClientError, Tracker

KINDS: Final = ("tensorboard", "mlflow", "wandb")


def open_tracker(kind: str, out: str | None, project: str) -> Tracker:
    """A tracker of a `KINDS`, through its client.

    ``out``: TensorBoard's log folder, MLflow's tracking URI, or W&B's folder; None takes what the
    client would. ``project``: MLflow's experiment, W&B's project. Raises `MissingClientError` where
    the client is not installed, and ``ConfigError`` for a tracker that is not known.
    """
    if kind not in KINDS:
        raise ConfigError(f"--to {kind}: no such tracker; use one of {', '.join(KINDS)}")
    try:
        import_module("torch.utils.tensorboard" if kind == "tensorboard" else kind)
    except ImportError as error:
        raise MissingClientError(
            f"--to {kind}: its client is not installed; install M2R with its extra trackers "
            "(pip install '.[trackers]')"
        ) from error
    if kind == "tensorboard":
        from m2r_train.trackers.to_tensorboard import TensorBoard  # noqa: PLC0415 - optional

        return TensorBoard(Path(out or "runs"))
    if kind == "mlflow":
        from m2r_train.trackers.to_mlflow import MLflow  # noqa: PLC0415 - optional

        return MLflow(out, project)
    from m2r_train.trackers.to_wandb import WandB  # noqa: PLC0415 - optional

    return WandB(Path(out or "."), project)
