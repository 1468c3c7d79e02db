"""The API client: what it sends, what it repeats, what it refuses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fakeapi import FakeApi
from operator_objects import rlvr, sft
from simtime import simulate

from m2r_operator.client import REQUEST_SECONDS, USER_AGENT, Client, verb_of
from m2r_operator.credentials import Credentials
from m2r_operator.errors import ApiError, NotLeading, Unreachable
from m2r_operator.pacing import TokenBucket
from m2r_operator.resources import JOBS, PODS, RUNS

SFT = RUNS["SFTJob"]


def with_api(test: Callable[[FakeApi, Client], Awaitable[None]], **settings: Any) -> FakeApi:
    """Run a test with a server and a client in simulated time."""
    api = FakeApi()

    async def main() -> None:
        async with api.serve():
            client = Client(api.credentials, **settings)
            try:
                await test(api, client)
            finally:
                await client.close()

    simulate(main)
    return api


def test_a_request_names_its_sender_and_logs_in() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.put("sftjobs", sft())
        assert (await client.get(SFT.path("ns", "ci")))["metadata"]["name"] == "ci"
        headers = api.requests[-1].headers
        assert headers["User-Agent"] == USER_AGENT
        assert re.fullmatch(r"m2r-operator/\d+\.\d+\.\d+", USER_AGENT)
        assert headers["Authorization"] == "Bearer t0ken"

    with_api(test)


def test_a_long_list_comes_in_pages() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        for n in range(7):
            api.put("sftjobs", sft(f"run-{n}"))
        api.page = 3
        pages = [items async for items, _ in client.list(SFT)]
        assert [len(p) for p in pages] == [3, 3, 1]
        assert [i["metadata"]["name"] for p in pages for i in p] == [f"run-{n}" for n in range(7)]

    with_api(test)


def test_a_list_can_be_of_one_namespace_and_by_labels() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        for name, space, label in (("a", "ns", "x"), ("b", "ns", "y"), ("c", "other", "x")):
            api.put(
                "jobs", {"metadata": {"name": name, "namespace": space, "labels": {"l": label}}}
            )
        found = [i async for items, _ in client.list(JOBS, "ns", selector="l=x") for i in items]
        assert [i["metadata"]["name"] for i in found] == ["a"]

    with_api(test)


@pytest.mark.parametrize(
    ("fault", "tries"),
    [
        ({"status": 429, "headers": {"Retry-After": "7"}}, 2),
        ({"status": 503}, 2),
        ({"status": 500}, 2),
        ({"status": 401}, 2),
        ({"lose": True}, 2),
    ],
)
def test_reading_is_repeated_after(fault: dict[str, Any], tries: int) -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.put("sftjobs", sft())
        api.fail("GET .*/sftjobs/ci", **fault)
        assert await client.get(SFT.path("ns", "ci"))
        waited = asyncio.get_running_loop().time()
        assert waited >= 7 if fault.get("headers") else waited < 1

    api = with_api(test)
    assert len(api.requests) >= tries


@pytest.mark.parametrize(
    ("fault", "repeated"),
    [
        ({"status": 429}, True),
        ({"status": 503}, True),
        ({"status": 500}, False),
        ({"status": 403}, False),
        ({"lose": True}, False),
    ],
)
def test_a_write_is_repeated_only_where_it_was_surely_not_done(
    fault: dict[str, Any], repeated: bool
) -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.fail("POST", **fault)
        body = {"metadata": {"name": "j", "namespace": "ns"}}
        if repeated:
            assert (await client.create(JOBS, body))["metadata"]["uid"]
        else:
            with pytest.raises((ApiError, Unreachable)):
                await client.create(JOBS, body)

    api = with_api(test)
    assert len(api.writes()) == (2 if repeated else 1)


def test_a_server_that_goes_on_refusing_is_not_asked_for_ever() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.fail("GET", status=503, times=1000)
        with pytest.raises(ApiError, match="503"):
            await client.get(SFT.path("ns", "ci"))
        assert len(api.requests) == 4

    with_api(test)


def test_a_refusal_tells_what_the_server_said() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        causes = {"details": {"causes": [{"reason": "NamespaceTerminating"}]}}
        api.fail("POST", status=403, body={"message": "being terminated", **causes})
        with pytest.raises(ApiError) as caught:
            await client.create(JOBS, {"metadata": {"name": "j", "namespace": "ns"}})
        assert caught.value.message == "being terminated"
        assert caught.value.terminating
        assert caught.value.refused
        assert "\n" not in str(caught.value)

    with_api(test)


def test_a_page_of_a_proxy_is_no_answer() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.fail("GET", status=502, times=10)
        with pytest.raises(ApiError) as caught:
            await client.get("/apis/x")
        assert caught.value.status == 502

    with_api(test)


def test_a_patch_of_an_old_version_conflicts() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        old = api.put("sftjobs", sft())
        api.change("sftjobs", "ci", status={"attempt": 1})
        with pytest.raises(ApiError, match="409"):
            await client.patch(
                SFT, "ns", "ci", {"status": {"attempt": 2}}, subresource="status",
                resource_version=old["metadata"]["resourceVersion"],
            )  # fmt: skip
        assert (api.get("sftjobs", "ci") or {})["status"] == {"attempt": 1}

    with_api(test)


def test_a_deletion_is_of_one_object_and_not_of_its_name() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        old = api.put("sftjobs", sft())["metadata"]["uid"]
        api.remove("sftjobs", "ci")
        api.put("sftjobs", {**sft(), "metadata": {"name": "ci", "uid": "another"}})
        with pytest.raises(ApiError, match="409"):
            await client.delete(SFT, "ns", "ci", uid=old, propagation="Background")
        assert api.get("sftjobs", "ci")

    with_api(test)


def test_nothing_is_sent_while_another_replica_may_lead() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        for write in (
            client.create(JOBS, {"metadata": {"name": "j", "namespace": "ns"}}),
            client.delete(SFT, "ns", "ci", uid="u", propagation="Background"),
            client.patch(SFT, "ns", "ci", {}, resource_version="1"),
        ):
            with pytest.raises(NotLeading):
                await write
        assert [items async for items, _ in client.list(SFT)] == [[]]

    api = with_api(test, may_write=lambda: 0.0)
    assert api.writes() == []


def test_a_write_ends_before_another_replica_can_lead() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.fail("POST", delay=60.0)
        with pytest.raises(Unreachable):
            await client.create(JOBS, {"metadata": {"name": "j", "namespace": "ns"}})
        assert asyncio.get_running_loop().time() == pytest.approx(3.0, abs=0.2)

    with_api(test, may_write=lambda: 3.0)


def test_a_slow_answer_is_given_up() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.fail("POST", delay=60.0)
        with pytest.raises(Unreachable):
            await client.create(JOBS, {"metadata": {"name": "j", "namespace": "ns"}})
        assert asyncio.get_running_loop().time() == pytest.approx(REQUEST_SECONDS, abs=0.5)

    with_api(test)


def test_a_watch_that_falls_silent_is_given_up() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        api.silent = True
        with pytest.raises(Unreachable):
            async for _ in client.watch(
                PODS, None, since="1", server_seconds=300, silence_seconds=90
            ):
                pass
        assert asyncio.get_running_loop().time() == pytest.approx(90, abs=1)

    with_api(test)


def test_an_event_of_any_length_is_read() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        long = "x" * 1_000_000
        api.put("pods", {"metadata": {"name": "p"}, "status": {"message": long}})
        stream = client.watch(PODS, None, since="1", server_seconds=5, silence_seconds=90)
        events = [e async for e in stream]
        assert [e["type"] for e in events] == ["ADDED", "BOOKMARK"]
        assert events[0]["object"]["status"]["message"] == long

    with_api(test)


def test_many_watches_do_not_use_up_the_connections_of_requests() -> None:
    async def test(api: FakeApi, client: Client) -> None:
        async def follow() -> None:
            async for _ in client.watch(
                PODS, None, since="1", server_seconds=60, silence_seconds=90
            ):
                pass

        tasks = [asyncio.create_task(follow()) for _ in range(80)]
        await asyncio.sleep(1)
        assert sum(r.query.get("watch") == "true" for r in api.requests) == 80
        assert [items async for items, _ in client.list(SFT)] == [[]]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    with_api(test)


def test_requests_are_counted_by_verb_resource_and_class_of_answer() -> None:
    counted: list[tuple[str, str, str]] = []

    async def test(api: FakeApi, client: Client) -> None:
        made = api.put("rlvrjobs", rlvr())
        await client.patch(
            RUNS["RLVRJob"], "ns", "rl", {"status": {"attempt": 1}},
            resource_version=made["metadata"]["resourceVersion"], subresource="status",
        )  # fmt: skip
        with pytest.raises(ApiError):
            await client.get(JOBS.path("ns", "none"))

    with_api(test, count=lambda *args: counted.append(args))
    assert counted == [("patch", "rlvrjobs/status", "2xx"), ("get", "jobs", "4xx")]


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/pods", {}, ("list", "pods")),
        ("GET", "/api/v1/namespaces/a/pods", {"watch": "true"}, ("watch", "pods")),
        ("GET", "/apis/batch/v1/namespaces/a/jobs/b", {}, ("get", "jobs")),
        ("POST", "/apis/batch/v1/namespaces/a/jobs", {}, ("create", "jobs")),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", {}, ("update", "leases")),
        ("DELETE", "/apis/batch/v1/namespaces/a/jobs/b", {}, ("delete", "jobs")),
        ("PATCH", "/apis/m2r.dev/v1alpha1/namespaces/a/sftjobs/b/status", {},
         ("patch", "sftjobs/status")),
        ("GET", "/apis/m2r.dev/v1alpha1", {}, ("get", "discovery")),
        ("GET", "/api", {}, ("get", "discovery")),
    ],
)  # fmt: skip
def test_a_request_is_named_as_kubernetes_names_it(
    method: str, path: str, query: dict[str, str], expected: tuple[str, str]
) -> None:
    assert verb_of(method, path, query) == expected


def test_the_token_bucket_lets_a_burst_through_and_then_paces() -> None:
    async def main() -> None:
        bucket = TokenBucket(rate=10.0, burst=5)
        times = []

        async def one() -> None:
            await bucket.take()
            times.append(round(asyncio.get_running_loop().time(), 3))

        await asyncio.gather(*(one() for _ in range(8)))
        assert times == [0, 0, 0, 0, 0, 0.1, 0.2, 0.3]

    simulate(main)


def test_no_server_at_all_is_unreachable() -> None:
    async def main() -> None:
        client = Client(Credentials(server="http://127.0.0.1:1"))
        with pytest.raises(Unreachable):
            await client.get("/api")
        await client.close()

    simulate(main)
