"""The cache of Jobs and pods: whose they are, and what stays of those that are gone."""

from __future__ import annotations

from typing import Any

import pytest
from operator_objects import KEY, job, labels, meta, owned, pod, seen, sft, uid

from m2r_operator import children as module
from m2r_operator.children import Children
from m2r_operator.state import JobSeen, Key, PodSeen


class Cache(Children):
    """Children that note who was called dirty."""

    def __init__(self) -> None:
        self.dirty: list[Key] = []
        super().__init__(self.dirty.append)

    def seen(self, attempt: int = 1, last: str = "") -> tuple[list[JobSeen], list[PodSeen]]:
        status = {"attempt": attempt, **({"job": {"name": "x", "uid": last}} if last else {})}
        jobs, pods = self.of(seen(sft(status=status)))
        return list(jobs), list(pods)


FAILED = {"phase": "Failed", "containerStatuses": [
    {"name": "trainer", "state": {"terminated": {"exitCode": 75}}}]}  # fmt: skip


def test_children_are_found_by_the_uids_of_their_owners() -> None:
    cache = Cache()
    cache.put_pod(pod())  # before its Job: events of two watches have no order
    cache.put_job(job())
    cache.put_job(job("other"))
    cache.put_pod(pod("other"))
    jobs, pods = cache.seen()
    assert [j.name for j in jobs] == ["ci-sftj-1"]
    assert [p.name for p in pods] == ["ci-sftj-1-0"]
    assert cache.dirty[:2] == [KEY, KEY]


def test_a_label_alone_makes_nobodys_child() -> None:
    cache = Cache()
    cache.put_job(job())
    cache.put_pod(pod(owner="somebody"))
    elsewhere = pod(index=1)
    elsewhere["metadata"]["namespace"] = "other"
    cache.put_pod(elsewhere)
    assert cache.seen()[1] == []


def test_a_job_of_somebody_else_that_has_our_name_is_seen_as_such() -> None:
    cache = Cache()
    cache.put_job(job(owner="somebody"))
    jobs, _ = cache.seen()
    assert [(j.name, j.owned) for j in jobs] == [("ci-sftj-1", False)]


def test_older_versions_change_nothing_and_equal_ones_are_no_news() -> None:
    cache = Cache()
    cache.put_job(job(version=10, status={"active": 1}))
    cache.put_job(job(version=9, status={"active": 5}))
    cache.put_job(job(version=11, status={"active": 1}))
    jobs, _ = cache.seen()
    assert jobs[0].active == 1
    assert cache.dirty == [KEY]


def test_a_pod_that_is_deleted_stays_as_it_was_in_its_last_moment() -> None:
    cache = Cache()
    cache.put_job(job())
    cache.put_pod(pod(version=20))
    cache.remove_pod(uid("ci-sftj-1-0"), pod(version=21, status=FAILED))
    (gone,) = cache.seen()[1]
    assert (gone.gone, gone.exit_code, gone.live) == (True, 75, False)
    cache.put_pod(pod(version=19))  # late news
    assert cache.seen()[1] == [gone]


def test_a_pod_that_a_list_lacks_is_gone_as_it_was_last_seen() -> None:
    cache = Cache()
    cache.put_job(job())
    cache.put_pod(pod(version=20, status=FAILED))
    cache.put_pod(pod(index=1, version=50))  # made after the list was read
    cache.replace_pods(None, [], version=40)
    first, second = cache.seen()[1]
    assert (first.gone, first.exit_code, second.gone) == (True, 75, False)


def test_a_list_of_a_namespace_or_of_a_run_says_nothing_of_others() -> None:
    cache = Cache()
    cache.put_job(job())
    cache.put_job(job("other"))
    cache.replace_jobs("elsewhere", [], version=99)
    cache.replace_jobs(Key("SFTJob", "ns", "other"), [], version=99)
    assert cache.counts() == (1, 0)
    assert [j.name for j in cache.seen()[0]] == ["ci-sftj-1"]
    cache.replace_jobs("ns", [], version=99)
    assert cache.counts() == (0, 0)


def test_pods_outlive_their_job_while_they_end() -> None:
    cache = Cache()
    cache.put_job(job())
    cache.put_pod(pod())
    cache.remove_job(uid("ci-sftj-1"))
    jobs, pods = cache.seen()
    assert (jobs, [p.live for p in pods]) == ([], [True])


def test_after_a_restart_pods_of_a_job_that_is_gone_are_known_by_the_status() -> None:
    cache = Cache()
    cache.put_pod(pod())
    assert cache.seen(last=uid("another"))[1] == []
    assert [p.name for p in cache.seen(last=uid("ci-sftj-1"))[1]] == ["ci-sftj-1-0"]


def test_pods_of_a_job_that_went_before_any_status_named_it_are_known_by_name_and_age() -> None:
    cache = Cache()
    cache.put_pod(pod())
    assert [p.name for p in cache.seen()[1]] == ["ci-sftj-1-0"]
    assert cache.seen(attempt=2)[1] == []
    cache.put_job(job())
    cache.put_pod(pod(owner=uid("lost"), index=1))
    assert [p.index for p in cache.seen()[1]] == [0]  # it is there: its uid decides


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another-0"},
        {"labels": labels("another")},
        {"creationTimestamp": "2025-12-31T23:59:59Z"},  # of a run that had the name before
    ],
)
def test_pods_that_only_resemble_those_of_a_lost_job_are_nobodys(changes: dict[str, Any]) -> None:
    run = sft(status={"attempt": 1})
    run["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    for metadata, found in (({}, 1), (changes, 0)):
        cache, one = Cache(), pod(creationTimestamp="2026-01-01T00:00:00Z")
        one["metadata"] |= metadata
        cache.put_pod(one)
        assert len(cache.of(seen(run))[1]) == found


def test_a_deleted_job_does_not_come_back_with_late_news() -> None:
    cache = Cache()
    cache.put_job(job(version=10))
    cache.remove_job(uid("ci-sftj-1"))
    cache.put_job(job(version=9))
    assert cache.seen()[0] == []


def test_gone_pods_are_dropped_once_their_attempt_is_judged() -> None:
    cache = Cache()
    for attempt in (1, 2):
        cache.put_job(job(attempt=attempt))
        cache.put_pod(pod(attempt=attempt))
        cache.remove_pod(uid(f"ci-sftj-{attempt}-0"))
    run = seen(sft(status={"attempt": 2}))
    cache.forget(run)
    assert [p.attempt for p in cache.seen()[1]] == [2]
    cache.forget(run, ended=True)
    assert cache.seen()[1] == []
    assert cache.counts() == (2, 0)


def test_live_pods_of_judged_attempts_are_kept() -> None:
    cache = Cache()
    cache.put_job(job())
    cache.put_pod(pod())
    cache.forget(seen(sft(status={"attempt": 2})), ended=True)
    assert len(cache.seen()[1]) == 1


def test_nothing_stays_of_a_run_that_no_longer_exists() -> None:
    cache = Cache()
    cache.put_job(job())
    cache.put_pod(pod())
    cache.remove_job(uid("ci-sftj-1"))
    cache.remove_pod(uid("ci-sftj-1-0"))
    cache.sweep([])
    assert cache.counts() == (0, 0)
    assert (dict(cache._former), dict(cache._pods_of), dict(cache._jobs_of)) == ({}, {}, {})


def test_the_sweep_keeps_what_a_run_is_still_judged_by() -> None:
    cache = Cache()
    cache.put_pod(pod())
    cache.remove_pod(uid("ci-sftj-1-0"))
    cache.sweep([seen(sft(status={"attempt": 1, "job": {"name": "x", "uid": uid("ci-sftj-1")}}))])
    assert cache.counts() == (0, 1)


def test_the_memory_of_gone_pods_is_bounded_and_the_first_to_go_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "GONE_PODS", 5)
    cache = Cache()
    cache.put_job(job())
    for index in range(20):
        cache.put_pod(pod(index=index))
        cache.remove_pod(uid(f"ci-sftj-1-{index}"))
    assert [p.index for p in cache.seen()[1]] == [0, 1, 2, 3, 4]


def test_the_purge_job_is_attempt_zero() -> None:
    cache = Cache()
    purge = {"metadata": meta("ci-sftj-purge", version=3, labels=labels(attempt=0),
                              ownerReferences=owned(uid("ci"))), "status": {}}  # fmt: skip
    cache.put_job(purge)
    assert [(j.name, j.attempt, j.owned) for j in cache.seen()[0]] == [("ci-sftj-purge", 0, True)]
