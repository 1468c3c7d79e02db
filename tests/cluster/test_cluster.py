"""The node itself: what the tests of the operator rely on holds, and faults heal."""

from __future__ import annotations

import functools
import http.server
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cluster import TOOLBOX, Cluster, ClusterError, tool
from cluster.images import write_archive

SECURE: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


def pod(name: str, *args: str, gpus: int = 0, **spec: Any) -> dict[str, Any]:
    """A restricted pod of one toolbox container that runs once."""
    container: dict[str, Any] = {
        "name": "main",
        "image": TOOLBOX,
        "args": list(args),
        "securityContext": SECURE,
    }
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    base = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]}
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**base, **spec}}


def service(name: str, app: str, **spec: Any) -> dict[str, Any]:
    """A Service of port 80 for the pods of ``app``."""
    base = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": 8080}]}
    kind = {"apiVersion": "v1", "kind": "Service"}
    return {**kind, "metadata": {"name": name}, "spec": {**base, **spec}}


class Room:
    """Pods of one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def start(self, *objects: dict[str, Any]) -> None:
        """Applies, when the namespace is ready for pods."""
        self.cluster.wait(
            "the namespace has its ServiceAccount",
            lambda: self.cluster.try_get("sa", "default", namespace=self.namespace),
        )
        if objects:
            self.cluster.apply(*objects, namespace=self.namespace)

    def run(self, name: str, *args: str, gpus: int = 0) -> str:
        """Runs a pod to its successful end; what it printed."""
        self.start(pod(name, *args, gpus=gpus))
        self.reaches(name, "Succeeded")
        return self.cluster.logs(self.namespace, name)

    def reaches(self, name: str, phase: str, *, seconds: float = 60) -> None:
        """Waits for a phase of a pod."""
        self.cluster.wait(
            f"pod {name} is {phase}",
            lambda: self.cluster.phase(self.namespace, name) == phase,
            seconds=seconds,
            namespace=self.namespace,
        )

    def execute(self, name: str, *args: str, check: bool = True) -> str:
        """Runs a toolbox command in a running pod."""
        return self.cluster.kubectl(
            "exec", name, "--", "/toolbox", *args, namespace=self.namespace, check=check
        )


@pytest.fixture
def room(cluster: Cluster, namespace: str) -> Room:
    return Room(cluster, namespace)


@pytest.fixture
def owned(cluster: Cluster) -> Cluster:
    """A node whose parts can be stopped; fails, and does not skip, on somebody else's cluster."""
    assert cluster.owned, "KUBECONFIG names a cluster without controls: unset it for these tests"
    return cluster


def test_a_pod_runs_prints_and_can_be_entered(room: Room) -> None:
    room.start(pod("p", "trap-term", "0"))
    room.reaches("p", "Running")
    room.cluster.wait(
        "it prints", lambda: "ready" in room.cluster.logs(room.namespace, "p"), seconds=20
    )
    assert room.execute("p", "print", "inside") == "inside\n"
    room.cluster.delete("pod", "p", namespace=room.namespace)
    assert room.cluster.phase(room.namespace, "p") is None


@pytest.mark.parametrize(("args", "phase", "code"), [
    (("exit", "0"), "Succeeded", 0),
    (("exit", "7"), "Failed", 7),
    (("no-such-command",), "Failed", 64),
])  # fmt: skip
def test_the_exit_code_of_a_container_is_seen(
    room: Room, args: tuple[str, ...], phase: str, code: int
) -> None:
    room.start(pod("p", *args))
    room.reaches("p", phase)
    found = room.cluster.get("pod", "p", namespace=room.namespace)
    assert found["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == code


@pytest.mark.parametrize("spec", [{}, {"clusterIP": "None"}], ids=["service", "headless"])
def test_pods_find_each_other_by_the_name_of_a_service(room: Room, spec: dict[str, Any]) -> None:
    target = "web" if not spec else "web:8080"  # a headless Service maps no ports
    room.start(pod("server", "serve"), service("web", "server", **spec), pod("asker", "serve"))
    for name in ("server", "asker"):
        room.reaches(name, "Running")
    long = target.replace("web", f"web.{room.namespace}.svc.cluster.local")
    for name in (target, long):
        room.cluster.wait(
            f"{name} answers",
            lambda name=name: "hello" in room.execute("asker", "get", f"http://{name}/"),
            seconds=30,
            namespace=room.namespace,
        )


def test_a_name_outside_the_cluster_does_not_exist(room: Room) -> None:
    room.start(pod("p", "tcp", "nowhere.example:80"))
    room.reaches("p", "Failed")
    assert "no such host" in room.cluster.logs(room.namespace, "p")


def test_a_pod_talks_to_the_api_server_with_its_token(room: Room) -> None:
    token, authority = f"{SERVICE_ACCOUNT}/token", f"{SERVICE_ACCOUNT}/ca.crt"
    shown = room.run("p", "get", "https://kubernetes.default.svc/version", token, authority)
    assert json.loads(shown.partition("\n")[2])["gitVersion"].startswith("v1.")
    assert room.run("address", "env", "KUBERNETES_SERVICE_HOST").strip()


def test_a_root_pod_is_refused_where_the_restricted_standard_is_enforced(room: Room) -> None:
    bad = pod("p", "exit", "0")
    bad["spec"]["containers"][0]["securityContext"] = {**SECURE, "runAsNonRoot": False}
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        room.start(bad)


def test_each_gpu_is_given_to_one_pod_only(owned: Cluster, room: Room) -> None:
    room.start(*(pod(name, "serve", gpus=3) for name in ("a", "b")))
    for name in ("a", "b"):
        room.reaches(name, "Running")
    given = [room.execute(name, "env", "NVIDIA_VISIBLE_DEVICES") for name in ("a", "b")]
    devices = [device for text in given for device in text.strip().split(",")]
    assert len(devices) == len(set(devices)) == 6
    room.start(pod("c", "serve", gpus=3))
    owned.wait(
        "the third waits for GPUs",
        lambda: "Insufficient nvidia.com/gpu" in owned.describe(room.namespace),
        seconds=20,
    )
    owned.delete("pod", "a", namespace=room.namespace)
    room.reaches("c", "Running")


def test_a_pod_of_higher_priority_takes_the_gpus_of_another(owned: Cluster, room: Room) -> None:
    name = f"{room.namespace}-high"
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    owned.apply({**kind, "metadata": {"name": name}, "value": 1000})
    try:
        room.start(pod("low", "trap-term", "143", gpus=8))
        room.reaches("low", "Running")
        room.start(pod("high", "exit", "0", gpus=8, priorityClassName=name))
        room.reaches("high", "Succeeded")
        assert "Preempted" in owned.describe(room.namespace)
    finally:
        owned.delete("priorityclass", name)


def test_a_container_outlives_its_api_server(owned: Cluster, room: Room) -> None:
    room.start(pod("p", "serve"))
    room.reaches("p", "Running")
    before = owned.get("pod", "p", namespace=room.namespace)["status"]
    with owned.stopped("apiserver"):
        assert not owned.alive("apiserver")
        with pytest.raises(ClusterError, match=r"refused|EOF"):
            owned.kubectl("get", "nodes", seconds=20)
        with urllib.request.urlopen(f"http://{before['podIP']}:8080/", timeout=5) as answer:
            assert answer.read() == b"hello\n"
    after = owned.get("pod", "p", namespace=room.namespace)["status"]
    ids = [status["containerStatuses"][0]["containerID"] for status in (before, after)]
    assert ids[0] == ids[1]
    assert room.execute("p", "print", "again") == "again\n"


def test_objects_outlive_etcd(owned: Cluster, room: Room) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"a": "b"},
    }
    room.start(config)
    with owned.stopped("etcd"):
        assert not owned.healthy("apiserver")
    found = owned.wait("it is read", lambda: owned.get("cm", "c", namespace=room.namespace))
    assert found["data"] == {"a": "b"}
    owned.wait_healthy("apiserver")


def test_a_stopped_scheduler_leaves_pods_waiting(owned: Cluster, room: Room) -> None:
    with owned.stopped("scheduler"):
        room.start(pod("p", "exit", "0"))
        time.sleep(2)
        assert "nodeName" not in owned.get("pod", "p", namespace=room.namespace)["spec"]
    room.reaches("p", "Succeeded")


def test_a_stopped_controller_manager_makes_no_pods(owned: Cluster, room: Room) -> None:
    spec = pod("p", "exit", "0")["spec"]
    job = {"metadata": {"name": "j"}, "spec": {"template": {"spec": spec}}}
    room.start()  # who makes the namespace ready is about to be stopped
    with owned.stopped("controller-manager"):
        room.start({"apiVersion": "batch/v1", "kind": "Job", **job})
        time.sleep(2)
        assert owned.get("pods", namespace=room.namespace)["items"] == []
    owned.wait(
        "the job is done",
        lambda: owned.get("job", "j", namespace=room.namespace)["status"].get("succeeded"),
        namespace=room.namespace,
    )


def ready(cluster: Cluster) -> str:
    """The status of the node's condition Ready."""
    conditions = cluster.get("node", cluster.node)["status"]["conditions"]
    return str(next(item["status"] for item in conditions if item["type"] == "Ready"))


def test_a_node_without_kubelet_is_lost_and_comes_back_with_its_gpus(
    owned: Cluster, room: Room
) -> None:
    room.start(pod("p", "serve", gpus=2))
    room.reaches("p", "Running")
    with owned.stopped("kubelet"):
        owned.wait("the node is lost", lambda: ready(owned) == "Unknown", seconds=60)
    owned.wait("the node is back", lambda: ready(owned) == "True", seconds=60)
    # Six are left: the new kubelet knows which ones it had given away.
    first = owned.wait(
        "the new kubelet knows the pod",
        lambda: room.execute("p", "env", "NVIDIA_VISIBLE_DEVICES").strip().split(","),
    )
    shown = room.run("q", "env", "NVIDIA_VISIBLE_DEVICES", gpus=6).strip().split(",")
    assert len({*first, *shown}) == 8


def test_a_paused_api_server_hangs_and_resumes(owned: Cluster) -> None:
    owned.pause("apiserver")
    try:
        with pytest.raises(ClusterError, match=r"no answer in 3 s|[Tt]imeout|timed out"):
            owned.kubectl("get", "nodes", seconds=3)
    finally:
        owned.resume("apiserver")
    owned.wait_healthy("apiserver")
    assert owned.get("nodes")["items"]


def test_writes_are_counted_by_user_agent_and_time(owned: Cluster, room: Room) -> None:
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    since = datetime.now(UTC)
    room.start(config)
    owned.get("configmap", "c", namespace=room.namespace)  # a read is no write
    owned.delete("configmap", "c", namespace=room.namespace)

    def count(agent: str, after: datetime) -> dict[tuple[str, str], int]:
        found = owned.writes(user_agent=agent, user="m2r-admin", since=after)
        return {key: number for key, number in found.items() if key[1] == "configmaps"}

    assert count("kubectl/", since) == {("patch", "configmaps"): 1, ("delete", "configmaps"): 1}
    assert count("kubectl/", datetime.now(UTC)) == {}
    assert count("somebody-else/", since) == {}


def test_a_service_account_has_its_own_rights_and_no_more(owned: Cluster, room: Room) -> None:
    room.start()
    config = owned.service_account_kubeconfig(room.namespace, "default")
    ask = functools.partial(owned.kubectl, kubeconfig=config)
    assert f"system:serviceaccount:{room.namespace}:default" in ask("auth", "whoami")
    with pytest.raises(ClusterError, match="Forbidden"):
        ask("get", "secrets")


def test_the_s3_server_answers_pods_and_the_host(
    owned: Cluster, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    import boto3

    for name, value in owned.s3.env.items():
        monkeypatch.setenv(name, value)
    store = boto3.session.Session().client("s3")
    store.put_object(Bucket=owned.s3.bucket, Key=f"{room.namespace}/a", Body=b"text")
    found = store.get_object(Bucket=owned.s3.bucket, Key=f"{room.namespace}/a")
    assert found["Body"].read() == b"text"
    assert room.run("p", "get", f"{owned.s3.endpoint}/healthz").startswith("200")


class Greeting(http.server.BaseHTTPRequestHandler):
    """Answers every request with its path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"host {self.path}\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on stderr."""


@pytest.fixture
def host_port(owned: Cluster) -> Iterator[int]:
    """A server on the host, for pods only."""
    with http.server.ThreadingHTTPServer((owned.host_address, 0), Greeting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_pods_reach_servers_of_the_host(owned: Cluster, room: Room, host_port: int) -> None:
    shown = room.run("p", "get", f"http://{owned.host_address}:{host_port}/there")
    assert shown == "200\nhost /there\n"


def test_an_image_from_a_file_can_be_run(owned: Cluster, room: Room, tmp_path: Path) -> None:
    import platform

    name, archive = f"m2r.dev/{room.namespace}:1", tmp_path / "image.tar"
    write_archive(archive, name, tool("toolbox"), platform.machine())
    assert owned.import_image(archive) == [name]
    assert name in owned.images()
    made = pod("p", "print", "from the file")
    made["spec"]["containers"][0]["image"] = name
    room.start(made)
    room.reaches("p", "Succeeded")
    assert owned.logs(room.namespace, "p") == "from the file\n"


def test_what_is_waited_for_in_vain_is_explained(room: Room) -> None:
    room.start(pod("p", "print", "a last word", "3"))
    room.reaches("p", "Failed")
    with pytest.raises(AssertionError) as raised:
        room.cluster.wait("a wonder", lambda: None, seconds=0.1, namespace=room.namespace)
    text = str(raised.value)
    assert "not within 0.1 s: a wonder (last: None)" in text
    assert "a last word" in text
    assert "Scheduled" in text
