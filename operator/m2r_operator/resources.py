"""The kinds of objects that the operator reads and writes, and their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from m2r_operator import names
from m2r_train.api import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object in the API."""

    group: str  # empty: the core group
    version: str
    plural: str

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str = ""
    ) -> str:
        """Where an object, or all of a namespace or (None) of the cluster are."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


JOBS: Final = Resource("batch", "v1", "jobs")
PODS: Final = Resource("", "v1", "pods")
SERVICES: Final = Resource("", "v1", "services")
EVENTS: Final = Resource("events.k8s.io", "v1", "events")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")
RUNS: Final[Mapping[str, Resource]] = {
    kind: Resource(GROUP, VERSION, plural) for kind, plural in names.PLURALS.items()
}
KUEUE: Final = "/apis/kueue.x-k8s.io"
