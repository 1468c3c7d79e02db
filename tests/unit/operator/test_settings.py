"""Settings: by flag and by variable, checked before anything is done."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from m2r_operator import __version__
from m2r_operator.settings import Settings, SettingsError, flag, load, variable

ROOT = Path(__file__).resolve().parents[3]


def test_without_a_word_everything_has_a_default() -> None:
    settings = load([], {"PATH": "/bin"})
    assert settings == Settings()
    assert settings.defaults.storage is None
    assert settings.defaults.service_accounts is None


def test_flags_and_variables_mean_the_same_and_flags_win() -> None:
    given = {"default_image": "i:1", "namespaces": "a, b", "poll_seconds": "2.5",
             "leader_election": "false", "health_port": "0", "image_pull_secrets": "s"}  # fmt: skip
    by_flag = load([word for n, v in given.items() for word in (flag(n), v)], {})
    by_variable = load([], {variable(n): v for n, v in given.items()})
    assert by_flag == by_variable
    assert by_flag.namespaces == ("a", "b")
    assert (by_flag.poll_seconds, by_flag.leader_election, by_flag.health_port) == (2.5, False, 0)
    both = load(["--default-image", "i:2"], {variable("default_image"): "i:1"})
    assert both.default_image == "i:2"


def test_defaults_of_runs_come_from_the_settings() -> None:
    found = load([], {
        "M2R_OPERATOR_STORAGE_URI": "s3://bucket/p",
        "M2R_OPERATOR_STORAGE_ENDPOINT": "http://s3:9000",
        "M2R_OPERATOR_STORAGE_REGION": "eu-1",
        "M2R_OPERATOR_STORAGE_SECRET": "creds",
        "M2R_OPERATOR_SERVICE_ACCOUNTS": "",
        "M2R_OPERATOR_IMAGE_PULL_POLICY": "Always",
    }).defaults  # fmt: skip
    assert found.storage is not None
    assert (found.storage.uri, found.storage.endpoint) == ("s3://bucket/p", "http://s3:9000")
    assert found.storage.region == "eu-1"
    assert found.storage.secret_ref is not None
    assert found.storage.secret_ref.name == "creds"
    assert found.service_accounts == ()
    assert found.image_pull_policy == "Always"


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--health-port", "x"], {}, "--health-port=x: write a port"),
        (["--health-port", "70000"], {}, "--health-port=70000"),
        (["--workers", "0"], {}, "--workers=0: write a number"),
        (["--api-rate", "fast"], {}, "--api-rate=fast: write a number, 1 to 10000"),
        (["--poll-seconds", "0"], {}, "--poll-seconds=0: write seconds"),
        (["--poll-seconds", "nan"], {}, "--poll-seconds=nan"),
        (["--leader-election", "yes"], {}, "write true or false"),
        (["--namespaces", "A B"], {}, "is not a Kubernetes name"),
        (["--log-level", "loud"], {}, "write one of debug"),
        (["--image-pull-policy", "Sometimes"], {}, "write one of Always"),
        (["--storage-uri", "s3://b"], {}, "--storage-uri: has the wrong form"),
        (["--storage-uri", "s3://user:pw@bucket/p"], {}, "--storage-uri"),
        (["--storage-region", "x"], {}, "--storage-region: needs --storage-uri"),
        (["--storage-uri", "s3://bucket", "--storage-secret", "No!"], {}, "--storage-secret"),
        (["--what", "x"], {}, "--what"),
        (["stray"], {}, "stray"),
        ([], {"M2R_OPERATOR_POL_SECONDS": "3"}, "M2R_OPERATOR_POL_SECONDS: no such setting"),
        ([], {"M2R_OPERATOR_POLL_SECONDS": "fast"}, "M2R_OPERATOR_POLL_SECONDS=fast"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], environment: dict[str, str], says: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(arguments, environment)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pw" not in str(caught.value).replace("m2r-operator", "")


def test_links_to_services_of_our_name_are_no_settings() -> None:
    """Kubernetes puts them into every pod beside a Service ``m2r-operator-metrics``."""
    links = {
        "M2R_OPERATOR_SERVICE_HOST": "10.0.0.1",
        "M2R_OPERATOR_SERVICE_PORT": "8080",
        "M2R_OPERATOR_SERVICE_PORT_METRICS": "8080",
        "M2R_OPERATOR_PORT": "tcp://10.0.0.1:8080",
        "M2R_OPERATOR_PORT_8080_TCP_ADDR": "10.0.0.1",
        "M2R_OPERATOR_METRICS_PORT": "tcp://10.0.0.1:8080",
        "M2R_OPERATOR_METRICS_SERVICE_HOST": "10.0.0.1",
    }
    assert load([], links) == Settings()
    assert load([], {"M2R_OPERATOR_METRICS_PORT": "9000"}).metrics_port == 9000


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "m2r_operator", *arguments], capture_output=True, text=True,
        check=False, env={"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}", "HOME": "/nonexistent"},
    )  # fmt: skip


def test_a_wrong_setting_ends_the_process_with_64_and_no_cluster_with_78() -> None:
    wrong = run("--workers", "many")
    assert (wrong.returncode, wrong.stdout) == (64, "")
    assert wrong.stderr == "m2r-operator: --workers=many: write a number, 1 to 256\n"
    lost = run("--kubeconfig", "/nonexistent/config")
    assert lost.returncode == 78
    assert lost.stderr.count("\n") == 1
    assert "/nonexistent/config: cannot be read" in lost.stderr


def test_help_names_every_setting_and_the_version_is_told() -> None:
    told = run("--help")
    assert told.returncode == 0
    for one in fields(Settings):
        assert flag(one.name) in told.stdout
    assert run("--version").stdout == f"m2r-operator {__version__}\n"


def test_a_replica_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    monkeypatch.setattr("os.getpid", lambda: 7)
    assert Settings().holder == "host_7"
    assert Settings(identity="me").holder == "me"
    (tmp_path / "namespace").write_text("m2r-system\n")
    monkeypatch.setattr("m2r_operator.settings.POD_NAMESPACE", tmp_path / "namespace")
    assert Settings().holder == "host"
    assert Settings().lease == ("m2r-system", "m2r-operator")
    assert Settings(lease_namespace="here").lease == ("here", "m2r-operator")
