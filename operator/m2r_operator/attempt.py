"""The end of an attempt: whether it is over, why, and what that costs. Pure."""

from __future__ import annotations

from typing import Final

from m2r_operator.evidence import OUTCOME_LOST, Ending, explain, went_wrong
from m2r_operator.finish import fail
from m2r_operator.plan import Plan
from m2r_operator.policies import alive, is_gang, present_poll, sane, too_disrupted
from m2r_operator.state import JobSeen, Measured, PodSeen
from m2r_operator.telling import step_of
from m2r_operator.waiting import stop_running
from m2r_train.api.status import Failure, Restarts

REPLACED: Final = 15.0  # seconds within which a Job has replaced a shard that was taken from it


def has_finished(plan: Plan, job: JobSeen) -> bool:
    """Whether the attempt's Job is complete and its result can be read, from the pod that knows.

    That pod may be gone, with its node for instance, while the operator was away. Then the result
    is asked for once more: an attempt of a finished run answers at once.
    """
    if job.outcome != "Complete":
        return False
    pods = plan.seen.newest_of(plan.draft.attempt)
    return any(p.index == 0 and p.exit_code == 0 for p in pods)


def was_made(plan: Plan) -> bool:
    """Whether the present attempt's Job is known to have been there; it is not made twice, or the
    pods of the first would be taken for those of the second."""
    return plan.draft.job is not None or bool(plan.seen.pods_of(plan.draft.attempt))


def is_over(plan: Plan, job: JobSeen | None) -> bool:
    """Whether the present attempt has ended (other than by success).

    Its Job says so, or the Job is gone or going and so are its pods; or, sooner than the Job
    controller's next round, each pod of a gang was seen and none is left alive. That shortcut is
    not taken where the Job may have been suspended, for then it will start pods anew.
    """
    seen, draft = plan.seen, plan.draft
    if not draft.attempt or draft.is_true("Suspended"):
        return False
    pods = seen.newest_of(draft.attempt)
    living = alive(pods, plan.now)
    if job is None:
        return was_made(plan) and not living
    if job.outcome == "Failed":
        return not living or any(went_wrong(p) for p in pods)
    if job.outcome == "Complete":
        return not has_finished(plan, job)
    if job.deleting:
        return not living
    return _gang_is_gone(plan, job, living) or _shards_are_gone(plan, job, living)


def _gang_is_gone(plan: Plan, job: JobSeen, living: list[PodSeen]) -> bool:
    seen = plan.seen
    if job.suspended or job.was_suspended or seen.kueue or not is_gang(seen.run) or living:
        return False
    pods = seen.newest_of(job.attempt)
    return len(pods) >= plan.spec.resources.nodes and any(p.phase != "Succeeded" for p in pods)


def _shards_are_gone(plan: Plan, job: JobSeen, living: list[PodSeen]) -> bool:
    """All shards were told to go, have gone, and none has come back.

    In a namespace that is being deleted none can, and a Job that counts failures by index keeps
    the last pod of each until it is replaced: without us the namespace would stay for ever.
    """
    taken = [p for p in plan.seen.newest_of(job.attempt) if p.phase != "Succeeded"]
    told = [p.delete_by for p in taken if p.delete_by is not None]
    if is_gang(plan.seen.run) or job.suspended or living or not taken or len(told) < len(taken):
        return False
    last = max(p.finished or p.delete_by or plan.now for p in taken)
    left = REPLACED - (plan.now - last).total_seconds()
    plan.look_again(left if left > 0 else None)
    return left <= 0


def ending_of(plan: Plan, job: JobSeen | None) -> Ending:
    """Why the present attempt ended."""
    if job is not None and job.outcome == "Complete":
        return OUTCOME_LOST
    return explain(plan.seen.newest_of(plan.draft.attempt), job)


def account(plan: Plan, ending: Ending) -> None:
    """Count an attempt's end, once: the failure names the attempt."""
    draft = plan.draft
    before: Failure | None = draft.failure
    time = sane(draft, ending.time)
    step = ending.step if ending.step is not None else _last_step(plan)
    stop_running(plan, ending.class_, ending.message, at=time)
    counted = _counted(draft.restarts or Restarts(), ending)
    draft.put(
        restarts=counted,
        failure=Failure(
            class_=ending.class_,
            attempt=draft.attempt,
            exit_code=ending.exit_code,
            pod=ending.pod,
            node=ending.node,
            message=ending.message[:1024],
            step=step,
            time=time,
        ),
    )
    plan.measured.append(
        Measured(series="m2r_restarts_total",
                 labels={"kind": plan.seen.run.key.kind, "class": ending.class_})
    )  # fmt: skip
    _judge(plan, ending, before, step)


def _counted(restarts: Restarts, ending: Ending) -> Restarts:
    if ending.verdict == "free":
        return restarts.model_copy(update={"disruptions": restarts.disruptions + 1})
    if ending.verdict == "charged":
        return restarts.model_copy(update={"charged": restarts.charged + 1})
    return restarts


def _judge(plan: Plan, ending: Ending, before: Failure | None, step: int | None) -> None:
    """Whether the run may go on after this end."""
    draft, spec = plan.draft, plan.spec
    restarts: Restarts = draft.restarts
    if ending.verdict == "permanent":
        fail(plan, ending.class_, ending.message)
        return
    charged = ending.verdict == "charged"
    draft.tell(ending.class_, f"attempt {draft.attempt}: {ending.message}", warning=charged)
    if ending.verdict == "free":
        if (limit := too_disrupted(spec, restarts, ending.class_)) is not None:
            fail(plan, *limit)
        else:
            draft.set("Preempted", True, ending.class_, "goes on from where it was")
        return
    draft.clear("Preempted", ending.class_)
    if charged and _same_step(before, ending, step):
        fail(plan, "CrashLoopAtStep", f"crashed twice at step {step}: {ending.message}")
    elif charged and restarts.charged > spec.restart_policy.max_restarts:
        fail(plan, "MaxRestarts", f"crashed {restarts.charged} times: {ending.message}")


def _same_step(before: Failure | None, ending: Ending, step: int | None) -> bool:
    """The same step has crashed twice and nothing was gained between."""
    return (
        before is not None
        and before.class_ == ending.class_
        and before.step is not None
        and before.step == step
    )


def _last_step(plan: Plan) -> int | None:
    poll = present_poll(plan.seen, plan.draft.attempt)
    return step_of(poll.told) if poll is not None else None
