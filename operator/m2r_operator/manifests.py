"""A run's children as Kubernetes objects: pure functions from what was decided to dicts.

One Indexed Job per attempt. The same arguments give the same object, so that making it twice is a
conflict of names and nothing else. Retries, deadlines and clean-up are the operator's own, kept in
the run's status: a Job would forget its count with each attempt and restart its deadline with
each resume, so its own fields for them are not used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, cast

from m2r_operator import names, pods, ranks
from m2r_operator.evidence import FENCED, PERMANENT, STOPPED, TERMINATED
from m2r_operator.placement import RenderError, placement, topology_annotations
from m2r_operator.state import CreateJob, CreatePurge, Defaults, RunSeen
from m2r_train.api import API_VERSION, JobSpec, RunInput, RunSpec, Storage, resolved
from m2r_train.api.runspec import KindName, RunMetadata, RunStorage

__all__ = ["RenderError", "job", "purge_job", "service"]

Manifest = pods.Manifest

_APP: Final = "m2r-train"
_PURGE_SECONDS: Final = 600
_PURGE_RESOURCES: Final = {"requests": {"cpu": "100m", "memory": "128Mi"}}
_DISRUPTED: Final = {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}


def job(run: RunSeen, action: CreateJob, defaults: Defaults) -> Manifest:
    """The Job of an attempt. Raises `RenderError` with one line when it cannot be made."""
    spec = _spec_of(run)
    kind, queued = run.key.kind, action.queue is not None
    name = names.job_name(kind, run.key.name, action.attempt)
    labels = _labels(run, action.attempt)
    threads = max(1, spec.resources.cpu_threads // ranks.processes(kind, spec))
    container = pods.trainer(
        image=action.image,
        command=["m2r", "stage", "--spec", pods.SPEC_FILE],
        env=[
            *pods.environment(action.storage, action.attempt, threads=threads),
            *pods.endpoint_keys(spec),
            *ranks.environment(run, spec, name),
        ],
        resources=pods.resources_of(spec.resources),
        policy=defaults.image_pull_policy,
    )
    container["ports"] = [{"name": "metrics", "containerPort": names.PORT}]
    pod: Manifest = {
        **placement(run, spec, queued=queued),
        "terminationGracePeriodSeconds": spec.disruption.termination_grace_period_seconds,
    }
    if ranks.meets(kind, spec):
        pod["subdomain"] = names.child_name(kind, run.key.name)
    run_spec = _run_spec(
        run, action.attempt, action.storage, seed=spec.seed, spec=resolved(spec),
        inputs=action.inputs,
    )  # fmt: skip
    template = pods.template(
        labels=labels,
        annotations={names.RUN_SPEC: run_spec, **topology_annotations(spec, queued=queued)},
        container=container,
        pod=pod,
        shared_memory=spec.resources.shared_memory,
        defaults=defaults,
    )
    return _job(
        run, name, {**labels, **_queue_labels(run, action.queue)},
        {
            "completionMode": "Indexed",
            "completions": spec.resources.nodes,
            "parallelism": spec.resources.nodes,
            **({"suspend": True} if queued else {}),  # Kueue lets it go
            **(_gang(queued) if ranks.is_gang(kind, spec) else _shards(spec, queued)),
            "template": template,
        },
    )  # fmt: skip


def service(run: RunSeen) -> Manifest | None:
    """The headless Service that gives a gang's pods their names; None for a run without need.

    One for all attempts: pods are told apart by their host names, which hold the attempt.
    """
    if run.spec is None or not ranks.meets(run.key.kind, run.spec):
        return None
    labels = {name: text for name, text in _labels(run, 0).items() if name != names.ATTEMPT}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(run, names.child_name(run.key.kind, run.key.name), labels),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,  # ranks meet before any of them is ready
            "selector": {names.KIND: run.key.kind, names.NAME: run.key.name},
            "ports": [{"name": "rendezvous", "port": ranks.RENDEZVOUS_PORT}],
        },
    }


def purge_job(run: RunSeen, action: CreatePurge, defaults: Defaults) -> Manifest:
    """The Job that deletes a run's folder, with the rights of the run itself.

    It needs no readable spec, so that a run which this operator cannot read can still be purged.
    """
    spec = run.spec or JobSpec()
    container = pods.trainer(
        image=action.image,
        command=["m2r", "purge", "--spec", pods.SPEC_FILE],
        env=pods.environment(action.storage, 0, threads=1),
        resources=_PURGE_RESOURCES,
        policy=defaults.image_pull_policy,
    )
    where = placement(run, spec, queued=False)
    where.pop("affinity", None)  # written for the run's own pods, of which none is left
    labels = _labels(run, 0)
    run_spec = _run_spec(run, max(1, run.status.attempt), action.storage, seed=0, spec={})
    template = pods.template(
        labels=labels,
        annotations={names.RUN_SPEC: run_spec},
        container=container,
        pod={**where, "terminationGracePeriodSeconds": 30},
        shared_memory="16Mi",
        defaults=defaults,
    )
    # Where somebody deletes the run with --cascade=foreground, the garbage collector deletes every
    # child that blocks the deletion, also one that is made then: this one must not block it.
    return _job(
        run, names.purge_name(run.key.kind, run.key.name), labels,
        {
            "backoffLimit": 3,
            "activeDeadlineSeconds": _PURGE_SECONDS,
            "podFailurePolicy": _policy(
                ("FailJob", _exits(*PERMANENT)),
                ("Ignore", _DISRUPTED),
                ("Ignore", _exits(STOPPED, TERMINATED)),
            ),
            "template": template,
        },
        blocks=False,
    )  # fmt: skip


def _gang(queued: bool) -> Manifest:
    """Nothing is retried within an attempt; the policy leaves the reason in the Job's message.

    A queue stops the pods of a Job that goes on later. The Job controller tries the exit codes of
    those as well, so a rule for saved state would fail the Job, now and then (see docs/kueue.md);
    without the rule they are not counted, and any other pod that ends with these codes is one
    failure too many.
    """
    return {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _policy(
            ("FailJob", _DISRUPTED),
            *([] if queued else [("FailJob", _exits(STOPPED, TERMINATED))]),
            ("FailJob", _exits(*PERMANENT, FENCED)),
        ),
    }


def _shards(spec: JobSpec, queued: bool) -> Manifest:
    """Pods retry each for itself; the run is done when index 0, which joins all, has joined.

    The Job replaces a pod that was taken away without the operator hearing of it. Where the spec
    limits disruptions, each one has to end the attempt instead, to be counted.
    """
    counted = spec.disruption.policy == "Fail" or spec.disruption.max_preemptions > 0
    taken = "FailJob" if counted else "Ignore"
    return {
        "backoffLimitPerIndex": spec.restart_policy.max_restarts,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _policy(
            ("FailJob", _exits(*PERMANENT)),
            (taken, _DISRUPTED),
            ("Ignore" if queued else taken, _exits(STOPPED, TERMINATED)),
            ("Ignore", _exits(FENCED)),
        ),
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    }


def _policy(*rules: tuple[str, Manifest]) -> Manifest:
    return {"rules": [{"action": action, **condition} for action, condition in rules]}


def _exits(*codes: int) -> Manifest:
    return {
        "onExitCodes": {
            "containerName": names.CONTAINER,
            "operator": "In",
            "values": sorted(codes),
        }
    }


def _job(
    run: RunSeen, name: str, labels: dict[str, str], spec: Manifest, *, blocks: bool = True
) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(run, name, dict(labels), blocks=blocks),
        "spec": copy.deepcopy(spec),  # parts are shared between objects and must not be changed
    }


def _metadata(run: RunSeen, name: str, labels: dict[str, str], *, blocks: bool = True) -> Manifest:
    owner = {
        "apiVersion": API_VERSION,
        "kind": run.key.kind,
        "name": run.key.name,
        "uid": run.uid,
        "controller": True,
        "blockOwnerDeletion": blocks,
    }
    return {
        "name": name,
        "namespace": run.key.namespace,
        "labels": labels,
        "ownerReferences": [owner],
    }


def _labels(run: RunSeen, attempt: int) -> dict[str, str]:
    return {
        names.KIND: run.key.kind,
        names.NAME: run.key.name,
        names.ATTEMPT: str(attempt),
        names.MANAGED_BY: names.MANAGER,
        names.APP: _APP,
    }


def _queue_labels(run: RunSeen, queue: str | None) -> dict[str, str]:
    if queue is None:
        return {}
    priority = run.labels.get(names.QUEUE_PRIORITY)
    return {names.QUEUE: queue, **({names.QUEUE_PRIORITY: priority} if priority else {})}


def _run_spec(
    run: RunSeen,
    attempt: int,
    storage: Storage,
    *,
    seed: int,
    spec: dict[str, Any],
    inputs: Mapping[str, RunInput] | None = None,
) -> str:
    key = run.key
    return RunSpec(
        kind=cast("KindName", key.kind),
        metadata=RunMetadata(
            namespace=key.namespace, name=key.name, uid=run.uid, labels=run.labels
        ),
        attempt=attempt,
        storage=RunStorage(uri=storage.uri, endpoint=storage.endpoint, region=storage.region),
        seed=seed,
        spec=spec,
        inputs=inputs or {},
    ).to_json()


def _spec_of(run: RunSeen) -> JobSpec:
    if run.spec is None:
        raise RenderError(f"{run.key}: its spec cannot be read: {run.unreadable}")
    return run.spec
