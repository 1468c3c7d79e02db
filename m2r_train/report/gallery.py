"""The samples of a dataset as a page shows them: question, truth, pictures, chain, verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from m2r_train.core import quality as rules
from m2r_train.core.answers import equivalent
from m2r_train.core.contract import extract_answer, format_valid
from m2r_train.core.records import Quality, Sample
from m2r_train.report.samples import ImageBudget, Verdict
from m2r_train.report.thumbnails import strip, thumbnail

MAX_TEXT = 4_000
MAX_QUESTION = 2_000
MAX_OPTIONS = 12
MAX_IMAGES = 4
_DIMENSIONS = ("structure", "load", "verification")


@dataclass(frozen=True, slots=True)
class Bar:
    """Which chains are good enough: every score and their mean."""

    min_each: int = 3
    min_mean: float = 4.0

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Bar:
        """That of a synthesis's spec; its defaults where it has none."""
        own = spec.get("quality") or {}
        return cls(int(own.get("minEach", 3)), float(own.get("minMean", 4.0)))


@dataclass(frozen=True, slots=True)
class ChainCard:
    """A chain as shown. ``judged``: the scores are the dataset's own, else the rules' of now."""

    text: str
    more: int
    extracted: str
    verdict: Verdict
    is_formatted: bool
    scores: tuple[tuple[str, int], ...]
    judged: bool
    passes: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatasetCard:
    """One sample as shown; pictures are data URIs, ``missing`` of them could not be shown."""

    id: str
    split: str
    task: str
    source: str
    question: str
    options: tuple[str, ...]
    answer: str
    kind: str
    images: tuple[str, ...]
    film: str
    frames: int
    missing: int
    figures: tuple[tuple[str, str], ...]
    chain: ChainCard | None


def cards(
    shown: Sequence[tuple[str, Sample]], bar: Bar, budget: ImageBudget
) -> dict[str, list[DatasetCard]]:
    """The cards by task, in the order given."""
    found: dict[str, list[DatasetCard]] = {}
    for split, sample in shown:
        found.setdefault(sample.task, []).append(_card(split, sample, bar, budget))
    return found


def chain_card(sample: Sample, bar: Bar) -> ChainCard | None:
    """The verdicts on a sample's chain: format, answer, the three scores against the bar."""
    if sample.chain is None:
        return None
    given = extract_answer(sample.chain)
    is_right = given is not None and equivalent(given, sample.answer, sample.answer_type)
    graded = rules.grade(
        sample.chain,
        question=sample.question,
        answer=sample.answer,
        answer_type=sample.answer_type,
        options=sample.options or (),
    )
    scores = sample.quality or graded.quality
    same = scores == graded.quality  # then the rules' reasons are those of these scores
    return ChainCard(
        text=sample.chain[:MAX_TEXT],
        more=max(0, len(sample.chain) - MAX_TEXT),
        extracted="none" if given is None else given[:MAX_QUESTION],
        verdict="right" if is_right else "wrong",
        is_formatted=format_valid(sample.chain),
        scores=_named(scores),
        judged=sample.quality is not None,
        passes=rules.passes(scores, bar.min_each, bar.min_mean),
        reasons=graded.reasons if same else (),
    )


def _card(split: str, sample: Sample, bar: Bar, budget: ImageBudget) -> DatasetCard:
    files = sample.images[:MAX_IMAGES]
    images = [uri for data in files if (uri := budget.take(thumbnail(data)))]
    film = budget.take(strip(sample.video)) if sample.video else ""
    missing = len(sample.images) - len(images) + bool(sample.video and not film)
    figures = []
    if sample.difficulty is not None:
        figures.append(("difficulty", f"{sample.difficulty:.2f}"))
    if sample.accuracy is not None:
        figures.append(("accuracy", f"{sample.accuracy:.2f}"))
    unit = f" {sample.unit}" if sample.unit else ""
    return DatasetCard(
        id=sample.id[:MAX_QUESTION],
        split=split,
        task=sample.task,
        source=sample.source,
        question=_cut(sample.question, MAX_QUESTION),
        options=tuple(_cut(option, 200) for option in (sample.options or ())[:MAX_OPTIONS]),
        answer=_cut(sample.answer, MAX_QUESTION) + unit[:100],
        kind=f"{sample.answer_type}, {sample.reward}",
        images=tuple(images),
        film=film,
        frames=len(sample.video or ()),
        missing=missing,
        figures=tuple(figures),
        chain=chain_card(sample, bar),
    )


def _named(scores: Quality) -> tuple[tuple[str, int], ...]:
    return tuple((name, getattr(scores, name)) for name in _DIMENSIONS)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
