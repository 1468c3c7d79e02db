"""A node that is none: its pods run at once, cost nothing and say where they are when asked.

Two hundred trainers, real as far as the API server, the scheduler and the controllers can tell. The
kubelet and the containers are played: pods that are placed on the node are said to run, and their
address is this machine's, where one server answers for all of them.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

from cluster import Cluster, tool

from m2r_operator import names

NODE: Final = "crowd"
SCHEDULING: Final = {
    "nodeSelector": {"m2r.dev/crowd": "true"},
    "tolerations": [{"key": "m2r.dev/crowd", "operator": "Exists"}],
}
STATUS: Final = {"phase": "Running", "step": 5, "totalSteps": 100}  # what each of them says
_LEASE: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_MERGE: Final = "application/merge-patch+json"


class Crowd:
    """The node's kubelet and the server behind all of its pods."""

    def __init__(self, cluster: Cluster) -> None:
        self.asked = 0  # times that a pod was asked for its status
        self._counting = threading.Lock()  # each question is answered by a thread of its own
        self._address = cluster.host_address
        self._done = threading.Event()
        command = [str(tool("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "proxy", "--port=0"]
        self._proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._proxy.stdout is not None
        self._url = "http://" + self._proxy.stdout.readline().split()[-1]
        self._server = self._listen()
        self._threads = [
            threading.Thread(target=self._repeat, args=(work, seconds), daemon=True)
            for work, seconds in ((self._renew, 2.0), (self._look_round, 0.3))
        ]

    def start(self) -> None:
        """Join the cluster."""
        self._leave()  # where a process before this one was killed
        metadata = {"name": NODE, "labels": {"m2r.dev/crowd": "true"}}
        taints = [{"key": "m2r.dev/crowd", "effect": "NoSchedule"}]
        self._ask("POST", "/api/v1/nodes", {"metadata": metadata, "spec": {"taints": taints}})
        room = {"cpu": "1000", "memory": "1000Gi", "pods": "1000"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
        status = {"capacity": room, "allocatable": room, "conditions": [ready]}
        self._ask("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status})
        lease = {"holderIdentity": NODE, "leaseDurationSeconds": 40, "renewTime": _now()}
        self._ask("POST", _LEASE, {"metadata": {"name": NODE}, "spec": lease})
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave, with all pods."""
        self._done.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        for pod in self._pods():
            self._end(pod)
        self._leave()
        self._proxy.terminate()
        self._proxy.wait(timeout=10)
        self._server.shutdown()
        self._server.server_close()

    def _leave(self) -> None:
        for path in (f"/api/v1/nodes/{NODE}", f"{_LEASE}/{NODE}"):
            with contextlib.suppress(OSError):
                self._ask("DELETE", path)

    def _repeat(self, work: Callable[[], None], seconds: float) -> None:
        while not self._done.wait(seconds):
            with contextlib.suppress(OSError):  # the API server is away, or an object has gone
                work()

    def _renew(self) -> None:
        self._ask("PATCH", f"{_LEASE}/{NODE}", {"spec": {"renewTime": _now()}})

    def _look_round(self) -> None:
        for pod in self._pods():
            if "deletionTimestamp" in pod["metadata"]:
                self._end(pod)
            elif pod["status"]["phase"] == "Pending":
                self._ask("PATCH", f"{_path(pod)}/status", {"status": self._running(pod)})

    def _pods(self) -> list[dict[str, Any]]:
        path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{NODE}"
        return list(self._ask("GET", path)["items"])

    def _end(self, pod: dict[str, Any]) -> None:
        """It has saved its state and gone; the Job controller lets go of pods that have ended."""
        status = self._running(pod)
        ended = {"exitCode": 75, "reason": "Error", "startedAt": _now(), "finishedAt": _now()}
        status["containerStatuses"][0] |= {"state": {"terminated": ended}, "ready": False}
        with contextlib.suppress(OSError):  # somebody was quicker
            self._ask("PATCH", f"{_path(pod)}/status", {"status": {**status, "phase": "Failed"}})
            self._ask("DELETE", _path(pod), {"gracePeriodSeconds": 0})

    def _running(self, pod: dict[str, Any]) -> dict[str, Any]:
        container = pod["spec"]["containers"][0]
        state = {"running": {"startedAt": _now()}}
        more = {"image": container["image"], "imageID": "", "ready": True, "restartCount": 0}
        true = [{"type": name, "status": "True"} for name in ("PodScheduled", "Ready")]
        return {
            "phase": "Running",
            "conditions": true,
            "podIP": self._address,
            "podIPs": [{"ip": self._address}],
            "containerStatuses": [{"name": container["name"], "state": state, **more}],
        }

    def _ask(self, verb: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        kind = _MERGE if verb == "PATCH" else "application/json"
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": kind}, method=verb
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return dict(json.load(answer))

    def _listen(self) -> http.server.ThreadingHTTPServer:
        crowd = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with crowd._counting:
                    crowd.asked += 1
                body = json.dumps(STATUS).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *words: object) -> None:
                """Silent."""

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256  # each pod is asked but once: none is turned away at the door

        server = Server((self._address, names.PORT), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


def _path(pod: dict[str, Any]) -> str:
    metadata = pod["metadata"]
    return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextmanager
def crowd(cluster: Cluster) -> Iterator[Crowd]:
    """The node, for the time of the block."""
    found = Crowd(cluster)
    try:
        found.start()
        yield found
    finally:
        found.stop()
