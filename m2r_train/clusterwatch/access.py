"""The API server, by the official client; it only reads. Nothing else imports ``kubernetes``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import kubernetes
import urllib3
import yaml
from kubernetes.config import ConfigException

from m2r_train.api.errors import ConfigError
from m2r_train.api.kinds import KINDS
from m2r_train.api.schema import GROUP, VERSION
from m2r_train.clusterwatch.following import Lost

PAGE: Final = 500  # objects of one answer
WATCH_SECONDS: Final = 240  # after which the server ends a watch; it is begun again
CONNECT_SECONDS: Final = 10.0
# A watch that has said nothing for so long, not even its end, has lost its connection.
READ_SECONDS: Final = WATCH_SECONDS + 30.0
EVENTS: Final = "Event"
DEFAULT_FILE: Final = "~/.kube/config"
# What the client raises on files that are not there, are no YAML, or have another shape.
_UNUSABLE: Final = (
    *(ConfigException, yaml.YAMLError, OSError, ValueError, TypeError, KeyError, AttributeError),
)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A way to log in, and the namespace that it names."""

    client: Any
    namespace: str

    def source(self, kind: str, namespace: str | None) -> Resource:
        """A kind's objects in a namespace, or in all (None); `EVENTS` for the events."""
        within = f"/namespaces/{namespace}" if namespace is not None else ""
        if kind == EVENTS:
            return Resource(self.client, f"/apis/events.k8s.io/v1{within}/events")
        return Resource(self.client, f"/apis/{GROUP}/{VERSION}{within}/{KINDS[kind].plural}")


def connect(kubeconfig: Path | None, context: str | None) -> Cluster:
    """Log in as kubectl does: the file given, ``$KUBECONFIG``, ``~/.kube/config``, else as the pod
    that this is. Raises ConfigError when there is none of these, or it cannot be read."""
    settings = kubernetes.client.Configuration()
    settings.retries = False  # one that is lost is told, then tried again by `following`
    file = os.environ.get("KUBECONFIG") if kubeconfig is None else str(kubeconfig)
    files = file or str(Path(DEFAULT_FILE).expanduser())
    try:
        if not file and not Path(files).exists() and "KUBERNETES_SERVICE_HOST" in os.environ:
            kubernetes.config.load_incluster_config(client_configuration=settings)
            return Cluster(kubernetes.client.ApiClient(settings), "default")
        kubernetes.config.load_kube_config(
            config_file=files,
            context=context,
            client_configuration=settings,
            persist_config=False,
        )
        contexts, active = kubernetes.config.list_kube_config_contexts(config_file=files)
    except _UNUSABLE as error:
        raise ConfigError(
            f"{files}: no way to log in to a cluster ({_one_line(error)}); "
            "name a file with --kubeconfig, and one of its contexts with --context"
        ) from error
    chosen = next((c for c in contexts if c["name"] == context), active) or {}
    namespace = (chosen.get("context") or {}).get("namespace") or "default"
    return Cluster(kubernetes.client.ApiClient(settings), str(namespace))


@dataclass(frozen=True, slots=True)
class Resource:
    """What lies at a path of the API; see `following.Source`."""

    client: Any
    path: str

    def list(self) -> tuple[list[dict[str, Any]], str]:
        """All objects, page by page, and the version that they are of."""
        items: list[dict[str, Any]] = []
        more = version = ""
        while True:
            answer = self._get({"limit": PAGE, **({"continue": more} if more else {})})
            with answer:
                page = _json(_read(answer))
            metadata = page.get("metadata") or {}
            # Items of a list do not name their kind.
            kind = str(page.get("kind") or "").removesuffix("List")
            items += [{"kind": kind, **item} for item in page.get("items") or ()]
            version = version or str(metadata.get("resourceVersion") or "")
            more = metadata.get("continue") or ""
            if not more:
                return items, version

    def watch(self, version: str) -> Iterator[dict[str, Any]]:
        """Watch events since a version until the server ends the watch."""
        query = {
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": WATCH_SECONDS,
        }
        with self._get(query) as answer:
            try:
                for line in answer:
                    if line.strip():
                        yield _json(line)
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise Lost(f"connection lost ({type(error).__name__})") from error

    def _get(self, query: Mapping[str, Any]) -> Any:
        """An answer that is not read yet. Raises `Lost`, or ConfigError where it is of no use to
        ask again."""
        request = self.client.param_serialize(
            "GET", self.path, query_params=list(query.items()),
            header_params={"Accept": "application/json"}, auth_settings=["BearerToken"],
        )  # fmt: skip
        try:
            timeout = (CONNECT_SECONDS, READ_SECONDS)
            answer = self.client.call_api(*request, _request_timeout=timeout).response
        except (urllib3.exceptions.HTTPError, OSError, kubernetes.client.ApiException) as error:
            raise Lost(f"the API server does not answer ({type(error).__name__})") from error
        if answer.status == 200:
            return answer
        with answer:
            words = _message(_read(answer))
        if answer.status in (401, 403, 404):
            raise ConfigError(_refusal(self.path, answer.status, words))
        overloaded = answer.status == 429 or answer.status >= 500
        words = f"the API server says {answer.status} {words}".strip()
        raise Lost(words, 0 if overloaded else answer.status)


def _refusal(path: str, status: int, words: str) -> str:
    if status == 401:
        return f"{path}: the cluster does not know you ({words}); log in anew, or name --context"
    if status == 403:
        return f"{path}: {words}; ask for the rights to list and watch, or name --namespace"
    return f"{path}: not there; install the chart (docs/install.md), or name another --context"


def _read(answer: Any) -> bytes:
    try:
        return bytes(answer.read())
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Lost(f"connection lost ({type(error).__name__})") from error


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:  # cut off in the middle, or not an API server
        raise Lost("an answer that is not JSON") from error
    if not isinstance(found, dict):
        raise Lost("an answer that is not an object")
    return found


def _message(text: bytes) -> str:
    try:
        return _one_line(_json(text).get("message") or "")
    except Lost:
        return ""


def _one_line(words: object) -> str:
    return " ".join(str(words).split())
