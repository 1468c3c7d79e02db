"""Each way in which a run ends badly says what to do about it."""

from __future__ import annotations

import ast
import re
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.operator.builders import Life, a_job, a_run, at, ended, poll_of, running

from m2r_operator import names, remedies
from m2r_operator.decide import decide
from m2r_operator.evidence import PERMANENT
from m2r_operator.remedies import LONGEST, REMEDIES, with_remedy
from m2r_operator.state import Key, Told
from m2r_train.api import KINDS
from m2r_train.api.problems import fields_of

OPERATOR = Path(remedies.__file__).parent
TOLD_BY = ("fail", "with_remedy")


def crashed(life: Life, code: int = 1, step: int | None = None) -> Life:
    """The present attempt's pod ends; the next one begins where there may be one."""
    attempt = life.status.attempt
    words = Told(step=step, total_steps=100, message="it broke") if step is not None else None
    pod = ended(code, attempt, told=words)
    return life.look(5, pods=(pod,), jobs=(a_job(attempt, outcome="Failed"),))


def permanent(code: int) -> Callable[[], Life]:
    return lambda: crashed(running(), code)


def same_step() -> Life:
    life = crashed(running(), step=7)
    life.look(600, jobs=())
    return crashed(life, step=7)


def evicted(**disruption: object) -> Life:
    life = running(a_run(spec={"disruption": disruption}))
    for _ in range(2):
        attempt = life.status.attempt
        gone = ended(137, attempt, disruption="EvictionByEvictionAPI")
        life.look(5, pods=(gone,), jobs=(a_job(attempt, outcome="Failed"),)).look(1)
    return life


def stalled() -> Life:
    watchdog = {"stallSeconds": 60, "action": "Fail"}
    life = running(a_run(spec={"watchdog": watchdog}))
    return life.look(5, poll=poll_of(3)).look(120)


def missed_gate() -> Life:
    life = running(a_run("EvalJob", spec={"gates": [{"benchmark": "synthetic", "min": 40}]}))
    outcome = {"scores": {"synthetic": {"overall": {"value": 39.0, "n": 9}}}}
    job = a_job(kind="EvalJob", outcome="Complete")
    return life.look(30, jobs=(job,), pods=(ended(0, told=Told(outputs=outcome)),))


def purge_given_up() -> Life:
    storage = {"uri": "s3://lab/own", "reclaimPolicy": "Delete"}
    run = a_run(spec={"storage": storage}, finalizers=(names.FINALIZER,), deleting_since=at(0))
    life = Life(run)
    life.told += decide(life.seen, at(3600)).events  # again and again, under one name
    life.told += decide(life.seen, at(3700)).events
    assert len(life.lines("PurgeGivenUp")) == 1
    return life


ENDS: dict[str, Callable[[], Life]] = {
    "BadSpec": permanent(64),
    "BadData": permanent(65),
    "BadConfig": permanent(78),
    "Collapsed": permanent(79),
    "CrashLoopAtStep": same_step,
    "MaxRestarts": lambda: crashed(running(a_run(spec={"restartPolicy": {"maxRestarts": 0}}))),
    "MaxPreemptions": lambda: evicted(maxPreemptions=1),
    "Disrupted": lambda: evicted(policy="Fail"),
    "DeadlineExceeded": lambda: running(a_run(spec={"activeDeadlineSeconds": 60})).look(90),
    "Stalled": stalled,
    "GateMissed": missed_gate,
    "PurgeGivenUp": purge_given_up,
}


def reasons_in_the_source() -> set[str]:
    """The single words that ``fail`` and ``with_remedy`` are called with, and those that
    ``too_disrupted`` answers."""
    found = set(PERMANENT.values())
    for path in OPERATOR.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            words: list[ast.expr] = []
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in TOLD_BY:
                words = node.args[:2]
            elif isinstance(node, ast.FunctionDef) and node.name == "too_disrupted":
                words = [n.elts[0] for n in ast.walk(node) if isinstance(n, ast.Tuple)]
            found |= {str(w.value) for w in words if isinstance(w, ast.Constant)}
    return {word for word in found if word.isidentifier()}


def test_every_reason_for_a_bad_end_has_a_remedy_and_a_test() -> None:
    assert reasons_in_the_source() == set(REMEDIES) == set(ENDS)


@pytest.mark.parametrize("reason", sorted(ENDS))
def test_the_message_of_a_bad_end_says_what_to_do(reason: str) -> None:
    life = ENDS[reason]()
    last = life.told[-1]
    if reason == "PurgeGivenUp":
        assert last.reason == reason
        assert "delete s3://lab/own/lab/" in last.message
    else:
        assert life.says("Failed") == ("True", reason)
        assert life.words("Failed") in last.message
    ending = REMEDIES[reason].format(logs="L", events="E", folder="F").rpartition("`")[2]
    assert last.message.endswith(ending.rpartition("delete F")[2])
    assert "{" not in last.message
    assert last.warning


@pytest.mark.parametrize("reason", sorted(REMEDIES))
def test_a_remedy_is_one_line_with_fields_that_exist_and_a_command_that_is_whole(
    reason: str,
) -> None:
    message = with_remedy(reason, "cause", Key("EvalJob", "lab", "run"))
    assert "\n" not in message
    assert message.count("`") % 2 == 0
    for path in re.findall(r"spec\.([A-Za-z.\[\]]+[A-Za-z\]])", message):
        assert any(exists(kind.spec, path) for kind in KINDS.values()), path


def exists(model: object, path: str) -> bool:
    name, _, rest = path.partition(".")
    inner = fields_of(model).get(name.removesuffix("[]"))
    if inner is not None and name.endswith("[]"):
        inner = typing.get_args(inner)[0]
    return inner is not None and (not rest or exists(inner, rest))


def test_the_pod_whose_logs_are_named_is_the_one_that_failed() -> None:
    life = ENDS["MaxRestarts"]()
    assert "`kubectl -n lab logs run-1-0 --tail 50` shows why" in life.words("Failed")
    later = with_remedy("MaxRestarts", "", Key("SFTJob", "lab", "run"))
    assert "logs -l m2r.dev/kind=SFTJob,m2r.dev/name=run " in later


@pytest.mark.parametrize("reason", sorted(REMEDIES))
def test_a_long_cause_leaves_room_for_the_remedy(reason: str) -> None:
    key = Key("DataSynthesisJob", "n" * 63, "r" * 63)
    message = with_remedy(reason, "x" * 2000, key, pod="p" * 63)
    assert len(message) == LONGEST
    assert not message.endswith("x")
