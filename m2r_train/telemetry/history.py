"""What a run did, step by step, in bytes that are equal when the runs are equal.

A history travels in every checkpoint and in the result, and a resumed run must end with the same
bytes as one that was never stopped. So it holds no wall-clock figure: those go to a second
`History` (``timings``), which makes no such promise.

Keys that the stages write (the report draws any of them that it finds):

* sft: ``step loss lr grad_norm tokens padding``
* rlvr: ``step task reward reward_std accuracy format_valid ednm exact kl kl_coefficient entropy
  clip_ratio loss grad_norm lr completion_tokens truncated repetition zero_signal advantage_weight
  difficulty prompts sampler_logp_diff padding``; where asked for ``sampler_ratio sampler_ratio_max
  sampler_ratio_cut redrawn redrawn/TASK zero_signal_left own/NAME``; ``alarms`` where there are any
* ``padding`` is the share of the cells that training computes which hold no token
* both, where asked for: ``eval_loss eval_accuracy``, of the model before the step; the last ones
  stand in a record of their own, whose step is the number of steps
* timings: ``step`` and seconds per phase (``generate reward train sync checkpoint data
  evaluate``); ``mfu``, a ratio, where the devices' peak is known
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from m2r_train.api.errors import DataError

Scalar = float | int | str
StepRecord = dict[str, Scalar]

# JSON has no spelling for these, and a step with a NaN loss is the very one to be kept.
_NONFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class History:
    """Append-only step records, ordered by ``step``; at most one for each (step, task).

    >>> history = History()
    >>> history.append({"step": 1, "loss": 0.5})
    >>> History.from_bytes(history.to_bytes()).records
    ({'loss': 0.5, 'step': 1},)
    """

    def __init__(self, records: Iterable[Mapping[str, Scalar]] = ()) -> None:
        self._records: list[StepRecord] = []
        self._tasks_of_last: set[Scalar | None] = set()
        for record in records:
            self.append(record)

    def append(self, record: Mapping[str, Scalar]) -> None:
        """Add one record.

        Raises ``TypeError`` for a value that is not a plain number or string (a tensor or a numpy
        scalar would not give equal bytes everywhere), ``ValueError`` for a missing ``step``, a
        step behind the last one, or a second record of the same step and task.
        """
        plain: StepRecord = {key: _plain(key, record[key]) for key in sorted(record)}
        step = plain.get("step")
        if not isinstance(step, int):
            raise ValueError(f"history: 'step' must be an integer, got {step!r}")
        last = self.last_step
        if last is not None and step < last:
            raise ValueError(f"history: step {step} after step {last}; a history only grows")
        task = plain.get("task")
        if step != last:
            self._tasks_of_last = set()
        if task in self._tasks_of_last:
            raise ValueError(f"history: step {step} has a record for task {task!r} already")
        self._tasks_of_last.add(task)
        self._records.append(plain)

    @property
    def records(self) -> tuple[StepRecord, ...]:
        """Every record, oldest first, as copies."""
        return tuple(dict(record) for record in self._records)

    @property
    def rows(self) -> tuple[StepRecord, ...]:
        """Every record, oldest first, for a reader that changes none: nothing is copied."""
        return tuple(self._records)

    @property
    def last_step(self) -> int | None:
        """The step of the newest record, or None for an empty history."""
        return int(self._records[-1]["step"]) if self._records else None

    def last(self, key: str) -> Scalar | None:
        """The newest value of ``key``, or None where no record has it."""
        return next((r[key] for r in reversed(self._records) if key in r), None)

    def until(self, step: int) -> History:
        """The history up to and including ``step``: what a checkpoint of that step holds."""
        return History(record for record in self._records if int(record["step"]) <= step)

    def to_bytes(self) -> bytes:
        """JSON lines; a function of the records alone."""
        return to_lines(self._records)

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "history.jsonl") -> History:
        """The inverse of `to_bytes`; ``DataError`` naming ``name`` and the line when torn."""
        try:
            return cls(from_lines(data, name))
        except (TypeError, ValueError) as error:
            raise DataError(f"{name}: {error}; restore the file from its checkpoint") from error

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[StepRecord]:
        return iter(self.records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]


def to_lines(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Deterministic JSON lines: sorted keys, shortest round-trip floats, UTF-8, ``\\n`` endings.

    Nested values are welcome here (sample traces); non-finite floats become the strings ``NaN``,
    ``Infinity`` and ``-Infinity``.
    """
    return b"".join(
        json.dumps(
            _spell_nonfinite(record),
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        ).encode()
        + b"\n"
        for record in records
    )


def from_lines(data: bytes, name: str = "lines") -> list[dict[str, Any]]:
    """The inverse of `to_lines`; ``DataError`` names ``name`` and the first bad line."""
    if data and not data.endswith(b"\n"):
        raise DataError(f"{name}: the last line is torn; restore the file from its checkpoint")
    records: list[dict[str, Any]] = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{name}: line {number} is not JSON ({error}); restore it") from error
        if not isinstance(record, dict):
            raise DataError(f"{name}: line {number} is not a JSON object; restore it")
        records.append({key: _NONFINITE.get(v, v) if isinstance(v, str) else v
                        for key, v in record.items()})  # fmt: skip
    return records


def _plain(key: str, value: object) -> Scalar:
    if isinstance(value, bool) or not isinstance(value, float | int | str):
        kind = type(value).__name__
        raise TypeError(f"history: {key!r} must be a plain float, int or str, got {kind}")
    if isinstance(value, float):
        return float(value)  # numpy.float64 is a float too, with a repr of its own
    if isinstance(value, str) and value in _NONFINITE:
        raise TypeError(f"history: {key!r} may not be the string {value!r}; give the float")
    return value


def _spell_nonfinite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _spell_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spell_nonfinite(item) for item in value]
    return value
