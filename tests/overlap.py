"""What a watch has shown of a namespace's pods: whether two attempts of one run lived together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster import Cluster
from histories import History, watching

from m2r_operator import names

ENDED = ("Succeeded", "Failed")


class PodEvents(History):
    """The events of the pods of a namespace's runs."""

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
    with watching(cluster, namespace, "pods", folder, names.ATTEMPT) as seen:
        yield PodEvents(seen.file)


def _whose(pod: dict[str, Any]) -> tuple[str, int]:
    labels = pod["metadata"]["labels"]
    return f"{labels[names.KIND]}/{labels[names.NAME]}", int(labels[names.ATTEMPT])
