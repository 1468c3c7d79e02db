"""Chains by model teachers and judges: a real HTTP server that stalls, errs and talks rubbish."""

from __future__ import annotations

import io
import json
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from teacherserver import Server, grade, serving
from unit.data.folders import write_lines
from unit.rollout.talkers import reader

from m2r_train.api.common import EndpointRef, key_variable
from m2r_train.api.datasynthesis import DataSynthesisSpec
from m2r_train.api.errors import ConfigError, DataError
from m2r_train.api.runspec import RunInput, RunMetadata, RunSpec, RunStorage, resolved
from m2r_train.core import judging
from m2r_train.data.parquet import read_shard
from m2r_train.model import tiny
from m2r_train.model.policy import Policy, Request
from m2r_train.model.prompts import SYSTEM_PROMPT
from m2r_train.rollout.base import Completion, SamplingParams
from m2r_train.rollout.chats import Asked, InProcessChats
from m2r_train.rollout.endpoint import EndpointChat, EndpointDown
from m2r_train.stages import modelclient, speaking, synthesize
from m2r_train.stages.context import Context
from m2r_train.stages.endpoints import EndpointClient, EndpointGrader
from m2r_train.stages.grading import Turn
from m2r_train.stages.place import ALONE, Place
from m2r_train.stages.replies import Question
from m2r_train.stages.support import refuse_unsupported
from m2r_train.store import Helper, LocalStore, Run
from m2r_train.telemetry.metrics import MetricSet
from m2r_train.telemetry.progress import Progress

QUESTIONS = 24
OUTPUTS = {"sft": 0, "rlvr": 8, "eval": 2}


class _Killed(BaseException):
    """A kill at an unlucky moment."""


def context(tmp_path: Path, attempt: int = 1, *, place: Place = ALONE, **more: Any) -> Context:
    own = tmp_path / "own"
    if not own.exists():
        own.mkdir(parents=True)
        lines = [
            {"id": f"q{a}", "question": f"What is {a} + 7?", "answer": str(a + 7)}
            for a in range(QUESTIONS)
        ]
        write_lines(own / "own.jsonl", lines)
    fields = {
        "sources": [{"name": "own", "dataset": {"uri": own.as_uri()}}],
        "outputs": {"sft": 4, "rlvr": 4, "eval": 2},
        "shards": 3,
        **more,
    }
    spec = DataSynthesisSpec.model_validate(fields)
    refuse_unsupported(spec)
    store = LocalStore(tmp_path / "run")
    return Context(
        place=place,
        run_spec=RunSpec(
            kind="DataSynthesisJob",
            metadata=RunMetadata(name="data", uid="0123456789abcdef"),
            attempt=attempt,
            storage=RunStorage(uri=tmp_path.as_uri()),
            seed=0,
            spec=resolved(spec),
            inputs={"sources[0].dataset": RunInput(uri=own.as_uri())},
        ),
        run=Helper(store, attempt) if place.helps else Run.claim(store, attempt),
        progress=Progress(Console(file=io.StringIO())),
        metrics=MetricSet(),
        cache_dir=tmp_path / "cache",
    )


def asked(server: Server, **judge: Any) -> dict[str, Any]:
    ref = {
        "url": f"http://127.0.0.1:{server.server_port}/v1",
        "model": "m",
        "secretRef": {"name": "keys"},
        "timeoutSeconds": 1,
        "retries": 20,
    }
    judged = {"judge": {"endpoint": ref, **judge}}
    return {"generator": {"endpoint": ref, "chainsPerQuestion": 4}, "quality": judged}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(key_variable("generator.endpoint"), "key-of-teacher")
    monkeypatch.setenv(key_variable("quality.judge.endpoint"), "key-of-judge")
    monkeypatch.setattr("m2r_train.core.backoff.Backoff.delay", _soon)


def _soon(self: Any, failure: Any, failed: int, *path: int | str) -> float | None:
    return None if failure.permanent or failed > self.retries else 0.0


def test_nothing_is_lost_or_doubled_by_an_endpoint_that_fails_and_a_killed_run(
    tmp_path: Path,
) -> None:
    with serving() as server:
        first = context(tmp_path, **asked(server))
        puts = Counter[str]()

        def kill(name: str) -> None:
            puts[name] += 1
            if puts["before-journal"] == 3:  # two parts of three are safe
                raise _Killed

        first.probe = kill
        with pytest.raises(_Killed):
            synthesize.run(first)
        before = len(server.seen)
        synthesize.run(context(tmp_path, attempt=2, **asked(server)))
        again = len(server.seen) - before
    assert set(server.failed) == {"stall", "down", "later", "rubbish", "cut"}
    with serving(faults=False) as healthy:
        synthesize.run(context(tmp_path / "undisturbed", **asked(healthy)))
    folder, whole = (tmp_path / at / "run" / "dataset" for at in (".", "undisturbed"))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["teaching"] == json.loads((whole / "manifest.json").read_text())["teaching"]
    assert _shards(folder) == _shards(whole)
    samples = {
        split: [s for f in sorted((folder / split).glob("*")) for s in read_shard(f.read_bytes())]
        for split in ("sft", "rlvr", "eval")
    }
    ids = [s.id for own in samples.values() for s in own]
    assert len(ids) == len(set(ids)) == 10
    assert again < before  # the parts that were there were not asked for again
    questions, chains = manifest["teaching"]["questions"], manifest["teaching"]["chains"]
    assert questions["asked"] == QUESTIONS == questions["taught"] + questions["untaught"]
    assert chains["written"] == 4 * QUESTIONS
    assert sum(n for name, n in chains.items() if name != "written") == chains["written"]
    assert chains["no-text"] == 4  # the filtered question's
    assert chains["answer"] >= 4
    assert chains["quality"] >= 1
    assert chains["kept"] == questions["taught"]
    for s in samples["sft"]:
        assert s.chain is not None
        assert s.quality is not None
        assert f"\\boxed{{{s.answer}}}" in s.chain
    assert {who for who, _ in server.seen} == {"Bearer key-of-teacher", "Bearer key-of-judge"}
    assert "{chain}" in manifest["prompts"]["judge"]
    assert "<think>" in manifest["prompts"]["teacher"]
    assert "key-of" not in json.dumps(manifest)


def test_several_pods_share_the_questions_and_ask_nothing_twice(tmp_path: Path) -> None:
    with serving(faults=False) as server:
        fields = asked(server)
        owner = context(tmp_path, place=Place(0, 2), **fields)
        helper = context(tmp_path, place=Place(1, 2), **fields)
        helping = threading.Thread(target=synthesize.run, args=(helper,))
        helping.start()
        synthesize.run(owner)
        helping.join(30)
        lone = context(tmp_path / "lone", **asked(server))
        once = Counter(json.dumps(request) for _, request in server.seen)
        synthesize.run(lone)
    assert set(once.values()) == {1}
    assert sum("response_format" not in json.loads(r) for r in once) == 4 * QUESTIONS
    folder, whole = (tmp_path / at / "run" / "dataset" for at in (".", "lone"))
    assert _shards(folder) == _shards(whole)
    assert owner.done == lone.done == 3  # a part each of the three


def _shards(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*.parquet")}


def test_a_judge_that_praises_everything_is_refused(tmp_path: Path) -> None:
    with serving(faults=False, fair=False) as server:
        ctx = context(tmp_path, **asked(server, canaryEvery=1))
        with pytest.raises(ConfigError, match=r"spec\.quality\.judge: the judge missed"):
            synthesize.run(ctx)
    assert not (tmp_path / "run" / "dataset").exists()


@pytest.mark.parametrize("path", ["generator.endpoint", "quality.judge.endpoint"])
def test_without_the_key_of_one_endpoint_none_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.delenv(key_variable(path))
    with serving(faults=False) as server:
        with pytest.raises(ConfigError, match=re.escape(f"spec.{path}.secretRef: no key")):
            synthesize.run(context(tmp_path, **asked(server)))
        assert not server.seen


def test_an_endpoint_that_stays_down_ends_the_run_so_that_it_can_be_started_again(
    tmp_path: Path,
) -> None:
    with serving(faults=False) as server:
        spec = asked(server)
    spec["generator"]["endpoint"]["retries"] = 1
    with pytest.raises(EndpointDown, match=r"spec\.generator\.endpoint: .* after 2 tries") as down:
        synthesize.run(context(tmp_path, **spec))
    assert down.value.exit_code == 1
    assert not (tmp_path / "run" / "dataset").exists()


def test_a_model_in_the_run_teaches_and_the_rules_judge(tmp_path: Path) -> None:
    teacher = {"model": {"preset": "tiny"}, "chainsPerQuestion": 2, "maxCompletionTokens": 8}
    synthesize.run(context(tmp_path, generator=teacher, outputs=OUTPUTS))
    manifest = json.loads((tmp_path / "run" / "dataset" / "manifest.json").read_text())
    assert manifest["teaching"]["questions"]["asked"] == QUESTIONS
    chains = manifest["teaching"]["chains"]
    assert chains["written"] == 2 * QUESTIONS == sum(chains.values()) - chains["written"]
    assert manifest["prompts"] == {"teacher": SYSTEM_PROMPT}


def test_any_model_teaches_and_judges_by_its_own_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes noise; what counts is whose words it was shown."""
    heard: list[Asked] = []
    reply = InProcessChats.reply

    def listened(self: Any, asked: Sequence[Asked], *more: Any) -> Any:
        heard.extend(asked)
        return reply(self, asked, *more)

    monkeypatch.setattr(InProcessChats, "reply", listened)
    folder = {"uri": reader(tmp_path / "model").as_uri()}
    teacher = {"model": folder, "chainsPerQuestion": 2, "maxCompletionTokens": 8}
    teacher["prompt"] = "Reason like a carpenter."
    asked = context(tmp_path, generator=teacher, outputs=OUTPUTS)
    asked.run_spec.inputs["generator.model"] = RunInput(uri=folder["uri"])
    synthesize.run(asked)
    manifest = json.loads((tmp_path / "run" / "dataset" / "manifest.json").read_text())
    assert manifest["teaching"]["chains"]["written"] == 2 * QUESTIONS
    assert manifest["prompts"] == {"teacher": "Reason like a carpenter."}
    assert len(heard) == QUESTIONS
    assert {one.turns[0]["content"] for one in heard} == {"Reason like a carpenter."}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "chat_template.jinja").unlink(), "no chat template"),
        (shutil.rmtree, "model"),
    ],
)
def test_a_folder_that_cannot_teach_is_told_by_its_field_once(
    tmp_path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    folder = reader(tmp_path / "model")
    spoil(folder)
    asked = context(tmp_path, generator={"model": {"uri": folder.as_uri()}}, outputs=OUTPUTS)
    asked.run_spec.inputs["generator.model"] = RunInput(uri=folder.as_uri())
    with pytest.raises((ConfigError, DataError), match=told) as error:
        synthesize.run(asked)
    assert str(error.value).startswith("spec.generator.model: ")
    assert str(error.value).count("spec.") == 1


class Listener:
    """Replies nothing, and notes what it is shown."""

    def __init__(self, policy: Policy, shown: list[str]) -> None:
        self._policy, self._shown = policy, shown

    def generate(
        self, requests: Sequence[Request], seeds: Sequence[int], params: SamplingParams
    ) -> list[list[Completion]]:
        self._shown += [self._policy.decode(r.prompt.tokens) for r in requests]
        return [[Completion((), (), False)] for _ in requests]


def test_the_manifest_has_the_prompt_that_a_model_in_the_run_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(speaking, "rollout_engine", lambda _, policy: Listener(policy, shown))
    whole = tiny._CHAT_TEMPLATE.replace(
        "{% if m.role == 'user' %}",
        "{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}",
    )
    monkeypatch.setattr(tiny, "_CHAT_TEMPLATE", whole)
    for name, own in {"given": {"prompt": "Reason like a carpenter."}, "left-out": {}}.items():
        shown.clear()
        teacher = {"model": {"preset": "tiny"}, **own}
        synthesize.run(context(tmp_path / name, generator=teacher, outputs=OUTPUTS))
        manifest = json.loads((tmp_path / name / "run" / "dataset" / "manifest.json").read_text())
        prompt = manifest["prompts"]["teacher"]
        assert prompt == own.get("prompt", SYSTEM_PROMPT)
        assert len(shown) == QUESTIONS and all(text.startswith(prompt) for text in shown)


def test_a_prompt_that_the_models_template_leaves_out_is_refused(tmp_path: Path) -> None:
    teacher = {"model": {"preset": "tiny"}, "prompt": "Reason.", "maxCompletionTokens": 2}
    with pytest.raises(ConfigError, match=r"^spec\.generator\.prompt: the chat template"):
        synthesize.run(context(tmp_path, generator=teacher, outputs=OUTPUTS))


def test_a_judge_that_cannot_be_read_is_asked_again_warmer_with_another_seed(
    tmp_path: Path,
) -> None:
    with serving(faults=False, clear_from=1.0) as server:
        synthesize.run(context(tmp_path, **asked(server, retries=2)))
        tries: dict[str, list[tuple[float, int]]] = {}
        for _, request in server.seen:
            if "response_format" in request:
                own = tries.setdefault(json.dumps(request["messages"]), [])
                own.append((request["temperature"], request["seed"]))
    manifest = json.loads((tmp_path / "run" / "dataset" / "manifest.json").read_text())
    assert "unjudged" not in manifest["teaching"]["chains"]
    for own in tries.values():
        assert sorted({t for t, _ in own}) == [0.0, 0.5, 1.0]
        assert len({seed for _, seed in own}) == len(own)


def test_no_endpoint_is_asked_above_what_the_api_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(EndpointChat, "answer", lambda _self, asked, *_path: seen.append(asked))
    ref = EndpointRef(url="http://h", model="m")
    EndpointGrader(0, ref)([Turn(None, "", ("judge", 0, 0, attempt)) for attempt in range(7)])
    warm = [Question("", 0.5 * attempt, 9) for attempt in range(7)]
    EndpointClient("judge.endpoint", ref, 0).answer(warm, lambda _number, _reply: None)
    assert sorted(asked["temperature"] for asked in seen) == sorted(
        2 * [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    )
    assert len({asked["seed"] for asked in seen}) == len(seen)


class FairEngine:
    """Grades as `Server` does, in the tokens of the policy that it was given."""

    def __init__(self, policy: Policy, asked: list[SamplingParams]) -> None:
        self._policy, self.asked = policy, asked

    def generate(
        self, requests: Sequence[Request], seeds: Sequence[int], params: SamplingParams
    ) -> list[list[Completion]]:
        self.asked.append(params)
        told = [self._policy.decode(r.prompt.tokens) for r in requests]
        said = [grade(text, fair=True) if params.temperature else "rubbish" for text in told]
        return [[Completion(self._policy.text_tokens(text), (), False)] for text in said]


def test_a_model_in_the_run_judges_when_all_chains_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[SamplingParams] = []
    engine = lambda _name, policy: FairEngine(policy, drawn)  # noqa: E731
    monkeypatch.setattr(speaking, "rollout_engine", engine)
    judge = {"judge": {"model": {"preset": "tiny"}, "engine": "inprocess", "retries": 1}}
    with serving(faults=False) as server:
        fields = asked(server) | {"quality": judge}
        first = context(tmp_path, **fields)
        puts = Counter[str]()

        def kill(name: str) -> None:
            puts[name] += 1
            if puts["before-journal"] == 5:  # all is written, and a part of three judged
                raise _Killed

        first.probe = kill
        with pytest.raises(_Killed):
            synthesize.run(first)
        assert len(server.seen) == 4 * QUESTIONS
        second = context(tmp_path, attempt=2, **fields)
        synthesize.run(second)
        assert len(server.seen) == 4 * QUESTIONS  # the teacher is not asked again
        assert second.done == 6  # three parts, written and judged
        synthesize.run(context(tmp_path / "endpoint", **asked(server)))
    assert {p.temperature for p in drawn} == {0.0, 0.5}
    assert {p.schema for p in drawn} == {json.dumps(judging.SCHEMA)}
    folder, other = (tmp_path / at / "run" / "dataset" for at in (".", "endpoint"))
    assert _shards(folder) == _shards(other)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert "{chain}" in manifest["prompts"]["judge"]


def test_a_model_that_cannot_judge_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(modelclient, "VERDICT_TOKENS", 8)
    judge = {"judge": {"model": {"preset": "tiny"}, "engine": "inprocess", "retries": 0}}
    with serving(faults=False) as server:
        ctx = context(tmp_path, **(asked(server) | {"quality": judge}))
        with pytest.raises(ConfigError, match=r"spec\.quality\.judge: the judge missed"):
            synthesize.run(ctx)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"quality": {"judge": {"model": {"preset": "tiny"}}}}, "templates' chains"),
        (
            {
                "generator": {"model": {"preset": "tiny"}},
                "quality": {
                    "judge": {"endpoint": {"url": "http://h", "model": "m"}, "prompt": "{chain}"}
                },
            },
            "quality.judge.prompt: lacks {question}",
        ),
    ],
)
def test_what_cannot_be_judged_is_said_before(fields: dict[str, Any], line: str) -> None:
    figures = {"name": "a", "figures": {"tasks": ["Arithmetic"], "samples": 9}}
    spec = DataSynthesisSpec.model_validate({"sources": [figures], **fields})
    with pytest.raises(ConfigError, match=re.escape(line)):
        refuse_unsupported(spec)
