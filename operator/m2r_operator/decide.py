"""The decision: from what is observed, and the time, to a status and actions. Pure.

Level-triggered: it asks what *is*, never what happened, so lost, doubled and reordered events do
not matter, and deciding twice from the same facts decides the same. What must be remembered is in
the status, which is written before anything is done (`state.Decision`).

An attempt lives like this: counted in the status -> its Job made -> its pods run -> it ends; the
end is accounted once (``failure.attempt`` names it) -> nothing of it lives any more -> after a
pause, if one is due, the next is counted. So two attempts never compute at the same time; what the
cluster cannot stop (a lost node) is fenced by the store's epochs instead.

Caches may lag, so what cannot be taken back (the end of an attempt, the next one) is decided from
a fresh observation only (`Plan.lacks_proof`). The arguments: docs/adr/0006-life-of-a-run.md.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from m2r_operator import names, waiting
from m2r_operator.attempt import account, ending_of, has_finished, is_over, was_made
from m2r_operator.draft import Draft
from m2r_operator.finish import after_end, deleting, fail, stop_jobs, succeed
from m2r_operator.plan import RETRY, Plan
from m2r_operator.policies import (
    alive,
    backoff,
    deadline,
    next_inputs,
    present_poll,
    stalled,
    storage_of,
    too_disrupted,
)
from m2r_operator.state import CreateJob, Decision, JobSeen, Observed, SetFinalizer
from m2r_operator.telling import note_progress
from m2r_train.api.status import ChildJob, ResolvedInput, Restarts

KEPT_JOBS: Final = 1  # finished attempts before the present one whose pods stay for their logs
SOON: Final = 5.0  # seconds until the next look where an event is due that may have been lost


def decide(seen: Observed, now: datetime) -> Decision:
    """What to do about a run; see the module's docstring."""
    run, plan = seen.run, Plan(seen, now)
    if run.spec is not None and run.spec.managed_by != "m2r.dev/operator":
        return Decision(status=None)  # somebody else's, the status too
    if run.deleting:
        deleting(plan)
        return plan.done(write=False)
    if run.spec is None:
        if not plan.ended:
            plan.degrade("SpecUnreadable", run.unreadable)
            plan.tell_trouble()
        return plan.done(write=not plan.ended)
    if plan.ended:
        after_end(plan)
        return plan.done()
    _drive(plan)
    if not plan.ended:
        plan.tell_trouble()
    return plan.done()


def _drive(plan: Plan) -> None:
    """An unfinished run, from the newest fact to the next action."""
    draft, seen = plan.draft, plan.seen
    if seen.rejected:
        plan.degrade("Rejected", seen.rejected)
        plan.look_again(RETRY)
    _catch_up(plan)
    job = seen.job(draft.attempt)
    _note_told(plan)
    if job is not None and has_finished(plan, job):
        succeed(plan)
        return
    if not plan.accounted and is_over(plan, job):
        if plan.lacks_proof():
            return
        account(plan, ending_of(plan, job))
        if plan.ended:
            return
    if plan.spec.suspend:
        _suspend(plan)
        return
    if draft.attempt and not plan.accounted and not draft.is_true("Suspended"):
        _tidy(plan)
        if job is not None:
            _watch(plan, job)
        elif was_made(plan):  # deleted, and its pods are on their way out
            waiting.stop_running(plan, "Stopping")
            plan.look_again(SOON)
        elif not plan.lacks_proof():  # counted, then the operator died: make it now
            _make(plan, draft.attempt)
        return
    _next_attempt(plan)


def _catch_up(plan: Plan) -> None:
    """A status that lags behind its Jobs (restored from a backup) takes their attempt over."""
    draft = plan.draft
    newest = max((j.attempt for j in plan.seen.jobs if j.owned), default=0)
    if newest > draft.attempt:
        draft.put(attempt=newest, job=None)
    job = plan.seen.job(draft.attempt)
    if job is not None and (draft.job is None or draft.job.uid != job.uid):
        # By itself no reason to write, unless it may soon be gone, or suspended, and must be known.
        tell = draft.put if job.deleting or job.queued else draft.note
        tell(job=ChildJob(name=job.name, uid=job.uid))


def _note_told(plan: Plan) -> None:
    """Progress of the present attempt: its first pod's last words, else its last answer, which
    waits until the run is said to run: one write is enough for both."""
    draft = plan.draft
    first = next((p for p in plan.seen.newest_of(draft.attempt) if p.index == 0), None)
    poll = present_poll(plan.seen, draft.attempt)
    if first is not None and first.told is not None:
        note_progress(draft, first.told, final=True)
    elif poll is not None and poll.told is not None and _has_run(draft):
        plan.look_again(note_progress(draft, poll.told))


def _has_run(draft: Draft) -> bool:
    """Whether the attempt's pods run, or did: who answers goes on, though its node is silent."""
    return draft.is_true("Running") or draft.reason("Running") == "PodsNotReady"


def _suspend(plan: Plan) -> None:
    """Stop the attempt (its pods save on SIGTERM) and wait for a word to go on."""
    draft, seen = plan.draft, plan.seen
    stop_jobs(plan)
    stopping = sorted(p.name for p in seen.pods if p.live)
    waiting.stop_running(plan, "Suspended")
    draft.clear("Preempted", "Suspended")
    message = f"saving state in {', '.join(stopping)}" if stopping else "no pods; state is saved"
    if draft.set("Suspended", True, "Stopping" if stopping else "Suspended", message):
        words = "spec.suspend is true: state is saved, pods go"
        draft.tell("Suspended", words, happening=draft.flip_of("Suspended"))


def _next_attempt(plan: Plan) -> None:
    """Nothing is under way: wait for what is missing, else count and make the next attempt."""
    draft, seen, spec = plan.draft, plan.seen, plan.spec
    stop_jobs(plan)  # again, where the operator died before it did
    if plan.actions or alive(seen.pods, plan.now):
        waiting.stop_running(plan, "Stopping")
        plan.look_again(SOON)
        return
    if draft.is_true("Suspended") and (not draft.attempt or plan.accounted):
        _resume(plan)
    if waiting.for_inputs(plan) or waiting.for_settings(plan):
        return
    pause = backoff(draft, spec, plan.now)
    if pause > 0:
        # Rounded, so that it is the same each time it is said.
        next_try = plan.now + timedelta(seconds=pause + 0.5)
        waiting.for_backoff(plan, pause, next_try)
        plan.look_again(pause)
        return
    if draft.attempt and plan.lacks_proof():
        return
    if draft.is_true("Suspended"):
        _resume(plan)
    draft.put(attempt=draft.attempt + 1, job=None)
    draft.tell("Started", _started(draft))
    if draft.progress is not None:
        draft.put(progress=draft.progress.model_copy(update={"eta_seconds": None}))
    _make(plan, draft.attempt)
    _tidy(plan)


def _resume(plan: Plan) -> None:
    draft = plan.draft
    draft.set("Suspended", False, "Resumed")
    saved = draft.last_checkpoint
    words = f"goes on from {f'step {saved.step}' if saved else 'the start'}"
    draft.tell("Resumed", words, happening=draft.flip_of("Suspended"))


def _make(plan: Plan, attempt: int) -> None:
    """Make the Job of an attempt that is counted."""
    draft, seen, run = plan.draft, plan.seen, plan.seen.run
    if waiting.for_inputs(plan) or waiting.for_settings(plan):
        return
    storage = storage_of(plan.spec, seen.defaults)
    image = plan.spec.image or seen.defaults.image
    assert storage is not None
    assert image is not None
    waiting.stop_running(plan, "Starting", f"attempt {attempt} is being started")
    name = names.job_name(run.key.kind, run.key.name, attempt)
    if any(j.name == name and not j.owned for j in seen.jobs):
        plan.degrade("NameTaken", f"Job {name} belongs to somebody else; delete it")
        plan.look_again(RETRY)
        return
    if storage.reclaim_policy == "Delete" and names.FINALIZER not in run.finalizers:
        plan.actions.append(SetFinalizer(present=True))
    inputs = next_inputs(plan.spec, draft, seen.dependencies)
    draft.put(inputs=tuple(
        ResolvedInput(field=d.field, uri=inputs[d.field].uri, digest=inputs[d.field].digest)
        for d in seen.dependencies if d.field in inputs
    ) or draft.inputs)  # fmt: skip
    queue = waiting.queue_of(run, plan.spec) if seen.kueue else None
    if queue is None:
        waiting.admitted(plan, queued=False)
    plan.actions.append(
        CreateJob(attempt=attempt, storage=storage, image=image, inputs=inputs, queue=queue)
    )


def _watch(plan: Plan, job: JobSeen) -> None:
    """An attempt under way: conditions, deadline, watchdog."""
    draft, spec = plan.draft, plan.spec
    if waiting.admission(plan, job):
        limit = too_disrupted(spec, draft.restarts or Restarts(), "Evicted")
        if limit is not None:
            fail(plan, *limit)
            return
    waiting.running(plan, job)
    _note_told(plan)
    if job.outcome is not None:
        plan.look_again(SOON)  # its last pod's end is due
    left = deadline(draft, spec, plan.now)
    if left is not None and left <= 0:
        fail(plan, "DeadlineExceeded", f"ran for {spec.active_deadline_seconds} s")
        return
    plan.look_again(left)
    stall = stalled(draft, spec, present_poll(plan.seen, draft.attempt), plan.now)
    plan.look_again(stall.again)
    if stall.ending is None:
        return
    if spec.watchdog.action == "None":
        plan.degrade("Stalled", stall.ending.message)
        return
    if plan.lacks_proof():
        return
    account(plan, stall.ending)
    if spec.watchdog.action == "Fail":
        fail(plan, "Stalled", stall.ending.message)
    if not plan.ended:
        plan.delete(job)


def _tidy(plan: Plan) -> None:
    """Delete the Jobs of long past attempts; the last one's pods stay for their logs. And those of
    any past attempt that may still run: a former leader that woke up late has made them."""
    attempt = plan.draft.attempt
    stop_jobs(plan, before=attempt)
    for job in plan.seen.jobs:
        if job.owned and not job.deleting and 0 < job.attempt < attempt - KEPT_JOBS:
            plan.delete(job)


def _started(draft: Draft) -> str:
    saved = draft.last_checkpoint
    where = f", goes on from step {saved.step}" if saved is not None else ""
    return f"attempt {draft.attempt}{where}"
