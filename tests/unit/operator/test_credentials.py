"""Logging in: from a pod, from a kubeconfig, and what is said where it cannot be done."""

from __future__ import annotations

import base64
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from m2r_operator.credentials import (
    TOKEN_SECONDS,
    CredentialsError,
    TokenFile,
    find,
    from_kubeconfig,
    from_pod,
)

POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    folder = tmp_path_factory.mktemp("pair")
    certificate, key = folder / "tls.crt", folder / "tls.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test",
         "-days", "1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def config(path: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> Path:
    document = {
        "current-context": "x",
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u"}},
            {"name": "y", "context": {"cluster": "d"}},
        ],
        "clusters": [
            {"name": "c", "cluster": {"server": "https://host:6443/", **(cluster or {})}},
            {"name": "d", "cluster": {"server": "http://plain:8080"}},
        ],
        "users": [{"name": "u", "user": user}],
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_a_token_is_read_again_before_it_is_old(tmp_path: Path) -> None:
    now, path = 0.0, tmp_path / "token"
    path.write_text("one\n")
    token = TokenFile(path, clock=lambda: now)
    assert token() == "one"
    path.write_text("two")
    assert token() == "one"
    now = TOKEN_SECONDS
    assert token() == "two"
    path.unlink()
    now *= 3
    assert token() == "two", "the kubelet replaces the file; a moment without it is no end"


def test_a_token_that_was_refused_is_read_again_at_once(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old")
    access = from_kubeconfig(config(tmp_path / "config", {"tokenFile": "token"}))
    assert access.headers() == {"Authorization": "Bearer old"}
    path.write_text("new")
    access.refused()
    assert access.headers() == {"Authorization": "Bearer new"}


def test_a_pod_logs_in_with_its_account(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_bytes(pair[0].read_bytes())
    access = find(environment=POD, service_account=tmp_path)
    assert access.server == "https://10.0.0.1:443"
    assert access.headers() == {"Authorization": "Bearer t"}
    assert access.ssl is not None
    assert access.ssl.verify_mode is ssl.CERT_REQUIRED
    six = from_pod({"KUBERNETES_SERVICE_HOST": "fd00::1"}, tmp_path)
    assert six.server == "https://[fd00::1]:443"


def test_a_kubeconfig_is_read_with_its_contexts(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    data = base64.b64encode(pair[0].read_bytes()).decode()
    path = config(tmp_path / "c", {"token": "t"}, {"certificate-authority-data": data})
    access = from_kubeconfig(path)
    assert (access.server, access.headers()) == (
        "https://host:6443", {"Authorization": "Bearer t"},
    )  # fmt: skip
    assert access.ssl is not None
    assert len(access.ssl.get_ca_certs()) == 1
    plain = from_kubeconfig(path, "y")
    assert (plain.server, plain.ssl, plain.headers()) == ("http://plain:8080", None, {})


@pytest.mark.parametrize("form", ["files", "data"])
def test_client_certificates_are_used(tmp_path: Path, pair: tuple[Path, Path], form: str) -> None:
    user: dict[str, str] = {}
    for name, path in zip(("client-certificate", "client-key"), pair, strict=True):
        if form == "files":
            user[name] = str(path)
        else:
            user[f"{name}-data"] = base64.b64encode(path.read_bytes()).decode()
    access = from_kubeconfig(config(tmp_path / "c", user, {"insecure-skip-tls-verify": True}))
    assert access.ssl is not None
    assert access.ssl.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("user", "cluster", "context", "says"),
    [
        ({"exec": {"command": "aws"}}, {}, None, "logs in with exec, which m2r-operator does not"),
        ({"auth-provider": {"name": "gcp"}}, {}, None, "auth-provider"),
        ({}, {}, "z", "no context z (there are: x, y)"),
        ({}, {"server": "host"}, None, "cluster c has no server address"),
        ({}, {"certificate-authority-data": "%%"}, None, "is not base64"),
        ({}, {"certificate-authority": "none.crt"}, None, "certificates cannot be used"),
        ({"tokenFile": "none"}, {"insecure-skip-tls-verify": True}, None, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    tmp_path: Path, user: dict[str, Any], cluster: dict[str, Any], context: str | None, says: str
) -> None:
    path = config(tmp_path / "config", user, cluster)
    with pytest.raises(CredentialsError) as caught:
        from_kubeconfig(path, context).headers()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[1, 2]", "{unclosed", "just: a map"])
def test_a_file_that_is_no_kubeconfig_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(CredentialsError, match=str(path)):
        from_kubeconfig(path)


def test_a_given_kubeconfig_comes_before_the_pod_and_that_before_the_environment(
    tmp_path: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("pod")
    (account / "ca.crt").write_bytes(pair[0].read_bytes())
    path = config(tmp_path / "config", {"token": "file"}, {"insecure-skip-tls-verify": True})
    env = {**POD, "KUBECONFIG": str(path)}
    given = find(kubeconfig=str(path), environment=env, service_account=account)
    assert given.headers() == {"Authorization": "Bearer file"}
    inside = find(environment=env, service_account=account)
    assert inside.headers() == {"Authorization": "Bearer pod"}
    outside = find(environment={"KUBECONFIG": str(path)}, service_account=account)
    assert outside.headers() == {"Authorization": "Bearer file"}
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "nowhere")
    with pytest.raises(CredentialsError, match="no cluster"):
        find(environment={}, service_account=account)
