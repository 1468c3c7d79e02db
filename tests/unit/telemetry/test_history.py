"""Histories: equal records give equal bytes, and nothing else gets in."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.api.errors import DataError
from m2r_train.telemetry.history import History, from_lines, to_lines

KEYS = st.text(min_size=1, max_size=8).filter(lambda key: key not in ("step", "task"))
NAMES = st.text(max_size=12).filter(lambda text: text not in ("NaN", "Infinity", "-Infinity"))
VALUES = st.one_of(st.floats(), st.integers(-(2**53), 2**53), NAMES)
RECORDS = st.lists(st.dictionaries(KEYS, VALUES, max_size=5), max_size=8).map(
    lambda rows: [{**row, "step": step} for step, row in enumerate(rows)]
)


@given(RECORDS)
def test_bytes_round_trip(records: list[dict[str, float | int | str]]) -> None:
    history = History(records)
    again = History.from_bytes(history.to_bytes())
    assert again.to_bytes() == history.to_bytes()
    assert repr(again.records) == repr(history.records)  # repr: nan equals nan


@given(RECORDS)
def test_the_order_of_keys_does_not_change_the_bytes(
    records: list[dict[str, float | int | str]],
) -> None:
    reversed_keys = [dict(reversed(record.items())) for record in records]
    assert History(reversed_keys).to_bytes() == History(records).to_bytes()


@given(RECORDS, st.integers(0, 8))
def test_going_on_from_saved_bytes_equals_never_having_stopped(
    records: list[dict[str, float | int | str]], stop: int
) -> None:
    resumed = History.from_bytes(History(records[:stop]).to_bytes())
    for record in records[stop:]:
        resumed.append(record)
    assert resumed.to_bytes() == History(records).to_bytes()


def test_the_lines_are_plain_json_with_sorted_keys() -> None:
    history = History([{"step": 1, "loss": 0.1 + 0.2, "a": "é"}, {"step": 2, "loss": math.nan}])
    assert history.to_bytes().decode() == (
        '{"a":"é","loss":0.30000000000000004,"step":1}\n{"loss":"NaN","step":2}\n'
    )


def test_a_step_that_is_not_finite_survives() -> None:
    values = {"a": math.nan, "b": math.inf, "c": -math.inf}
    (back,) = History.from_bytes(History([{"step": 1, **values}]).to_bytes())
    assert math.isnan(back["a"])
    assert (back["b"], back["c"]) == (math.inf, -math.inf)


def test_float64_scalars_count_as_floats() -> None:
    assert History([{"step": 1, "x": np.float64(0.1)}]).to_bytes() == b'{"step":1,"x":0.1}\n'


@pytest.mark.parametrize(
    ("record", "error", "complaint"),
    [
        ({"loss": 1.0}, ValueError, "'step' must be an integer"),
        ({"step": 1.0}, ValueError, "'step' must be an integer"),
        ({"step": 4}, ValueError, "step 4 after step 5"),
        ({"step": 5, "task": "count"}, ValueError, "has a record for task 'count' already"),
        ({"step": 6, "x": np.float32(1)}, TypeError, "'x' must be a plain float, int or str"),
        ({"step": 6, "x": None}, TypeError, "got NoneType"),
        ({"step": 6, "x": True}, TypeError, "got bool"),
        ({"step": 6, "x": [1]}, TypeError, "got list"),
        ({"step": 6, "x": "NaN"}, TypeError, "give the float"),
    ],
)
def test_what_would_break_the_promise_is_refused(
    record: dict[str, object], error: type[Exception], complaint: str
) -> None:
    history = History([{"step": 5, "task": "count"}])
    before = history.to_bytes()
    with pytest.raises(error, match=complaint):
        history.append(record)  # type: ignore[arg-type]
    assert history.to_bytes() == before


def test_a_step_may_have_a_record_for_each_task() -> None:
    history = History(
        [{"step": 1, "task": "a"}, {"step": 1, "task": "b"}, {"step": 2, "task": "a"}]
    )
    assert len(history) == 3


def test_records_are_copies() -> None:
    history = History([{"step": 1, "loss": 1.0}])
    history.records[0]["loss"] = 2.0
    assert history.last("loss") == 1.0


def test_until_is_what_a_checkpoint_of_that_step_holds() -> None:
    history = History({"step": step, "loss": float(step)} for step in range(1, 6))
    assert [record["step"] for record in history.until(3)] == [1, 2, 3]
    assert history.until(0) == History()
    assert history != history.until(3)


def test_last_looks_back_to_the_newest_record_that_has_the_key() -> None:
    history = History([{"step": 1, "kl": 0.1}, {"step": 2, "loss": 3.0}])
    assert (history.last("kl"), history.last("none"), history.last_step) == (0.1, None, 2)
    assert History().last_step is None


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"step":1}\n{"step":2}', "the last line is torn"),
        (b'{"step":1}\n{"st\n', "line 2 is not JSON"),
        (b"[1]\n", "line 1 is not a JSON object"),
        (b'{"step":2}\n{"step":1}\n', "step 1 after step 2"),
        (b'{"step":1,"x":null}\n', "'x' must be a plain"),
    ],
)
def test_a_damaged_file_is_named_with_its_remedy(data: bytes, complaint: str) -> None:
    with pytest.raises(DataError, match=rf"history.jsonl: .*{complaint}.*restore"):
        History.from_bytes(data, "history.jsonl")


def test_traces_may_be_nested() -> None:
    trace = {"step": 1, "completions": [{"text": "</script>", "reward": 0.5}], "image": None}
    assert from_lines(to_lines([trace])) == [trace]
    assert json.loads(to_lines([{"x": [math.inf]}])) == {"x": ["Infinity"]}
