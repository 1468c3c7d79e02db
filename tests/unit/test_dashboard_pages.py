"""Dashboards are filled and drawn as Grafana would, from a played Prometheus."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboards import boards, cli
from dashboards.draw import page
from dashboards.filling import Window, chosen, fill, legend
from dashboards.prometheus import Prometheus, PrometheusError, Result

RUN = {"namespace": "lab", "run_kind": "RLVRJob", "run": "r1", "kind": "RLVRJob"}
END = 1_000_000.0


class Played:
    """Answers each query by a constant series, or as told: ``answers`` by a part of the query."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, list[dict[str, Any]]] = {}
        self.url = ""

    def answer(self, path: str, query: dict[str, str]) -> Any:
        self.asked.append((path, query))
        if path.endswith("/series"):
            return [RUN, {**RUN, "run": "r0"}, {"other": "x"}]
        for part, found in self.answers.items():
            if part in query["query"]:
                last = [{"metric": one["metric"], "value": one["values"][-1]} for one in found]
                return {"resultType": "x", "result": last if path.endswith("/query") else found}
        labels = {**RUN, "task": "count", "component": "total", "phase": "train"}
        if path.endswith("/query"):
            return {"resultType": "vector", "result": [{"metric": labels, "value": [END, "3"]}]}
        start, end, step = (float(query[k]) for k in ("start", "end", "step"))
        times = [start + n * step for n in range(int((end - start) / step) + 1)]
        values = [[when, "0.25"] for when in times]
        return {"resultType": "matrix", "result": [{"metric": labels, "values": values}]}


@pytest.fixture
def played() -> Iterator[Played]:
    """A server on a free port."""
    world = Played()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, text = self.path.partition("?")
            query = dict(urllib.parse.parse_qsl(text))
            if "bad" in query.get("query", ""):
                code, said = 400, {"status": "error", "error": "1:4: parse error"}
            else:
                code, said = 200, {"status": "success", "data": world.answer(path, query)}
            body = json.dumps(said).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    world.url = f"http://127.0.0.1:{server.server_port}"
    yield world
    server.shutdown()
    server.server_close()
    thread.join()


def test_variables_take_what_is_given_else_all_else_the_first_that_there_is(
    played: Played,
) -> None:
    window = Window.of(END - 600, END)
    api = Prometheus(played.url)
    values = chosen(boards.read("run"), api, {"kind": "RLVRJob"}, window)
    assert values == {
        "datasource": "prometheus", "__rate_interval": "60s",
        "namespace": "lab", "kind": "RLVRJob", "run": "r0",
    }  # fmt: skip
    selectors = [query["match[]"] for path, query in played.asked if path.endswith("/series")]
    assert selectors[-1] == 'm2r_steps_planned{namespace="lab", run_kind="RLVRJob"}'
    assert chosen(boards.read("fleet"), api, {}, window)["namespace"] == ".*"


def test_every_query_is_asked_with_its_variables_replaced(played: Played) -> None:
    window = Window.of(END - 600, END)
    values = {"datasource": "x", "__rate_interval": "60s", "namespace": "lab", "kind": "RLVRJob",
              "run": "r1"}  # fmt: skip
    filled = list(fill(boards.read("run"), Prometheus(played.url), values, window))
    assert len(played.asked) == sum(len(one.panel.targets) for one in filled)
    assert not [query for _, query in played.asked if "$" in query["query"]]
    assert {path.rpartition("/")[2] for path, _ in played.asked} == {"query_range"}
    assert not any(one.is_empty for one in filled)
    named = {one.panel.title: one.answers[0][0][0] for one in filled if one.answers}
    assert named["Reward by task"] == "count"
    assert named["Phases of a step"] == "train"


@pytest.mark.parametrize(
    ("seconds", "step", "rate"), [(600, 15, 60), (86400, 360, 375), (6 * 3600, 90, 105)]
)
def test_steps_and_rates_follow_the_time_that_is_shown(
    seconds: float, step: float, rate: float
) -> None:
    window = Window.of(END - seconds, END)
    assert (window.step, window.rate) == (step, rate)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{{task}}", "count"),
        ("{{ task }}, {{gone}}", "count,"),
        ("{{gone}}", "none"),
        ("held out", "held out"),
        ("__auto", "run=r1, task=count"),
    ],
)
def test_series_are_named_as_grafana_names_them(pattern: str, name: str) -> None:
    result = Result({"__name__": "m2r_x", "task": "count", "run": "r1"}, ((0.0, 1.0),))
    assert legend(pattern, result) == name


@pytest.mark.parametrize("board", boards.BOARDS)
def test_a_page_has_every_panel_and_stays_one_file(played: Played, board: str) -> None:
    dashboard = boards.read(board)
    text = page(dashboard, Prometheus(played.url), {}, start=END - 600, end=END)
    for panel in dashboard["panels"]:
        assert panel["title"] in text
    lines = [panel for panel in dashboard["panels"] if panel["type"] == "timeseries"]
    assert text.count("<svg") == len(lines)
    assert "no data" not in text
    assert "://" not in text
    assert "<script" not in text


def test_a_panel_without_data_says_so(played: Played) -> None:
    played.answers = {"m2r_kl_coefficient": [], "m2r_attempt": []}
    text = page(boards.read("run"), Prometheus(played.url), {}, start=END - 600, end=END)
    assert text.count("no data") == 3  # the coefficient, the attempt as a figure and as a line


def test_what_is_not_a_number_is_a_gap_in_the_line(played: Played) -> None:
    values = [[END - 600 + 15 * n, "NaN" if 10 <= n <= 20 else "1"] for n in range(40)]
    played.answers = {"m2r_loss": [{"metric": {}, "values": values}]}
    dashboard = boards.read("run")
    dashboard["panels"] = [one for one in dashboard["panels"] if one["title"] == "Loss"]
    text = page(dashboard, Prometheus(played.url), {}, start=END - 600, end=END)
    assert text.count('<path class="line c0"') == 2


def test_what_a_run_is_called_stays_text(played: Played) -> None:
    dashboard = boards.read("fleet")
    hostile = [{"metric": {**RUN, "run": "<script>alert(1)</script>"}, "values": [[END, "1"]]}]
    played.answers = {"m2r_goodput_ratio": hostile}
    text = page(dashboard, Prometheus(played.url), {}, start=END - 600, end=END)
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_the_command_draws_into_a_file(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.html"
    asked = ["draw", "run", "--prometheus", played.url, "-o", str(out), "--end", str(END)]
    assert cli.main([*asked, "--minutes", "10", "--set", "run=r7"]) == 0
    assert "<b>r7</b>" in out.read_text()
    assert capsys.readouterr().out.strip() == str(out)


def test_a_server_that_does_not_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run.html"
    assert cli.main(["draw", "run", "--prometheus", "http://127.0.0.1:1", "-o", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("dashboards: http://127.0.0.1:1: ")
    assert not out.exists()


def test_a_query_that_is_refused_is_named(played: Played) -> None:
    with pytest.raises(PrometheusError, match=r"1:4: parse error: bad\($"):
        Prometheus(played.url).at("bad(", END)


@pytest.mark.parametrize(("seconds", "unit"), [(300, "s"), (3600, "min"), (86400, "h")])
def test_all_charts_of_a_page_show_the_same_time(played: Played, seconds: float, unit: str) -> None:
    played.answers = {"m2r_kl_coefficient": [{"metric": {}, "values": [[END - 60, "1"]]}]}
    text = page(boards.read("run"), Prometheus(played.url), {}, start=END - seconds, end=END)
    charts = text.split('<svg viewBox="0 0 400 190"')[1:]
    assert all(f'text-anchor="end">{unit}</text>' in chart for chart in charts)
    ticks = {tuple(_whole_numbers(chart)) for chart in charts}
    assert len(ticks) == 1


def _whole_numbers(chart: str) -> list[str]:
    """The ticks of the time axis: texts in the middle of what they mark."""
    return [part.partition("<")[0] for part in chart.split('text-anchor="middle">')[1:]]
