"""The Jobs and pods of all runs as they were last seen, by owner.

A pod belongs to the Job that controls it and a Job to the run that controls it: uids, not labels,
decide, since anybody may write a label. A pod that disappears stays, as it was last seen, while
its attempt is being judged: its exit code and the mark of its disruption are the evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from m2r_operator import names
from m2r_operator.graves import Graves
from m2r_operator.observe import (
    job_seen,
    labelled_run,
    owner_uid,
    pod_seen,
    uid_of,
    version_of,
)
from m2r_operator.state import JobSeen, Key, PodSeen, RunSeen

GONE_PODS: Final = 1024  # of one Job; the first to go tell why the attempt ended

Object = Mapping[str, Any]
Scope = str | Key | None  # what a list covers: a namespace, a run, or everything


@dataclass(frozen=True, slots=True)
class _Job:
    seen: JobSeen
    owner: str
    namespace: str
    run: Key | None
    version: int


@dataclass(frozen=True, slots=True)
class _Pod:
    seen: PodSeen
    owner: str
    namespace: str
    run: Key | None
    version: int


class Children:
    """What is known of all children. ``changed``: the run that an event is about, by its label."""

    def __init__(self, changed: Callable[[Key], None]) -> None:
        self._changed = changed
        self._jobs: dict[str, _Job] = {}  # by uid
        self._jobs_of: dict[str, set[str]] = defaultdict(set)  # uid of the run
        self._by_name: dict[tuple[str, str], str] = {}  # namespace, name of a Job
        self._pods: dict[str, _Pod] = {}  # by uid
        self._pods_of: dict[str, dict[str, None]] = defaultdict(dict)  # uid of the Job
        self._former: dict[str, set[str]] = defaultdict(set)  # Jobs that are gone, by run
        self._graves = Graves()

    # what is asked

    def of(self, run: RunSeen) -> tuple[tuple[JobSeen, ...], tuple[PodSeen, ...]]:
        """A run's Jobs (and those of others that have their names) and pods."""
        uids = self._jobs_of.get(run.uid, set())
        jobs = [self._jobs[uid].seen for uid in uids]
        jobs += self._foreign(run, {j.name for j in jobs})
        pods = [
            pod.seen
            for job in self._jobs_with_pods(run)
            for pod in (self._pods[uid] for uid in self._pods_of.get(job, ()))
            if pod.namespace == run.key.namespace
        ]
        return (
            tuple(sorted(jobs, key=lambda j: (j.attempt, j.name))),
            tuple(sorted(pods, key=lambda p: (p.attempt, p.index, p.name, p.uid))),
        )

    def forget(self, run: RunSeen, *, ended: bool = False) -> None:
        """Drop gone pods of attempts that are judged: before the present one, or all at the end."""
        for job in self._jobs_with_pods(run):
            for uid in tuple(self._pods_of.get(job, ())):
                pod = self._pods[uid].seen
                if pod.gone and (ended or pod.attempt < run.status.attempt):
                    self._drop_pod(uid)

    def sweep(self, runs: Iterable[RunSeen]) -> None:
        """Drop gone pods that belong to none of ``runs``: theirs went before them."""
        kept = {job for run in runs for job in self._jobs_with_pods(run)}
        for uid, pod in list(self._pods.items()):
            if pod.seen.gone and pod.owner not in kept:
                self._drop_pod(uid)
        for run_uid, jobs in list(self._former.items()):
            if not jobs & self._pods_of.keys():
                del self._former[run_uid]

    def counts(self) -> tuple[int, int]:
        """Jobs and pods that are remembered."""
        return len(self._jobs), len(self._pods)

    # what arrives

    def put_job(self, body: Object) -> None:
        """A Job as the API server has it now."""
        uid, version = uid_of(body), version_of(body)
        known = self._jobs.get(uid)
        if uid in self._graves or (known is not None and version <= known.version):
            return
        job = _Job(
            seen=job_seen(body),
            owner=owner_uid(body),
            namespace=str(body["metadata"].get("namespace") or ""),
            run=labelled_run(body),
            version=version,
        )
        if known is not None and known.owner != job.owner:
            self._jobs_of[known.owner].discard(uid)
        self._jobs[uid] = job
        self._jobs_of[job.owner].add(uid)
        self._by_name[job.namespace, job.seen.name] = uid
        if known is None or known.seen != job.seen or known.owner != job.owner:
            self._tell(job.run)

    def remove_job(self, uid: str) -> None:
        """A Job is gone; its pods may still be there."""
        self._graves.add(uid)
        job = self._jobs.pop(uid, None)
        if job is None:
            return
        owned = self._jobs_of[job.owner]
        owned.discard(uid)
        if not owned:
            del self._jobs_of[job.owner]
        if self._by_name.get((job.namespace, job.seen.name)) == uid:
            del self._by_name[job.namespace, job.seen.name]
        if job.owner and self._pods_of.get(uid):
            self._former[job.owner].add(uid)
        self._tell(job.run)

    def put_pod(self, body: Object) -> None:
        """A pod as the API server has it now."""
        uid, version = uid_of(body), version_of(body)
        known = self._pods.get(uid)
        if known is not None and (version <= known.version or known.seen.gone):
            return
        pod = _Pod(
            seen=pod_seen(body),
            owner=owner_uid(body),
            namespace=str(body["metadata"].get("namespace") or ""),
            run=labelled_run(body),
            version=version,
        )
        if known is not None and known.owner != pod.owner:
            self._drop_pod(uid)
        self._pods[uid] = pod
        self._pods_of[pod.owner][uid] = None
        if known is None or known.seen != pod.seen:
            self._tell(pod.run)

    def remove_pod(self, uid: str, body: Object | None = None) -> None:
        """A pod is gone; ``body``: as it was in its last moment, where the event tells."""
        known = self._pods.get(uid)
        if known is None and body is not None:
            self.put_pod(body)
            known = self._pods.get(uid)
        if known is None or known.seen.gone:
            return
        newer = body is not None and version_of(body) > known.version
        seen = pod_seen(body, gone=True) if newer and body else replace(known.seen, gone=True)
        self._pods[uid] = replace(known, seen=seen)
        gone = sum(self._pods[u].seen.gone for u in self._pods_of[known.owner])
        if known.run is None or gone > GONE_PODS:
            self._drop_pod(uid)
        self._tell(known.run)

    def replace_jobs(self, scope: Scope, bodies: Iterable[Object], version: int) -> None:
        """A full list of a scope's Jobs: what it lacks is gone."""
        listed = set()
        for body in bodies:
            listed.add(uid_of(body))
            self.put_job(body)
        for uid, job in list(self._jobs.items()):
            if uid not in listed and job.version <= version and _within(scope, job):
                self.remove_job(uid)

    def replace_pods(self, scope: Scope, bodies: Iterable[Object], version: int) -> None:
        """A full list of a scope's pods: what it lacks is gone."""
        listed = set()
        for body in bodies:
            listed.add(uid_of(body))
            self.put_pod(body)
        for uid, pod in list(self._pods.items()):
            if uid in listed or pod.seen.gone or pod.version > version:
                continue
            if _within(scope, pod):
                self.remove_pod(uid)

    # inside

    def _foreign(self, run: RunSeen, own: set[str]) -> list[JobSeen]:
        """Jobs of somebody else that have the names which this run's Jobs would get."""
        kind, name = run.key.kind, run.key.name
        wanted = (
            names.job_name(kind, name, max(1, run.status.attempt)),
            names.job_name(kind, name, run.status.attempt + 1),
            names.purge_name(kind, name),
        )
        found = (self._by_name.get((run.key.namespace, n)) for n in set(wanted) - own)
        return [replace(self._jobs[uid].seen, owned=False) for uid in found if uid is not None]

    def _drop_pod(self, uid: str) -> None:
        pod = self._pods.pop(uid)
        siblings = self._pods_of[pod.owner]
        siblings.pop(uid, None)
        if not siblings:
            del self._pods_of[pod.owner]

    def _jobs_with_pods(self, run: RunSeen) -> set[str]:
        """A run's Jobs, also those that are gone; the last one is known even after a restart."""
        status = run.status
        last = {status.job.uid} if status.job is not None else self._lost(run)
        return self._jobs_of.get(run.uid, set()) | self._former.get(run.uid, set()) | last

    def _lost(self, run: RunSeen) -> set[str]:
        """The Job of the present attempt where it went before the status named it, nobody looking:
        what controls the attempt's pods, by their names and labels, if they are not older than the
        run. The attempt has begun, then, and ends with them; that is all they can bring about."""
        key, attempt = run.key, run.status.attempt
        own = (self._jobs[uid].seen.attempt for uid in self._jobs_of.get(run.uid, ()))
        if not attempt or attempt in own:
            return set()
        prefix = f"{names.job_name(key.kind, key.name, attempt)}-"
        return {
            pod.owner
            for pod in self._pods.values()
            if pod.run == key
            and pod.seen.attempt == attempt
            and pod.seen.name.startswith(prefix)
            and pod.owner not in self._jobs
            and not (pod.seen.created and run.created and pod.seen.created < run.created)
        }

    def _tell(self, run: Key | None) -> None:
        if run is not None:
            self._changed(run)


def _within(scope: Scope, child: _Job | _Pod) -> bool:
    if isinstance(scope, Key):
        return child.run == scope
    return scope is None or child.namespace == scope
