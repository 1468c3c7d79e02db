"""Weights & Biases: a run with the same id in each export; offline where ``WANDB_MODE`` says so.

Offline files cannot be read back by the client, so what they hold is noted beside them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import wandb

from m2r_train.trackers.base import Point, Tracked

_NOTES: Final = "m2r-exported.json"


class WandB:
    """Writes to the ``project``; offline runs lie in ``folder``/wandb."""

    def __init__(self, folder: Path, project: str) -> None:
        self._folder, self._project = folder, project

    def where(self) -> str:
        return f"wandb sync {self._folder / 'wandb'}/offline-run-* (where it was offline)"

    def write(self, run: Tracked) -> int:
        notes = self._notes()
        noted = notes.get(run.id, {"step": -1, "scores": False})
        new = [point for point in run.points if point.step > noted["step"]]
        scores = bool(run.scores) and not noted["scores"]
        if not new and not scores and run.id in notes:
            return 0
        self._folder.mkdir(parents=True, exist_ok=True)
        out = wandb.init(
            project=self._project,
            id=run.id,
            name=run.name,
            job_type=run.kind,
            config=dict(run.params),
            dir=str(self._folder),
            resume="allow",
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, x_disable_stats=True,
                x_disable_meta=True, save_code=False,
            ),
        )  # fmt: skip
        # what an online run has already, it keeps
        new = [point for point in new if point.step >= out.step]
        for point in new:
            out.log({**point.scalars, **_texts(point)}, step=point.step)
        for name, value in run.scores.items():
            out.summary[f"score/{name}"] = value
        out.finish()
        last = max((point.step for point in run.points), default=noted["step"])
        notes[run.id] = {"step": last, "scores": bool(run.scores)}
        self._note(notes)
        return len(new)

    def _notes(self) -> dict[str, Any]:
        path = self._folder / _NOTES
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def _note(self, notes: dict[str, Any]) -> None:
        part = self._folder / f".{_NOTES}.part"
        part.write_text(json.dumps(notes, sort_keys=True) + "\n")
        part.replace(self._folder / _NOTES)


def _texts(point: Point) -> dict[str, Any]:
    return {
        name: wandb.Table(columns=["step", "text"], data=[[point.step, text]])
        for name, text in point.texts.items()
    }
