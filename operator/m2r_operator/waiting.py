"""What a run waits for, said in its conditions. Pure.

A condition is for people first: the reason is one word, the message names what to do.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from m2r_operator import names
from m2r_operator.plan import RETRY, Plan
from m2r_operator.policies import active_seconds, is_gang, storage_of
from m2r_operator.state import JobSeen, Measured, PodSeen, RunSeen
from m2r_train.api import JobSpec
from m2r_train.api.status import Restarts

PATIENCE: Final = 10.0  # seconds; a pod that is placed sooner was never worth a word
_IMAGE: Final = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG: Final = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


def queue_of(run: RunSeen, spec: JobSpec) -> str | None:
    """Kueue's local queue of a run: its spec's, else its label's."""
    return spec.scheduling.queue or run.labels.get(names.QUEUE)


def stop_running(plan: Plan, reason: str, message: str = "", *, at: datetime | None = None) -> None:
    """The run does not run; its running time so far is kept."""
    draft = plan.draft
    if draft.is_true("Running"):
        draft.put(active_seconds=round(active_seconds(draft, at or plan.now)))
    if draft.attempt:
        draft.set("Running", False, reason, message)


def for_inputs(plan: Plan) -> bool:
    """Whether the run must wait for others' results. The first attempt fixes what it found."""
    draft = plan.draft
    fixed = {i.field for i in draft.inputs}
    missing = [d for d in plan.seen.dependencies if d.input is None and d.field not in fixed]
    if not missing:
        draft.set("DependenciesReady", True, "Resolved")
        return False
    message = "; ".join(f"spec.{d.field}: {d.message}" for d in missing)
    _wait_for_inputs(plan, missing[0].reason or "DependencyMissing", message)
    return True


def _wait_for_inputs(plan: Plan, reason: str, message: str) -> None:
    """Told again when another input is what is missing; a warning where somebody must act."""
    draft = plan.draft
    said = draft.is_false("DependenciesReady") and draft.message("DependenciesReady")
    draft.set("DependenciesReady", False, reason, message)
    if said != draft.message("DependenciesReady"):
        happening = f"{draft.flip_of('DependenciesReady')} {message}"
        draft.tell(reason, message, warning=reason != "DependencyRunning", happening=happening)


def for_backoff(plan: Plan, pause: float, next_try: datetime) -> None:
    """The next attempt waits, ``pause`` seconds from now."""
    draft, failure = plan.draft, plan.draft.failure
    at = f"next attempt at {next_try:%H:%M:%S} UTC"
    if draft.reason("Running") != "Backoff":
        why = f" after {failure.class_}" if failure is not None else ""
        draft.tell("Backoff", f"waits {pause:.0f} s{why}, {at}")
    stop_running(plan, "Backoff", at)


def for_settings(plan: Plan) -> bool:
    """Whether something is missing that only the operator's settings could give."""
    found = _setting_problem(plan)
    if found is not None:
        plan.degrade(*found)
        plan.look_again(RETRY)
    return found is not None


def _setting_problem(plan: Plan) -> tuple[str, str] | None:
    spec, defaults = plan.spec, plan.seen.defaults
    storage = storage_of(spec, defaults)
    if storage is None:
        return "SettingStorage", (
            "spec.storage is not set and the operator has no default: set one of the two"
        )
    if not storage.uri.startswith("s3://"):
        return "SettingStorage", (
            f"storage {storage.uri} cannot be reached from pods: use s3://bucket/prefix"
        )
    if spec.image is None and defaults.image is None:
        return "SettingImage", (
            "spec.image is not set and the operator has no default: set one of the two"
        )
    allowed, account = defaults.service_accounts, spec.service_account_name
    if account is not None and allowed is not None and account not in allowed:
        return "SettingServiceAccount", (
            f"spec.serviceAccountName {account} is not allowed here; "
            f"allowed: {', '.join(allowed) or 'none'}"
        )
    return None


def admission(plan: Plan, job: JobSeen) -> bool:
    """Whether the attempt's Job may run (Kueue suspends and releases it); True if it was evicted
    just now. A Job that is seen for the first time was never admitted, whatever the one of the
    attempt before was."""
    draft = plan.draft
    queue = queue_of(plan.seen.run, plan.spec)
    if not job.suspended:
        admitted(plan, queued=job.queued)
        return False
    waits = f"waits in queue {queue}" if queue else f"Job {job.name} is suspended by somebody"
    known = plan.seen.run.status.job
    if draft.is_true("Admitted") and known is not None and known.uid == job.uid:
        if plan.lacks_proof():
            return False
        _evicted(plan, queue, waits)
        return True
    if not draft.is_false("Admitted"):
        reason = "Queued" if queue else "JobSuspended"
        draft.set("Admitted", False, reason, waits)
        draft.tell(reason, waits, happening=draft.flip_of("Admitted"))
    return False


def admitted(plan: Plan, *, queued: bool) -> None:
    """The attempt's Job may run: a queue has let it go (``queued``), or there is none."""
    draft = plan.draft
    queue = queue_of(plan.seen.run, plan.spec)
    if queue and queued:
        reason, message = "Admitted", f"by queue {queue}"
    elif queue:
        was = "was not installed when this attempt began" if plan.seen.kueue else "is not installed"
        reason, message = "NoKueue", f"queue {queue} is ignored: Kueue {was}"
    else:
        reason, message = "NoQueue", ""
    before = draft.reason("Admitted")
    flipped = draft.set("Admitted", True, reason, message)
    if reason != "NoQueue" and (flipped or before != reason):
        ignored = reason == "NoKueue"
        draft.tell(reason, message, warning=ignored, happening=draft.flip_of("Admitted"))


def _evicted(plan: Plan, queue: str | None, waits: str) -> None:
    """Admitted before, suspended now: its pods are taken; the same Job will go on."""
    draft = plan.draft
    why = "KueueEvicted" if queue else "JobSuspended"
    restarts: Restarts = draft.restarts or Restarts()
    draft.put(restarts=restarts.model_copy(update={"disruptions": restarts.disruptions + 1}))
    draft.set("Admitted", False, "Evicted" if queue else "JobSuspended", waits)
    draft.set("Preempted", True, why, "goes on from its last state when it is admitted again")
    stop_running(plan, "Evicted")
    words = f"pods are taken, state is saved; {waits}"
    draft.tell("Evicted", words, happening=draft.flip_of("Admitted"))
    plan.measured.append(
        Measured(
            series="m2r_restarts_total",
            labels={"kind": plan.seen.run.key.kind, "class": why},
        )
    )


def running(plan: Plan, job: JobSeen) -> None:
    """Whether the attempt's pods run, and if not, why."""
    if job.suspended:
        stop_running(plan, plan.draft.reason("Admitted") or "Queued")
        return
    pods = [p for p in plan.seen.newest_of(plan.draft.attempt) if p.live]
    if _all_run(plan):
        _runs(plan, pods)
        return
    reason, message, bad = _why_not(plan, pods)
    if reason:
        _tell_why_not(plan, reason, message)
        stop_running(plan, reason, message)
    if bad:
        plan.degrade(reason, message, about=message.split(":")[0])


def _all_run(plan: Plan) -> bool:
    """All pods of a gang run (or have finished, which they do one after the other). Of shards, the
    first pod counts: it joins what the others make, and they come and go."""
    pods = plan.seen.newest_of(plan.draft.attempt)
    run = [p for p in pods if p.live and p.ready]
    if not is_gang(plan.seen.run):
        return any(p.index == 0 for p in run)
    done = [p for p in pods if p.phase == "Succeeded"]
    return bool(run) and len(run) + len(done) >= plan.spec.resources.nodes


def _runs(plan: Plan, pods: list[PodSeen]) -> None:
    draft = plan.draft
    if draft.start_time is None:
        started = min((p.started for p in pods if p.started), default=draft.now)
        draft.put(start_time=min(started, draft.now))
    if not draft.set("Running", True, "PodsRunning"):
        return
    words = f"attempt {draft.attempt} runs on {_nodes(pods)}"
    draft.tell("Running", words, happening=_first_pod(plan))
    draft.clear("Preempted", "Resumed")
    failed = draft.failure
    if failed is not None and failed.attempt == draft.attempt - 1 and failed.time is not None:
        gone = max(0.0, (plan.now - failed.time).total_seconds())
        plan.measured.append(Measured(series="m2r_recovery_seconds", value=gone))


def _first_pod(plan: Plan) -> str:
    """A happening: this life of the attempt's pods. The same pods that are not ready for a moment
    make no second line, those that Kueue lets run after an eviction do."""
    pods = plan.seen.newest_of(plan.draft.attempt)
    return f"pod {pods[0].uid}" if pods else ""


def _tell_why_not(plan: Plan, reason: str, message: str) -> None:
    """What is not told as a trouble (`Plan.tell_trouble`), and was not said before."""
    draft = plan.draft
    if draft.is_false("Running") and draft.reason("Running") == reason:
        return
    if reason == "Unschedulable":
        draft.tell(reason, message, warning=True, happening=_first_pod(plan))
    elif reason == "PodsNotReady":
        words = "a pod that ran is not ready any more; its node may be silent"
        draft.tell(reason, words, happening=_first_pod(plan))


def _why_not(plan: Plan, pods: list[PodSeen]) -> tuple[str, str, bool]:
    """Reason, message, and whether somebody must act."""
    for pod in pods:
        if pod.waiting in _IMAGE:
            return "ImagePullError", f"{pod.name}: {pod.waiting_message or pod.waiting}", True
        if pod.waiting in _CONFIG:
            return "PodConfigError", f"{pod.name}: {pod.waiting_message or pod.waiting}", True
    stuck = [p for p in pods if p.unschedulable]
    if stuck:
        age = PATIENCE
        if stuck[0].created is not None:
            age = (plan.now - stuck[0].created).total_seconds()
        if age >= PATIENCE:
            words = plan.draft.steady("Running", "Unschedulable", stuck[0].unschedulable)
            return "Unschedulable", words, False
        plan.look_again(min(PATIENCE, PATIENCE - age))
    # Where no pod is left, or its container has ended, the attempt's end is what comes next.
    waited = [p for p in pods if not p.ready and p.exit_code is None]
    if waited and plan.draft.is_true("Running"):
        return "PodsNotReady", "", False
    return "", "", False


def _nodes(pods: list[PodSeen]) -> str:
    return ", ".join(sorted({p.node for p in pods if p.node})) or "its node"
