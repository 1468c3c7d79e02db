"""Keeping a resource up to date: list, then watch from there, for ever.

The rules of the API's watches: a watch goes on from the last version that was seen (bookmarks move
it too); a version that is too old is answered with 410 and asks for a new list; a connection that
is lost costs nothing but a pause, which grows while the server is away.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from m2r_train.core.rng import derive_seed

FIRST_PAUSE: Final = 0.5  # seconds
LONGEST_PAUSE: Final = 30.0
GONE: Final = 410

Object = Mapping[str, Any]


class Lost(Exception):  # noqa: N818 - an answer, or none; it is asked again
    """The server did not answer, or not with what was asked: tried again after a pause."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Source(Protocol):
    """One resource in the cluster, or in one namespace of it."""

    def list(self) -> tuple[list[dict[str, Any]], str]:
        """All objects, and the version that they are of. Raises `Lost`."""
        ...

    def watch(self, version: str) -> Iterator[dict[str, Any]]:
        """Watch events since a version, until the server ends it. Raises `Lost`."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """News: all objects (``all``), one that is as it is now (``put``), one that is gone
    (``remove``), or that the server is away or back (``lost``, ``back``, told in ``words``)."""

    what: Literal["all", "put", "remove", "lost", "back"]
    objects: tuple[Object, ...] = ()
    words: str = ""


class Follower:
    """The changes of one resource, told to ``tell`` one after the other."""

    def __init__(
        self,
        source: Source,
        tell: Callable[[Change], None],
        *,
        sleep: Callable[[float], object],
        name: str = "",
    ) -> None:
        self._source, self._tell, self._sleep = source, tell, sleep
        self._version = ""  # of the last news; empty: everything must be listed
        self._failures = 0  # in a row; only what a watch brings ends the row
        self._away = False  # "lost" was the last word
        self._expired = False  # told 410, and nothing since
        self._random = random.Random(derive_seed(0, "clusterwatch", name))

    def run(self, stopped: Callable[[], bool]) -> None:
        """Until it is stopped; ends by what `Source` raises besides `Lost`, too."""
        while not stopped():
            self.turn()

    def turn(self) -> None:
        """A list, if one is due, and a watch until it ends."""
        try:
            if not self._version:
                objects, self._version = self._source.list()
                self._tell(Change("all", tuple(objects)))
                self._answered()
            quiet = True
            for event in self._source.watch(self._version):
                self._take(event)
                self._answered()
                self._failures, self._expired, quiet = 0, False, False
            if quiet:  # a server that ends each watch at once is not asked without a pause
                self._sleep(FIRST_PAUSE)
        except Lost as lost:
            self._pause(lost)

    def _take(self, event: Mapping[str, Any]) -> None:
        kind, body = event.get("type"), event.get("object")
        body = body if isinstance(body, Mapping) else {}
        if kind == "ERROR":
            raise Lost(str(body.get("message") or "error"), _code(body))
        version = (body.get("metadata") or {}).get("resourceVersion")
        if kind in ("ADDED", "MODIFIED"):
            self._tell(Change("put", (body,)))
        elif kind == "DELETED":
            self._tell(Change("remove", (body,)))
        if isinstance(version, str) and version:
            self._version = version

    def _answered(self) -> None:
        if self._away:
            self._away = False
            self._tell(Change("back"))

    def _pause(self, lost: Lost) -> None:
        if lost.status:  # an answer: what is known may be wrong. No answer: the version still holds
            self._version = ""
        if lost.status == GONE and not self._expired:
            self._expired = True  # listed at once; but where 410 follows on 410, after a pause
            return
        self._failures += 1
        self._away = True
        self._tell(Change("lost", words=str(lost)))
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 30))
        self._sleep(longest * self._random.uniform(0.5, 1.0))


def _code(body: Object) -> int:
    code = body.get("code")
    return code if isinstance(code, int) else 500
