"""What a tracker is told of a run, and which trackers there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

from m2r_train.api.errors import ConfigError

Kind = Literal["tensorboard", "mlflow", "wandb"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Point:
    """What is known of one step: numbers, and texts, by name."""

    step: int
    scalars: Mapping[str, float]
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A run as trackers take it. ``id`` is the run's own, the same in each export.

    ``points`` are in the order of their steps, ``scores`` those of a finished evaluation.
    """

    id: str
    name: str
    kind: str
    params: Mapping[str, str]
    points: Sequence[Point]
    scores: Mapping[str, float]


class Tracker(Protocol):
    """Where runs are written to. What is there already is not written again."""

    def write(self, run: Tracked) -> int:
        """Add what is not there yet; the number of steps that were added."""

    def where(self) -> str:
        """What to open, for people."""


class MissingClientError(ConfigError):
    """A tracker's client is not installed."""


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
