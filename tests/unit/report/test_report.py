"""The page: self-contained, safe against what models write, bounded, and the same each time."""

import base64
import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from m2r_train.report import Comparison, RunView, build_report
from m2r_train.report.page import render_report
from m2r_train.report.samples import MAX_IMAGE_BYTES, ImageBudget, pick

Project = Callable[..., list[RunView]]
VOID = {"meta", "img", "br", "link", "input", "hr"}
ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'></script><!--"
PIXEL = "data:image/png;base64," + base64.b64encode(b"not a real picture").decode()


class Page(HTMLParser):
    """Collects what a browser would: tags, attributes, text; and checks that tags balance."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def with_attribute(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def chart_data(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.scripts[0])
    return found


def test_everything_that_was_asked_for_is_on_the_page(
    project: Project, comparisons: list[Comparison]
) -> None:
    page = Page(render_report(project(60), comparisons=comparisons))
    assert page.open == []
    for text in (
        "overall 2.0 ± 0.3 50.0 ± 1.1 61.0 ± 1.1 +11.0 [+7.9, +14.1] 2,000",  # the headline
        "Reward by component", "RelativeDirection", "KL to the reference", "KL coefficient",
        "Completion length", "Truncated", "Entropy", "Curriculum difficulty", "Loss",
        "Gradient norm", "Learning rate", "generate 5", "verify 11,612 9,410 wrong answer 1,870",
        "First: step 1", "Last: step 60", "truth 2.4", "✓ right", "≈ partly", "✗ wrong",
        "groupSize: 8", "Succeeded",
    ):  # fmt: skip
        assert text in page.text, text
    charts = chart_data(page)
    assert set(page.with_attribute("data-chart")) == set(charts)
    names = {line["name"] for line in charts["run2-components"]["lines"]}
    assert names == {"total", "format", "EDNM", "exact match"}
    assert sum(src.startswith("data:image/png") for src in page.with_attribute("src")) == 4


def test_the_page_asks_for_nothing_from_outside(
    project: Project, comparisons: list[Comparison]
) -> None:
    html = render_report(project(60), comparisons=comparisons, compare=True)
    page = Page(html)
    links = [url for name in ("src", "href", "srcset", "action", "xlink:href", "poster", "data")
             for url in page.with_attribute(name)]  # fmt: skip
    assert len(links) > 8
    assert all(link.startswith(("data:image/", "#")) for link in links)
    assert not {tag for tag, _ in page.tags} & {"link", "iframe", "object", "embed", "base", "form"}
    assert "@import" not in html
    assert not re.search(r"url\(|fetch\(|XMLHttpRequest|import\(", html)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:;")
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    assert {link[1:] for link in links if link.startswith("#")} <= anchors


def attacked() -> list[RunView]:
    trace = {
        "step": 1, "id": ATTACK, "task": ATTACK, "question": ATTACK, "answer": ATTACK,
        "image": f"data:image/svg+xml;base64,{ATTACK}",
        "completions": [{"text": ATTACK, "extracted": ATTACK, "reward_task": 1.0, "tokens": 3}],
    }  # fmt: skip
    score = {"value": 50.0, "n": 10, "stderr": 1.0}
    history = [
        {"step": s, "task": ATTACK, "reward": 0.5, "accuracy": 0.5, "difficulty": 0.1}
        for s in (1, 2)
    ]
    stats = {"stages": [{"stage": ATTACK, "in": 2, "out": 1, "dropped": {ATTACK: 1}}],
             "splits": {ATTACK: 1}, "tasks": {ATTACK: 1}, "difficulty": [1, 2]}  # fmt: skip
    return [
        RunView(kind=ATTACK, name=ATTACK, title=ATTACK, status=ATTACK, spec={ATTACK: ATTACK},
                history=history, traces=[trace], dataset_stats=stats,
                results={"benchmarks": {ATTACK: {"overall": score, ATTACK: score}}},
                lineage=[(ATTACK, ATTACK, ATTACK)]),
    ]  # fmt: skip


def test_what_models_and_users_write_stays_text() -> None:
    html = render_report(attacked(), title=ATTACK)
    page = Page(html)
    assert page.open == []
    assert sum(tag == "script" for tag, _ in page.tags) == 2  # the data and the cursor, no more
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert page.with_attribute("src") == []  # an SVG is no image for us
    assert page.text.count("alert(1)") >= 10
    assert "image left out" in page.text
    data = chart_data(page)
    assert data["run0-accuracy"]["lines"][0]["name"] == ATTACK
    raw = html[html.index('id="chart-data">') :]
    assert "<" not in raw[len('id="chart-data">') : raw.index("</script>")]


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (PIXEL, True),
        ("data:image/jpeg;base64,AAAA", True),
        ("data:image/svg+xml;base64,AAAA", False),
        ("data:text/html;base64,AAAA", False),
        ("https://example.com/a.png", False),
        ('data:image/png;base64,AAAA" onerror="x', False),
        ("data:image/png;base64," + "A" * MAX_IMAGE_BYTES, False),
        (None, False),
    ],
)
def test_only_small_raster_data_is_an_image(uri: str | None, shown: bool) -> None:
    assert ImageBudget().take(uri) == (uri if shown else "")


def test_images_stop_where_the_page_is_full() -> None:
    budget = ImageBudget(limit=2 * len(PIXEL) + 1)
    assert [bool(budget.take(PIXEL)) for _ in range(4)] == [True, True, False, False]


def test_a_run_of_a_thousand_steps_is_small(project: Project, tmp_path: Path) -> None:
    views = project(1000)
    trace = dict(views[2].traces[0])
    many = [{**trace, "step": step, "image": "data:image/png;base64," + "A" * 2_000_000}
            for step in range(0, 1000, 10) for _ in range(8)]  # fmt: skip
    views[2] = RunView(kind="RLVRJob", name="rlvr", history=views[2].history, traces=many,
                       timings=views[2].timings)  # fmt: skip
    out = build_report(views, tmp_path / "deep" / "r.html")
    assert 100_000 < out.stat().st_size < 15_000_000
    assert [path.name for path in out.parent.iterdir()] == ["r.html"]


def test_equal_input_gives_equal_bytes(
    project: Project, comparisons: list[Comparison], tmp_path: Path
) -> None:
    pages = [
        build_report(project(40), tmp_path / name, comparisons=comparisons).read_bytes()
        for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]
    other = build_report(project(41), tmp_path / "c.html", comparisons=comparisons)
    assert other.read_bytes() != pages[0]


@pytest.mark.parametrize(
    ("views", "text"),
    [
        ([], "No runs were given."),
        ([RunView(kind="RLVRJob", name="rlvr")], "RLVRJob rlvr"),
        ([RunView(kind="RLVRJob", name="x", history=[{"step": 1, "reward": 0.5}])], "reward 0.50"),
        ([RunView(kind="EvalJob", name="eval-sft", results={"benchmarks": {}})], "eval-sft"),
        ([RunView(kind="DataSynthesisJob", name="d", dataset_stats={"splits": {}})], "Data set"),
        ([RunView(kind="SFTJob", name="s", timings=[{"step": 1, "train": 2.0}])], "train 100 %"),
        ([RunView(kind="SFTJob", name="s", history=[{"step": 0, "loss": float("nan")}])],
         "steps not finite 1"),
    ],
)  # fmt: skip
def test_what_is_missing_is_left_out(views: Sequence[RunView], text: str) -> None:
    page = Page(render_report(views))
    assert page.open == []
    assert text in page.text
    assert "Samples" not in page.text


def test_a_run_without_traces_has_no_samples_section(project: Project) -> None:
    views = [view for view in project(20) if not view.traces]
    assert "Samples" not in Page(render_report(views)).text
    assert "Samples" in Page(render_report(project(20))).text


def test_compare_lays_the_runs_of_a_kind_over_each_other(project: Project) -> None:
    rlvr = project(30)[2]
    views = [RunView(kind="RLVRJob", name=name, history=rlvr.history) for name in ("ednm", "exact")]
    page = Page(render_report(views, compare=True))
    assert "RLVRJobs compared" in page.text
    lines = chart_data(page)["compare0-reward"]["lines"]
    assert [line["name"] for line in lines] == ["ednm", "exact"]
    assert "compared" not in Page(render_report(views)).text


def test_a_comparison_may_come_with_the_results(project: Project) -> None:
    views = project(5)
    pair = {"benchmark": "synthetic", "task": "RoomSize", "baseline": "SFT", "model": "RLVR",
            "difference": -1.25, "low": -4.0, "high": 1.5, "p": 0.3}  # fmt: skip
    results = {**(views[-1].results or {}), "comparisons": [pair]}
    views[-1] = RunView(kind="EvalJob", name="eval-rlvr", title="RLVR", results=results)
    text = Page(render_report(views)).text
    assert "RLVR − SFT" in text
    assert "-1.2 [-4.0, +1.5]" in text


def test_the_difference_shown_is_that_of_the_last_two_models(project: Project) -> None:
    def pair(task: str, baseline: str, model: str, difference: float) -> Comparison:
        return Comparison(
            benchmark="synthetic",
            task=task,
            baseline=baseline,
            model=model,
            difference=difference,
            low=difference - 1,
            high=difference + 1,
        )

    earlier = [pair("overall", "Base", "SFT", 48.0), pair("RoomSize", "Base", "SFT", 47.0)]
    page = Page(
        render_report(project(5), comparisons=[*earlier, pair("overall", "SFT", "RLVR", 11.0)])
    )
    assert "RLVR − SFT" in page.text
    assert "+11.0 [+10.0, +12.0]" in page.text
    assert "+47.0" not in page.text  # another pair never fills the column's gaps


def test_a_secret_in_a_spec_does_not_reach_the_page() -> None:
    spec = {"storage": {"secretRef": {"name": "s3"}}, "env": {"AWS_SECRET_ACCESS_KEY": "hunter2"}}
    html = render_report([RunView(kind="SFTJob", name="s", spec=spec)])
    assert "hunter2" not in html
    assert "secretRef" in html


def test_samples_of_first_and_last_step_begin_with_the_tasks_they_share() -> None:
    traces = [
        {"step": step, "task": task, "id": f"{task}{step}", "completions": []}
        for step, tasks in ((5, "abc"), (10, "abc"), (15, "cxa"))
        for task in tasks
    ]
    first, last = pick(traces, ImageBudget(), per_step=2)
    assert (first.step, last.step) == (5, 15)
    assert [card.task for card in first.cards] == ["a", "c"]
    assert [card.task for card in last.cards] == ["a", "c"]
    assert pick(traces[:3], ImageBudget())[0].step == 5
    assert len(pick(traces[:3], ImageBudget())) == 1


def test_a_long_completion_is_cut_and_says_so() -> None:
    completion = {"text": "y" * 5000, "extracted": None, "reward_task": 0.0}
    trace = {"step": 1, "task": "a", "completions": [completion] * 11}
    text = Page(render_report([RunView(kind="RLVRJob", name="r", traces=[trace])])).text
    assert "1,000 more characters" in text
    assert "and 3 more completions" in text
    assert "✗ wrong none" in text


def test_a_reward_of_the_users_own_is_a_line_and_a_figure_of_each_completion() -> None:
    completion = {"text": "y", "reward_task": 0.0, "reward_own": {"varied": 0.625}}
    trace = {"step": 0, "task": "a", "id": "a0", "completions": [completion]}
    (step,) = pick([trace], ImageBudget())
    assert ("varied", "0.62") in step.cards[0].completions[0].figures
    history = [{"step": i, "task": "a", "reward": 0.5, "own/varied": 0.25} for i in range(3)]
    html = render_report([RunView(kind="RLVRJob", name="r", history=history)])
    assert "varied" in html
