"""TensorBoard: event files, one folder a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from m2r_train.trackers.base import Tracked

_ALL = {"scalars": 0, "tensors": 0}  # keep every event
_PARAMS, _SCORES = "params", "score/"


class TensorBoard:
    """Writes below ``folder``; what its event files hold already is read from them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def where(self) -> str:
        return f"tensorboard --logdir {self._folder}"

    def write(self, run: Tracked) -> int:
        home = self._folder / f"{run.name}-{run.id}"
        new = list(_new(run, _last_steps(home)))
        if not new:
            return 0  # an open writer would leave an empty file
        with SummaryWriter(str(home)) as out:
            for name, value, step in new:
                if isinstance(value, str):
                    out.add_text(name, value, step)
                else:
                    out.add_scalar(name, value, step)
        return len({step for name, _, step in new if not name.startswith((_PARAMS, _SCORES))})


def _new(run: Tracked, last: Mapping[str, int]) -> Iterator[tuple[str, float | str, int]]:
    """(tag, value, step) of what is not there yet."""
    known: list[tuple[str, float | str, int]] = [(_PARAMS, _table(run.params), 0)]
    for point in run.points:
        known += [(name, value, point.step) for name, value in point.scalars.items()]
        known += [(name, text, point.step) for name, text in point.texts.items()]
    known += [(_SCORES + name, value, 0) for name, value in run.scores.items()]
    for name, value, step in known:
        tag = f"{name}/text_summary" if isinstance(value, str) else name  # as add_text names it
        if step > last.get(tag, -1):
            yield name, value, step


def _last_steps(home: Path) -> dict[str, int]:
    """The last step of every tag."""
    if not home.exists():
        return {}
    events = EventAccumulator(str(home), size_guidance=_ALL).Reload()
    tags = events.Tags()
    found = {tag: events.Scalars(tag)[-1].step for tag in tags["scalars"]}
    return found | {tag: events.Tensors(tag)[-1].step for tag in tags["tensors"]}


def _table(params: Mapping[str, str]) -> str:
    rows = [f"| {name} | {value} |" for name, value in params.items()]
    return "\n".join(["| param | value |", "|---|---|", *rows])
