"""What a watch has shown of a namespace's pods: whether two attempts of one run lived together."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import Cluster, tool

from m2r_operator import names

ENDED = ("Succeeded", "Failed")


class PodEvents:
    """The events of a watch, oldest first."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        text, decoder, at = self._file.read_text(), json.JSONDecoder(), 0
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            try:
                event, at = decoder.raw_decode(text, at)
            except ValueError:  # the last one is being written
                return
            yield event["type"], event["object"]

    def attempts(self) -> dict[str, set[int]]:
        """The attempts of each run of which pods were seen, by the run's kind and name."""
        found = defaultdict(set)
        for _, pod in self:
            run, attempt = _whose(pod)
            found[run].add(attempt)
        return dict(found)

    def overlaps(self) -> list[str]:
        """Each moment at which pods of two attempts of one run may have computed."""
        live: dict[str, dict[str, int]] = defaultdict(dict)  # run -> uid of a pod -> attempt
        found = []
        for kind, pod in self:
            run, attempt = _whose(pod)
            uid = pod["metadata"]["uid"]
            if kind == "DELETED" or pod["status"].get("phase") in ENDED:
                live[run].pop(uid, None)
            else:
                live[run][uid] = attempt
            if len(set(live[run].values())) > 1:
                found.append(f"{run}: attempts {sorted(set(live[run].values()))} at once")
        return sorted(set(found))


@contextmanager
def watching_pods(cluster: Cluster, namespace: str, folder: Path) -> Iterator[PodEvents]:
    """Writes down every event of the pods of runs in a namespace for the time of the block."""
    file = folder / "pod-events.json"
    command = [str(tool("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "get", "pods"]
    options = ["--watch", "--output-watch-events", "--output=json", f"--selector={names.ATTEMPT}"]
    with file.open("w") as out:
        process = subprocess.Popen(
            [*command, *options, f"--namespace={namespace}"], stdout=out, stderr=subprocess.DEVNULL
        )
        try:
            yield PodEvents(file)
        finally:
            process.terminate()
            process.wait(timeout=10)


def _whose(pod: dict[str, Any]) -> tuple[str, int]:
    labels = pod["metadata"]["labels"]
    return f"{labels[names.KIND]}/{labels[names.NAME]}", int(labels[names.ATTEMPT])
