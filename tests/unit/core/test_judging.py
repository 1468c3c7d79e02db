"""The judge's protocol: what it is asked, what it may answer, and whether it is believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.core.backoff import Backoff, Failure
from m2r_train.core.judging import (
    CANARIES,
    SCHEMA,
    TEMPLATE,
    BadVerdict,
    canary_places,
    finds,
    judge_fault,
    next_move,
    parse_verdict,
    prompt,
    template_fault,
)
from m2r_train.core.quality import grade
from m2r_train.core.records import Quality


def verdict(structure: Any = 5, load: Any = 4, verification: Any = 3) -> dict[str, Any]:
    scores = {"structure": structure, "load": load, "verification": verification}
    return {name: {"score": score, "reason": "because"} for name, score in scores.items()}


def changed(**changes: Any) -> str:
    return json.dumps({**verdict(), **changes})


def test_a_verdict_is_read_plain_and_fenced() -> None:
    for text in (json.dumps(verdict()), f" \n```json\n{json.dumps(verdict(), indent=1)}\n```\n"):
        found = parse_verdict(text)
        assert found.quality == Quality(structure=5, load=4, verification=3)
        assert found.reasons == ("because",) * 3


BAD = {
    "nothing": "",
    "prose": "I would give this a 5.",
    "prose around it": "Here you are: " + json.dumps(verdict()),
    "two objects": json.dumps(verdict()) * 2,
    "a list": "[5, 4, 3]",
    "bare numbers": '{"structure": 5, "load": 4, "verification": 3}',
    "a dimension missing": json.dumps({k: v for k, v in verdict().items() if k != "load"}),
    "one too many": changed(overall={"score": 5, "reason": "x"}),
    "a score too high": json.dumps(verdict(structure=6)),
    "a score below 0": json.dumps(verdict(structure=-1)),
    "a score as text": json.dumps(verdict(structure="5")),
    "a fraction": json.dumps(verdict(structure=4.5)),
    "a whole fraction": json.dumps(verdict(structure=4.0)),
    "a boolean": json.dumps(verdict(structure=True)),
    "no number": json.dumps(verdict()).replace('"score": 5', '"score": NaN'),
    "a reason missing": changed(load={"score": 4}),
    "a reason that is no text": changed(load={"score": 4, "reason": ["x"]}),
    "a field too many": changed(load={"score": 4, "reason": "x", "sure": 1}),
    "a name twice": '{"structure": {"score": 5, "reason": ""}, ' + json.dumps(verdict())[1:],
    "too long": changed(load={"score": 4, "reason": "x" * 20_000}),
    "cut off": json.dumps(verdict())[:-5],
    "too deep": "[" * 10_000,
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD.keys())
def test_anything_else_is_no_verdict(text: str) -> None:
    with pytest.raises(BadVerdict):
        parse_verdict(text)


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    with pytest.raises(BadVerdict):
        parse_verdict(text)


def test_the_schema_asks_for_what_the_parser_takes() -> None:
    import jsonschema

    jsonschema.validate(verdict(), SCHEMA)
    for bad in (verdict(structure=6), verdict(structure="5"), {"structure": 5}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, SCHEMA)


@given(st.text(), st.text(), st.text())
def test_no_text_leaves_its_field_of_the_prompt(question: str, answer: str, chain: str) -> None:
    text = prompt(TEMPLATE, question=question, answer=answer, chain=chain)
    lines = text.split("\n")
    for k, (name, value) in enumerate(
        [("question", question), ("reference answer", answer), ("chain", chain)], start=2
    ):
        label, _, held = lines[k].partition(": ")
        assert (label, json.loads(held)) == (name, value)
    assert len(lines) == TEMPLATE.count("\n") + 1


def test_a_field_inside_a_field_is_not_filled() -> None:
    found = prompt("{question}|{answer}|{chain}", question="{answer}", answer="{chain}", chain="x")
    assert found == '"{answer}"|"{chain}"|"x"'


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (TEMPLATE, None),
        ("{question} {answer} {chain} {{}}", None),
        ("{question} {answer}", "lacks {chain}"),
        ("{question} {answer} {chain} {solution}", "{solution} is no field"),
        ("{question} {answer} {chain} {", "{ is no field"),
        ("{question} {answer} {chain} {}", "{} is no field"),
        ("{question.__class__} {answer} {chain}", "{ is no field"),
    ],
)
def test_a_template_is_checked_before_anything_runs(template: str, fault: str | None) -> None:
    found = template_fault(template)
    assert (found is None) if fault is None else (found or "").startswith(fault)


@pytest.mark.parametrize(
    ("answers", "retries", "move"),
    [
        ([], 3, "ask"),
        ([True], 3, "take"),
        ([False], 3, "ask"),
        ([False, False, False], 3, "ask"),
        ([False, False, False, True], 3, "take"),
        ([False] * 4, 3, "drop"),
        ([False], 0, "drop"),
    ],
)
def test_when_a_judge_is_asked_again(answers: list[bool], retries: int, move: str) -> None:
    assert next_move(answers, retries) == move


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 200), st.integers(1, 50))
def test_canaries_are_where_the_seed_says(seed: int, part: int, size: int, every: int) -> None:
    places = canary_places(seed, part, size, every, len(CANARIES))
    assert places == canary_places(seed, part, size, every, len(CANARIES))
    assert len(places) == max(1, -(-size // every))
    assert [at for at, _ in places] == sorted(at for at, _ in places)
    assert all(0 <= at <= size and 0 <= kind < len(CANARIES) for at, kind in places)


def test_canaries_are_not_where_another_part_has_them() -> None:
    places = [tuple(canary_places(1, part, 64, 16, len(CANARIES))) for part in range(50)]
    assert len(set(places)) > 45
    assert {kind for part in places for _, kind in part} == set(range(len(CANARIES)))


def test_the_built_in_rules_find_every_canary() -> None:
    for canary in CANARIES:
        result = grade(
            canary.chain, question=canary.question, answer=canary.answer, answer_type="number"
        )
        assert finds(canary, result.quality), (canary, result)


@pytest.mark.parametrize("always", [0, 1, 2, 3, 4, 5])
def test_a_judge_that_always_says_the_same_is_refused(always: int) -> None:
    same = Quality(structure=always, load=always, verification=always)
    fault = judge_fault([finds(canary, same) for canary in CANARIES], 0.1)
    assert fault is not None
    assert "known scores" in fault
    assert "\n" not in fault


def test_a_judge_that_misses_few_is_believed() -> None:
    assert judge_fault([True] * 9 + [False], 0.1) is None
    assert judge_fault([True] * 8 + [False] * 2, 0.1) is not None
    assert judge_fault([], 0.1) is None
    assert not finds(CANARIES[0], None)


STALL = Failure("stalled", "no answer")


@pytest.mark.parametrize(
    ("failure", "failed", "least", "most"),
    [
        (STALL, 1, 0.5, 1.0),
        (STALL, 3, 2.0, 4.0),
        (STALL, 8, 30.0, 60.0),
        (Failure("status", "", 429, 20.0), 1, 20.0, 20.0),
        (Failure("status", "", 503, 1e6), 1, 60.0, 60.0),
        (Failure("status", "", 500), 2, 1.0, 2.0),
    ],
)
def test_how_long_to_wait(failure: Failure, failed: int, least: float, most: float) -> None:
    for request in range(20):
        delay = Backoff().delay(failure, failed, "s", request)
        assert delay is not None
        assert least <= delay <= most
        assert delay == Backoff().delay(failure, failed, "s", request)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_cannot_get_better_is_not_tried_again(status: int) -> None:
    assert Backoff().delay(Failure("status", "", status), 1) is None


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
def test_what_may_get_better_is_tried_so_many_times(status: int) -> None:
    failure = Failure("status", "", status)
    given = [Backoff(retries=2).delay(failure, failed) is None for failed in (1, 2, 3)]
    assert given == [False, False, True]


def test_clients_do_not_come_back_together() -> None:
    delays = {Backoff().delay(STALL, 4, request) for request in range(50)}
    assert len(delays) == 50
