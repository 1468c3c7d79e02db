"""What the operator is told when it starts: flags, or environment variables of the same names.

``--default-image X`` and ``M2R_OPERATOR_DEFAULT_IMAGE=X`` mean the same; a flag wins. A list is
written with commas. Everything is checked here, before anything is connected to.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from m2r_operator import __version__
from m2r_operator.state import Defaults
from m2r_train.api import Storage
from m2r_train.api.problems import problem_lines

PREFIX: Final = "M2R_OPERATOR_"
POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
# What Kubernetes puts into pods for a Service whose name begins with m2r-operator.
_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)\w*)?)")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://.*")


class SettingsError(ValueError):
    """A setting is wrong; one line that names it and the remedy. Ends the process with 64."""


def _text(value: str) -> str:
    return value


def _optional(value: str) -> str | None:
    return value or None


def _list(value: str) -> tuple[str, ...]:
    return tuple(part for part in (p.strip() for p in value.split(",")) if part)


def _names(value: str) -> tuple[str, ...]:
    found = _list(value)
    for name in found:
        if len(name) > 253 or not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a Kubernetes name; write lower case, digits, dashes")
    return found


def _switch(value: str) -> bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError("write true or false")


def _port(value: str) -> int:
    number = int(value) if value.isdecimal() else -1
    if not 0 <= number <= 65535:
        raise ValueError("write a port, 0 to 65535")
    return number


def _number(most: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value) if value.isdecimal() else 0
        if not 1 <= number <= most:
            raise ValueError(f"write a number, 1 to {most}")
        return number

    return parse


def _seconds(least: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not least <= number <= 86400:
            raise ValueError(f"write seconds, {least:g} to 86400")
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"write one of {', '.join(choices)}")
        return value

    return parse


def _setting(parse: Callable[[str], Any], default: Any, help: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": help})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings; each field is the flag and the variable of its name."""

    namespaces: tuple[str, ...] = _setting(_names, (), "namespaces to serve; empty: all")
    default_image: str | None = _setting(
        _optional, None, "trainer image of runs that name none"
    )  # fmt: skip
    storage_uri: str | None = _setting(
        _optional, None, "where runs that do not say it keep results: s3://bucket/prefix"
    )
    storage_endpoint: str | None = _setting(_optional, None, "S3 server of that, if not AWS")
    storage_region: str | None = _setting(_optional, None, "region of that bucket")
    storage_secret: str | None = _setting(
        _optional, None, "Secret with its credentials, in each run's namespace"
    )
    image_pull_secrets: tuple[str, ...] = _setting(_names, (), "Secrets to pull images with")
    image_pull_policy: str | None = _setting(
        lambda v: _one_of("Always", "IfNotPresent", "Never")(v) if v else None,
        None,
        "Always, IfNotPresent or Never; empty: the cluster's default",
    )
    service_accounts: tuple[str, ...] | None = _setting(
        _names, None, "ServiceAccounts that runs may name; given but empty: none; not given: any"
    )
    health_port: int = _setting(_port, 8081, "port of /healthz and /readyz")
    metrics_port: int = _setting(_port, 8080, "port of /metrics")
    host: str = _setting(_text, "0.0.0.0", "address that both ports listen on")
    leader_election: bool = _setting(_switch, True, "false: this is the only replica, no Lease")
    lease_name: str = _setting(_text, "m2r-operator", "name of the Lease")
    lease_namespace: str | None = _setting(
        _optional, None, "namespace of the Lease; empty: the pod's own"
    )
    identity: str | None = _setting(
        _optional, None, "name of this replica, its own; empty: the host name"
    )
    log_level: str = _setting(
        _one_of("debug", "info", "warning", "error"), "info", "debug, info, warning or error"
    )
    log_format: str = _setting(_one_of("json", "text"), "json", "json (a line each) or text")
    poll_seconds: float = _setting(_seconds(0.5), 5.0, "pause between two looks at a pod's /status")
    resync_seconds: float = _setting(
        _seconds(1.0), 300.0, "pause between two full comparisons with the API server"
    )
    workers: int = _setting(_number(256), 32, "runs that are worked on at the same time")
    api_rate: int = _setting(
        _number(10_000), 500, "requests to the API server in a second; twice as many in a burst"
    )
    kubeconfig: str | None = _setting(
        _optional, None, "path of a kubeconfig; empty: the pod's own account, else $KUBECONFIG"
    )
    context: str | None = _setting(_optional, None, "context of the kubeconfig")

    @property
    def defaults(self) -> Defaults:
        """What runs get that leave it out."""
        return Defaults(
            image=self.default_image,
            storage=_storage(self),
            image_pull_secrets=self.image_pull_secrets,
            image_pull_policy=self.image_pull_policy,
            service_accounts=self.service_accounts,
        )

    @property
    def lease(self) -> tuple[str, str]:
        """Namespace and name of the Lease."""
        return self.lease_namespace or _own_namespace(), self.lease_name

    @property
    def holder(self) -> str:
        """What this replica calls itself in the Lease; no two that run may share it.

        A pod's name is its host name and its own; a restarted container keeps it, so that it has
        the lead back at once. Elsewhere two processes may share a host.
        """
        if self.identity or POD_NAMESPACE.exists():
            return self.identity or socket.gethostname()
        return f"{socket.gethostname()}_{os.getpid()}"


def flag(name: str) -> str:
    """``default_image`` -> ``--default-image``."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """``default_image`` -> ``M2R_OPERATOR_DEFAULT_IMAGE``."""
    return PREFIX + name.upper()


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of this process.

    Raises SettingsError for a wrong value, an unknown flag, or an unknown variable with our
    prefix (a misspelt one would otherwise be ignored in silence). ``--help`` and ``--version``
    print and raise SystemExit.
    """
    given = vars(_parser().parse_args(arguments))
    environment = _ours(environment)
    values: dict[str, Any] = {}
    for one in fields(Settings):
        for source, raw in (
            (flag(one.name), given[one.name]),
            (variable(one.name), environment.get(variable(one.name))),
        ):
            if raw is not None:
                values[one.name] = _parsed(one.metadata["parse"], source, raw)
                break
    settings = Settings(**values)
    _check(settings)
    return settings


def _ours(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables with our prefix, less the links to Services that Kubernetes adds."""
    known = {variable(f.name) for f in fields(Settings)}
    ours = {n: v for n, v in environment.items() if n.startswith(PREFIX)}
    for name, value in list(ours.items()):
        if _SERVICE_LINK.fullmatch(name) and (name not in known or _LINK_VALUE.fullmatch(value)):
            del ours[name]
        elif name not in known:
            raise SettingsError(f"{name}: no such setting; see m2r-operator --help")
    return ours


def _parsed(parse: Callable[[str], Any], source: str, raw: str) -> Any:
    try:
        return parse(raw.strip())
    except ValueError as error:
        raise SettingsError(f"{source}={raw}: {error}") from None


def _check(settings: Settings) -> None:
    _storage(settings)
    if settings.storage_uri is None:
        for name in ("storage_endpoint", "storage_region", "storage_secret"):
            if getattr(settings, name) is not None:
                raise SettingsError(f"{flag(name)}: needs {flag('storage_uri')} as well")


def _storage(settings: Settings) -> Storage | None:
    if settings.storage_uri is None:
        return None
    secret = settings.storage_secret
    try:
        return Storage.model_validate(
            {
                "uri": settings.storage_uri,
                "endpoint": settings.storage_endpoint,
                "region": settings.storage_region,
                "secretRef": None if secret is None else {"name": secret},
            }
        )
    except ValidationError as error:
        field, _, text = problem_lines(error, Storage, "")[0].partition(": ")
        name = "storage_secret" if field.startswith("secretRef") else f"storage_{field}"
        raise SettingsError(f"{flag(name)}: {text}") from None


def _own_namespace() -> str:
    try:
        return POD_NAMESPACE.read_text().strip()
    except OSError:
        return "default"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise SettingsError(f"{message}; see m2r-operator --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="m2r-operator",
        description="Runs DataSynthesisJobs, SFTJobs, RLVRJobs and EvalJobs on Kubernetes.",
        epilog=f"Each flag can be given as a variable: {PREFIX}NAMESPACES for --namespaces.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"m2r-operator {__version__}")
    for one in fields(Settings):
        default = "" if one.default in (None, ()) else f" (default {str(one.default).lower()})"
        text = one.metadata["help"] + default
        parser.add_argument(flag(one.name), dest=one.name, metavar="VALUE", help=text)
    return parser
