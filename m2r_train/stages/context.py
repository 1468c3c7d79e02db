"""What a stage is given: its run, its inputs, its clock and its way out.

A stage asks ``restore`` where to begin (resuming is the ordinary start), tells ``finish_step``
that a step is done (which saves when it is time, or when somebody asked to stop) and returns its
outcome. Nothing of a stage's order or maths is in here, and torch only where there is a model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

from m2r_train.api.errors import Preempted
from m2r_train.api.runspec import RunSpec, recipe
from m2r_train.report.cards import CARD
from m2r_train.report.modelcard import ModelFacts, model_card, read_card
from m2r_train.stages.attempt import Attempt
from m2r_train.stages.place import ALONE, Place
from m2r_train.stages.saving import Saver, records
from m2r_train.stages.stop import StopNow, StopRequest
from m2r_train.stages.work import Work
from m2r_train.store import publish_folder
from m2r_train.telemetry.history import Scalar, StepRecord
from m2r_train.telemetry.metrics import closed

if TYPE_CHECKING:
    from torch import Tensor

    from m2r_train.model.policy import Policy


@dataclass(kw_only=True)
class Context(Attempt):
    """One attempt at one run, as its stage sees it."""

    place: Place = ALONE
    done: int | None = None  # steps done, once one is done or was found done
    work: Work = field(default_factory=Work)
    saver: Saver = field(init=False)
    _phases: dict[str, float] = field(default_factory=dict)
    _labels: dict[str, dict[str, str]] = field(default_factory=dict)
    _tokens: int = 0
    _mfu: dict[str, float] = field(default_factory=dict)  # of the step, where it is known

    def __post_init__(self) -> None:
        self.saver = Saver(self)

    def close_labels(self, **values: Sequence[str]) -> None:
        """Close the metric labels that only the run knows, e.g. its tasks.

        Names come from users' data: beyond a limit they share one label (``metrics.closed``).
        """
        self._labels = {k: closed(v) for k, v in values.items()}
        self.metrics.close({k: set(v.values()) for k, v in self._labels.items()})

    # life of a run

    def restore(self, load_state: Callable[[Mapping[str, Tensor]], None], *, keep: int) -> int:
        """Load the newest good checkpoint, if there is one; returns the step to begin with."""
        step = self.saver.restore(load_state, keep)
        self.done = step or None
        if not self.ranks.leads:
            return step
        # when a step's work came into the journal, all before were done
        begun = self.owned.journal_newest()
        self.tell(step=step)
        self._resumed(step, lost=None if begun is None else max(0, begun - step))
        return step

    def restore_parts(self, part: Callable[[str], bool] = lambda _key: True) -> None:
        """Tell how many parts of the work are in the journal; none of those is lost.

        ``part``: whether an entry is one.
        """
        if not self.place.helps:
            self._resumed(sum(map(part, self.run.journal_keys())), lost=0)

    def _resumed(self, step: int, lost: int | None) -> None:
        """Tell where this attempt begins, unless it is the run's first.

        ``lost``: steps after ``step`` that an earlier attempt is known to have done, None where
        nothing is known of them.
        """
        if self.owned.epoch > 1:
            self.tell(resumed_from={"step": step, "lostSteps": lost})

    @contextmanager
    def running(self, total: int, start: int = 0) -> Iterator[None]:
        """The stage's loop over ``total`` steps: shown on the terminal, told by ``/status``."""
        kind, name = self.run_spec.kind, self.run_spec.metadata.name
        self.tell(phase="Running", total_steps=total)
        self.metrics.set("m2r_attempt", self.run_spec.attempt)
        self.metrics.set("m2r_steps_planned", total)
        self.metrics.set("m2r_step", start)
        with self.progress.stage(kind, name, total, start_step=start):
            try:
                with self.saver:
                    yield
            except StopNow:
                raise preempted(self.run_spec, self.stop, self.done) from None

    def expect(self, total: int) -> None:
        """The stage has so many steps in all, as it has turned out."""
        self.progress.expect(total)
        self.tell(total_steps=total)

    def finish_step(
        self,
        step: int,
        total: int,
        record: Mapping[str, Scalar],
        state: Callable[[], Mapping[str, Tensor]],
        *,
        every: int,
        keep: int,
        shown: Sequence[str],
    ) -> None:
        """Step ``step`` is done: record and show it, save when due, leave when asked to stop.

        Raises ``Preempted`` once the state is safe.
        """
        done, safe = step + 1, True
        self.saver.check()
        self.saver.pace.end_step()
        self.history.append({"step": step, **record})
        self._report(done, total, {"step": step, **record}, shown)
        due, stop = self._agree(due=self.saver.due(done, every))
        last = done == total or stop
        if last or due:
            with self.phase("checkpoint"):
                timing: StepRecord = {"step": step, **self._phases, **self._mfu}
                safe = self.saver.save(done, state, keep, timing)
                if last:
                    safe = self.saver.settle() and safe
        self._close_timings(step)
        if stop or not safe:
            self._leave(done)
        self.saver.pace.begin_step()

    def tell_heldout(self, total: int, figures: Mapping[str, Scalar]) -> None:
        """Note what the last evaluation found, after all ``total`` steps."""
        if figures:
            self.history.append({"step": total, **figures})
            self.metrics.record_step(figures)
            self._close_timings(total)

    def _agree(self, *, due: bool) -> tuple[bool, bool]:
        """Whether rank 0 finds a save ``due``, and whether any rank was asked to stop.

        One that is asked from here on stops with all others after the next step.
        """
        if self.ranks.size == 1:
            return due, bool(self.stop)
        told = self.ranks.gather([due, self.stop.reason, self.stop.age])
        for _, reason, age in told:
            if reason is not None:
                self.stop.told(reason, age)
        return bool(told[0][0]), any(reason is not None for _, reason, _ in told)

    def leave_if_asked(self, done: int) -> None:
        """Raise ``Preempted`` when a stop was asked for; everything up to ``done`` is saved."""
        if self.stop:
            raise preempted(self.run_spec, self.stop, done)

    def _leave(self, done: int) -> NoReturn:
        """Raise ``Preempted`` once the newest state that there is time for is saved."""
        self.saver.settle()
        raise preempted(self.run_spec, self.stop, done, saved=self.saver.committed)

    @contextmanager
    def step(
        self, step: int, state: Callable[[], Mapping[str, Tensor]], *, keep: int
    ) -> Iterator[None]:
        """The work of ``step``, which ``look`` may break off: then what came before is saved."""
        try:
            yield
        except _BrokenOff:
            if step > self.saver.newest:
                self.saver.save(step, state, keep)
            self._leave(step)

    def look(self) -> None:
        """Break the step off when a stop was asked for, or when its last save has failed.

        Only where the state is still as before the step. Several ranks end each step together, and
        agree on a stop at its end.
        """
        self.saver.check()
        if self.stop and self.ranks.size == 1:
            raise _BrokenOff

    def _report(
        self, done: int, total: int, record: Mapping[str, Scalar], shown: Sequence[str]
    ) -> None:
        figures = {key: record[key] for key in shown if key in record}
        if self._tokens and (seconds := sum(self._phases.values())) > 0:
            figures["tokens_per_second"] = round(self._tokens / seconds)
        self._tokens = 0
        utilization = self.work.utilization(self._phases)
        if utilization is not None:
            self._mfu = {"mfu": utilization}
            self.metrics.set("m2r_model_flops_utilization_ratio", utilization)
        self.show_step(done, total, **figures)
        task = record.get("task")
        known = self._labels.get("task", {})
        label = {"task": known[task]} if isinstance(task, str) and task in known else {}
        self.metrics.record_step({k: v for k, v in record.items() if k != "task"} | label)

    def show_step(self, done: int, total: int, **figures: Scalar) -> None:
        """Tell terminal, ``/metrics`` and ``/status`` that ``done`` of ``total`` are done."""
        self.done, now = done, time.time()
        self.progress.update(done, **figures)
        self.metrics.set("m2r_steps_planned", total)
        self.metrics.set("m2r_step", done)
        self.metrics.set("m2r_last_step_timestamp_seconds", now)
        self.tell(step=done, total_steps=total, metrics=status_metrics(figures), last_step_time=now)

    def count_tokens(self, **by_kind: int) -> None:
        """Count tokens of this step by kind: ``prompt``, ``completion``, ``trained``."""
        for kind, n in by_kind.items():
            self.metrics.inc("m2r_tokens_total", n, kind=kind)
            self._tokens += n

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's seconds towards a phase of the step."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._phases[name] = self._phases.get(name, 0.0) + time.monotonic() - started

    def _close_timings(self, step: int) -> None:
        for name, seconds in self._phases.items():
            self.metrics.observe("m2r_step_phase_seconds", seconds, phase=name)
        self.timings.append({"step": step, **self._phases, **self._mfu})
        self._phases, self._mfu = {}, {}

    # results

    def publish(self, prefix: str, files: Path | Mapping[str, bytes]) -> str:
        """Publish a result folder under the run; its digest. Fenced like a commit."""
        self.probe("before-publish")
        self.tell(phase="Saving")
        self.owned.verify_fence()
        return publish_folder(self.run.store, prefix, files, probe=self.probe)

    def publish_model(self, policy: Policy) -> dict[str, Any]:
        """Publish ``model/`` (a Hugging Face folder) and the run's records beside it.

        Rank 0 alone does; the others have no outcome to tell.
        """
        if not self.ranks.leads:
            return {}
        with TemporaryDirectory(prefix="m2r-model-") as folder:
            policy.save(Path(folder))
            (Path(folder) / CARD).write_text(self._model_card(), "utf-8", "replace")
            digest = self.publish("model", Path(folder))
        self.publish_records()
        return {"modelUri": f"{self.run.store.uri}/model", "digest": digest}

    def _model_card(self) -> str:
        """What equal runs write equally: nothing of when, where or in how many attempts."""
        base = self._fetched.get("model")
        return model_card(
            ModelFacts(
                kind=self.run_spec.kind,
                name=self.run_spec.metadata.name,
                seed=self.seed,
                spec=recipe(self.run_spec.parsed_spec),
                digests={path: digest for path, (_, digest) in self._fetched.items()},
                history=self.history.rows,
                base_card=read_card(base[0]) if base else "",
            )
        )

    def publish_records(self) -> None:
        """Publish history, timings and traces under ``records/``, for reports and trackers."""
        self.publish("records", records(self))


def status_metrics(figures: Mapping[str, Scalar]) -> dict[str, float]:
    """The few figures that ``GET /status`` carries, in the names of ``status.metrics``."""
    names = {
        "reward": "rewardMean",
        "tokens_per_second": "tokensPerSecond",
        "loss": "loss",
        "score": "score",
    }
    return {
        camel: float(value)
        for name, camel in names.items()
        if (value := figures.get(name)) is not None and math.isfinite(float(value))
    }


def preempted(
    run_spec: RunSpec, stop: StopRequest, done: int | None, saved: int | None = None
) -> Preempted:
    """What ends an attempt that was asked to stop after ``done`` steps (None: before any).

    ``saved``: the step of the newest state in the store, where that is not the last one.
    """
    where = "before it began; run it again"
    if done is not None:
        where = f"after step {done}, state saved; the same command goes on from here"
    if done is not None and saved is not None and saved < done:
        what = f"state of step {saved}" if saved else "nothing"
        where = (
            f"after step {done}, {what} saved: the grace period was too short for more; "
            "raise disruption.terminationGracePeriodSeconds"
        )
    return Preempted(f"{run_spec.kind}/{run_spec.metadata.name}: stopped by {stop.reason} {where}")


class _BrokenOff(Exception):  # noqa: N818 - no error: the step's way out
    """Raised by ``look``, caught by ``step``."""
