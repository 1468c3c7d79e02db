"""Sample traces for people: the first step against the last, each completion with its rewards."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from m2r_train.telemetry.metrics import OWN

Verdict = Literal["right", "partly", "wrong"]

# Only raster images: an SVG can carry script, and anything else is not a picture.
_IMAGE = re.compile(r"data:image/(?:png|jpeg|webp|gif);base64,[A-Za-z0-9+/=]+")
MAX_IMAGE_BYTES = 9_000_000
MAX_TEXT = 4_000
MAX_COMPLETIONS = 8


@dataclass(frozen=True, slots=True)
class CompletionCard:
    """One completion as shown."""

    text: str
    more: int
    extracted: str
    verdict: Verdict
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SampleCard:
    """One question with its image and its completions."""

    id: str
    task: str
    question: str
    answer: str
    image: str
    image_left_out: bool
    completions: tuple[CompletionCard, ...]
    more: int


@dataclass(frozen=True, slots=True)
class StepSamples:
    """The samples of one step."""

    step: int
    cards: tuple[SampleCard, ...]


class ImageBudget:
    """Hands out bytes for images until the page's share is spent."""

    def __init__(self, limit: int = MAX_IMAGE_BYTES) -> None:
        self._left = limit

    def take(self, uri: object) -> str:
        """``uri`` when it is a raster data URI that still fits, else an empty string."""
        if not isinstance(uri, str) or len(uri) > self._left or not _IMAGE.fullmatch(uri):
            return ""
        self._left -= len(uri)
        return uri


def pick(
    traces: Sequence[Mapping[str, Any]], budget: ImageBudget, per_step: int = 6
) -> tuple[StepSamples, ...]:
    """The samples of the first and the last step that have any, side by side by task."""
    steps = sorted({int(trace["step"]) for trace in traces})
    if not steps:
        return ()
    chosen = list(dict.fromkeys((steps[0], steps[-1])))
    by_step = {step: [t for t in traces if int(t["step"]) == step] for step in chosen}
    shared = set.intersection(*({str(t["task"]) for t in part} for part in by_step.values()))
    picked = []
    for step, part in by_step.items():
        part.sort(key=lambda t: (str(t["task"]) not in shared, str(t["task"])))
        cards = tuple(_card(trace, budget) for trace in _spread(part, per_step))
        picked.append(StepSamples(step, cards))
    return tuple(picked)


def whole(traces: Sequence[Mapping[str, Any]], budget: ImageBudget) -> tuple[StepSamples, ...]:
    """All that is given, step by step: every completion to its end."""
    steps: dict[int, list[SampleCard]] = {}
    for trace in traces:
        steps.setdefault(int(trace["step"]), []).append(_card(trace, budget, complete=True))
    return tuple(StepSamples(step, tuple(steps[step])) for step in sorted(steps))


def verdict(reward: object) -> Verdict:
    """Right, partly or wrong, from the task reward."""
    value = float(reward) if isinstance(reward, int | float) else 0.0
    return "right" if value >= 0.999 else "partly" if value > 0.001 else "wrong"


def _spread(traces: Sequence[Mapping[str, Any]], limit: int) -> list[Mapping[str, Any]]:
    """Up to ``limit`` traces: the first of each task, then the second of each, and so on."""
    turn: dict[str, int] = {}
    order = []
    for place, trace in enumerate(traces):
        task = str(trace["task"])
        turn[task] = turn.get(task, 0) + 1
        order.append((turn[task], place))
    chosen = sorted(place for _, place in sorted(order)[:limit])
    return [traces[place] for place in chosen]


def _card(trace: Mapping[str, Any], budget: ImageBudget, *, complete: bool = False) -> SampleCard:
    image = budget.take(trace.get("image"))
    completions = list(trace.get("completions", ()))
    shown = len(completions) if complete else MAX_COMPLETIONS
    return SampleCard(
        id=str(trace.get("id", "")),
        task=str(trace["task"]),
        question=str(trace.get("question", "")),
        answer=str(trace.get("answer", "")),
        image=image,
        image_left_out=bool(trace.get("image")) and not image,
        completions=tuple(
            _completion(one, None if complete else MAX_TEXT) for one in completions[:shown]
        ),
        more=max(0, len(completions) - shown),
    )


def _completion(one: Mapping[str, Any], most: int | None = MAX_TEXT) -> CompletionCard:
    text = str(one.get("text", ""))
    shown = text if most is None else text[:most]
    extracted = one.get("extracted")
    figures = []
    own = one.get("reward_own")
    one = {**one, **{OWN + k: v for k, v in own.items()}} if isinstance(own, Mapping) else one
    for key, label, form in (
        ("reward", "reward", "{:.2f}"),
        ("reward_task", "task", "{:.2f}"),
        ("reward_format", "format", "{:.2f}"),
        ("accuracy", "accuracy", "{:.2f}"),
        *((key, key.removeprefix(OWN), "{:.2f}") for key in one if key.startswith(OWN)),
        ("advantage", "advantage", "{:+.2f}"),
        ("tokens", "tokens", "{:,.0f}"),
    ):
        value = one.get(key)
        if isinstance(value, int | float):
            figures.append((label, form.format(value)))
    return CompletionCard(
        text=shown,
        more=len(text) - len(shown),
        extracted="none" if extracted is None else str(extracted),
        verdict=verdict(one.get("reward_task")),
        figures=tuple(figures),
    )
