"""From the API server's JSON to frozen values; no Kubernetes types leave this file.

Nothing here raises on what an object holds: an object that cannot be read must not keep the
operator from reading the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from m2r_operator import names
from m2r_operator.state import JobSeen, Key, Outcome, PodSeen, RunSeen, Told
from m2r_operator.telling import outputs_of
from m2r_train.api import KINDS, JobSpec, JobStatus
from m2r_train.api.objects import int_of, time_of
from m2r_train.api.problems import problem_lines
from m2r_train.api.schema import MAX_INT

Json = Mapping[str, Any]
Parsed = tuple[JobSpec | None, str]
_LINES: Final = 5  # problems of a spec that a condition can hold
_MESSAGE: Final = 1024


def key_of(kind: str, body: Json) -> Key:
    """The run that a custom resource is."""
    metadata = _map(body.get("metadata"))
    return Key(kind, str(metadata.get("namespace") or ""), str(metadata.get("name") or ""))


def version_of(body: Json) -> int:
    """The resource version as a number; newer is greater (KEP-5504). 0 for none."""
    text = str(_map(body.get("metadata")).get("resourceVersion") or "")
    return int(text) if text.isdecimal() else 0


def uid_of(body: Json) -> str:
    """The identity of an object."""
    return str(_map(body.get("metadata")).get("uid") or "")


def run_seen(kind: str, body: Json, parse: Callable[[str, Json], Parsed] | None = None) -> RunSeen:
    """A custom resource. ``parse`` may answer from a memory (default: `spec_seen`)."""
    metadata = _map(body.get("metadata"))
    spec, unreadable = (parse or spec_seen)(kind, body)
    return RunSeen(
        key=key_of(kind, body),
        uid=uid_of(body),
        generation=int_of(metadata.get("generation")) or 0,
        resource_version=str(metadata.get("resourceVersion") or ""),
        spec=spec,
        status=status_seen(body),
        unreadable=unreadable,
        created=time_of(metadata.get("creationTimestamp")),
        deleting_since=time_of(metadata.get("deletionTimestamp")),
        finalizers=tuple(str(f) for f in _list(metadata.get("finalizers"))),
        labels={str(k): str(v) for k, v in _map(metadata.get("labels")).items()},
    )


def spec_seen(kind: str, body: Json) -> Parsed:
    """A custom resource's spec, or why this operator cannot read it."""
    model = KINDS[kind].spec
    try:
        text = json.dumps(body.get("spec"))
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False), ""
    except ValidationError as error:
        lines = problem_lines(error, model, "", "spec")
        more = f" (and {len(lines) - _LINES} more)" if len(lines) > _LINES else ""
        return None, ("; ".join(lines[:_LINES]) + more)[:_MESSAGE]
    except (TypeError, ValueError, RecursionError) as error:
        return None, f"spec: cannot be read ({type(error).__name__}); apply it anew"


def status_seen(body: Json) -> JobStatus:
    """A custom resource's status. What cannot be read of it is left out, field by field and item
    by item: the attempts counted so far, and that a run is complete, must survive a damaged or a
    newer neighbour."""
    left = dict(_map(body.get("status")))
    while True:
        try:
            return JobStatus.model_validate(left)
        except ValidationError as error:
            _drop(left, error)


def _drop(status: dict[str, Any], error: ValidationError) -> None:
    """Remove what an error names: an item where it is in a list, else the whole field."""
    items: dict[str, set[int]] = {}
    for details in error.errors():
        name, *rest = details["loc"] or ("",)
        if rest and isinstance(rest[0], int):
            items.setdefault(str(name), set()).add(rest[0])
        else:
            status.pop(str(name), None)
    for name, bad in items.items():
        if name in status:
            status[name] = [item for n, item in enumerate(status[name]) if n not in bad]


def job_seen(body: Json) -> JobSeen:
    """A child Job; whether it is the run's own is for the reader to say (`owner_uid`)."""
    metadata, spec, status = (_map(body.get(k)) for k in ("metadata", "spec", "status"))
    outcome, condition = _outcome(status)
    return JobSeen(
        name=str(metadata.get("name") or ""),
        uid=uid_of(body),
        attempt=_attempt(metadata),
        deleting=metadata.get("deletionTimestamp") is not None,
        suspended=spec.get("suspend") is True,
        queued=names.QUEUE in _map(metadata.get("labels")),
        was_suspended=any(c.get("type") == "Suspended" for c in _maps(status.get("conditions"))),
        active=int_of(status.get("active")) or 0,
        outcome=outcome,
        reason=str(condition.get("reason") or ""),
        message=str(condition.get("message") or "")[:_MESSAGE],
        finished=time_of(condition.get("lastTransitionTime")),
    )


def pod_seen(body: Json, *, gone: bool = False) -> PodSeen:
    """A trainer's pod."""
    metadata, spec, status = (_map(body.get(k)) for k in ("metadata", "spec", "status"))
    conditions = {
        str(c.get("type")): c for c in _maps(status.get("conditions")) if c.get("status") == "True"
    }
    container = _container(status)
    state = _map(container.get("state"))
    ended = _map(state.get("terminated"))
    waiting = _waiting(status, container)
    disrupted = _map(conditions.get("DisruptionTarget"))
    delete_by = time_of(metadata.get("deletionTimestamp"))
    return PodSeen(
        name=str(metadata.get("name") or ""),
        uid=uid_of(body),
        attempt=_attempt(metadata),
        index=_index(metadata),
        node=spec.get("nodeName"),
        ip=status.get("podIP"),
        phase=str(status.get("phase") or "Pending"),
        ready="Ready" in conditions,
        gone=gone,
        delete_by=delete_by,
        deleting_since=_asked(delete_by, metadata.get("deletionGracePeriodSeconds")),
        created=time_of(metadata.get("creationTimestamp")),
        started=time_of(_map(state.get("running")).get("startedAt") or ended.get("startedAt")),
        finished=time_of(ended.get("finishedAt")),
        exit_code=int_of(ended.get("exitCode")),
        oom_killed=ended.get("reason") == "OOMKilled",
        disruption=str(disrupted.get("reason") or ""),
        disruption_message=str(disrupted.get("message") or "")[:_MESSAGE],
        waiting=str(waiting.get("reason") or ""),
        waiting_message=str(waiting.get("message") or "")[:_MESSAGE],
        unschedulable=_unschedulable(status),
        told=told_of(ended.get("message")) if ended else None,
    )


def owner_uid(body: Json) -> str:
    """The uid of an object's controller; empty without one."""
    for owner in _maps(_map(body.get("metadata")).get("ownerReferences")):
        if owner.get("controller") is True:
            return str(owner.get("uid") or "")
    return ""


def labelled_run(body: Json) -> Key | None:
    """The run that an object's labels name; a hint, not a proof."""
    metadata = _map(body.get("metadata"))
    labels = _map(metadata.get("labels"))
    kind, name = labels.get(names.KIND), labels.get(names.NAME)
    if kind not in names.PLURALS or not isinstance(name, str):
        return None
    return Key(str(kind), str(metadata.get("namespace") or ""), name)


def told_of(words: object) -> Told | None:
    """What a pod said, from JSON text or a parsed document; None when it makes no sense.

    A trainer is not trusted more than any program: wrong types and sizes are left out.
    """
    if isinstance(words, str | bytes):
        try:
            words = json.loads(words)
        except (ValueError, RecursionError):
            return None
    if not isinstance(words, Mapping):
        return None
    saved, resumed = _map(words.get("lastCheckpoint")), _map(words.get("resumedFrom"))
    uri, step = saved.get("uri"), _count(saved.get("step"))
    from_step = _count(resumed.get("step"))
    return Told(
        step=_count(words.get("step")),
        total_steps=_count(words.get("totalSteps")),
        metrics={
            str(k): float(v)
            for k, v in _map(words.get("metrics")).items()
            if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)
        },
        last_checkpoint=(
            {"uri": uri[:_MESSAGE], "step": step, "time": _when(saved.get("time"))}
            if isinstance(uri, str) and uri and step is not None
            else None
        ),
        resumed_from=(
            {"step": from_step, "lostSteps": _count(resumed.get("lostSteps"))}
            if from_step is not None
            else None
        ),
        outputs=_outputs(words.get("outputs")),
        reason=str(words.get("reason") or "")[:253],
        message=str(words.get("message") or "")[:_MESSAGE],
    )


def _outputs(given: object) -> Mapping[str, Any] | None:
    """A stage's outcome, if a status can be made from it."""
    if not isinstance(given, Mapping):
        return None
    try:
        outputs_of(given)
    except (ValidationError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return given


def _outcome(status: Json) -> tuple[Outcome | None, Json]:
    for condition in _maps(status.get("conditions")):
        if condition.get("status") == "True":
            if condition.get("type") == "Complete":
                return "Complete", condition
            if condition.get("type") == "Failed":
                return "Failed", condition
    return None, {}


def _container(status: Json) -> Json:
    for one in _maps(status.get("containerStatuses")):
        if one.get("name") == names.CONTAINER:
            return one
    return {}


def _waiting(status: Json, container: Json) -> Json:
    """Why a container does not start; an init container's reason counts as well."""
    for one in (*_maps(status.get("initContainerStatuses")), container):
        waiting = _map(_map(one.get("state")).get("waiting"))
        if waiting and waiting.get("reason") not in ("PodInitializing", "ContainerCreating"):
            return waiting
    return {}


def _unschedulable(status: Json) -> str:
    for condition in _maps(status.get("conditions")):
        if (
            condition.get("type") == "PodScheduled"
            and condition.get("status") == "False"
            and condition.get("reason") in ("Unschedulable", "SchedulingGated")
        ):
            return str(condition.get("message") or condition.get("reason"))[:_MESSAGE]
    return ""


def _attempt(metadata: Json) -> int:
    text = _map(metadata.get("labels")).get(names.ATTEMPT)
    return int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 10 else 0


def _index(metadata: Json) -> int:
    for place in ("annotations", "labels"):
        text = _map(metadata.get(place)).get("batch.kubernetes.io/job-completion-index")
        if isinstance(text, str) and text.isdecimal():
            return int(text)
    return 0


def _when(value: object) -> int | None:
    """A Unix time that fits a timestamp of four digits' years."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if 0 <= value < 253402300800 else None


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or not 0 <= value <= MAX_INT:
        return None
    return int(value)


def _asked(delete_by: datetime | None, grace: object) -> datetime | None:
    """When a deletion was asked for: a pod's deletionTimestamp is the end of its grace period."""
    seconds = int_of(grace)
    if delete_by is None or seconds is None or not 0 <= seconds <= MAX_INT:
        return delete_by
    return delete_by - timedelta(seconds=seconds)


def _map(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()


def _maps(value: object) -> Iterable[Json]:
    return [item for item in _list(value) if isinstance(item, Mapping)]
