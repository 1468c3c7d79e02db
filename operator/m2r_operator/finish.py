"""The end of a run: success, failure, time to live, deletion. Pure.

Complete and Failed exclude each other and stay; nothing of a finished run is started again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from m2r_operator import names
from m2r_operator.plan import Plan
from m2r_operator.policies import alive, is_quiet, sane, storage_of
from m2r_operator.remedies import with_remedy
from m2r_operator.state import CreatePurge, DeleteRun, RunSeen, SetFinalizer, Told
from m2r_operator.telling import note_progress, outputs_of
from m2r_operator.waiting import stop_running
from m2r_train.api import EvalSpec, Storage
from m2r_train.api.runspec import run_prefix
from m2r_train.api.status import Metrics, StatusOutputs

PURGE_SECONDS: Final = 900.0  # after which a purge is given up, so that nothing hangs for ever


def succeed(plan: Plan) -> None:
    """The attempt's Job is complete: take over its results; a gate that is missed fails the run."""
    draft, seen = plan.draft, plan.seen
    last = next(p for p in seen.newest_of(draft.attempt) if p.index == 0)
    told = last.told or Told()
    ended = sane(draft, last.finished)
    note_progress(draft, told, final=True)
    stop_running(plan, "Finished", at=ended)
    outputs = _placed(plan, outputs_of(told.outputs))
    draft.put(outputs=outputs, completion_time=ended)
    if outputs.scores:
        mean = sum(s.value for s in outputs.scores) / len(outputs.scores)
        metrics = draft.metrics or Metrics()
        draft.put(metrics=metrics.model_copy(update={"score": round(mean, 4)}))
    for condition in ("Preempted", "Degraded", "Suspended"):
        draft.clear(condition, "Finished")
    missed = _missed_gates(plan, outputs)
    if missed:
        words = with_remedy("GateMissed", missed, seen.run.key)
        draft.set("GatesPassed", False, "GateMissed", missed)
        draft.set("Failed", True, "GateMissed", words)
        draft.tell("GateMissed", words, warning=True)
        return
    if isinstance(plan.spec, EvalSpec) and plan.spec.gates:
        passed = _passed_gates(plan.spec, outputs)
        draft.set("GatesPassed", True, "AllPassed", passed)
        draft.tell("GatesPassed", passed)
    draft.set("Complete", True, "Finished", told.message)
    draft.tell("Complete", _result(outputs))


def _placed(plan: Plan, outputs: StatusOutputs) -> StatusOutputs:
    """The result's folder where the pod's last words are lost: runs that wait for it need it."""
    run, storage = plan.seen.run, storage_of(plan.spec, plan.seen.defaults)
    if storage is None or outputs.model_uri or outputs.dataset_uri:
        return outputs
    folder = _folder(run, storage)
    if run.key.kind == "DataSynthesisJob":
        return outputs.model_copy(update={"dataset_uri": f"{folder}/dataset"})
    if run.key.kind == "EvalJob":
        return outputs
    return outputs.model_copy(update={"model_uri": f"{folder}/model"})


def _folder(run: RunSeen, storage: Storage) -> str:
    """Where everything that a run has in the store lies."""
    return f"{storage.uri}/{run_prefix(run.key.namespace, run.key.kind, run.key.name, run.uid)}"


def fail(plan: Plan, reason: str, message: str) -> None:
    """End the run for good, for the first reason found; what still runs of it is stopped.
    The message gets the reason's remedy."""
    draft = plan.draft
    if draft.is_true("Failed"):
        return
    pod = draft.failure.pod if plan.accounted else None
    message = with_remedy(reason, message, plan.seen.run.key, pod=pod)
    stop_running(plan, reason)
    draft.clear("Preempted", reason)
    draft.clear("Degraded", reason)
    draft.put(completion_time=draft.now)
    draft.set("Failed", True, reason, message)
    draft.tell("Failed", f"{reason}: {message}", warning=True)
    stop_jobs(plan)


def after_end(plan: Plan) -> None:
    """A finished run: its leftovers go, and after its time to live so does the resource."""
    stop_jobs(plan)
    ttl = plan.spec.ttl_seconds_after_finished
    ended = plan.draft.completion_time
    if ttl is None or ended is None:
        return
    left = (ended + timedelta(seconds=ttl) - plan.now).total_seconds()
    if left <= 0:
        plan.actions.append(DeleteRun())
    plan.look_again(left if left > 0 else 30.0)


def deleting(plan: Plan) -> None:
    """The resource is being deleted. Children go by their owner references; nothing to do, unless
    the run's folder was to be deleted with it (``storage.reclaimPolicy: Delete``)."""
    run, seen = plan.seen.run, plan.seen
    if names.FINALIZER not in run.finalizers:
        return
    since = run.deleting_since or plan.now
    given_up = (plan.now - since).total_seconds() > PURGE_SECONDS
    purge = next((j for j in seen.jobs if j.owned and j.attempt == 0), None)
    finished = purge is not None and purge.outcome is not None
    storage = storage_of(run.spec, seen.defaults) if run.spec else None
    image = (run.spec.image if run.spec else None) or seen.defaults.image
    if finished or given_up or seen.terminating or storage is None or image is None:
        if purge is None or purge.outcome != "Complete":
            _tell_given_up(plan)
        plan.actions.append(SetFinalizer(present=False))
        return
    plan.look_again(5.0)
    stop_jobs(plan)
    living = alive([p for p in seen.pods if p.attempt], plan.now)
    if purge is None and not plan.actions and not living and not plan.lacks_proof():
        plan.actions.append(CreatePurge(storage=storage, image=image))


def _tell_given_up(plan: Plan) -> None:
    run, defaults = plan.seen.run, plan.seen.defaults
    storage = storage_of(run.spec, defaults) if run.spec else defaults.storage
    where = {"folder": _folder(run, storage)} if storage is not None else {}
    words = with_remedy("PurgeGivenUp", "the run's folder stays in the store", run.key, **where)
    plan.draft.tell("PurgeGivenUp", words, warning=True)


def stop_jobs(plan: Plan, *, before: int | None = None) -> None:
    """Delete the Jobs that may still have pods or make some; ``before``: of attempts below."""
    for job in plan.seen.jobs:
        if not job.owned or not job.attempt or (before is not None and job.attempt >= before):
            continue
        if job.outcome is None and not job.deleting and not is_quiet(plan.seen, job):
            plan.delete(job)


def _missed_gates(plan: Plan, outputs: StatusOutputs) -> str:
    if not isinstance(plan.spec, EvalSpec):
        return ""
    scores = {s.benchmark: s.value for s in outputs.scores}
    missed = [
        f"{g.benchmark}: {scores[g.benchmark]:.2f} < {g.min}"
        if g.benchmark in scores
        else f"{g.benchmark}: no score"
        for g in plan.spec.gates
        if scores.get(g.benchmark, float("-inf")) < g.min
    ]
    return "; ".join(missed)


def _passed_gates(spec: EvalSpec, outputs: StatusOutputs) -> str:
    scores = {s.benchmark: s.value for s in outputs.scores}
    return "; ".join(f"{g.benchmark}: {scores[g.benchmark]:.2f} >= {g.min}" for g in spec.gates)


def _result(outputs: StatusOutputs) -> str:
    if outputs.scores:
        return ", ".join(f"{s.benchmark} {s.value:.2f}" for s in outputs.scores)
    return outputs.model_uri or outputs.dataset_uri or "done"
