"""The chart's rules under promtool: what Prometheus itself says of them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import alarms
import pytest
import yaml
from debian import program

from m2r_train.telemetry.rules import ALERTS, RECORDED, Alert

pytestmark = pytest.mark.prometheus

RULES = Path(__file__).resolve().parents[3] / "charts" / "m2r" / "rules.yaml"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(program("promtool", "prometheus")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def played(folder: Path, content: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The outcome of ``promtool test rules`` for this file's content."""
    (folder / "test.yaml").write_text(json.dumps(content))
    return promtool("test", "rules", str(folder / "test.yaml"))


def test_the_rules_are_valid_and_none_is_there_twice() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS) + len(RECORDED)} rules found" in done.stdout


def test_every_alert_fires_when_it_should_and_is_silent_in_a_healthy_run(tmp_path: Path) -> None:
    done = played(tmp_path, alarms.promtool(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_every_alert_is_played_series_that_it_names_and_series_that_it_does_not(
    alert: Alert,
) -> None:
    assert {case.fires for case in alarms.CASES if case.alert == alert.name} == {True, False}


def test_a_rule_that_never_fires_or_always_does_is_noticed(tmp_path: Path) -> None:
    content = yaml.safe_load(RULES.read_text())
    rules = {one["alert"]: one for one in content["groups"][1]["rules"]}
    rules["M2RNonFinite"]["expr"] = "vector(1) > 2"
    rules["M2ROperatorDown"]["expr"] = "vector(1)"
    (tmp_path / "rules.yaml").write_text(json.dumps(content))
    tests = alarms.promtool(tmp_path / "rules.yaml")
    named = ("M2RNonFinite", "M2ROperatorDown", "M2RStalled")
    tests["tests"] = [one for one in tests["tests"] if one["name"].startswith(named)]
    done = played(tmp_path, tests)
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "alertname: M2RNonFinite" in said
    assert "alertname: M2ROperatorDown" in said
    assert "alertname: M2RStalled" not in said
