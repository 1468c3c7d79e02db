"""Asking the first pod of each live run how it stands: ``GET http://<pod>:9400/status``.

Pull, so that a trainer needs no token and no address of ours. The address is the one that the API
server gives for a pod of ours, never one that a pod names. Answers stay in memory; a run becomes
dirty only when its status would show something new. A pod that does not answer is asked again;
nothing here can hold up the reconciling.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import json
import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import aiohttp

from m2r_operator import names
from m2r_operator.observe import told_of
from m2r_operator.state import Key, Observed, PodSeen, Poll, Told

TIMEOUT_SECONDS: Final = 2.0
LONGEST: Final = 64 * 1024  # bytes of an answer
AT_ONCE: Final = 32

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Target:
    """A pod that is asked."""

    attempt: int
    uid: str
    ip: str


@dataclass(slots=True)
class _Watched:
    target: Target
    poll: Poll
    due: float


class Poller:
    """Asks the pods it was told to `follow`. ``changed``: a run whose status has news."""

    def __init__(
        self,
        changed: Callable[[Key], None],
        *,
        seconds: float,
        port: int = names.PORT,
        count: Callable[[bool], None] = lambda answered: None,
        permitted: Callable[[str], bool] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._changed, self._seconds, self._port, self._count = changed, seconds, port, count
        self._permitted, self._clock = permitted or is_pod_address, now
        self._watched: dict[Key, _Watched] = {}
        self._heap: list[tuple[float, Key]] = []
        self._more = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)

    def __len__(self) -> int:
        return len(self._watched)

    def poll_of(self, key: Key) -> Poll | None:
        """What is known of a run from its pod."""
        watched = self._watched.get(key)
        return watched.poll if watched is not None else None

    def follow(self, key: Key, target: Target | None) -> None:
        """Ask this pod from now on (None: none). The same pod goes on as before."""
        known = self._watched.get(key)
        if known is not None and known.target == target:
            return
        if target is None or not self._permitted(target.ip):
            self._watched.pop(key, None)
            return
        now = asyncio.get_running_loop().time()
        # The first look is soon; later ones are spread over the pause by the pod's identity.
        due = now + min(0.5, self._seconds)
        poll = Poll(attempt=target.attempt, pod_uid=target.uid, told=None)
        self._watched[key] = _Watched(target, poll, due)
        heapq.heappush(self._heap, (due, key))
        self._more.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=AT_ONCE, force_close=True),
                trust_env=False,
                auto_decompress=False,
            ) as session,
            asyncio.TaskGroup() as asking,
        ):
            while True:
                await self._wait()
                now = asyncio.get_running_loop().time()
                while self._heap and self._heap[0][0] <= now:
                    due, key = heapq.heappop(self._heap)
                    watched = self._watched.get(key)
                    if watched is not None and watched.due == due:
                        await self._slots.acquire()
                        asking.create_task(self._ask(session, key, watched))

    async def _wait(self) -> None:
        """Until the next look is due."""
        self._more.clear()
        try:
            pause = self._heap[0][0] - asyncio.get_running_loop().time() if self._heap else None
            async with asyncio.timeout(None if pause is None else max(0.0, pause)):
                await self._more.wait()
        except TimeoutError:
            return

    async def _ask(self, session: aiohttp.ClientSession, key: Key, watched: _Watched) -> None:
        try:
            told = await self._fetch(session, watched.target.ip)
        finally:
            self._slots.release()
        self._count(told is not None)
        if self._watched.get(key) is not watched:  # meanwhile another pod is followed
            return
        before, now = watched.poll, self._clock()
        if told is not None:
            watched.poll = replace(before, told=told, answered=now, failing_since=None)
        else:
            watched.poll = replace(before, failing_since=before.failing_since or now)
        spread = 0.9 + 0.2 * (zlib.crc32(watched.target.uid.encode()) / 2**32)
        watched.due = asyncio.get_running_loop().time() + self._seconds * spread
        heapq.heappush(self._heap, (watched.due, key))
        self._more.set()
        if _shown(before) != _shown(watched.poll):
            self._changed(key)

    async def _fetch(self, session: aiohttp.ClientSession, ip: str) -> Told | None:
        host = f"[{ip}]" if ":" in ip else ip
        try:
            async with session.get(
                f"http://{host}:{self._port}/status",
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                allow_redirects=False,
                headers={"Accept-Encoding": "identity"},
            ) as response:
                if response.status != 200:
                    return None
                return told_of(_document(await _body(response)))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError) as error:
            log.debug("%s: %s", ip, error or type(error).__name__)
            return None


def target_of(seen: Observed) -> Target | None:
    """The pod to ask about a run: index 0 of the present attempt, if it runs."""
    attempt = seen.run.status.attempt
    for pod in seen.newest_of(attempt) if attempt else ():
        if pod.index == 0:
            return _target(pod)
    return None


def is_pod_address(ip: str) -> bool:
    """Whether an address can be a pod's; never this machine, nor a cloud's metadata server."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
    )


def _target(pod: PodSeen) -> Target | None:
    if pod.gone or pod.phase != "Running" or pod.ip is None or pod.exit_code is not None:
        return None
    return Target(pod.attempt, pod.uid, pod.ip)


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(16 * 1024):
        body += chunk
        if len(body) > LONGEST:
            raise ValueError(f"the answer is longer than {LONGEST} bytes")
    return bytes(body)


def _document(body: bytes) -> object:
    return json.loads(body)


def _shown(poll: Poll) -> tuple[object, ...]:
    """What of a poll a status could show."""
    told = poll.told
    failing = poll.failing_since is not None
    if told is None:
        return (None, failing)
    return (told.step, told.total_steps, told.last_checkpoint, told.resumed_from, failing)
