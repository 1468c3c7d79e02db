"""Answers judged by a model: a real HTTP server that stalls, errs and talks rubbish."""

from __future__ import annotations

import io
import json
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from chatserver import ChatServer, open_server
from rich.console import Console
from unit.stages import published

from m2r_train.api.common import key_variable
from m2r_train.api.errors import ConfigError, Preempted
from m2r_train.api.evaljob import AnswerJudge, Benchmark, EvalSpec
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.model.prompts import SYSTEM_PROMPT
from m2r_train.rollout.endpoint import EndpointDown
from m2r_train.stages import evaluate, feeding
from m2r_train.stages.asking import questions
from m2r_train.stages.context import Context
from m2r_train.stages.judging import Chunk, judged, told
from m2r_train.stages.place import ALONE, Place
from m2r_train.stages.replies import is_part
from m2r_train.store import Helper, LocalStore, Run
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress

NAMES = ("mathvista", "mathverse", "logicvista")
TEXTS = (
    *("It is the first one, so all this.", "The last one, I say.", "3", "A"),
    "<answer>A. So it is.</answer>",
)


class Judge(ChatServer):
    """Extracts A, or NUMBER from what asks for one, and finds half of the pairs equal."""

    rubbish = ""  # what it says to every first question about something, if anything

    def reply(self, asked: Any) -> str:
        if self.rubbish and asked["temperature"] == 0.0:
            return self.rubbish
        prompt = asked["messages"][0]["content"]
        if prompt.rstrip().endswith("judgement:"):
            return str(len(prompt) % 2)
        if prompt.rstrip().endswith("letters:"):
            return "A"
        return "3" if "How many?" in prompt.rpartition("question:")[2] else "maybe A"


def judging(*, faults: bool = False) -> AbstractContextManager[Judge]:
    return open_server(Judge(faults=faults))


class _Killed(BaseException):
    """A kill at an unlucky moment."""


def judge_by(server: ChatServer, **more: Any) -> AnswerJudge:
    ref = {
        "url": f"http://127.0.0.1:{server.server_port}/v1",
        "model": "judge-72b",
        "secretRef": {"name": "keys"},
        "timeoutSeconds": 1,
        "retries": 20,
        "concurrency": 4,
    }
    return AnswerJudge.model_validate({"endpoint": ref, **more})


def context(
    tmp_path: Path,
    judge: AnswerJudge,
    attempt: int = 1,
    place: Place = ALONE,
    form: str = "Tagged",
) -> Context:
    data = {name: {"uri": (tmp_path / "copies" / name).as_uri()} for name in NAMES}
    spec = EvalSpec.model_validate(
        {
            "model": {"preset": "tiny"},
            "benchmarks": [{"name": name, "data": data[name], "form": form} for name in NAMES],
            "generation": {"engine": "inprocess", "maxCompletionTokens": 8},
            "judge": judge.model_dump(by_alias=True, exclude_none=True),
        }
    )
    for name in NAMES:
        if not (tmp_path / "copies" / name).exists():
            published.COPIES[name](tmp_path / "copies" / name)
    store = LocalStore(tmp_path / "run")
    inputs = {f"benchmarks[{i}].data": RunInput(**data[name]) for i, name in enumerate(NAMES)}
    return Context(
        place=place,
        run_spec=RunSpec(
            kind="EvalJob",
            metadata=RunMetadata(name="eval", uid="0123456789abcdef"),
            attempt=attempt,
            storage=RunStorage(uri=tmp_path.as_uri()),
            seed=0,
            spec=resolved(spec),
            inputs=inputs,
        ),
        run=Helper(store, attempt) if place.helps else Run.claim(store, attempt),
        progress=Progress(Console(file=io.StringIO())),
        metrics=MetricSet(),
        cache_dir=tmp_path / "cache",
    )


def chunks(ctx: Context) -> list[Chunk]:
    """Each benchmark's questions with every text as a sampled answer, and one as the greedy."""
    found = []
    for benchmark in ctx.run_spec.parsed_spec.benchmarks:  # type: ignore[attr-defined]
        own = questions(benchmark, Path(benchmark.data.uri.removeprefix("file://")))
        rows = [
            {
                "id": sample.id,
                "sampled": [
                    _answer(f"{text} {i if k < 2 else ''}".strip(), own.score(i, text))
                    for k, text in enumerate(TEXTS)
                ],
                "greedy": [_answer(TEXTS[0], own.score(i, TEXTS[0]))],
            }
            for i, sample in enumerate(own.samples)
        ]
        found.append(Chunk(own, 0, rows))
    return found


def _answer(text: str, score: float) -> dict[str, Any]:
    return {"text": text, "extracted": None, "score": score, "format": 0.0}


def verdicts(found: dict[int, list[dict[str, Any]]]) -> list[Any]:
    rows = [row for n in sorted(found) for row in found[n]]
    return [(a["text"], a["score"], a["judged"]) for r in rows for a in r["sampled"] + r["greedy"]]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key_variable("judge.endpoint"), "key-of-judge")
    monkeypatch.setattr("m2r_train.core.backoff.Backoff.delay", _soon)


def _soon(self: Any, failure: Any, failed: int, *path: int | str) -> float | None:
    return None if failure.permanent or failed > self.retries else 0.0


def run(ctx: Context) -> dict[int, list[dict[str, Any]]]:
    judge = ctx.run_spec.parsed_spec.judge  # type: ignore[attr-defined]
    with ctx.running(6):
        return judged(ctx, judge, chunks(ctx), 3, 6)


@pytest.mark.parametrize("blow", [1, 4, 9])
def test_a_judge_that_fails_and_a_killed_run_change_nothing_and_ask_for_nothing_twice(
    tmp_path: Path, blow: int
) -> None:
    with judging(faults=True) as server:
        judge = judge_by(server)
        first = context(tmp_path, judge)
        told_of = Counter[str]()

        def kill(name: str) -> None:
            with server.lock:
                told_of[name] += 1
                if told_of["before-reply"] == blow:
                    raise _Killed

        first.probe = kill
        with pytest.raises(_Killed):
            run(first)
        kept = {key for key in first.run.journal_keys() if not is_part(key)}
        assert kept
        before = len(server.answered)
        second = context(tmp_path, judge, attempt=2)
        found = run(second)
        again = server.answered[before:]
    with judging() as healthy:
        whole = run(context(tmp_path / "undisturbed", judge_by(healthy)))
    assert verdicts(found) == verdicts(whole)
    assert set(server.failed) >= {"stall", "down", "later", "rubbish"}
    # the one whose answer was lost with the run is asked for again, and no other
    asked = Counter(json.dumps(request, sort_keys=True) for request in server.answered)
    assert sorted(asked.values())[-2:] == [1, 2]
    assert len(again) == len(healthy.answered) - len(kept)
    assert {who for who, _ in server.seen} == {"Bearer key-of-judge"}


def test_verdicts_stand_beside_the_answers_with_what_was_asked_and_said(tmp_path: Path) -> None:
    with judging() as server:
        ctx = context(tmp_path, judge_by(server))
        found = run(ctx)
    vista, verse, logic = (found[n] for n in range(3))
    words = vista[1]["sampled"][0]  # "It is the first one ..." to a question for 3
    assert (words["score"], words["rules_score"]) == (1.0, 0.0)
    assert words["judged"]["by"] == "judge"
    assert words["judged"]["extracted"] == "3"
    [said] = words["judged"]["exchange"]
    assert said["said"] == "3"
    assert json.dumps(words["text"]) in said["asked"]
    assert vista[1]["sampled"][2]["judged"] == {"by": "rules", "extracted": "3", "exchange": []}
    steps = [e["step"] for e in verse[0]["sampled"][0]["judged"]["exchange"]]
    assert steps == ["extract", "compare"]
    assert verse[0]["sampled"][3]["judged"]["by"] == "rules"  # the very answer
    assert logic[0]["sampled"][0]["judged"]["extracted"] == "A"
    judge = ctx.run_spec.parsed_spec.judge  # type: ignore[attr-defined]
    said_of = told(ctx, judge, "mathverse", verse)
    assert said_of["judge"] == f"judge-72b (http://127.0.0.1:{server.server_port}/v1)"
    assert "{response}" in said_of["judging"]["prompts"]["extract"]
    assert said_of["judging"]["answers"] == dict(
        Counter(a["judged"]["by"] for row in verse for a in row["sampled"] + row["greedy"])
    )
    assert "key-of" not in json.dumps([found, said_of])
    # equal questions are asked once: the greedy answer's words are another answer's
    assert len({json.dumps(r, sort_keys=True) for r in server.answered}) == len(server.answered)


def test_scores_of_the_judge_make_the_figures(tmp_path: Path) -> None:
    with judging() as server:
        ctx = context(tmp_path, judge_by(server))
        found = run(ctx)
    own = chunks(ctx)[0].questions
    figures = own.figures(found[0])
    greedy = [row["greedy"][0]["score"] for row in found[0]]
    assert figures["greedy/overall"].value == pytest.approx(sum(greedy) / len(greedy))
    by_rules = own.figures(chunks(ctx)[0].rows)
    assert figures["greedy/overall"] != by_rules["greedy/overall"]


@pytest.mark.parametrize(
    ("fallback", "by", "scores"), [("None", "unread", [0.0]), ("Rules", "fallback", [0.0, 1.0])]
)
def test_rules_stand_in_for_unreadable_replies_only_where_the_spec_says_so(
    tmp_path: Path, fallback: str, by: str, scores: list[float]
) -> None:
    with judging() as server:
        server.rubbish = "I would say that\nthis is right: 1"
        found = run(context(tmp_path, judge_by(server, retries=0, fallback=fallback)))
        answers = [a for n in found for row in found[n] for a in row["sampled"] + row["greedy"]]
        lost = [a for a in answers if a["judged"]["by"] not in ("rules", "judge")]
        assert {a["judged"]["by"] for a in lost} == {by}
        assert all(len(a["judged"]["exchange"]) == 1 for a in lost)
        assert sorted({a["score"] for a in lost}) == scores
        if fallback == "Rules":
            assert all(a["score"] == a["rules_score"] for a in lost)
        patient = run(context(tmp_path / "again", judge_by(server, retries=1)))
    again = [a for n in patient for row in patient[n] for a in row["sampled"]]
    assert {a["judged"]["by"] for a in again} == {"rules", "judge"}


def test_several_pods_share_the_judging_and_ask_nothing_twice(tmp_path: Path) -> None:
    with judging() as server:
        judge = judge_by(server)
        helper = run(context(tmp_path, judge, place=Place(1, 2)))
        owner = run(context(tmp_path, judge, place=Place(0, 2)))
        asked = Counter(json.dumps(request, sort_keys=True) for _, request in server.seen)
        lone = run(context(tmp_path / "lone", judge))
    assert set(helper) == {1}
    assert verdicts(owner) == verdicts(lone)
    assert set(asked.values()) == {1}


def test_a_run_that_is_asked_to_stop_keeps_what_was_said_and_leaves(tmp_path: Path) -> None:
    with judging() as server:
        judge = judge_by(server)
        ctx = context(tmp_path, judge)
        ctx.probe = lambda name: ctx.stop.told("SIGTERM", 0.0) if name == "before-reply" else None
        with pytest.raises(Preempted):
            run(ctx)
        kept = {key for key in ctx.run.journal_keys() if not is_part(key)}
        assert len(kept) == len(server.answered) > 0
        run(context(tmp_path, judge, attempt=2))
        asked = Counter(json.dumps(request, sort_keys=True) for _, request in server.seen)
    assert set(asked.values()) == {1}


def test_an_endpoint_that_stays_down_ends_the_run_so_that_it_can_be_started_again(
    tmp_path: Path,
) -> None:
    with judging() as server:
        judge = judge_by(server)
    judge = judge.model_copy(
        update={"endpoint": judge.endpoint.model_copy(update={"retries": 1})}  # type: ignore[union-attr]
    )
    with pytest.raises(EndpointDown, match=r"spec\.judge\.endpoint: .* after 2 tries"):
        run(context(tmp_path, judge))


def test_without_its_key_no_judge_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(key_variable("judge.endpoint"))
    with judging() as server:
        with pytest.raises(ConfigError, match=r"spec\.judge\.endpoint\.secretRef: no key"):
            run(context(tmp_path, judge_by(server)))
        assert not server.seen


def test_half_a_character_in_a_reply_is_replaced(tmp_path: Path) -> None:
    with judging() as server:
        server.reply = lambda asked: "\ud800 A"  # type: ignore[method-assign]
        found = run(context(tmp_path, judge_by(server, retries=0)))
    said = found[1][0]["sampled"][0]["judged"]["exchange"][0]["said"]
    assert said == "? A"


def test_a_judge_is_for_the_benchmarks_that_ask_one(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "model": {"preset": "tiny"},
        "judge": {"model": {"preset": "tiny"}},
        "benchmarks": [{"name": "vsi-bench", "data": {"uri": "file:///a"}}],
    }
    with pytest.raises(ValueError, match="mathvista, mathverse and logicvista only"):
        EvalSpec.model_validate(fields)
    fields["benchmarks"].append({"name": "mathverse", "data": {"uri": "file:///b"}})
    assert EvalSpec.model_validate(fields).judge is not None
    assert Benchmark.model_validate(fields["benchmarks"][1]).rule == "official"
    with pytest.raises(ValueError, match="exactly one of model or endpoint"):
        AnswerJudge.model_validate({})


def whole(tmp_path: Path, judge: AnswerJudge) -> dict[str, Any]:
    evaluate.run(context(tmp_path, judge))
    found: dict[str, Any] = json.loads((tmp_path / "run/eval/results.json").read_text())
    return found


def test_an_evaluation_is_judged_after_its_answers_and_says_by_whom(tmp_path: Path) -> None:
    with judging() as server:
        judge = judge_by(server)
        first = context(tmp_path, judge)
        first.probe = lambda name: _kill() if name == "before-reply" else None
        with pytest.raises(_Killed):
            evaluate.run(first)
        parts = {key for key in first.run.journal_keys() if is_part(key)}
        assert parts == {f"s{n}/answers" for n in range(3)}  # paid for once
        outcome = evaluate.run(context(tmp_path, judge, attempt=2))
    assert outcome["step"] == outcome["steps"] == 6
    found = json.loads((tmp_path / "run/eval/results.json").read_text())
    for name in NAMES:
        protocol = found["protocols"][name]
        assert protocol["judge"].startswith("judge-72b (http://127.0.0.1")
        assert protocol["judging"]["fallback"] == "None"
        assert protocol["data"]["uri"] == (tmp_path / "copies" / name).as_uri()
        lines = (tmp_path / f"run/eval/samples/{name}.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert all("judged" in a for row in rows for a in row["sampled"] + row["greedy"])
        greedy = [row["greedy"][0]["score"] for row in rows]
        if name != "mathverse":  # whose headline is one version of two
            mean = 100 * sum(greedy) / len(greedy)
            assert found["benchmarks"][name]["greedy/overall"]["value"] == pytest.approx(mean)


def _kill() -> None:
    raise _Killed


@pytest.mark.parametrize(("form", "system"), [("Tagged", SYSTEM_PROMPT), ("Published", None)])
def test_the_published_form_is_asked_without_the_system_turn_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, system: str | None
) -> None:
    turns: list[str | None] = []

    def lay_out(policy: Any, samples: Any, own: str | None) -> Any:
        turns.append(own)
        return feeding.lay_out(policy, samples, own)

    monkeypatch.setattr(evaluate, "lay_out", lay_out)
    with judging() as server:
        evaluate.run(context(tmp_path, judge_by(server), form=form))
    assert set(turns) == {system}
    found = json.loads((tmp_path / "run/eval/results.json").read_text())
    assert {found["protocols"][name]["form"] for name in NAMES} == {form}


def test_a_model_in_the_run_judges(tmp_path: Path) -> None:
    fields = {"model": {"preset": "tiny"}, "engine": "inprocess", "maxCompletionTokens": 6}
    judge = AnswerJudge.model_validate(fields | {"retries": 1})
    found = whole(tmp_path, judge)
    assert found["protocols"]["mathverse"]["judge"] == "a model (preset tiny)"
    counts = found["protocols"]["mathverse"]["judging"]["answers"]
    assert sum(counts.values()) == 4  # two questions, sampled and greedy
    again = whole(tmp_path / "again", judge)
    assert again["benchmarks"] == found["benchmarks"]
    assert _samples(tmp_path / "again") == _samples(tmp_path)  # the very words
    exchanges = [
        a["judged"]["exchange"]
        for line in _samples(tmp_path).splitlines()
        for a in json.loads(line)["sampled"]
    ]
    assert {len(said) for said in exchanges} & {1, 2}
    for said in exchanges:
        assert [e["temperature"] for e in said if e["step"] == "extract"] in (
            *([], [0.0], [0.0, 0.5]),
        )


def _samples(folder: Path) -> str:
    files = sorted((folder / "run/eval/samples").glob("*.jsonl"))
    return "".join(file.read_text() for file in files)
