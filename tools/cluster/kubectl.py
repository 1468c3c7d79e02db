"""kubectl as a Python object: commands, objects as dicts, and waiting that explains itself."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cluster.errors import ClusterError
from cluster.parts import tool

T = TypeVar("T")
SHOWN = 6000  # characters of logs of one container in a failure message
# $1 cgroup.procs, which is gone with the cluster; the rest is the command
JOIN = '{ echo 0 >"$1"; } 2>/dev/null; shift; exec "$@"'


class Kubectl:
    """kubectl with one kubeconfig. All methods raise ``ClusterError`` when a command fails."""

    def __init__(
        self, kubeconfig: Path, *, cache: Path | None = None, cgroup: Path | None = None
    ) -> None:
        """``cache``: where kubectl remembers what the server offers; None is its own place.

        ``cgroup``: the ``cgroup.procs`` that its processes join, so that they end with the cluster
        even where nobody waits for them any more.
        """
        self.kubeconfig = kubeconfig
        self._join = ["sh", "-c", JOIN, "sh", str(cgroup)] if cgroup else []
        self._env = {**os.environ, **({"KUBECACHEDIR": str(cache)} if cache else {})}

    def kubectl(
        self,
        *args: str,
        stdin: str | None = None,
        namespace: str | None = None,
        seconds: float = 60.0,
        check: bool = True,
        kubeconfig: Path | None = None,
    ) -> str:
        """Standard output of ``kubectl ARGS``; without ``check`` also that of a failed command."""
        scope = [f"--namespace={namespace}"] if namespace else []
        command = [str(tool("kubectl")), f"--kubeconfig={kubeconfig or self.kubeconfig}", *scope]
        try:
            done = subprocess.run(
                [*self._join, *command, *args],
                input=stdin,
                capture_output=True,
                text=True,
                timeout=seconds,
                env=self._env,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"kubectl {' '.join(args)}: no answer in {seconds:g} s") from error
        if check and done.returncode != 0:
            message = (done.stderr or done.stdout).strip()
            raise ClusterError(f"kubectl {' '.join(args)} ({done.returncode}): {message}")
        return done.stdout if done.returncode == 0 else done.stdout + done.stderr

    def get(
        self,
        resource: str,
        name: str | None = None,
        *,
        namespace: str | None = None,
        selector: str | None = None,
    ) -> dict[str, Any]:
        """An object, or without ``name`` a list with ``items``."""
        options = [name] if name else []
        options += [f"--selector={selector}"] if selector else []
        text = self.kubectl("get", resource, *options, "--output=json", namespace=namespace)
        found: dict[str, Any] = json.loads(text)
        return found

    def try_get(
        self, resource: str, name: str, *, namespace: str | None = None
    ) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        options = ("--output=json", "--ignore-not-found")
        text = self.kubectl("get", resource, name, *options, namespace=namespace)
        return json.loads(text) if text.strip() else None

    def apply(self, *objects: Mapping[str, Any], namespace: str | None = None) -> None:
        """Server-side apply of the objects, in their order."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        options = ("--server-side", "--force-conflicts", "--filename=-")
        self.kubectl("apply", *options, stdin=json.dumps(items), namespace=namespace)

    def delete(
        self,
        resource: str,
        name: str,
        *,
        namespace: str | None = None,
        wait: bool = True,
        seconds: float = 120.0,
    ) -> None:
        """Deletes an object, which need not exist; ``wait``: until it is gone."""
        options = ("--ignore-not-found", f"--wait={str(wait).lower()}")
        self.kubectl("delete", resource, name, *options, namespace=namespace, seconds=seconds)

    def logs(
        self, namespace: str, pod: str, *, previous: bool = False, container: str | None = None
    ) -> str:
        """What a pod's containers have printed."""
        options = [f"--container={container}"] if container else ["--all-containers"]
        options += ["--previous"] if previous else []
        return self.kubectl("logs", pod, *options, namespace=namespace)

    def phase(self, namespace: str, pod: str) -> str | None:
        """``Pending``, ``Running``, ``Succeeded``, ``Failed``; None where there is no such pod."""
        found = self.try_get("pod", pod, namespace=namespace)
        return found["status"].get("phase") if found else None

    def wait(
        self,
        what: str,
        probe: Callable[[], T | None],
        *,
        seconds: float = 60.0,
        every: float = 0.25,
        namespace: str | None = None,
    ) -> T:
        """Calls ``probe`` until it gives something true, which is returned.

        A ``ClusterError`` inside counts as "not yet" (the API server may be down on purpose).
        ``AssertionError`` after ``seconds``: ``what``, the last value, what ``namespace`` holds.
        """
        deadline, last = time.monotonic() + seconds, "never called"
        while True:
            try:
                value = probe()
                if value:
                    return value
                last = repr(value)
            except ClusterError as error:
                last = str(error)
            if time.monotonic() >= deadline:
                break
            time.sleep(every)
        found = f"\n{self.describe(namespace)}" if namespace else ""
        raise AssertionError(f"not within {seconds:g} s: {what} (last: {last[:2000]}){found}")

    def describe(self, namespace: str) -> str:
        """Pods, events and logs of a namespace; what cannot be read says so in its place."""
        parts = [
            self._section("get", "pods", "--output=wide", namespace=namespace),
            self._section("get", "events", "--sort-by=.lastTimestamp", namespace=namespace),
            self._section("describe", "pods", namespace=namespace),
        ]
        try:
            pods = self.get("pods", namespace=namespace)["items"]
        except ClusterError as error:
            return "\n".join([*parts, f"pods: {error}"])
        for pod in pods:
            options = ("--all-containers", "--prefix", "--tail=100")
            name = pod["metadata"]["name"]
            parts.append(self._section("logs", name, *options, namespace=namespace))
        return "\n".join(parts)

    def _section(self, *args: str, namespace: str) -> str:
        try:
            text = self.kubectl(*args, namespace=namespace, check=False)
        except ClusterError as error:
            text = str(error)
        return f"--- kubectl {' '.join(args)} -n {namespace}\n{text[-SHOWN:]}"
