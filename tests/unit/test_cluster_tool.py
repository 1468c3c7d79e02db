"""The parts of the node's tool that need no node: builds, processes, cgroups, images, audit."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gotools
import pytest
import setup_env
from cluster import (
    ClusterError,
    audit,
    cgroups,
    cli,
    components,
    configs,
    images,
    lifecycle,
    node,
    parts,
    processes,
    scraping,
)
from cluster.kubectl import Kubectl
from cluster.layout import COMPONENTS, LONGEST_STATE, Layout, state_dir


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's cache or cluster is seen or changed."""
    monkeypatch.setenv("M2R_CACHE", str(tmp_path / "cache"))
    for name in ("KUBECONFIG", "KUBEBUILDER_ASSETS", "M2R_CLUSTER_DIR"):
        monkeypatch.delenv(name, raising=False)


# gotools ------------------------------------------------------------------------------------------


class Builds:
    """Stands in for the Go command: writes what it is asked for, or fails after a part of it."""

    def __init__(self, *, fails: bool = False) -> None:
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.fails = fails

    def __call__(self, command: list[str], *, env: dict[str, str], cwd: Path | None = None) -> None:
        self.commands.append(command)
        self.environments.append(env)
        name = command[-1].split("@")[0].split("/")[-1]
        output = Path(command[command.index("-o") + 1] if cwd else f"{env['GOBIN']}/{name}")
        output.write_text("half")
        if self.fails:
            raise setup_env.SetupError("go build failed")
        output.write_text("whole")


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    made = Builds()
    monkeypatch.setattr(gotools, "run", made)
    monkeypatch.setattr(gotools, "go", lambda: Path("go"))
    return made


@pytest.mark.parametrize(("name", "words"), [
    ("helm", ["install", "helm.sh/helm/v4/cmd/helm@v4.3.1"]),
    ("helm3", ["install", "helm.sh/helm/v3/cmd/helm@v3.22.0"]),
    ("kubelet", ["build", "-mod=readonly", "k8s.io/kubernetes/cmd/kubelet"]),
    ("toolbox", ["build", "./toolbox"]),
])  # fmt: skip
def test_a_tool_is_built_once_from_what_is_pinned(
    builds: Builds, name: str, words: list[str]
) -> None:
    first = gotools.build(name)
    assert first.read_text() == "whole"
    assert gotools.build(name) == first
    (command,) = builds.commands
    assert [word for word in words if word not in command] == []
    assert builds.environments[0]["CGO_ENABLED"] == "0"


def test_kubernetes_knows_its_version(builds: Builds) -> None:
    gotools.build("kube-apiserver")
    (flags,) = [word for word in builds.commands[0] if word.startswith("-ldflags=")]
    assert flags.startswith("-ldflags=-s -w ")
    assert f"version.gitVersion=v{gotools.KUBERNETES}" in flags


def test_builders_wait_for_each_other_and_only_one_builds(builds: Builds) -> None:
    threads = [threading.Thread(target=gotools.build, args=("versitygw",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(builds.commands) == 1


def test_a_half_made_build_is_never_used(builds: Builds) -> None:
    builds.fails = True
    with pytest.raises(setup_env.SetupError):
        gotools.build("pause")
    assert not gotools.path("pause").exists()
    assert list(gotools.path("pause").parent.iterdir()) == []
    builds.fails = False
    assert gotools.build("pause").read_text() == "whole"


def test_another_go_mod_or_source_is_another_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    (folder / "main").mkdir(parents=True)
    monkeypatch.setattr(gotools, "ROOT", tmp_path)
    monkeypatch.setitem(gotools.TOOLS, "mine", gotools.Tool("./main", "1", "mine"))
    paths = []
    for file, text in (("go.mod", "a"), ("go.mod", "b"), ("go.sum", "c"), ("main/main.go", "d")):
        (folder / file).write_text(text)
        paths.append(gotools.path("mine"))
    assert len(set(paths)) == 4


def test_a_binary_that_the_developer_has_is_used(
    builds: Builds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "kubectl"
    own.touch(mode=0o755)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    assert gotools.build("kubectl") == own
    assert gotools.build("kubelet") != tmp_path / "kubelet"  # not there, so it is built
    assert len(builds.commands) == 1


def test_an_unknown_tool_is_named_with_those_that_exist() -> None:
    with pytest.raises(setup_env.SetupError, match=r"no tool `kubctl`: choose from .*kubectl"):
        gotools.build("kubctl")


def test_the_toolchain_of_the_package_is_found_rather_than_its_launcher(tmp_path: Path) -> None:
    for name in ("bin/go", "go/bin/go"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    assert gotools.find_go(tmp_path) == tmp_path / "go/bin/go"
    assert gotools.find_go(tmp_path / "nowhere") is None


def test_a_build_that_fails_shows_the_end_of_its_output() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such module')"]
    with pytest.raises(setup_env.SetupError, match=r"failed \(1\)(.|\n)*no such module"):
        gotools.run(command, env=dict(os.environ))


# layout and configuration -------------------------------------------------------------------------


def test_clusters_side_by_side_share_neither_addresses_nor_names() -> None:
    one, two = Layout(Path("/a"), 0), Layout(Path("/b"), 1)
    for name in ("link", "cgroup", "host_address", "node_address", "pod_subnet", "service_subnet"):
        assert getattr(one, name) != getattr(two, name), name


def test_a_link_has_a_name_that_linux_takes() -> None:
    assert max(len(Layout(Path("/"), slot).link) for slot in range(16)) <= 15


def test_the_state_directory_is_given_or_taken_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert state_dir() == Path("/var/lib/m2r-cluster")
    monkeypatch.setenv("M2R_CLUSTER_DIR", "/run/other")
    assert state_dir() == Path("/run/other")
    assert state_dir(Path("/run/given")) == Path("/run/given")


def test_a_state_directory_too_long_for_sockets_is_refused() -> None:
    longest = Path("/" + "a" * (LONGEST_STATE - 1))
    assert state_dir(longest) == longest
    with pytest.raises(ClusterError, match="choose a shorter M2R_CLUSTER_DIR"):
        state_dir(Path(f"{longest}b"))


def test_all_configuration_files_are_written_and_readable(tmp_path: Path) -> None:
    import tomllib

    layout = Layout(tmp_path / 'odd "name', 0)
    configs.write(layout, Path("/usr/lib/cni"))
    for name in configs.FILES:
        assert json.loads(layout.config(name).read_text()), name
    containerd = tomllib.loads(layout.config("containerd.toml").read_text())
    assert containerd["grpc"]["address"] == str(layout.socket)
    assert containerd["root"].startswith(str(layout.state))
    assert containerd["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"] == parts.PAUSE


def test_containers_are_put_into_the_cgroup_that_is_removed_later() -> None:
    layout = Layout(Path("/a"), 3)
    config = configs.kubelet(layout)
    assert config["cgroupRoot"] == f"/{layout.cgroup}"
    assert config["cgroupsPerQOS"] is True  # else containerd chooses a place of its own


def test_the_node_does_not_start_without_its_own_folders(tmp_path: Path) -> None:
    script = node.setup_script(Layout(tmp_path, 0))
    assert script.startswith("set -eu\n")
    for target in ("/var/lib/kubelet", "/run/containerd", "/run/netns"):
        assert f"{target}\n" in script


# processes ----------------------------------------------------------------------------------------


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A layout whose cgroup is a plain file that takes any process."""
    monkeypatch.setattr(cgroups, "procs_file", lambda name: tmp_path / "procs")
    return Layout(tmp_path / "state", 0)


@pytest.fixture
def sleeper(layout: Layout) -> Iterator[processes.Process]:
    processes.launch(layout, "etcd", ["sleep", "300"])
    found = processes.find(layout, "etcd")
    assert found is not None
    yield found
    found.signal(signal.SIGKILL)


def test_a_process_is_found_again_and_ended(layout: Layout, sleeper: processes.Process) -> None:
    assert processes.alive(layout, "etcd")
    processes.end(layout, "etcd", kill=False)
    assert not processes.alive(layout, "etcd")
    processes.end(layout, "etcd", kill=True)  # nothing to do


def test_a_process_that_ignores_sigterm_is_killed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 0.5)
    ready = layout.state / "ready"
    script = f"trap '' TERM; touch {ready}; while :; do sleep 1; done"
    processes.launch(layout, "etcd", ["sh", "-c", script])
    assert processes.wait_until(ready.exists, 10)
    processes.end(layout, "etcd", kill=False)
    assert not processes.alive(layout, "etcd")


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_a_reused_process_id_is_never_signalled(
    layout: Layout, sleeper: processes.Process, change: dict[str, Any]
) -> None:
    record = layout.record("etcd")
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    assert not processes.alive(layout, "etcd")
    processes.end(layout, "etcd", kill=True)
    assert sleeper.alive


def test_a_process_joins_the_cgroup_before_it_becomes_the_program(
    layout: Layout, sleeper: processes.Process, tmp_path: Path
) -> None:
    assert (tmp_path / "procs").read_text() == "0\n"


@pytest.mark.parametrize("argv", [["false"], ["/no/such/program"]])
def test_a_program_that_ends_at_once_is_not_alive(layout: Layout, argv: list[str]) -> None:
    try:
        processes.launch(layout, "etcd", argv)
    except ClusterError as error:
        assert "etcd" in str(error)
    assert processes.wait_until(lambda: not processes.alive(layout, "etcd"), 5)


def test_a_torn_record_says_how_to_go_on(layout: Layout) -> None:
    layout.record("etcd").parent.mkdir(parents=True)
    layout.record("etcd").write_text("{")
    with pytest.raises(ClusterError, match="make cluster-down"):
        processes.find(layout, "etcd")


# cgroups ------------------------------------------------------------------------------------------


@pytest.fixture
def hierarchy(tmp_path: Path) -> Path:
    """Two hierarchies of cgroup v1, as plain folders."""
    for name in ("cpu", "pids"):
        (tmp_path / "fs" / name).mkdir(parents=True)
        (tmp_path / "fs" / name / "cgroup.procs").touch()
    return tmp_path / "fs"


def test_a_cgroup_is_made_in_each_hierarchy_and_joined_in_one(hierarchy: Path) -> None:
    cgroups.make("name", hierarchy)
    assert cgroups.exists("name", hierarchy)
    assert (hierarchy / "cpu" / "name").is_dir()
    assert cgroups.procs_file("name", hierarchy) == hierarchy / "pids/name/host/cgroup.procs"


def test_with_cgroup_v2_there_is_one_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "cgroup.procs").touch()
    assert cgroups.hierarchies(tmp_path) == [tmp_path]
    cgroups.make("name", tmp_path)
    assert cgroups.procs_file("name", tmp_path) == tmp_path / "name/host/cgroup.procs"


def test_members_are_found_at_any_depth(hierarchy: Path) -> None:
    for place, pid in (("pids/name/host", 11), ("cpu/name/kubepods/a/b", 12), ("cpu/other", 13)):
        (hierarchy / place).mkdir(parents=True)
        (hierarchy / place / "cgroup.procs").write_text(f"{pid}\n")
    assert cgroups.members("name", hierarchy) == {11, 12}


def test_removing_a_cgroup_kills_what_is_in_it(
    hierarchy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cgroups.make("name", hierarchy)
    (hierarchy / "cpu/name/kubepods/deep").mkdir(parents=True)
    with subprocess.Popen(["sleep", "300"]) as child:
        left = [{child.pid}, {child.pid}, set[int]()]
        monkeypatch.setattr(cgroups, "members", lambda name, root: left.pop(0))
        cgroups.remove("name", hierarchy)
        assert child.wait(10) == -signal.SIGKILL
    assert not cgroups.exists("name", hierarchy)


def test_a_machine_without_cgroups_says_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="mount the cgroup file systems"):
        cgroups.make("name", tmp_path)


# packages -----------------------------------------------------------------------------------------


def test_what_a_fresh_machine_lacks_is_named_once_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_find", lambda name: None)
    monkeypatch.setattr(parts, "_cni", lambda: None)
    missing = parts.missing_packages(prometheus=True)
    assert missing == sorted(set(missing))
    wanted = {"etcd-server", "containerd", "containernetworking-plugins", "prometheus", "openssl"}
    assert wanted <= set(missing)
    assert "prometheus" not in parts.missing_packages()


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An apt-get that knows packages after an update only; returns its calls."""
    calls: list[str] = []

    def run(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        calls.append(next(word for word in arguments if word in ("install", "update")))
        assert parts.POLICY.exists(), "services would be started"
        failed = calls == ["install"]
        return subprocess.CompletedProcess(arguments, int(failed), "", "Unable to locate package")

    monkeypatch.setattr(parts, "_apt", run)
    monkeypatch.setattr(parts, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(parts.shutil, "which", lambda name: "/usr/bin/apt-get")
    monkeypatch.setattr(parts.os, "geteuid", lambda: 0)
    return calls


def test_packages_are_installed_after_an_update_and_start_no_service(
    apt: list[str], tmp_path: Path
) -> None:
    parts.install(["runc"])
    assert apt == ["install", "update", "install"]
    assert not (tmp_path / "policy-rc.d").exists()


def test_nothing_missing_asks_nobody(apt: list[str]) -> None:
    parts.install([])
    assert apt == []


def test_without_root_the_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.os, "geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match="missing: conntrack runc: install these packages"):
        parts.install(["conntrack", "runc"])
    with pytest.raises(ClusterError, match="needs root"):
        parts.check_machine()


# images, audit, scraping --------------------------------------------------------------------------


def test_an_image_holds_the_binary_and_is_the_same_each_time(tmp_path: Path) -> None:
    binary = tmp_path / "tool"
    binary.write_bytes(b"program")
    archives = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for archive in archives:
        images.write_archive(archive, "m2r.dev/tool:1", binary, "aarch64")
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as archive:

        def load(name: str) -> Any:
            file = archive.extractfile(name)
            assert file is not None
            return json.load(file)

        (manifest,) = load("manifest.json")
        assert manifest["RepoTags"] == ["m2r.dev/tool:1"]
        config = load(manifest["Config"])
        assert config["architecture"] == "arm64"
        assert config["config"]["Entrypoint"] == ["/tool"]
        assert config["config"]["User"] == "65532:65532"
        with tarfile.open(fileobj=archive.extractfile(manifest["Layers"][0])) as layer:
            assert layer.getmember("tool").mode == 0o755
            assert layer.getmember("tmp").mode == 0o1777


def event(verb: str, resource: str, **more: Any) -> dict[str, Any]:
    base = {
        "verb": verb,
        "objectRef": {"resource": resource},
        "user": {"username": "operator"},
        "userAgent": "m2r-operator/1",
        "requestReceivedTimestamp": "2026-01-01T00:00:10.000000Z",
    }
    return {**base, **more}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.log"
    events = [
        event("create", "jobs"),
        event("patch", "pods", objectRef={"resource": "pods", "subresource": "status"}),
        event("get", "pods"),
        event("create", "jobs", userAgent="kubectl/v1"),
        event("delete", "jobs", user={"username": "admin"}),
        event("create", "jobs", requestReceivedTimestamp="2026-01-01T00:00:00.000000Z"),
        {key: value for key, value in event("create", "-").items() if key != "objectRef"},
    ]
    path.write_text("".join(json.dumps(item) + "\n" for item in events) + '{"verb": "cre')
    return path


@pytest.mark.parametrize(("choice", "expected"), [
    ({}, {("create", "jobs"): 3, ("patch", "pods/status"): 1, ("delete", "jobs"): 1}),
    ({"user_agent": "m2r-"},
     {("create", "jobs"): 2, ("patch", "pods/status"): 1, ("delete", "jobs"): 1}),
    ({"user": "admin"}, {("delete", "jobs"): 1}),
    ({"since": datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC), "user_agent": "m2r-", "user": "operator"},
     {("create", "jobs"): 1, ("patch", "pods/status"): 1}),
])  # fmt: skip
def test_writes_are_counted_by_who_and_when(
    log: Path, choice: dict[str, Any], expected: dict[tuple[str, str], int]
) -> None:
    assert audit.writes(log, **choice) == expected


def test_only_annotated_pods_with_an_address_are_scraped() -> None:
    wanted = {"prometheus.io/scrape": "true", "prometheus.io/port": "9100"}
    pods = [
        {"metadata": {"name": name, "namespace": "n", **metadata}, "status": status}
        for name, metadata, status in [
            ("a", {"annotations": wanted, "labels": {"m2r.dev/run": "r"}}, {"podIP": "10.0.0.1"}),
            ("pending", {"annotations": wanted}, {}),
            ("silent", {}, {"podIP": "10.0.0.2"}),
        ]
    ]
    (target,) = scraping.targets(pods)
    assert target["targets"] == ["10.0.0.1:9100"]
    assert target["labels"] == {
        "m2r_dev_run": "r",
        "namespace": "n",
        "pod": "a",
        "__metrics_path__": "/metrics",
    }


# command line and life ----------------------------------------------------------------------------


def test_waiting_treats_an_error_of_the_cluster_as_not_yet(tmp_path: Path) -> None:
    answers: list[Any] = [ClusterError("refused"), None, "there"]

    def probe() -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, ClusterError):
            raise answer
        return answer  # type: ignore[no-any-return]

    assert Kubectl(tmp_path).wait("it answers", probe, seconds=5, every=0) == "there"


def test_waiting_in_vain_names_the_last_error(tmp_path: Path) -> None:
    def probe() -> None:
        raise ClusterError("connection refused")

    with pytest.raises(AssertionError, match=r"it answers \(last: connection refused\)"):
        Kubectl(tmp_path).wait("it answers", probe, seconds=0, every=0)


def test_kubectl_joins_the_cgroup_of_its_cluster_and_runs_also_where_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.kubectl.tool", lambda _name: Path("/bin/echo"))
    procs = tmp_path / "cgroup.procs"
    ours = Kubectl(tmp_path, cgroup=procs)
    assert "get pods" in ours.kubectl("get", "pods")
    assert procs.read_text() == "0\n"  # the writer itself, which then becomes kubectl
    gone = Kubectl(tmp_path, cgroup=tmp_path / "gone" / "cgroup.procs")
    assert "get pods" in gone.kubectl("get", "pods")


def test_whether_a_node_can_run_here_is_asked_unless_another_cluster_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(parts.os, "geteuid", lambda: 1000)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert cli.main(["check"]) == 1
    assert "needs root" in capsys.readouterr().err
    monkeypatch.setenv("KUBECONFIG", "/somewhere/config")
    assert cli.main(["check"]) == 0


def test_a_cluster_that_is_not_there_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("M2R_CLUSTER_DIR", "/run/no-such-cluster")
    assert cli.main(["status"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("cluster: no cluster runs in ")
    assert error.count("\n") == 1


def test_a_folder_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ClusterError, match=r"is not empty \(thesis.txt\)"):
        lifecycle._claim(tmp_path)


def test_a_record_that_was_torn_does_not_stand_in_the_way(tmp_path: Path) -> None:
    (tmp_path / lifecycle.TORN_RECORD).touch()
    lifecycle._claim(tmp_path)


def test_the_record_is_the_last_thing_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    (state / "data").mkdir(parents=True)
    for name in (lifecycle.RECORD, "audit.log"):
        (state / name).touch()

    def interrupted(path: Path) -> None:
        assert path == state, "parts go before the whole"
        assert [left.name for left in state.iterdir()] == [lifecycle.RECORD]
        raise KeyboardInterrupt

    real = lifecycle.shutil.rmtree
    monkeypatch.setattr(
        lifecycle.shutil,
        "rmtree",
        lambda path: interrupted(path) if path == state else real(path),
    )
    with pytest.raises(KeyboardInterrupt):
        lifecycle._erase(state)


def test_a_socket_counts_once_somebody_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert not components.listens(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert not components.listens(path), "the file alone proves nothing"
        server.listen()
        assert components.listens(path)


def test_every_component_can_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "tool", lambda name: Path("/cache") / name)
    monkeypatch.setattr(components, "command", lambda name: Path("/usr/bin") / name)
    layout = Layout(tmp_path, 0)
    for name in COMPONENTS:
        made = components.component(layout, name, gpus=2)
        assert made.argv[0].startswith(("/cache/", "/usr/bin/")), name
        assert "0.0.0.0" not in " ".join(made.argv), name  # nothing listens beyond the node
