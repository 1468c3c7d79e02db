"""One of several replicas leads: a Lease, renewed in time or given up.

The times are those of Kubernetes' own controllers: a lease holds for 15 s, is renewed every 2 s,
and a leader that could not renew for 10 s stops. Between 10 s and 15 s nobody writes: the client
asks `seconds_left` before each write and bounds the write by it. Others' clocks are never compared
with ours: a lease has expired when *we* have seen it unchanged for its whole duration.

That fences well, not perfectly (a write may linger in the network). What must never happen twice,
counting an attempt, is also guarded by the resource version of the status it is written to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from m2r_operator.client import Client
from m2r_operator.errors import ApiError, ClientError
from m2r_operator.resources import LEASES

DURATION: Final = 15.0
RENEW_WITHIN: Final = 10.0
EVERY: Final = 2.0

Object = dict[str, Any]

log = logging.getLogger(__name__)


class Leader:
    """This replica's bid for the lease. ``client`` must be free to write at any time."""

    def __init__(self, client: Client, namespace: str, name: str, holder: str) -> None:
        self._client = client
        self._namespace, self._name, self._holder = namespace, name, holder
        self._renewed_at = float("-inf")  # when our last successful renewal was *sent*
        self._leads = False
        self._seen: object = None  # the lease as last observed, and when it became so
        self._seen_at = float("-inf")

    def seconds_left(self) -> float:
        """For how long this replica may still write; 0 when it may not."""
        if not self._leads or self._now() - self._renewed_at >= RENEW_WITHIN:
            return 0.0
        return self._renewed_at + DURATION - self._now()

    @property
    def leads(self) -> bool:
        """Whether this replica leads at this moment."""
        return self.seconds_left() > 0

    async def acquire(self) -> None:
        """Wait until this replica leads."""
        log.info("waits for the lease %s/%s as %s", self._namespace, self._name, self._holder)
        while not await self._try():
            await asyncio.sleep(EVERY)
        log.info("leads")

    async def hold(self) -> None:
        """Renew while possible; returns when the lease is lost."""
        while True:
            await asyncio.sleep(min(EVERY, self._time_to_renew()))
            try:
                async with asyncio.timeout(self._time_to_renew()):
                    renewed = await self._try()
            except TimeoutError:
                renewed = False
            if not self._leads or (not renewed and not self.leads):
                self._leads = False
                log.error("the lease %s/%s is lost", self._namespace, self._name)
                return

    def _time_to_renew(self) -> float:
        return max(0.0, self._renewed_at + RENEW_WITHIN - self._now())

    async def release(self) -> None:
        """Give the lease up, so that another replica need not wait for its end."""
        if not self._leads:
            return
        self._leads = False  # from here on nothing is written
        try:
            lease = await self._client.get(LEASES.path(self._namespace, self._name))
            if (lease.get("spec") or {}).get("holderIdentity") == self._holder:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.replace(LEASES, lease)
        except ClientError as error:
            log.warning("the lease could not be given up: %s", error)

    async def _try(self) -> bool:
        """Take or renew the lease, if it is ours, free or expired."""
        sent = self._now()
        try:
            lease = await self._read()
            if lease is None:
                await self._client.create(LEASES, self._new())
            else:
                spec = lease.get("spec") or {}
                if not self._may_take(lease, spec):
                    self._leads = False
                    return False
                lease["spec"] = self._claimed(spec)
                await self._client.replace(LEASES, lease)
        except ApiError as error:
            if error.status == 409:  # another replica was quicker; who leads shows next time
                return False
            log.warning("lease: %s", error)
            return False
        except ClientError as error:
            log.warning("lease: %s", error)
            return False
        self._renewed_at, self._leads = sent, True
        return True

    async def _read(self) -> Object | None:
        try:
            return await self._client.get(LEASES.path(self._namespace, self._name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def _may_take(self, lease: Object, spec: Object) -> bool:
        holder = spec.get("holderIdentity") or ""
        record = (holder, spec.get("renewTime"), (lease.get("metadata") or {}).get("uid"))
        if record != self._seen:
            self._seen, self._seen_at = record, self._now()
        if holder in (
            "",
            self._holder,
        ):  # free, ours, or of the process that ran in this container before
            return True
        return self._expired(spec)

    def _expired(self, spec: Object) -> bool:
        seconds = spec.get("leaseDurationSeconds")
        duration = float(seconds) if isinstance(seconds, int) else DURATION
        return self._now() - self._seen_at >= duration

    def _claimed(self, spec: Object) -> Object:
        changes = int(spec.get("leaseTransitions") or 0)
        ours = spec.get("holderIdentity") == self._holder
        now = _microtime()
        return {
            **spec,
            "holderIdentity": self._holder,
            "leaseDurationSeconds": int(DURATION),
            "renewTime": now,
            "acquireTime": spec.get("acquireTime") if ours else now,
            "leaseTransitions": changes if ours else changes + 1,
        }

    def _new(self) -> Object:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"namespace": self._namespace, "name": self._name},
            "spec": self._claimed({}),
        }

    _now: Callable[[], float] = staticmethod(lambda: asyncio.get_running_loop().time())


def _microtime() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
