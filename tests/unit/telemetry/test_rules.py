"""The declared alerts name declared series only, keep a run's identity, and have a runbook."""

import re
from pathlib import Path

import pytest
import yaml

from m2r_operator import names
from m2r_operator.metrics import OPERATOR_SERIES
from m2r_train.telemetry.metrics import TRAINER_SERIES
from m2r_train.telemetry.rules import (
    ALERTS,
    GPU_ACTIVE,
    KINDS_IN_POD_NAMES,
    RECORDED,
    RUN,
    RUNBOOK,
    Alert,
    Recorded,
    rules,
)

ROOT = Path(__file__).resolve().parents[3]
DECLARED = {one.name: one for one in (*TRAINER_SERIES, *OPERATOR_SERIES)}
EVERY: tuple[Alert | Recorded, ...] = (*RECORDED, *ALERTS)
RECORDED_NAMES = [one.name for one in RECORDED]
NO_RUN = {"M2ROperatorDown"}  # about the operator


def series(expression: str) -> set[str]:
    """The series that an expression names, recorded ones left out."""
    for name in RECORDED_NAMES:
        expression = expression.replace(name, "")
    return set(re.findall(rf"\bm2r_\w+|{GPU_ACTIVE}", expression))


@pytest.mark.parametrize("rule", EVERY, ids=lambda one: one.name)
def test_a_rule_names_only_declared_series_and_label_values(rule: Alert | Recorded) -> None:
    named = series(rule.expression)
    assert named or any(name in rule.expression for name in RECORDED_NAMES)
    assert named - {GPU_ACTIVE} <= set(DECLARED)
    for name, label, value in re.findall(r'(m2r_\w+)\{(\w+)="(\w+)"\}', rule.expression):
        assert value in DECLARED[name].labels[label]
    for name in re.findall(r"increase\((m2r_\w+)", rule.expression):
        assert DECLARED[name].kind == "counter"


@pytest.mark.parametrize("rule", EVERY, ids=lambda one: one.name)
def test_a_rule_keeps_the_identity_of_its_run_and_no_pod(rule: Alert | Recorded) -> None:
    kept = re.findall(r" by \(([^)]*)\)", rule.expression)
    if rule.name in NO_RUN:
        assert kept == []
    else:
        assert set(kept) == {RUN} or any(name in rule.expression for name in RECORDED_NAMES)


def test_every_rule_is_in_the_file_once_and_what_is_recorded_is_used() -> None:
    recorded, alerts = rules()["groups"]
    assert [one["record"] for one in recorded["rules"]] == RECORDED_NAMES
    names_of_alerts = [one["alert"] for one in alerts["rules"]]
    assert names_of_alerts == [one.name for one in ALERTS]
    assert len(set(names_of_alerts)) == len(names_of_alerts)
    for name in RECORDED_NAMES:
        assert any(name in one.expression for one in ALERTS)


def test_what_is_recorded_is_called_as_prometheus_advises() -> None:
    for name in RECORDED_NAMES:
        assert re.fullmatch(r"namespace_run_kind_run:\w+:[a-z]+(\d+[mh])?", name)


def test_the_file_of_the_chart_is_made_from_the_declaration() -> None:
    assert yaml.safe_load((ROOT / "charts/m2r/rules.yaml").read_text()) == rules()


def test_pods_of_runs_are_told_by_the_names_that_the_operator_gives() -> None:
    assert {short: kind for kind, short in names.SHORT.items()} == KINDS_IN_POD_NAMES
    (gpus,) = (one for one in RECORDED if one.series == GPU_ACTIVE)
    (pattern,) = set(re.findall(r'\{pod=~"([^"]+)"\}', gpus.expression))
    for name in ("r", "my-rlvrj-1-run"):
        pod = f"{names.job_name('RLVRJob', name, 12)}-0-b7kqd"
        found = re.fullmatch(pattern, pod)
        assert found is not None
        assert found[1] == name
    assert re.fullmatch(pattern, "notebook-0") is None


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_every_alert_has_its_section_in_the_runbook(alert: Alert) -> None:
    sections = re.split(r"^## ", (ROOT / RUNBOOK).read_text(), flags=re.MULTILINE)[1:]
    titles = [section.partition("\n")[0] for section in sections]
    assert alert.name in titles
    assert alert.runbook == f"{RUNBOOK}#{alert.name.lower()}"
    section = sections[titles.index(alert.name)]
    for part in ("Fires when", "Look", "Do"):
        assert re.search(rf"^\*\*{part}\*\*", section, re.MULTILINE), part
    for name in series(alert.expression):
        assert name in section


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    titles = re.findall(r"^## (M2R\w+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    assert titles == [one.name for one in ALERTS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one.name)
def test_a_remedy_names_fields_and_values_that_exist(alert: Alert) -> None:
    text = "".join(path.read_text() for path in (ROOT / "docs/reference").glob("*.md"))
    text += (ROOT / "charts/m2r/README.md").read_text()
    for field in re.findall(r"\b[a-z]+(?:\.[a-zA-Z]+)+\b", alert.remedy):
        assert f"| `{field}` |" in text, field
