"""An API server in this process: enough of Kubernetes' rules to be wrong about nothing we rely on.

Storage with resource versions, names that conflict, merge patches, status as a subresource,
preconditions, paged lists, watches with bookmarks and 410, deletion with finalizers and owners.
``faults`` makes it fail; ``requests`` says what it was asked. The real one is in tests/cluster.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from m2r_operator.credentials import Credentials

Object = dict[str, Any]
PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
KINDS = {
    "jobs": "Job", "pods": "Pod", "services": "Service", "events": "Event", "leases": "Lease",
    "sftjobs": "SFTJob", "rlvrjobs": "RLVRJob", "evaljobs": "EvalJob",
    "datasynthesisjobs": "DataSynthesisJob",
}  # fmt: skip


@dataclass
class Request:
    """One request that came in."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    status: int = 0

    @property
    def writes(self) -> bool:
        """Whether it was meant to change something."""
        return self.method != "GET"


@dataclass
class Fault:
    """What happens to requests instead of, or besides, what they ask for.

    ``status``: answer with it and do nothing. ``lose``: do it and close the connection without an
    answer. ``delay``: seconds before it is done. ``matches``: which; ``times``: how often.
    """

    matches: Callable[[Request], bool]
    status: int = 0
    body: Object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    lose: bool = False
    delay: float = 0.0
    times: int = 1


class FakeApi:
    """The server's state, and its controls for tests."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}  # plural, namespace, name
        self.log: list[tuple[int, str, str, Object]] = []  # version, type, plural, object
        self.version = 100
        self.oldest = 0  # watches from before are told 410
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.kueue = False
        self.missing: set[str] = set()  # plurals that are not installed
        self.bookmark_every = 30.0
        self.silent = False  # watches stay open and say nothing
        self.page = 0  # most objects of a list's page; 0: as asked
        self.url = ""
        self._news = asyncio.Event()
        self._watches: set[asyncio.Task[Any]] = set()
        self._uids = 0

    # controls

    def get(self, plural: str, name: str, namespace: str = "ns") -> Object | None:
        """A copy of an object."""
        return copy.deepcopy(self.objects.get((plural, namespace, name)))

    def all(self, plural: str) -> list[Object]:
        """Copies of all objects of a kind, by name."""
        return [copy.deepcopy(o) for (p, _, _), o in sorted(self.objects.items()) if p == plural]

    def put(self, plural: str, body: Object, *, quietly: bool = False) -> Object:
        """Make or replace an object; ``quietly``: no watch hears of it."""
        meta = body.setdefault("metadata", {})
        meta.setdefault("namespace", "ns")
        key = (plural, meta["namespace"], meta["name"])
        known = self.objects.get(key)
        self.version += 1
        if known is None:
            self._uids += 1
            meta.setdefault("uid", f"{self._uids:08x}-0000-4000-8000-000000000000")
            meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            meta.setdefault("generation", 1)
        elif known.get("spec") != body.get("spec"):
            meta["generation"] = known["metadata"].get("generation", 1) + 1
        meta["resourceVersion"] = str(self.version)
        body = {"kind": KINDS.get(plural, plural), **body}
        self.objects[key] = copy.deepcopy(body)
        if not quietly:
            self._tell("ADDED" if known is None else "MODIFIED", plural, body)
        return copy.deepcopy(body)

    def change(self, plural: str, name: str, namespace: str = "ns", **parts: Any) -> Object:
        """Merge parts (``status={...}``) into an object."""
        body = self.get(plural, name, namespace)
        assert body is not None
        return self.put(plural, merge(body, parts))

    def remove(
        self, plural: str, name: str, namespace: str = "ns", *, quietly: bool = False
    ) -> None:
        """Delete an object for good, then what it owns; ``quietly``: no watch hears of it."""
        body = self.objects.pop((plural, namespace, name))
        self.version += 1
        body["metadata"]["resourceVersion"] = str(self.version)
        if not quietly:
            self._tell("DELETED", plural, body)
        for other, space, own in list(self.objects):
            found = self.objects.get((other, space, own))
            owners = (found or {}).get("metadata", {}).get("ownerReferences") or []
            if any(o["uid"] == body["metadata"]["uid"] for o in owners):
                self.remove(other, own, space, quietly=quietly)

    def compact(self) -> None:
        """Forget history: every watch that is resumed from before is told 410."""
        self.oldest = self.version
        self.log.clear()

    def cut_watches(self) -> None:
        """Break every open watch off."""
        for task in self._watches:
            task.cancel()

    def fail(self, matches: Callable[[Request], bool] | str, **how: Any) -> Fault:
        """Add a fault; a string matches ``METHOD path`` as a regular expression."""
        if isinstance(matches, str):
            pattern = re.compile(matches)
            fault = Fault(lambda r: bool(pattern.search(f"{r.method} {r.path}")), **how)
        else:
            fault = Fault(matches, **how)
        self.faults.append(fault)
        return fault

    def writes(self, what: str = "") -> list[Request]:
        """Requests that were meant to change something, Leases and Events aside."""
        return [
            r for r in self.requests
            if r.writes and "/leases" not in r.path and "/events" not in r.path and what in r.path
        ]  # fmt: skip

    @property
    def credentials(self) -> Credentials:
        """How to log in."""
        return Credentials(server=self.url, token=lambda: "t0ken")

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeApi]:
        """Listen on a free port of this machine."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self.cut_watches()
            await runner.cleanup()

    # requests

    async def _handle(self, raw: web.Request) -> web.StreamResponse:
        text = await raw.text()
        request = Request(
            raw.method, raw.path, dict(raw.query), json.loads(text) if text else None,
            dict(raw.headers),
        )  # fmt: skip
        self.requests.append(request)
        fault = next((f for f in self.faults if f.times and f.matches(request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.delay:
                await asyncio.sleep(fault.delay)
            if fault.status:
                request.status = fault.status
                return web.json_response(
                    status_body(fault.status, "Fault") | fault.body,
                    status=fault.status, headers=fault.headers,
                )  # fmt: skip
        answer = await self._answer(raw, request)
        if fault is not None and fault.lose:
            assert raw.transport is not None
            raw.transport.abort()
        return answer

    async def _answer(self, raw: web.Request, request: Request) -> web.StreamResponse:
        discovered = self._discovery(request.path)
        if discovered is not None:
            return self._reply(request, *discovered)
        found = PATH.fullmatch(request.path)
        if found is None or found["plural"] in self.missing:
            return self._reply(request, 404, status_body(404, "NotFound"))
        if request.query.get("watch"):
            return await self._watch(raw, request, found)
        code, body = self._do(request, found)
        return self._reply(request, code, body)

    def _reply(self, request: Request, code: int, body: Object) -> web.Response:
        request.status = code
        return web.json_response(body, status=code)

    def _discovery(self, path: str) -> tuple[int, Object] | None:
        if path == "/apis/kueue.x-k8s.io":
            return (200, {"kind": "APIGroup"}) if self.kueue else (404, status_body(404, ""))
        if path == "/apis":
            groups = ["m2r.dev", "apiextensions.k8s.io"]
            versions = {"m2r.dev": "v1alpha1", "apiextensions.k8s.io": "v1"}
            return 200, {
                "groups": [
                    {"name": g, "versions": [{"version": versions[g]}],
                     "preferredVersion": {"version": versions[g]}}
                    for g in groups
                ]
            }  # fmt: skip
        if path == "/api":
            return 200, {"versions": ["v1"]}
        if path in ("/api/v1", "/apis/m2r.dev/v1alpha1", "/apis/apiextensions.k8s.io/v1"):
            plurals = {
                "/api/v1": {"namespaces": "Namespace", "events": "Event"},
                "/apis/m2r.dev/v1alpha1": {p: k for p, k in KINDS.items() if k in _OURS},
                "/apis/apiextensions.k8s.io/v1": {
                    "customresourcedefinitions": "CustomResourceDefinition"
                },
            }[path]
            verbs = ["get", "list", "watch", "create", "update", "patch", "delete"]
            return 200, {
                "resources": [
                    {"name": p, "singularName": k.lower(), "kind": k, "namespaced": True,
                     "verbs": verbs}
                    for p, k in plurals.items()
                ]
            }  # fmt: skip
        return None

    def _do(self, request: Request, found: re.Match[str]) -> tuple[int, Object]:  # noqa: PLR0911 - one a verb
        key = (found["plural"], found["namespace"] or "", found["name"] or "")
        if request.method == "POST":
            return self._create(key, request.body)
        if request.method == "GET" and not key[2]:
            return self._list(request, found)
        known = self.objects.get(key)
        if known is None:
            return 404, status_body(404, "NotFound", f"{key[0]} {key[2]!r} not found")
        if request.method == "GET":
            return 200, copy.deepcopy(known)
        if request.method == "DELETE":
            return self._delete(key, known, request.body or {})
        wanted = (request.body.get("metadata") or {}).get("resourceVersion")
        if wanted and wanted != known["metadata"]["resourceVersion"]:
            return 409, status_body(409, "Conflict", "the object has been modified")
        if request.method == "PATCH":
            assert request.headers["Content-Type"] == "application/merge-patch+json"
            new = merge(known, request.body)
        else:
            new = copy.deepcopy(request.body)
        if found["sub"] == "status":
            new = {**known, "status": new.get("status", {})}
        elif key[0] in _WITH_STATUS:
            new["status"] = known.get("status", {})
        new["metadata"] = {**new["metadata"], "uid": known["metadata"]["uid"]}
        if new == known:
            return 200, copy.deepcopy(known)  # as the real one: no change, no new version
        body = self.put(key[0], copy.deepcopy(new))
        if body["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
            self.remove(*(key[0], key[2], key[1]))
        return 200, body

    def _create(self, key: tuple[str, str, str], body: Object) -> tuple[int, Object]:
        name = body["metadata"]["name"]
        if (key[0], key[1], name) in self.objects:
            return 409, status_body(409, "AlreadyExists", f"{key[0]} {name!r} already exists")
        body = copy.deepcopy(body)
        body["metadata"]["namespace"] = key[1]
        return 201, self.put(key[0], body)

    def _delete(
        self, key: tuple[str, str, str], known: Object, options: Object
    ) -> tuple[int, Object]:
        uid = (options.get("preconditions") or {}).get("uid")
        if uid and uid != known["metadata"]["uid"]:
            return 409, status_body(409, "Conflict", "the UID in the precondition does not match")
        owned = [
            o for o in self.objects.values()
            if any(r["uid"] == known["metadata"]["uid"]
                   for r in o["metadata"].get("ownerReferences") or [])
        ]  # fmt: skip
        finalizers = list(known["metadata"].get("finalizers") or [])
        if options.get("propagationPolicy") == "Foreground" and owned:
            finalizers.append("foregroundDeletion")
        if not finalizers:
            self.remove(key[0], key[2], key[1])
            return 200, {"kind": "Status", "status": "Success"}
        marks = {"finalizers": finalizers, "deletionTimestamp": "2026-01-01T00:00:00Z"}
        return 200, self.put(key[0], merge(known, {"metadata": marks}))

    def _list(self, request: Request, found: re.Match[str]) -> tuple[int, Object]:
        items = self._selected(found, request.query.get("labelSelector", ""))
        start = int(request.query.get("continue") or 0)
        limit = self.page or int(request.query.get("limit") or 0) or len(items) or 1
        more = {"continue": str(start + limit)} if start + limit < len(items) else {}
        return 200, {
            "kind": "List",
            "metadata": {"resourceVersion": str(self.version), **more},
            "items": items[start : start + limit],
        }

    def _selected(self, found: re.Match[str], selector: str) -> list[Object]:
        return [
            copy.deepcopy(o)
            for (plural, namespace, _), o in sorted(self.objects.items())
            if plural == found["plural"]
            and found["namespace"] in (None, namespace)
            and selects(selector, o)
        ]

    async def _watch(
        self, raw: web.Request, request: Request, found: re.Match[str]
    ) -> web.StreamResponse:
        request.status = 200
        since = int(request.query.get("resourceVersion") or self.version)
        response = web.StreamResponse()
        response.content_type = "application/json"
        await response.prepare(raw)
        task = asyncio.create_task(self._stream(response, request, found, since))
        self._watches.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if raw.transport is not None:
                raw.transport.abort()
        except ConnectionError:
            pass  # the client has gone
        finally:
            task.cancel()
            self._watches.discard(task)
        return response

    async def _stream(
        self, response: web.StreamResponse, request: Request, found: re.Match[str], since: int
    ) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + float(request.query.get("timeoutSeconds") or 3600)
        selector = request.query.get("labelSelector", "")
        while loop.time() < end:
            if since < self.oldest:
                await _send(response, "ERROR", status_body(410, "Expired", "too old"))
                return
            if not self.silent:
                for version, kind, plural, body in list(self.log):
                    own = found["namespace"] in (None, body["metadata"]["namespace"])
                    wanted = plural == found["plural"] and selects(selector, body)
                    if version > since and own and wanted:
                        await _send(response, kind, body)
                    since = max(since, version)
            news = self._news
            try:
                async with asyncio.timeout(min(self.bookmark_every, end - loop.time())):
                    await news.wait()
            except TimeoutError:
                if not self.silent:
                    meta = {"metadata": {"resourceVersion": str(since)}}
                    await _send(response, "BOOKMARK", meta)

    def _tell(self, kind: str, plural: str, body: Object) -> None:
        self.log.append((self.version, kind, plural, copy.deepcopy(body)))
        self._news.set()
        self._news = asyncio.Event()


_OURS = ("SFTJob", "RLVRJob", "EvalJob", "DataSynthesisJob")
_WITH_STATUS = {p for p, k in KINDS.items() if k in (*_OURS, "Job", "Pod")}


async def _send(response: web.StreamResponse, kind: str, body: Object) -> None:
    await response.write(json.dumps({"type": kind, "object": body}).encode() + b"\n")


def status_body(code: int, reason: str, message: str = "") -> Object:
    """A ``Status``."""
    return {"kind": "Status", "code": code, "reason": reason, "message": message or reason}


def merge(old: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    new = copy.deepcopy(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            new.pop(name, None)
        else:
            new[name] = merge(new.get(name), value)
    return new


def selects(selector: str, body: Object) -> bool:
    """Whether a label selector (``a``, ``a=b``, with commas) selects an object."""
    labels = body["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        name, equals, value = part.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True
