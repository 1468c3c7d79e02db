"""Carrying a decision out: the only file that writes to runs and their children.

In the order that makes a crash between any two writes harmless (`state.Decision`): the status, if
the run is still what was decided about; then events and figures, which wait for nothing; then
actions, each of which can be repeated. Nothing is read before it is written: a name that is taken,
an object that is gone and a version that is old are answers, not things to look up first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from m2r_operator import manifests, names
from m2r_operator.children import Children
from m2r_operator.client import Client
from m2r_operator.errors import ApiError
from m2r_operator.events import Recorder
from m2r_operator.manifests import RenderError
from m2r_operator.observe import owner_uid
from m2r_operator.resources import JOBS, RUNS, SERVICES, Resource
from m2r_operator.runs import Runs
from m2r_operator.state import (
    Action,
    CreateJob,
    CreatePurge,
    Decision,
    Defaults,
    DeleteJob,
    DeleteRun,
    Measured,
    RunSeen,
)
from m2r_train.api import JobStatus

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """How it went."""

    conflict: bool = False  # the run has changed since: decide again, nothing else was done
    rejected: str = ""  # why the API server, or the rendering, refuses an action
    terminating: bool = False  # because the namespace is being deleted
    acted: bool = False  # an action was accepted


class Rejected(Exception):  # noqa: N818 - an answer of the API server, not a failure of ours
    """An action that cannot be done until somebody changes something."""

    def __init__(self, message: str, *, terminating: bool = False) -> None:
        super().__init__(message)
        self.terminating = terminating


class Applier:
    """Writes what was decided, and puts what comes back into the caches at once."""

    def __init__(
        self,
        client: Client,
        runs: Runs,
        children: Children,
        recorder: Recorder,
        defaults: Defaults,
        measure: Callable[[Measured], None],
    ) -> None:
        self._client, self._runs, self._children = client, runs, children
        self._recorder, self._defaults, self._measure = recorder, defaults, measure

    async def apply(self, run: RunSeen, decision: Decision) -> Applied:
        """Carry out a decision about ``run``.

        Raises ClientError where the same decision may succeed later: it is made anew then.
        """
        acted = False
        try:
            if decision.status is not None:
                run = await self._write_status(run, decision.status)
            self._tell(run, decision)
            for action in decision.actions:
                run = await self._act(run, action)
                acted = True
        except _Conflict:
            await self._read_again(run)
            return Applied(conflict=True)
        except Rejected as error:
            return Applied(rejected=str(error), terminating=error.terminating)
        return Applied(acted=acted)

    def _tell(self, run: RunSeen, decision: Decision) -> None:
        """The status is written, so what it says has happened, whatever becomes of the actions:
        the decision after one that fails finds it said, and would tell it no more."""
        for event in decision.events:
            self._recorder.tell(run, event)
        for measured in decision.measured:
            self._measure(measured)

    async def _write_status(self, run: RunSeen, status: JobStatus) -> RunSeen:
        changes = difference(plain(run.status), plain(status))
        if not changes:
            return run
        return await self._patch(run, {"status": changes}, "status")

    async def _act(self, run: RunSeen, action: Action) -> RunSeen:
        if isinstance(action, CreateJob):
            await self._create_job(run, action)
        elif isinstance(action, CreatePurge):
            await self._create(JOBS, run, manifests.purge_job(run, action, self._defaults))
        elif isinstance(action, DeleteJob):
            await self._delete_job(run, action)
        elif isinstance(action, DeleteRun):
            await self._delete_run(run)
        else:
            finalizers = [f for f in run.finalizers if f != names.FINALIZER]
            if action.present:
                finalizers.append(names.FINALIZER)
            return await self._patch(run, {"metadata": {"finalizers": finalizers}})
        return run

    async def _create_job(self, run: RunSeen, action: CreateJob) -> None:
        try:
            job = manifests.job(run, action, self._defaults)
            service = manifests.service(run)
        except RenderError as error:
            raise Rejected(str(error)) from None
        if service is not None:
            await self._create(SERVICES, run, service)
        await self._create(JOBS, run, job)

    async def _create(self, resource: Resource, run: RunSeen, body: dict[str, Any]) -> None:
        """Make a child, or adopt it where an earlier try has made it."""
        try:
            made = await self._client.create(resource, body)
        except ApiError as error:
            if error.status == 409:
                made = await self._adopt(resource, run, body)
            elif error.refused:
                raise Rejected(error.message, terminating=error.terminating) from error
            else:
                raise
        if resource is JOBS:
            self._children.put_job(made)

    async def _adopt(
        self, resource: Resource, run: RunSeen, body: dict[str, Any]
    ) -> dict[str, Any]:
        """The object that has the name already, if it is this run's."""
        metadata = body["metadata"]
        found = await self._client.get(resource.path(metadata["namespace"], metadata["name"]))
        if owner_uid(found) != run.uid:
            raise Rejected(
                f"{body['kind']} {metadata['name']} belongs to somebody else; "
                "delete it, or give the run another name"
            )
        return found

    async def _delete_job(self, run: RunSeen, action: DeleteJob) -> None:
        """With its pods: it stays, marked as being deleted, until they are gone."""
        deleted = await self._delete(JOBS, run.key.namespace, action.name, action.uid, "Foreground")
        if deleted is None:
            self._children.remove_job(action.uid)
        elif deleted.get("kind") == "Job":
            self._children.put_job(deleted)

    async def _delete_run(self, run: RunSeen) -> None:
        key = run.key
        await self._delete(RUNS[key.kind], key.namespace, key.name, run.uid, "Background")

    async def _delete(
        self, resource: Resource, namespace: str, name: str, uid: str, propagation: str
    ) -> dict[str, Any] | None:
        """Delete an object; None when it, or the one of this uid, is gone already."""
        try:
            return await self._client.delete(
                resource, namespace, name, uid=uid, propagation=propagation
            )
        except ApiError as error:
            if error.status in (404, 409):
                return None
            if error.refused:
                raise Rejected(error.message, terminating=error.terminating) from error
            raise

    async def _patch(self, run: RunSeen, body: dict[str, Any], subresource: str = "") -> RunSeen:
        """Write to the run itself, if it still is the version that was decided about."""
        key = run.key
        try:
            written = await self._client.patch(
                RUNS[key.kind], key.namespace, key.name, body,
                resource_version=run.resource_version, subresource=subresource,
            )  # fmt: skip
        except ApiError as error:
            if error.status in (404, 409):
                raise _Conflict from error
            if error.refused and not subresource:
                raise Rejected(error.message, terminating=error.terminating) from error
            raise
        self._runs.put(key.kind, written)
        return self._runs.get(key) or run

    async def _read_again(self, run: RunSeen) -> None:
        """The run as it is now, for the next decision."""
        key = run.key
        try:
            self._runs.put(
                key.kind, await self._client.get(RUNS[key.kind].path(key.namespace, key.name))
            )
        except ApiError as error:
            if error.status != 404:
                raise
            self._runs.lost(key, run.uid)


class _Conflict(Exception):  # noqa: N818 - an answer
    """The run is not what it was."""


def plain(status: JobStatus) -> dict[str, Any]:
    """A status as it stands in the API server: camelCase, without what is not set."""
    return status.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=False)


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch from ``old`` to ``new``: what is gone becomes null, lists are whole."""
    patch: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            inner = difference(before, value)
            if inner:
                patch[name] = inner
        elif name not in old or before != value:
            patch[name] = value
    return patch
