"""Watches a run for the signs of a collapse: tells of them, and ends the run where it is asked to.

Whether a run goes on is read from its history alone, in which each step notes the signs that it
showed: a run that was killed after such a step ends at its next start, as it would have without.
"""

from __future__ import annotations

from m2r_train.api.errors import Collapsed
from m2r_train.api.rlvr import Monitors
from m2r_train.core.monitors import SIGNS, Alarm, Record, Thresholds, alarms
from m2r_train.stages.context import Context

_KEY = "alarms"


class Watch:
    """The monitors of one run."""

    def __init__(self, ctx: Context, monitors: Monitors) -> None:
        self._ctx = ctx
        self._action = monitors.action
        self._thresholds = Thresholds(
            window=monitors.window_steps,
            repetition=monitors.repetition,
            short_chains=monitors.short_chains,
            truncated=monitors.truncated,
            entropy=monitors.entropy,
            no_signal=monitors.no_signal,
            kl=monitors.kl,
        )

    def signs(self, record: Record) -> dict[str, str]:
        """What a step's record gets: the signs that are there with it, nothing without any.

        They are told to ``/status``, ``/metrics`` and, when they are new, to the terminal.
        """
        if self._action == "Off":
            return {}
        found = self._judged([*self._ctx.history.records, record])
        self._tell(found)
        return {_KEY: " ".join(alarm.sign for alarm in found)} if found else {}

    def end_if_collapsed(self) -> None:
        """Raises ``Collapsed`` where the last step showed a sign and the run is to end with it."""
        history = self._ctx.history.records
        if self._action == "Stop" and history and _KEY in history[-1]:
            raise Collapsed(
                f"{self._ctx.run_spec.metadata.name}: monitors: collapsed by step "
                f"{history[-1]['step']}: {_words(self._judged(history))} "
                "(monitors.action: Warn goes on); checkpoints from before are kept"
            )

    def _judged(self, history: list[Record] | tuple[Record, ...]) -> list[Alarm]:
        return alarms(history, self._thresholds)

    def _tell(self, found: list[Alarm]) -> None:
        there = {alarm.sign for alarm in found}
        before = str(next(reversed(self._ctx.history.records), {}).get(_KEY, "")).split()
        new = [alarm for alarm in found if alarm.sign not in before]
        if new:
            self._ctx.progress.note(f"warning: {_words(new)}")
        self._ctx.tell(alarms=[alarm.sign for alarm in found])
        for sign in SIGNS:
            self._ctx.metrics.set("m2r_alarm", float(sign in there), sign=sign)


def _words(found: list[Alarm]) -> str:
    return "; ".join(f"{alarm.sign}: {alarm.message}" for alarm in found)
