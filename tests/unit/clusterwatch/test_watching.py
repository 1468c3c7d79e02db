"""``m2r run --watch`` with the official client against an API server in a thread."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakeapi import FakeApi
from operator_objects import rlvr, sft
from unit.test_imports import m2r

from m2r_train import cli
from m2r_train.clusterwatch import access, watching
from m2r_train.clusterwatch.access import connect


class Server:
    """A `FakeApi` in a thread of its own; ``do`` calls it there."""

    def __init__(self, folder: Path) -> None:
        self.api = FakeApi()
        self._loop = asyncio.new_event_loop()
        self._ready, self._over = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        assert self._ready.wait(10)
        self.kubeconfig = folder / "config"
        self.write_config()

    def write_config(self) -> None:
        """The file to log in with; its context's namespace is ``ns``."""
        context = {"cluster": "c", "user": "u", "namespace": "ns"}
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "here",
                    "clusters": [{"name": "c", "cluster": {"server": self.api.url}}],
                    "users": [{"name": "u", "user": {"token": "t0ken"}}],
                    "contexts": [
                        {"name": "here", "context": context},
                        {"name": "there", "context": {**context, "namespace": "other"}},
                    ],
                }
            )
        )

    async def _serve(self) -> None:
        async with self.api.serve():
            self._ready.set()
            await self._over.wait()

    def do(self, call: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return call()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    def put(self, body: dict[str, Any], plural: str = "rlvrjobs", namespace: str = "ns") -> None:
        body["metadata"].pop("resourceVersion", None)
        body["metadata"]["namespace"] = namespace
        self.do(lambda: self.api.put(plural, body))

    def phase(self, name: str, phase: str) -> None:
        self.do(lambda: self.api.change("rlvrjobs", name, status={"phase": phase}))

    def asked(self, what: str) -> int:
        """How often a watch or a list of RLVRJobs was asked for."""
        return sum(
            r.path.endswith("/rlvrjobs") and bool(r.query.get("watch")) == (what == "watch")
            for r in list(self.api.requests)
        )


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    try:
        yield started
    finally:
        started.close()


def until(probe: Callable[[], Any]) -> None:
    end = time.monotonic() + 20
    while not probe():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.01)


class Watcher:
    """`watch` in a thread; its lines, and how it ended."""

    def __init__(self, server: Server, **options: Any) -> None:
        self.code: int | None = None
        self.error: Exception | None = None
        given = {
            "files": (), "namespace": None, "all_namespaces": False, "context": None,
            "kubeconfig": server.kubeconfig, "until_done": True,
        } | options  # fmt: skip
        self._thread = threading.Thread(target=lambda: self._run(given))
        self._thread.start()

    def _run(self, options: dict[str, Any]) -> None:
        try:
            self.code = watching.watch(**options)
        except Exception as error:
            self.error = error

    def end(self) -> int | None:
        self._thread.join(20)
        assert not self._thread.is_alive(), "it goes on"
        if self.error is not None:
            raise self.error
        return self.code


@pytest.mark.parametrize(("phase", "code"), [("Succeeded", 0), ("Failed", 1)])
def test_it_shows_changes_and_ends_with_the_runs(
    server: Server, capsys: pytest.CaptureFixture[str], phase: str, code: int
) -> None:
    server.put(rlvr("rooms", status={"phase": "Running"}))
    server.put(sft("ci", status={"phase": "Succeeded"}), "sftjobs")
    server.put(rlvr("elsewhere", status={"phase": "Running"}), namespace="other")
    watcher = Watcher(server)
    until(lambda: server.asked("watch"))
    server.phase("rooms", phase)
    assert watcher.end() == code
    assert capsys.readouterr().out.splitlines() == [
        "ns/ci SFTJob Succeeded",
        "ns/rooms RLVRJob Running",
        f"ns/rooms RLVRJob {phase}",
    ]
    assert not any(r.writes for r in server.api.requests), "read-only"


def test_it_goes_on_after_410_and_after_a_connection_that_is_cut(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put(rlvr("rooms", status={"phase": "Running"}))
    watcher = Watcher(server)
    until(lambda: server.asked("watch"))
    server.do(server.api.cut_watches)
    until(lambda: server.asked("watch") == 2)
    assert server.asked("list") == 1, "no answer: what is known still holds"
    server.do(lambda: server.api.fail("GET .*/rlvrjobs", status=503, times=2))
    server.do(server.api.cut_watches)
    server.do(lambda: server.api.remove("rlvrjobs", "rooms", quietly=True))
    server.put(rlvr("later", status={"phase": "Running"}))
    server.do(server.api.compact)
    until(lambda: server.asked("list") >= 2)
    server.phase("later", "Succeeded")
    assert watcher.end() == 1, "one was deleted before its end"
    said = capsys.readouterr()
    assert "ns/rooms RLVRJob Deleted" in said.out
    assert "ns/later RLVRJob Succeeded" in said.out
    assert "503" in said.err


def test_the_last_event_is_shown(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.put(rlvr("rooms", status={"phase": "Running"}))
    uid = server.api.all("rlvrjobs")[0]["metadata"]["uid"]
    told = {"reason": "Evicted", "note": "pods are taken", "eventTime": "2026-01-01T00:00:00Z",
            "metadata": {"name": "e"}, "regarding": {"kind": "RLVRJob", "uid": uid}}  # fmt: skip
    server.do(lambda: server.api.put("events", told))
    watcher = Watcher(server)
    until(lambda: any(r.path.endswith("/events") and r.query.get("watch")
                      for r in list(server.api.requests)))  # fmt: skip
    server.phase("rooms", "Succeeded")
    assert watcher.end() == 0
    assert "- Evicted: pods are taken" in capsys.readouterr().out


def test_without_the_right_to_events_the_runs_are_shown(server: Server) -> None:
    server.do(lambda: server.api.fail("GET .*/events", status=403, times=99))
    server.put(rlvr("rooms", status={"phase": "Succeeded"}))
    assert Watcher(server).end() == 0


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "log in anew"),
        (403, "the rights to list and watch"),
        (404, "install the chart"),
    ],
)
def test_a_refusal_is_one_line_with_its_remedy(server: Server, status: int, words: str) -> None:
    server.do(lambda: server.api.fail("GET .*/rlvrjobs", status=status, times=99))
    with pytest.raises(access.ConfigError, match=words) as refused:
        Watcher(server).end()
    assert "\n" not in str(refused.value)


def test_long_lists_come_page_by_page(server: Server) -> None:
    server.api.page = 2
    for n in range(5):
        server.put(rlvr(f"r{n}"))
    items, version = connect(server.kubeconfig, None).source("RLVRJob", "ns").list()
    assert [i["metadata"]["name"] for i in items] == [f"r{n}" for n in range(5)]
    assert version == str(server.api.version)
    assert server.asked("list") == 3


def test_contexts_and_all_namespaces(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.put(rlvr("here", status={"phase": "Succeeded"}))
    server.put(rlvr("there", status={"phase": "Succeeded"}), namespace="other")
    for options, shown in (
        ({}, ["ns/here"]),
        ({"context": "there"}, ["other/there"]),
        ({"namespace": "other"}, ["other/there"]),
        ({"all_namespaces": True}, ["ns/here", "other/there"]),
    ):
        assert Watcher(server, **options).end() == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == shown


def test_no_runs_at_all_are_no_success(server: Server) -> None:
    with pytest.raises(access.ConfigError, match="no runs in ns; apply some"):
        Watcher(server).end()


def manifest(folder: Path, name: str, **metadata: str) -> Path:
    file = folder / f"{name}.yaml"
    body = rlvr(name)
    body["spec"]["model"] = {"preset": "tiny"}
    body |= {"apiVersion": "m2r.dev/v1alpha1", "metadata": {"name": name, **metadata}}
    del body["status"]
    file.write_text(json.dumps(body))
    return file


def test_the_runs_of_manifests_are_waited_for_and_others_are_not(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.put(rlvr("other", status={"phase": "Running"}))
    watcher = Watcher(server, files=[manifest(tmp_path, "mine")])
    until(lambda: server.asked("watch"))
    server.put(rlvr("mine", status={"phase": "Succeeded"}))
    assert watcher.end() == 0
    said = capsys.readouterr().out.splitlines()
    assert said == ["ns/mine RLVRJob Missing", "ns/mine RLVRJob Succeeded"]


def command(server: Server, *arguments: str) -> list[str]:
    config = ("--kubeconfig", str(server.kubeconfig))
    return [sys.executable, "-m", "m2r_train", "run", "--watch", *config, *arguments]


def test_ctrl_c_ends_it_with_130(server: Server) -> None:
    server.put(rlvr("rooms", status={"phase": "Running"}))
    with subprocess.Popen(
        command(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ns/rooms RLVRJob Running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (130, "", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--until-done", "-f", "x"], "--until-done: only with --watch; add --watch"),
        (["-n", "ns", "-f", "x"], "--namespace: only with --watch; add --watch"),
        (["--watch", "--store", "x"], "--store: not with --watch; leave it out"),
        (["--watch", "--seed", "0"], "--seed: not with --watch; leave it out"),
        (["--watch", "-n", "a", "-A"], "exclude each other; leave out one"),
        ([], "--file: is required; name manifests with -f"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["m2r", "run", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 64
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "", "{}", "a: [", "current-context: x\ncontexts: []"])
def test_a_file_that_is_no_way_to_log_in_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "config"
    if text is not None:
        file.write_text(text)
    with pytest.raises(access.ConfigError, match=r"no way to log in .*; name a file") as refused:
        connect(file, None)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


def test_a_context_that_is_not_there_is_named(server: Server) -> None:
    with pytest.raises(access.ConfigError, match=r"nowhere.*--context"):
        connect(server.kubeconfig, "nowhere")


def test_a_manifest_of_another_namespace_is_refused(server: Server, tmp_path: Path) -> None:
    file = manifest(tmp_path, "mine", namespace="other")
    with pytest.raises(watching.SpecError, match=r"metadata\.namespace: is other and --namespace"):
        Watcher(server, files=[file], namespace="ns").end()


def test_without_the_client_it_says_what_to_install() -> None:
    done = m2r("run", "--watch", blocked=("kubernetes",))
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        "m2r: --watch: kubernetes is blocked in this test; install M2R with its extra watch"
    ]
