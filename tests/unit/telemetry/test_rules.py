"""The declared alerts name declared series only, and keep a run's identity."""

import re
from pathlib import Path

import pytest
import yaml

from m2r_train.telemetry.metrics import TRAINER_SERIES
from m2r_train.telemetry.rules import ALERTS, RUN, Alert, rules

ROOT = Path(__file__).resolve().parents[3]
DECLARED = {one.name: one for one in TRAINER_SERIES}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_an_alert_names_only_declared_series_and_label_values(alert: Alert) -> None:
    named = re.findall(r"\bm2r_\w+", alert.expression)
    assert named
    for name in named:
        assert name in DECLARED
    for name, label, value in re.findall(r'(m2r_\w+)\{(\w+)="(\w+)"\}', alert.expression):
        assert value in DECLARED[name].labels[label]
    for name in re.findall(r"increase\((m2r_\w+)", alert.expression):
        assert DECLARED[name].kind == "counter"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_an_alert_keeps_the_identity_of_its_run_and_no_pod(alert: Alert) -> None:
    assert re.findall(r" by \(([^)]*)\)", alert.expression) == [RUN]


def test_every_alert_is_in_the_rules_once() -> None:
    (group,) = rules()["groups"]
    names = [one["alert"] for one in group["rules"]]
    assert names == [one.name for one in ALERTS]
    assert len(set(names)) == len(names)


def test_the_file_of_the_chart_is_made_from_the_declaration() -> None:
    assert yaml.safe_load((ROOT / "charts/m2r/rules.yaml").read_text()) == rules()


def test_promtool_is_given_a_bad_and_a_healthy_series_for_every_alert() -> None:
    tests = yaml.safe_load((ROOT / "tests/rules/alerts.test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    every = {one.name for one in ALERTS}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == every
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == every
