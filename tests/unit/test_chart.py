"""tools/chart.py: what it generates follows its sources, and a source that it cannot read is named.

The chart's own generated files are checked too, so a stale one fails here as in `make verify`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import chart
import jsonschema
import pytest
import yaml
from chart import CHART, ChartError, crd_template, documented, schema, table

from m2r_operator.metrics import OPERATOR_SERIES
from m2r_train.telemetry.metrics import TRAINER_SERIES
from m2r_train.telemetry.rules import ALERTS, RECORDED

ROOT = Path(__file__).resolve().parents[2]
CRDS = sorted((ROOT / "crds").glob("*.yaml"))
SMALL = """\
# Said at the top, about nothing in particular.

# How many.
# @schema {minimum: 1}
count: 2

# A group
# over two lines.
group:
  # A name | or two.
  name: ""
  # Any labels.
  # @schema stringMap
  labels: {}

# Sizes.
# @schema resources
resources:
  limits:
    memory: 1Gi
"""


def test_a_comment_documents_the_key_below_it() -> None:
    found = {".".join(value.path): value.text for value in documented(SMALL)}
    assert found == {
        "count": "How many.",
        "group": "A group over two lines.",
        "group.name": "A name | or two.",
        "group.labels": "Any labels.",
        "resources": "Sizes.",
    }


@pytest.mark.parametrize(
    ("values", "accepted"),
    [
        ({"count": 1}, True),
        ({"count": 0}, False),
        ({"count": "1"}, False),
        ({"counts": 1}, False),
        ({"group": {"name": "x", "labels": {"a.b/c": "d"}}}, True),
        ({"group": {"names": "x"}}, False),
        ({"group": {"labels": {"a": 1}}}, False),
        ({"resources": {"limits": {"nvidia.com/gpu": 1, "memory": "512Mi"}}}, True),
        ({"resources": {"limit": {}}}, False),
        ({"resources": {"limits": {"memory": "lots"}}}, False),
    ],
)
def test_the_schema_takes_its_types_from_defaults_and_notes(
    values: dict[str, object], accepted: bool
) -> None:
    assert jsonschema.Draft7Validator(schema(SMALL)).is_valid(values) is accepted


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bare: 1\n", "bare: write a comment above it"),
        ("# Group.\ngroup:\n  bare: 1\n", "group.bare: write a comment above it"),
        ("# List.\nlist: []\n", "list: say its type by `# @schema`"),
        ("# Map.\nmap: {}\n", "map: say its type by `# @schema`"),
        ("# Nothing.\nnothing: null\n", "nothing: say its type by `# @schema`"),
        ("# @schema names\nlist: []\n", "list: write one comment, at most one @schema"),
        ("# A.\n# @schema names\n# @schema ports\nlist: []\n", "list: write one comment, at most"),
        ("# A.\n# @schema naems\nlist: []\n", "list: no type `naems` in tools/chart.py"),
    ],
)
def test_a_value_without_a_comment_or_a_type_is_named(source: str, message: str) -> None:
    with pytest.raises(ChartError, match=re.escape(f"values.yaml: {message}")):
        schema(source)


def test_the_table_has_a_row_for_each_value_with_its_default() -> None:
    rows = table(SMALL).splitlines()[2:]
    assert rows == [
        "| `count` | `2` | How many. |",
        "| `group` |  | A group over two lines. |",
        '| `group.name` | `""` | A name \\| or two. |',
        "| `group.labels` | `{}` | Any labels. |",
        '| `resources` | `{"limits": {"memory": "1Gi"}}` | Sizes. |',
    ]


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.name)
def test_a_crd_template_holds_the_crd_to_the_byte(path: Path) -> None:
    text = crd_template(path.read_text())
    action = re.compile(
        r"^( *\{\{-.*|  labels:|  annotations:|    helm.sh/resource-policy: keep)\n"
    )
    lines = (line for line in text.splitlines(keepends=True) if not action.match(line))
    header, _, body = path.read_text().partition("\n")
    assert header.startswith("# Generated")
    assert "".join(lines) == body


@pytest.mark.parametrize(
    "change",
    [
        ("kind: CustomResourceDefinition", "kind: Deployment"),
        ("apiVersion: apiextensions.k8s.io/v1\n", ""),
        ("  scope: Namespaced", "  scope: '{{ .Values.x }}'"),
    ],
    ids=["another kind", "no version", "an action of a template"],
)
def test_a_crd_that_would_not_survive_as_a_template_is_refused(change: tuple[str, str]) -> None:
    with pytest.raises(ChartError, match="not as `m2r crds` writes it"):
        crd_template(CRDS[0].read_text().replace(*change))


def test_nothing_generated_is_stale() -> None:
    assert chart.stale() == []
    assert len(CRDS) == len(chart.generated()) - 5 == 4


def test_a_changed_missing_or_left_over_file_is_stale_until_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("crds", "docs", "charts/m2r", "charts/m2r/templates/crds"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for path in (ROOT / name).iterdir():
            if path.is_file():
                (tmp_path / name / path.name).write_bytes(path.read_bytes())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    ours = tmp_path / "charts" / "m2r"
    monkeypatch.setattr(chart, "ROOT", tmp_path)
    monkeypatch.setattr(chart, "CHART", ours)
    assert chart.main(["check"]) == 0
    (ours / "values.schema.json").write_text("{}")
    (ours / "templates" / "crds" / CRDS[0].name).unlink()
    (tmp_path / "docs" / "metrics.md").write_text("# Metrics\n")
    (ours / "templates" / "crds" / "old.yaml").write_text("kind: Old\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "9.9.9"\n')
    assert chart.main(["check"]) == 1
    said = capsys.readouterr().err
    wrong = ("values.schema.json", f"crds/{CRDS[0].name}", "crds/old.yaml", "Chart.yaml")
    for name in (*wrong, "docs/metrics.md"):
        assert f"{name} is stale: run `make chart`" in said
    assert chart.main(["write"]) == 0
    assert chart.main(["check"]) == 0
    about = yaml.safe_load((ours / "Chart.yaml").read_text())
    assert about["version"] == about["appVersion"] == "9.9.9"


def test_the_page_of_metrics_names_every_series_and_every_alert_once() -> None:
    rows = re.findall(r"^\| (?:`([^`]+)`|\[(\w+)\])", chart.metrics_page(), re.MULTILINE)
    every = (*TRAINER_SERIES, *OPERATOR_SERIES, *RECORDED, *ALERTS)
    assert [series or alert for series, alert in rows] == [one.name for one in every]


def test_the_defaults_satisfy_the_schema_and_no_object_is_open_unless_it_says_so() -> None:
    written = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(written)
    jsonschema.Draft7Validator(written).validate(values)
    is_open = {path for path, node in nodes(written) if node.get("additionalProperties") is True}
    assert is_open == {"global", "affinity"}
    closed = {path for path, node in nodes(written) if node.get("type") == "object"} - is_open
    assert all("additionalProperties" in dict(nodes(written))[path] for path in closed)


def nodes(node: dict[str, object], path: str = "") -> list[tuple[str, dict[str, object]]]:
    """Every schema below ``node`` with the path of its value."""
    found = [(path, node)]
    below = node.get("properties", {})
    assert isinstance(below, dict)
    for key, value in below.items():
        found += nodes(value, f"{path}.{key}".lstrip("."))
    return found


_READS = {
    "dashboards.yaml": '.Files.Glob "dashboards/*.json"',
    "prometheusrule.yaml": '$.Files.Get "rules.yaml"',
}


def test_no_template_runs_text_from_values_and_two_read_what_make_chart_has_written() -> None:
    templates = [path for path in (CHART / "templates").rglob("*") if path.is_file()]
    assert len(templates) > 15
    for path in templates:
        text = path.read_text()
        if path.name in _READS:
            text = text.replace(_READS[path.name], "", 1)
        actions = re.findall(r"\{\{-?(.*?)-?\}\}", text, re.DOTALL)
        code = [re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", action, flags=re.DOTALL) for action in actions]
        used = {word for text in code for word in re.findall(r"[\w.$]+", text)}
        assert not used & {"tpl", "getHostByName", "env", "expandenv"}, path
        assert not [word for word in used if ".Files" in word], path
