"""Every version of a namespace's objects that the API server has told a watch of, oldest first."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import Cluster, tool


class History:
    """What a watch has written down so far."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __iter__(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events: ADDED, MODIFIED or DELETED, and the object."""
        text, decoder, at = self.file.read_text(), json.JSONDecoder(), 0
        while at < len(text):
            if text[at].isspace():
                at += 1
                continue
            try:
                event, at = decoder.raw_decode(text, at)
            except ValueError:  # the last one is being written
                return
            yield event["type"], event["object"]

    def of(self, name: str) -> list[dict[str, Any]]:
        """The versions of one object."""
        return [found for _, found in self if found["metadata"]["name"] == name]


@contextmanager
def watching(
    cluster: Cluster, namespace: str, resource: str, folder: Path, selector: str = ""
) -> Iterator[History]:
    """Watches a resource for the time of the block."""
    file = folder / f"{resource}-{namespace}.json"
    command = [str(tool("kubectl")), f"--kubeconfig={cluster.kubeconfig}", "get", resource]
    options = ["--watch", "--output-watch-events", "--output=json", f"--namespace={namespace}"]
    if selector:
        options.append(f"--selector={selector}")
    with file.open("w") as out:
        process = subprocess.Popen([*command, *options], stdout=out, stderr=subprocess.DEVNULL)
        try:
            yield History(file)
        finally:
            process.terminate()
            process.wait(timeout=10)
