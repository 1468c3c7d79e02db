"""The loop: observe -> decide -> apply, for whichever run has become dirty.

Everything that can change a decision marks its run dirty: the run itself, those it refers to, its
Jobs and pods, what its first pod says, and time (the decision says when to look again). A look is
skipped when nothing that was seen has changed and nothing is due, so that a quiet run costs
nothing, and a restarted operator with a thousand finished ones reads much and writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from m2r_operator import names
from m2r_operator.apply import Applied, Applier
from m2r_operator.children import Children
from m2r_operator.client import Client
from m2r_operator.decide import decide
from m2r_operator.errors import ApiError, ClientError, NotLeading
from m2r_operator.events import Recorder
from m2r_operator.informer import slim
from m2r_operator.metrics import Metrics
from m2r_operator.polling import Poller, target_of
from m2r_operator.queue import WorkQueue
from m2r_operator.resources import JOBS, PODS, RUNS
from m2r_operator.runs import Runs
from m2r_operator.state import Decision, Defaults, Key, Observed, RunSeen

log = logging.getLogger(__name__)

Decide = Callable[[Observed, datetime], Decision]


def utc_now() -> datetime:
    """The time of this machine."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Memory:
    """What is remembered of a run between two looks; none of it is needed after a restart."""

    seen: Observed | None = None  # what the last decision was made from
    due: float | None = None  # when it wanted to be made again
    rejected: str = ""
    terminating: bool = False


class Controller:
    """Caches, queue, and the way from one to the other."""

    def __init__(
        self,
        client: Client,
        defaults: Defaults,
        metrics: Metrics,
        *,
        identity: str,
        poll_seconds: float,
        workers: int = 16,
        decide: Decide = decide,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client, self._defaults, self._metrics = client, defaults, metrics
        self._decide, self._now = decide, now
        self.queue: WorkQueue[Key] = WorkQueue(
            self._reconcile, workers=workers, failed=self._failed
        )
        self.runs = Runs(self.queue.add)
        self.children = Children(self._child_changed)
        self.recorder = Recorder(client, identity)
        self.poller = Poller(self.queue.add, seconds=poll_seconds, count=metrics.polled, now=now)
        self._applier = Applier(
            client, self.runs, self.children, self.recorder, defaults, metrics.measured
        )
        self._memories: dict[Key, _Memory] = {}
        self.kueue = False

    def set_kueue(self, installed: bool) -> None:
        """Whether Kueue is installed; every run is looked at when that changes."""
        if installed != self.kueue:
            log.info("Kueue is %s", "installed" if installed else "not installed")
            self.kueue = installed
            for run in self.runs:
                self.queue.add(run.key)

    def observe(self, run: RunSeen, *, fresh: bool = False) -> Observed:
        """Everything that is known of a run now."""
        memory = self._memories.get(run.key, _Memory())
        jobs, pods = self.children.of(run)
        return Observed(
            run=run,
            jobs=jobs,
            pods=pods,
            dependencies=self.runs.dependencies(run),
            poll=self.poller.poll_of(run.key),
            defaults=self._defaults,
            kueue=self.kueue,
            rejected=memory.rejected,
            terminating=memory.terminating,
            fresh=fresh,
        )

    async def _reconcile(self, key: Key) -> float | None:
        """One look at a run; seconds until the next one is due though nothing changes."""
        run = self.runs.get(key)
        if run is None:
            self._forget(key)
            return None
        started = time.perf_counter()
        memory = self._memories.setdefault(key, _Memory())
        seen = self.observe(run)
        left = _left(memory, asyncio.get_running_loop().time())
        if memory.seen is not None and _same(memory.seen, seen) and (left is None or left > 0):
            return left
        decision = self._decide(seen, self._now())
        if decision.refresh:
            read = await self._read(key, run)
            if read is None:
                return 0.0
            seen = read
            decision = self._decide(seen, self._now())
        applied = await self._applier.apply(seen.run, decision)
        self._metrics.reconciled(key.kind, time.perf_counter() - started)
        return self._after(key, memory, seen, decision, applied)

    def _after(
        self, key: Key, memory: _Memory, seen: Observed, decision: Decision, applied: Applied
    ) -> float | None:
        if applied.conflict:
            memory.seen = None
            return 0.0
        rejected = applied.rejected or ("" if applied.acted else memory.rejected)
        changed = rejected != memory.rejected
        memory.rejected = rejected
        memory.terminating = applied.terminating if applied.rejected else (
            memory.terminating and bool(rejected)
        )  # fmt: skip
        now = asyncio.get_running_loop().time()
        memory.seen = replace(seen, fresh=False)
        memory.due = None if decision.requeue is None else now + decision.requeue
        self._follow(key)
        # A refusal has to be told, which the next decision does.
        return 0.0 if changed else decision.requeue

    def _follow(self, key: Key) -> None:
        """What must be asked, and what need not be remembered any more, after a decision."""
        run = self.runs.get(key)
        if run is None:
            self.poller.follow(key, None)
            return
        ended = run.status.completion_time is not None
        self.poller.follow(key, None if ended else target_of(self.observe(run)))
        self.children.forget(run, ended=ended)

    async def _read(self, key: Key, run: RunSeen) -> Observed | None:
        """A fresh look at a run, then its Jobs, then its pods; None when it is not there."""
        try:
            body = await self._client.get(RUNS[key.kind].path(key.namespace, key.name))
        except ApiError as error:
            if error.status != 404:
                raise
            self.runs.lost(key, run.uid)
            return None
        self.runs.put(key.kind, body)
        selector = f"{names.KIND}={key.kind},{names.NAME}={key.name}"
        for resource, replace_all in (
            (JOBS, self.children.replace_jobs),
            (PODS, self.children.replace_pods),
        ):
            items, version = [], ""
            async for page, page_version in self._client.list(
                resource, key.namespace, selector=selector
            ):
                version = version or page_version
                items += [slim(item) for item in page]
            replace_all(key, items, int(version) if version.isdecimal() else 0)
        current = self.runs.get(key)
        return self.observe(current, fresh=True) if current is not None else None

    def _forget(self, key: Key) -> None:
        self._memories.pop(key, None)
        self.poller.follow(key, None)

    def _child_changed(self, key: Key) -> None:
        if self.runs.get(key) is not None:
            self.queue.add(key)

    def _failed(self, key: Key, error: Exception) -> None:
        self._metrics.failed(key.kind)
        memory = self._memories.get(key)
        if memory is not None:
            memory.seen = None
        if isinstance(error, NotLeading):
            log.warning("%s: %s", key, error)
        elif isinstance(error, ClientError):
            log.warning("%s: will be tried again: %s", key, error)
        else:
            log.error("%s: failed", key, exc_info=error)


def _left(memory: _Memory, now: float) -> float | None:
    return None if memory.due is None else memory.due - now


def _same(before: Observed, now: Observed) -> bool:
    """Whether a decision would be made from the same facts; of a poll only its time may differ."""
    return _timeless(before) == _timeless(now)


def _timeless(seen: Observed) -> Observed:
    poll = seen.poll
    return seen if poll is None else replace(seen, poll=replace(poll, answered=None))
