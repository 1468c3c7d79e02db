"""Signs of a collapse in a run's history: the failures that the paper names, as decisions.

Pure functions of the step records, so that a resumed run judges as one that was never stopped. A
sign is looked for in the mean over the last ``window`` steps: single steps of one task each differ
too much. What has no absolute scale (lengths, entropy) is compared with the run's first window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal

Record = Mapping[str, float | int | str]
Sign = Literal[
    "Repetition", "ShortChains", "Truncation", "EntropyCollapse", "NoSignal", "Divergence"
]
SIGNS: Final[tuple[Sign, ...]] = (
    "Repetition", "ShortChains", "Truncation", "EntropyCollapse", "NoSignal", "Divergence",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where a mean over ``window`` steps becomes an alarm; 0 turns a sign off.

    Shares 0..1: ``repetition`` of completions in a loop, ``truncated`` at the limit, ``no_signal``
    of groups whose completions all earn the same. Shares of the first window's mean:
    ``short_chains`` of the completion length, ``entropy`` of the entropy. ``kl`` in nats a token.
    """

    window: int = 20
    repetition: float = 0.5
    short_chains: float = 0.25
    truncated: float = 0.9
    entropy: float = 0.1
    no_signal: float = 0.95
    kl: float = 10.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """A sign that is there, and in words what was measured and what may help."""

    sign: Sign
    message: str


def alarms(history: Sequence[Record], limits: Thresholds) -> list[Alarm]:
    """The signs in a history of step records (keys: ``telemetry.history``), oldest first.

    None before a window is full.
    """
    if len(history) < limits.window:
        return []
    found = (look(history, limits) for look in _LOOKS)
    return [alarm for alarm in found if alarm is not None]


def _repetition(history: Sequence[Record], limits: Thresholds) -> Alarm | None:
    share = _recent(history, "repetition", limits)
    if not _reaches(share, limits.repetition):
        return None
    return Alarm(
        "Repetition",
        f"{share:.0%} of completions repeat themselves; set rewards.repetition, raise the KL",
    )


def _short_chains(history: Sequence[Record], limits: Thresholds) -> Alarm | None:
    now, first = _against_first(history, "completion_tokens", limits)
    if not _fell(now, first, limits.short_chains):
        return None
    return Alarm(
        "ShortChains",
        f"completions of {now:.0f} tokens, {first:.0f} at first; set rewards.short",
    )


def _truncation(history: Sequence[Record], limits: Thresholds) -> Alarm | None:
    share = _recent(history, "truncated", limits)
    if not _reaches(share, limits.truncated):
        return None
    return Alarm(
        "Truncation",
        f"{share:.0%} of completions end at the limit; set rewards.overlong or raise "
        "rollout.maxCompletionTokens",
    )


def _entropy(history: Sequence[Record], limits: Thresholds) -> Alarm | None:
    now, first = _against_first(history, "entropy", limits)
    if not _fell(now, first, limits.entropy):
        return None
    return Alarm(
        "EntropyCollapse",
        f"entropy {now:.3g} nats, {first:.3g} at first; raise clip.high or the KL, lower the "
        "learning rate",
    )


def _no_signal(history: Sequence[Record], limits: Thresholds) -> Alarm | None:
    key = "zero_signal_left" if "zero_signal_left" in history[-1] else "zero_signal"
    share = _recent(history, key, limits)
    if not _reaches(share, limits.no_signal):
        return None
    return Alarm(
        "NoSignal",
        f"in {share:.0%} of groups all completions earn the same; filter the data by difficulty "
        "or start from a better cold start",
    )


def _divergence(history: Sequence[Record], limits: Thresholds) -> Alarm | None:
    recent = history[-limits.window :]
    broken = sum(not _finite(record) for record in recent)
    if limits.kl and 2 * broken >= len(recent):
        return Alarm(
            "Divergence",
            f"loss or gradient not finite in {broken} of {len(recent)} steps; lower the learning "
            "rate, begin with an SFTJob",
        )
    kl = _recent(history, "kl", limits)
    if not _reaches(kl, limits.kl):
        return None
    return Alarm(
        "Divergence",
        f"{kl:.3g} nats a token from the reference; lower the learning rate, begin with an SFTJob",
    )


_LOOKS: Final[tuple[Callable[[Sequence[Record], Thresholds], Alarm | None], ...]] = (
    _repetition,
    _short_chains,
    _truncation,
    _entropy,
    _no_signal,
    _divergence,
)


def _recent(history: Sequence[Record], key: str, limits: Thresholds) -> float | None:
    """Mean over the last window; None where no record has the key."""
    return _mean(history[-limits.window :], key)


def _against_first(
    history: Sequence[Record], key: str, limits: Thresholds
) -> tuple[float | None, float | None]:
    """Means over the last and the first window; None before both are full, beside each other."""
    if len(history) < 2 * limits.window:
        return None, None
    return _recent(history, key, limits), _mean(history[: limits.window], key)


def _mean(records: Sequence[Record], key: str) -> float | None:
    """Over what was measured: a step without a backward pass has an entropy of exactly 0."""
    values = [float(r[key]) for r in records if key in r]
    if key == "entropy":
        values = [value for value in values if value]
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else None


def _reaches(value: float | None, limit: float) -> bool:
    return bool(limit) and value is not None and value >= limit


def _fell(now: float | None, first: float | None, share: float) -> bool:
    return bool(share) and now is not None and first is not None and now <= share * first


def _finite(record: Record) -> bool:
    return all(math.isfinite(float(record.get(key, 0.0))) for key in ("loss", "grad_norm"))
