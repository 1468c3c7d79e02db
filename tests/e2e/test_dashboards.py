"""Every query of every dashboard, asked of a real Prometheus that has watched real runs.

The runs are small ones of all four kinds, each ended as a pod ends; one of them was killed and has
gone on. GPUs are told of by a played exporter. A panel without data in all of that is a bad panel.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpuexporter
import pytest
from dashboards import boards, model
from dashboards.draw import render
from dashboards.filling import Filled, Window, chosen, fill
from gpuexporter import Gpu
from promserver import Server, prometheus
from runs import M2R, ONE_OF_EACH, change, manifests, run, write
from watched import NAMESPACE, OPERATOR, Watched, operator, watch

from m2r_operator.metrics import OPERATOR_SERIES
from m2r_operator.names import job_name
from m2r_train.telemetry.metrics import TRAINER_SERIES

pytestmark = [pytest.mark.slow, pytest.mark.prometheus]

ROOT = Path(__file__).resolve().parents[2]
# Panels that may say nothing but 0 here, and why. Any other panel must show something that
# happened, and every panel must have data.
ONLY_ZEROS = {
    ("run", "Quality of completions"): "completions this short do not repeat themselves",
    ("run", "Steps that were skipped"): "a healthy run skips none",
    ("run", "Training waits for the store"): "a local disk is quick",
    ("run", "Errors of the store"): "a local disk has none",
    ("fleet", "Steps that were skipped"): "a healthy run skips none",
    ("fleet", "Errors of the store"): "a local disk has none",
    ("synthesis", "Errors of the store"): "a local disk has none",
}
# Declared series that are 0, or not there, in runs like these.
NOTHING_HAPPENED = {
    "m2r_nonfinite_steps_total": "a healthy run skips none",
    "m2r_repetition_ratio": "completions this short do not repeat themselves",
    "m2r_checkpoint_wait_seconds_total": "a local disk is quick",
    "m2r_sampler_ratio_cut": "the sampler is the trainer",
    "m2r_store_errors_total": "a local disk has none",
}
HELD_OUT = {
    "dataset": {"from": {"kind": "DataSynthesisJob", "name": "data"}, "split": "eval"},
    "everySteps": 3,
    "samples": 6,
}


# Runs that the operator tells were taken away: they save no checkpoint, so an alert on them fires.
TAKEN = (("DataSynthesisJob", "data"), ("EvalJob", "eval-rlvr"))
# What makes something happen in every panel that a run can fill.
EVENTFUL: tuple[tuple[str, str, Any], ...] = (
    ("sft", "evaluation", HELD_OUT),
    ("sft", "training.steps", 80),  # rewards then differ in every step of rlvr
    ("sft", "checkpoint.interval", "Auto"),
    ("rlvr", "evaluation", HELD_OUT),
    ("rlvr", "monitors", {"windowSteps": 2, "noSignal": 0.05}),
    ("rlvr", "rollout.importanceSampling", {"kind": "TruncateToken"}),
    ("rlvr", "optimization.updatesPerBatch", 2),
    ("rlvr", "optimization.clip", {"low": 0.01, "high": 0.01}),
)


@dataclass(frozen=True)
class Watching:
    """The server, and the runs that it has seen."""

    server: Server
    runs: dict[str, Watched]
    start: float

    def filled(self, board: str, run: str) -> list[Filled]:
        """A dashboard as it was at the end of a run."""
        watched = self.runs[run]
        length = math.ceil(watched.end - self.start)  # the last point is the last scrape
        window = Window(watched.end - length, watched.end, 1.0, 30.0)
        given = {"kind": watched.labels["run_kind"], **watched.labels}
        if board in ("fleet", "operator"):
            given = {"namespace": ".*" if board == "fleet" else OPERATOR["namespace"]}
        dashboard = boards.read(board)
        values = chosen(dashboard, self.server.api, given, window)
        return list(fill(dashboard, self.server.api, values, window))


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    """Runs everything once."""
    home = tmp_path_factory.mktemp("watched")
    m2r = M2R(home)
    small = manifests(*ONE_OF_EACH)
    for name, path, value in EVENTFUL:
        small = change(small, name, path, value)
    simulated = small["data"]["spec"]["sources"][0]["simulator"]
    simulated["tasks"] = [*simulated["tasks"], "ObjectSize"]  # its reward is EDNM
    golden = run(m2r, write(small, home / "manifests"), (home / "store").as_uri())
    rules = ROOT / "charts" / "m2r" / "rules.yaml"
    gpus = [held("SFTJob", "sft", 0.7, 31_000), held("RLVRJob", "rlvr", 0.8, 62_000), Gpu()]
    try:
        with (
            prometheus(home / "prometheus", rules) as server,
            gpuexporter.served(gpus) as exporter,
        ):
            server.scrape(exporter, gpuexporter.TARGET)
            start = time.time()
            with operator(server, TAKEN):
                for _, name in TAKEN:  # a quick machine has made the data before that
                    server.until(f'ALERTS{{alertstate="firing", run="{name}"}}')
                seen = {
                    "data": watch(server, golden, m2r, "data", home / "data"),
                    "sft": watch(server, golden, m2r, "sft", home / "sft"),
                    "rlvr": watch(server, golden, m2r, "rlvr", home / "rlvr", steps={"steps": 24},
                                  kill_at="before-save:3"),
                    "eval-rlvr": watch(server, golden, m2r, "eval-rlvr", home / "eval"),
                }  # fmt: skip
                yield Watching(server, seen, start)
    finally:
        m2r.kill_all()


def held(kind: str, name: str, active: float, mebibytes: float) -> Gpu:
    """A GPU that the first pod of a run's first attempt holds."""
    return Gpu(NAMESPACE, f"{job_name(kind, name, 1)}-0-b7kqd", active, mebibytes)


SHOWN = {
    "run": ("rlvr", "sft", "eval-rlvr"),
    "fleet": ("rlvr",),
    "operator": ("rlvr",),
    "synthesis": ("data",),
}


def weak(filled: list[list[Filled]]) -> tuple[set[str], set[str]]:
    """Panels with a query that has no data in any of the versions, or nothing but zeros."""
    empty, flat = set(), set()
    for versions in zip(*filled, strict=True):
        title = versions[0].panel.title
        for answers in zip(*(one.answers for one in versions), strict=True):
            values = [v for answer in answers for _, result in answer for _, v in result.points]
            if not values:
                empty.add(title)
            elif not any(values):
                flat.add(title)
    return empty, flat


@pytest.mark.parametrize("board", boards.BOARDS)
def test_every_query_of_every_panel_has_data(watching: Watching, board: str) -> None:
    empty, flat = weak([watching.filled(board, run) for run in SHOWN[board]])
    assert empty == set()
    assert flat <= {title for name, title in ONLY_ZEROS if name == board}


def test_a_query_that_finds_nothing_or_only_zeros_is_noticed(watching: Watching) -> None:
    dashboard = boards.read("run")
    for panel, query in zip(
        (one for one in dashboard["panels"] if one["type"] == "stat"),
        ('m2r_step{run="nobody"}', "m2r_step * 0"),
        strict=False,
    ):
        panel["targets"][0]["expr"] = query
    end = watching.runs["rlvr"].end
    window, values = Window(end - 9, end, 1.0, 30.0), {"__rate_interval": "30s"}
    dashboard["panels"] = dashboard["panels"][1:3]
    filled = list(fill(dashboard, watching.server.api, values, window))
    assert weak([filled]) == ({"Progress"}, {"Step"})


def test_every_exception_names_a_panel_and_a_reason() -> None:
    titles = {
        (board, panel.title)
        for board in boards.BOARDS
        for panel in model.panels(boards.read(board))
    }
    assert set(ONLY_ZEROS) <= titles
    assert all(ONLY_ZEROS.values())


def test_the_variables_offer_what_there_is(watching: Watching) -> None:
    board, api = boards.read("run"), watching.server.api
    window = Window(watching.start, watching.runs["eval-rlvr"].end, 1.0, 30.0)
    values = chosen(board, api, {"kind": "RLVRJob"}, window)
    assert (values["namespace"], values["run"]) == (NAMESPACE, "rlvr")
    query = model.variable_query(model.variables(board)["kind"])
    assert query is not None
    kinds = api.label_values(model.filled(query[0], values), query[1], window.start, window.end)
    assert kinds == ["DataSynthesisJob", "EvalJob", "RLVRJob", "SFTJob"]
    assert chosen(boards.read("synthesis"), api, {}, window)["run"] == "data"


def test_figures_of_the_end_of_a_run_are_those_that_a_user_sees(watching: Watching) -> None:
    def figures(board: str, run: str) -> dict[str, float]:
        return {
            one.panel.title: one.answers[0][0][1].points[-1][1]
            for one in watching.filled(board, run)
            if one.panel.kind == "stat" and one.answers[0]
        }

    told = figures("run", "rlvr")
    assert (told["Progress"], told["Step"], told["Attempt"]) == (1.0, 24.0, 2.0)
    assert told["Since the last step"] < 300
    assert figures("run", "sft")["Step"] == 80
    made = figures("synthesis", "data")
    assert made["In the dataset"] == 92
    assert made["Made and right"] >= 92
    assert 0 < made["Yield"] <= 1


def test_what_is_known_only_at_the_end_of_a_run_was_scraped(watching: Watching) -> None:
    scores = next(f for f in watching.filled("run", "eval-rlvr") if f.panel.title == "Scores")
    names = {legend for legend, _ in scores.answers[0]}
    assert "synthetic overall" in names
    assert all(0 <= r.points[-1][1] <= 1 for _, r in scores.answers[0])


def test_each_component_of_the_reward_has_its_line(watching: Watching) -> None:
    shown = next(
        f for f in watching.filled("run", "rlvr") if f.panel.title == "Reward by component"
    )
    assert {legend for legend, _ in shown.answers[0]} == {"total", "format", "exact", "ednm"}


def test_gpus_that_no_pod_holds_are_in_no_namespace(watching: Watching) -> None:
    shown = next(f for f in watching.filled("fleet", "rlvr") if f.panel.title == "GPUs in use")
    ((legend, result),) = shown.answers[0]
    assert (legend, result.points[-1][1]) == (NAMESPACE, 2.0)


def test_a_killed_run_goes_on_as_the_same_series(watching: Watching) -> None:
    attempts = next(f for f in watching.filled("run", "rlvr") if f.panel.title == "Attempts")
    ((_, result),) = attempts.answers[0]
    assert {value for _, value in result.points} >= {1.0, 2.0}


def test_every_declared_series_is_set_by_some_run(watching: Watching) -> None:
    end = watching.runs["eval-rlvr"].end
    unset = set()
    for one in (*TRAINER_SERIES, *OPERATOR_SERIES):
        name = f"{one.name}_count" if one.kind == "histogram" else one.name
        if not watching.server.api.at(f"max_over_time({name}[1h]) != 0", end):
            unset.add(one.name)
    assert unset <= set(NOTHING_HAPPENED)


def test_every_series_that_is_excused_is_declared_and_set_somewhere() -> None:
    assert set(NOTHING_HAPPENED) <= {one.name for one in (*TRAINER_SERIES, *OPERATOR_SERIES)}
    folders = (ROOT / "m2r_train", ROOT / "operator")
    code = "".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    for name in NOTHING_HAPPENED:  # declared, and named once more where it is set
        assert code.count(f'"{name}"') >= 2


def test_the_page_draws_every_panel(watching: Watching, tmp_path: Path) -> None:
    out = Path(os.environ.get("M2R_KEEP_PAGES", tmp_path))
    for board, runs in SHOWN.items():
        dashboard = boards.read(board)
        filled = watching.filled(board, runs[0])
        window = Window(watching.start, watching.runs[runs[0]].end, 1.0, 30.0)
        names = dict.fromkeys(model.variables(dashboard), "")
        names |= {"namespace": NAMESPACE, "run": runs[0]}
        page = render(dashboard, filled, names, window)
        (out / f"{board}.html").write_text(page)
        for one in filled:
            assert one.panel.title in page
            values = [v for answer in one.answers for _, r in answer for _, v in r.points]
            assert all(map(math.isfinite, values))
        lines = [f for f in filled if f.panel.kind == "timeseries" and any(f.answers)]
        assert page.count("<svg") == len(lines)
