"""Which pods Prometheus scrapes: those with the usual annotations, as file-based discovery."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

PREFIX = "prometheus.io"


def targets(pods: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One target for each running pod with ``prometheus.io/scrape: "true"``; its labels go along.

    Port 80 and path /metrics unless the annotations ``/port`` and ``/path`` say otherwise.
    """
    return [_target(pod) for pod in pods if _wanted(pod)]


def write(path: Path, found: list[dict[str, Any]]) -> None:
    """Replaces the file of targets in one step; Prometheus sees that by itself."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(found, indent=1) + "\n")
    fresh.replace(path)


def _wanted(pod: Mapping[str, Any]) -> bool:
    annotations = pod["metadata"].get("annotations", {})
    return annotations.get(f"{PREFIX}/scrape") == "true" and bool(pod["status"].get("podIP"))


def _target(pod: Mapping[str, Any]) -> dict[str, Any]:
    metadata, annotations = pod["metadata"], pod["metadata"]["annotations"]
    labels = {
        re.sub(r"[^a-zA-Z0-9_]", "_", name): value
        for name, value in metadata.get("labels", {}).items()
    }
    own = {
        "namespace": metadata["namespace"],
        "pod": metadata["name"],
        "__metrics_path__": annotations.get(f"{PREFIX}/path", "/metrics"),
    }
    address = f"{pod['status']['podIP']}:{annotations.get(f'{PREFIX}/port', '80')}"
    return {"targets": [address], "labels": {**labels, **own}}
