"""How the operator logs in: the pod's own ServiceAccount, or a kubeconfig.

Only what is needed to talk to an API server: addresses, a CA, a client certificate, a token. A
token in a file is read again when it is a minute old, because the kubelet replaces it long before
it expires. Programs that a kubeconfig wants to be run for a token (exec, auth-provider) are not.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS: Final = 60.0


class CredentialsError(Exception):
    """There is no usable way to log in; one line with the remedy."""


@dataclass(slots=True)
class TokenFile:
    """A bearer token in a file, read again when it may have been replaced."""

    path: Path
    clock: Callable[[], float] = time.monotonic
    _token: str = ""
    _read_at: float = float("-inf")

    def __call__(self) -> str:
        """The token; the last one that could be read when the file is gone for a moment."""
        if self.clock() - self._read_at >= TOKEN_SECONDS:
            try:
                self._token = self.path.read_text().strip()
            except OSError:
                if not self._token:
                    raise CredentialsError(
                        f"{self.path}: cannot be read; mount the ServiceAccount's token"
                    ) from None
            self._read_at = self.clock()
        return self._token

    def forget(self) -> None:
        """Read the file anew at the next use: the server has refused the token."""
        self._read_at = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An API server and how to prove who asks. ``ssl`` None: plain HTTP (tests)."""

    server: str
    ssl: ssl.SSLContext | None = None
    token: Callable[[], str] | None = field(default=None)

    def headers(self) -> dict[str, str]:
        """The header that authenticates a request."""
        return {} if self.token is None else {"Authorization": f"Bearer {self.token()}"}

    def refused(self) -> None:
        """The server said 401: a token that may be stale is read again."""
        if isinstance(self.token, TokenFile):
            self.token.forget()


def find(
    *,
    kubeconfig: str | None = None,
    context: str | None = None,
    environment: Mapping[str, str] | None = None,
    service_account: Path = SERVICE_ACCOUNT,
) -> Credentials:
    """A given kubeconfig, else the pod's own account, else ``$KUBECONFIG`` or ``~/.kube/config``.

    Raises CredentialsError.
    """
    env = os.environ if environment is None else environment
    if kubeconfig is not None:
        return from_kubeconfig(Path(kubeconfig), context)
    if "KUBERNETES_SERVICE_HOST" in env and (service_account / "token").exists():
        return from_pod(env, service_account)
    paths = [Path(p) for p in env.get("KUBECONFIG", "").split(os.pathsep) if p]
    for path in paths or [Path.home() / ".kube" / "config"]:
        if path.exists():
            return from_kubeconfig(path, context)
    raise CredentialsError("no cluster: run in a pod, or give a kubeconfig with --kubeconfig")


def from_pod(environment: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Credentials:
    """The ServiceAccount that the kubelet has mounted."""
    host = environment["KUBERNETES_SERVICE_HOST"]
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    try:
        tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    except (OSError, ssl.SSLError) as error:
        raise CredentialsError(f"{folder / 'ca.crt'}: not a usable CA ({error})") from None
    return Credentials(server=f"https://{host}:{port}", ssl=tls, token=TokenFile(folder / "token"))


def from_kubeconfig(path: Path, context: str | None = None) -> Credentials:
    """A context of a kubeconfig; the current one where none is named."""
    document = _read(path)
    name = context or document.get("current-context")
    if not name:
        raise CredentialsError(f"{path}: no current-context; name one with --context")
    chosen = _entry(path, document, "contexts", "context", name)
    cluster = _entry(path, document, "clusters", "cluster", chosen.get("cluster"))
    user = _entry(path, document, "users", "user", chosen["user"]) if chosen.get("user") else {}
    for plugin in ("exec", "auth-provider"):
        if plugin in user:
            raise CredentialsError(
                f"{path}: user {chosen['user']} logs in with {plugin}, which m2r-operator does "
                "not run; use a token or a client certificate"
            )
    server = cluster.get("server")
    if not isinstance(server, str) or not server.startswith(("https://", "http://")):
        raise CredentialsError(f"{path}: cluster {chosen['cluster']} has no server address")
    return Credentials(
        server=server.rstrip("/"),
        ssl=_tls(path, cluster, user) if server.startswith("https://") else None,
        token=_token(path, user),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise CredentialsError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise CredentialsError(f"{path}: is not YAML") from None
    if not isinstance(document, dict):
        raise CredentialsError(f"{path}: is not a kubeconfig")
    return document


def _entry(
    path: Path, document: Mapping[str, Any], section: str, key: str, name: object
) -> dict[str, Any]:
    for entry in document.get(section) or ():
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(key)
            return found if isinstance(found, dict) else {}
    known = [e.get("name") for e in document.get(section) or () if isinstance(e, dict)]
    raise CredentialsError(f"{path}: no {key} {name} (there are: {', '.join(map(str, known))})")


def _token(path: Path, user: Mapping[str, Any]) -> Callable[[], str] | None:
    if user.get("tokenFile"):
        return TokenFile(path.parent / str(user["tokenFile"]))
    token = user.get("token")
    if not token:
        return None
    return lambda: str(token)


def _tls(path: Path, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context(
            cafile=_file(path, cluster, "certificate-authority"),
            cadata=_data(path, cluster, "certificate-authority-data"),
        )
        if cluster.get("insecure-skip-tls-verify"):
            tls.check_hostname = False
            tls.verify_mode = ssl.CERT_NONE
        _client_certificate(path, tls, user)
    except (OSError, ssl.SSLError) as error:
        raise CredentialsError(f"{path}: certificates cannot be used ({error})") from None
    return tls


def _client_certificate(path: Path, tls: ssl.SSLContext, user: Mapping[str, Any]) -> None:
    """Python reads certificates from files only; data goes through private temporary ones."""
    with ExitStack() as files:

        def place(name: str) -> str | None:
            data = _data(path, user, f"{name}-data")
            if data is None:
                return _file(path, user, name)
            file = files.enter_context(tempfile.NamedTemporaryFile(buffering=0))
            file.write(data.encode())
            return file.name

        certificate, key = place("client-certificate"), place("client-key")
        if certificate is not None:
            tls.load_cert_chain(certificate, key)


def _file(path: Path, entry: Mapping[str, Any], name: str) -> str | None:
    return str(path.parent / str(entry[name])) if entry.get(name) else None


def _data(path: Path, entry: Mapping[str, Any], name: str) -> str | None:
    if not entry.get(name):
        return None
    try:
        return base64.b64decode(str(entry[name]), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise CredentialsError(f"{path}: {name} is not base64") from None
