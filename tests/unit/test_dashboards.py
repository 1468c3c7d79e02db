"""Dashboards: the files are those that the code makes, and each rule of the lint finds its sin."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dashboards import boards, cli, lint, model
from dashboards.units import SHOWN, shown

Board = dict[str, Any]
NAMES = tuple(boards.BOARDS)


def panel(board: Board, title: str = "Loss") -> Board:
    """A panel of a dashboard, to be changed."""
    found: Board = next(one for one in board["panels"] if one["title"] == title)
    return found


def ask(expression: str) -> Callable[[Board], None]:
    """Makes a panel ask something else."""

    def change(board: Board) -> None:
        panel(board)["targets"][0]["expr"] = expression

    return change


def put(key: str, value: Any) -> Callable[[Board], None]:
    """Sets a field of the panel."""

    def change(board: Board) -> None:
        panel(board)[key] = value

    return change


def drop_unit(board: Board) -> None:
    panel(board)["fieldConfig"]["defaults"].pop("unit")


def drop_variable(board: Board) -> None:
    board["templating"]["list"] = [v for v in board["templating"]["list"] if v["name"] != "run"]


def add_variable(board: Board) -> None:
    spare = {**board["templating"]["list"][1], "name": "spare"}
    board["templating"]["list"].append(spare)


def fixed_source(board: Board) -> None:
    panel(board)["targets"][0]["datasource"]["uid"] = "prometheus-1"


def same_id(board: Board) -> None:
    panel(board)["id"] = panel(board, "Entropy")["id"]


def over_another(board: Board) -> None:
    panel(board)["gridPos"] = {**panel(board, "Entropy")["gridPos"]}


def too_wide(board: Board) -> None:
    panel(board)["gridPos"]["x"] = 20


def silent_line(board: Board) -> None:
    panel(board)["targets"][0]["legendFormat"] = "__auto"


def ranged_table(board: Board) -> None:
    panel(board, "Step")["type"] = "table"


def variable_asks(query: str) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        board["templating"]["list"][1]["query"]["query"] = query

    return change


def whole(key: str) -> Callable[[Board], None]:
    def change(board: Board) -> None:
        board[key] = ""

    return change


RATE = "[$__rate_interval]"
SINS: list[tuple[str, Callable[[Board], None], str]] = [
    ("no title", put("title", ""), "no title"),
    ("no description", put("description", ""), "'Loss': no description"),
    ("no unit", drop_unit, "'Loss': no unit"),
    ("no queries", put("targets", []), "'Loss': no queries"),
    ("an unknown series", ask("m2r_losses"), "m2r_losses is declared nowhere"),
    ("another's series", ask("node_load1"), "node_load1 is declared nowhere"),
    ("a whole histogram", ask("m2r_checkpoint_seconds"), "is a histogram: ask for its _bucket"),
    ("a part of no histogram", ask("m2r_loss_sum"), "m2r_loss_sum is declared nowhere"),
    ("no series", ask("vector(1)"), "names no series"),
    ("an unknown label", ask('m2r_loss{task="x"}'), "m2r_loss has no label task"),
    ("a value that never is", ask('m2r_reward_mean{component="totl"}'), "has component='totl'"),
    ("one of two that never is", ask('m2r_jobs{phase=~"Running|Runing"}'), "phase='Runing'"),
    ("a text that was not filled in", ask("m2r_loss{WHOSE}"), "{WHOSE} are no matchers of labels"),
    ("no value", ask("m2r_loss{run=}"), "{run=} are no matchers of labels"),
    ("no comma", ask('m2r_loss{run="a" index="0"}'), "are no matchers of labels"),
    ("rate of a gauge", ask(f"rate(m2r_loss{RATE})"), "rate of m2r_loss, which is no counter"),
    ("increase of a gauge", ask(f"increase(m2r_step{RATE})"), "increase of m2r_step, which is no"),
    ("rate of a sum", ask(f"rate(sum(m2r_tokens_total){RATE})"), "something that is no series"),
    ("a fixed time", ask("rate(m2r_tokens_total[5m])"), "use $__rate_interval"),
    ("an unknown variable", ask('m2r_loss{run="$job"}'), "$job: used, but no variable"),
    ("a variable that went", drop_variable, "$run: used, but no variable"),
    ("a variable too much", add_variable, "$spare: nothing uses it"),
    ("a source of its own", fixed_source, "asks prometheus-1, not $datasource"),
    ("one id twice", same_id, "panels without an id of their own"),
    ("one over another", over_another, "lies over"),
    ("beyond the edge", too_wide, "does not fit into 24 columns"),
    ("a line without a name", silent_line, "one without a legend"),
    ("a table over time", ranged_table, "'Step': a table of more than the newest values"),
    ("a variable of no series", variable_asks("label_values(m2r_x, run)"), "$namespace: m2r_x is"),
    ("a variable of no label", variable_asks("label_values(m2r_step, name)"), "has no label name"),
    ("a variable of no kind", variable_asks("metrics(m2r_.*)"), "not a query of label_values"),
    ("no uid", whole("uid"), "dashboard: no uid"),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_dashboard_breaks_no_rule(name: str) -> None:
    assert lint.problems(boards.made(name)) == []


@pytest.mark.parametrize(("change", "message"), [s[1:] for s in SINS], ids=[s[0] for s in SINS])
def test_a_bad_dashboard_is_told_what_is_wrong(
    change: Callable[[Board], None], message: str
) -> None:
    board = copy.deepcopy(boards.read("run"))
    change(board)
    assert [line for line in lint.problems(board) if message in line]


def test_a_dashboard_without_panels_or_namespace_is_refused() -> None:
    assert lint.problems({"uid": "x", "title": "x", "description": "x"}) == [
        "dashboard: no panels",
        "dashboard: no variable $datasource",
        "dashboard: no variable $namespace",
    ]


def test_the_files_are_those_that_the_code_makes() -> None:
    assert boards.stale() == []
    assert {path.stem for path in boards.FOLDER.glob("*.json")} == set(NAMES)


def test_a_changed_or_left_over_file_is_stale_until_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(boards, "ROOT", tmp_path)
    monkeypatch.setattr(boards, "FOLDER", tmp_path / "boards")
    assert cli.main(["write"]) == 0
    assert cli.main(["check"]) == 0
    (tmp_path / "boards" / "run.json").write_text("{}")
    (tmp_path / "boards" / "old.json").write_text("{}")
    (tmp_path / "boards" / "fleet.json").unlink()
    assert cli.main(["check"]) == 1
    said = capsys.readouterr().err
    for name in ("run", "old", "fleet"):
        assert f"boards/{name}.json is stale: run `make chart`" in said
    assert cli.main(["write"]) == 0
    assert cli.main(["check"]) == 0


def test_a_check_names_the_rule_that_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lint, "problems", lambda board: [f"bad {board['uid']}"])
    assert cli.main(["check"]) == 1
    assert "dashboards: run: bad m2r-run" in capsys.readouterr().err


def test_the_same_code_makes_the_same_bytes() -> None:
    assert boards.generated() == boards.generated()


@pytest.mark.parametrize("name", NAMES)
def test_every_unit_can_be_shown(name: str) -> None:
    assert {one.unit for one in model.panels(boards.read(name)) if not one.is_row} <= set(SHOWN)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.251, "percentunit", "25.1 %"),
        (90.0, "s", "1.5 min"),
        (7200.0, "s", "2.0 h"),
        (0.004, "s", "4.00 ms"),
        (3 * 2.0**20, "bytes", "3.0 MiB"),
        (2048.0, "mbytes", "2.0 GiB"),
        (1.0, "bool", "yes"),
        (2.5, "reqps", "2.50 req/s"),
        (1234.0, "short", "1,234"),
        (2.0, "short", "2"),
        (2.5, "short", "2.50"),
        (1e-6, "sci", "1.00e-06"),
    ],
)
def test_values_read_as_grafana_shows_them(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


@pytest.mark.parametrize(
    ("expression", "series"),
    [
        ("m2r_step", ["m2r_step"]),
        ('sum by (task) (rate(m2r_a{run="m2r_x"}[5m])) / on (task) m2r_b', ["m2r_a", "m2r_b"]),
        ("time() - max without (pod) (m2r_t > 0)", ["m2r_t"]),
        ("histogram_quantile(0.5, sum by (le) (rate(a:b_bucket[1m])))", ["a:b_bucket"]),
        ("m2r_a or vector(0) unless m2r_b offset 5m", ["m2r_a", "m2r_b"]),
        ('count(ALERTS{alertname=~"M2R.*"})', ["ALERTS"]),
    ],
)  # fmt: skip
def test_the_series_of_a_query_are_found(expression: str, series: list[str]) -> None:
    assert model.series_in(expression) == series


def test_variables_are_replaced_and_a_missing_one_is_an_error() -> None:
    values = {"run": "a", "__rate_interval": "60s"}
    text = 'rate(m2r_x_total{run="$run", pod=~"${run}-.*"}[$__rate_interval])'
    assert model.filled(text, values) == 'rate(m2r_x_total{run="a", pod=~"a-.*"}[60s])'
    assert model.used_variables(text) == {"run"}
    with pytest.raises(KeyError):
        model.filled("m2r_x{namespace='$namespace'}", values)
