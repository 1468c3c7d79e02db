"""Lists, watches, versions that are too old, and servers that are away: no time passes here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from m2r_train.api.errors import ConfigError
from m2r_train.clusterwatch.following import LONGEST_PAUSE, Change, Follower, Lost

Step = list[dict[str, Any]] | Exception


def thing(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, name: str, version: int) -> dict[str, Any]:
    return {"type": kind, "object": thing(name, version)}


EXPIRED = {"type": "ERROR", "object": {"code": 410, "message": "too old"}}


class Script:
    """A server that does one thing after the other, and what it was asked."""

    def __init__(self, lists: list[Step], watches: list[list[dict[str, Any] | Exception]]) -> None:
        self.lists, self.watches = lists, watches
        self.asked: list[str] = []

    def list(self) -> tuple[list[dict[str, Any]], str]:
        self.asked.append("list")
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer, "10"

    def watch(self, version: str) -> Iterator[dict[str, Any]]:
        self.asked.append(f"watch {version}")
        for step in self.watches.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step


def follow(script: Script, turns: int) -> tuple[list[Change], list[float]]:
    changes: list[Change] = []
    pauses: list[float] = []
    follower = Follower(script, changes.append, sleep=pauses.append)
    for _ in range(turns):
        follower.turn()
    return changes, pauses


def told(changes: list[Change]) -> list[str]:
    return [
        f"{c.what} {','.join(o['metadata']['name'] for o in c.objects)}".strip() for c in changes
    ]


def test_a_watch_goes_on_from_the_last_version_bookmarks_included() -> None:
    script = Script(
        [[thing("a", 9)]],
        [
            [event("ADDED", "b", 11), event("MODIFIED", "a", 12), event("DELETED", "b", 13)],
            [event("BOOKMARK", "", 20)],
            [event("ADDED", "c", 21)],
        ],
    )
    changes, pauses = follow(script, 3)
    assert script.asked == ["list", "watch 10", "watch 13", "watch 20"]
    assert told(changes) == ["all a", "put b", "put a", "remove b", "put c"]
    assert pauses == []


@pytest.mark.parametrize("expired", [EXPIRED, Lost("gone", 410)])
def test_a_version_that_is_too_old_asks_for_a_new_list_at_once(expired: Any) -> None:
    script = Script([[thing("a", 9)], [thing("b", 30)]], [[expired], [event("ADDED", "c", 31)]])
    changes, pauses = follow(script, 2)
    assert script.asked == ["list", "watch 10", "list", "watch 10"]
    assert told(changes) == ["all a", "all b", "put c"]
    assert pauses == []


def test_a_server_that_says_410_for_ever_is_asked_with_growing_pauses() -> None:
    script = Script([[]] * 6, [[EXPIRED]] * 6)
    _, pauses = follow(script, 6)
    assert len(pauses) == 5
    assert pauses[-1] > pauses[0]


def test_a_lost_connection_costs_a_pause_and_nothing_that_is_known() -> None:
    script = Script(
        [[thing("a", 9)]],
        [[event("ADDED", "b", 11), Lost("connection lost")], [event("ADDED", "c", 12)]],
    )
    changes, pauses = follow(script, 2)
    assert script.asked == ["list", "watch 10", "watch 11"]
    assert told(changes) == ["all a", "put b", "lost", "put c", "back"]
    assert len(pauses) == 1


def test_while_the_server_is_away_pauses_grow_to_a_bound_and_shrink_again_after() -> None:
    away: list[Step] = [Lost("no answer")] * 12
    watches: list[list[dict[str, Any] | Exception]] = [
        [event("ADDED", "a", 11), Lost("cut")],
        [event("ADDED", "a", 12)],
    ]
    changes, pauses = follow(Script([*away, []], watches), 14)
    grown, after = pauses[:12], pauses[12:]
    assert grown[0] <= 0.5 < grown[3] < grown[8] <= LONGEST_PAUSE
    assert LONGEST_PAUSE / 2 <= grown[-1] <= LONGEST_PAUSE
    assert after[0] <= 0.5
    assert told(changes)[11:14] == ["lost", "all", "back"]


def test_a_server_that_ends_each_watch_at_once_is_not_asked_without_a_pause() -> None:
    _, pauses = follow(Script([[]], [[]] * 5), 5)
    assert len(pauses) == 5


def test_another_error_in_a_watch_lists_anew_after_a_pause() -> None:
    error = {"type": "ERROR", "object": {"code": 500, "message": "etcd"}}
    script = Script([[], []], [[error], []])
    _, pauses = follow(script, 2)
    assert script.asked[2] == "list"
    assert len(pauses) == 2  # after the error, and after the quiet watch


def test_what_asking_again_cannot_help_ends_it() -> None:
    script = Script([ConfigError("forbidden")], [])
    follower = Follower(script, print, sleep=print)
    with pytest.raises(ConfigError):
        follower.run(lambda: False)
    assert script.asked == ["list"]


def test_it_ends_when_it_is_stopped() -> None:
    script = Script([[]], [[]])
    stops = iter((False, True))
    Follower(script, lambda _: None, sleep=lambda _: None).run(lambda: next(stops))
    assert script.asked == ["list", "watch 10"]
