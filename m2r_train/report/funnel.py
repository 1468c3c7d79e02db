"""Where a dataset's samples went, stage by stage, from its ``manifest.json`` alone.

Pure, so that the card and the page tell the same. Every number is checked against the others: at
each stage ``into`` is ``out`` and what was dropped, and the last ``out`` is what the splits hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from m2r_train.api.errors import DataError

Counts = Mapping[str, int]

NOT_NEEDED: Final = "not needed"

RECORD_REASONS: Final[Mapping[str, str]] = {
    "broken line": "broken-line",
    "no question": "no-question",
    "no answer": "no-answer",
    "bad answer": "bad-answer",
    "bad options": "bad-options",
    "bad chain": "bad-chain",
    "bad field": "bad-field",
    "image path": "image-path",
    "image missing": "image-missing",
    "image broken": "image-broken",
    "image too large": "image-too-large",
    "duplicate": "same-id",
}
"""What a manifest calls each kind of record that a user's dataset has and nobody can read.

A ``duplicate`` of the funnel is something else: asked before, under another id.
"""

REASONS: Final[Mapping[str, str]] = {
    "broken-line": "a line that is no JSON object, or values that cannot be read",
    "no-question": "a record without a question",
    "no-answer": "a record without an answer",
    "bad-answer": "a record whose answer is none of its kind",
    "bad-options": "a record whose options are no options",
    "bad-chain": "a record whose chain does not lead to its answer",
    "bad-field": "a record with a field of another type",
    "image-path": "a record whose picture would be read from outside of the dataset",
    "image-missing": "a record whose picture is not there",
    "image-broken": "a record whose picture cannot be decoded",
    "image-too-large": "a record whose picture is beyond the limits",
    "same-id": "a record with the id, or all of the content, of one before",
    "no-chain": "no chain",
    "no-text": "the teacher gave no text",
    "format": "the chain is off format",
    "answer": "the chain's answer is wrong",
    "repetition": "the chain repeats itself",
    "unjudged": "no verdict could be had",
    "quality": "below the bar",
    "not-best": "another chain of the question is better",
    "duplicate": "asked before",
    "conflicting": "asked before with another answer",
    "benchmark-picture": "a benchmark has the picture",
    "benchmark-question": "a benchmark has the question",
    "near-duplicate": "nearly the same was asked before",
    "solved": "every rollout is right",
    "unsolved": "every rollout is wrong",
    "no-spread": "all rollouts earn the same",
    NOT_NEEDED: "more than the splits take",
}
"""What each reason that a manifest counts means, for people."""

_CLEANING = (
    ("deduplicate", ("duplicate", "conflicting"), None),
    ("decontaminate", ("benchmark-picture", "benchmark-question"), "decontamination"),
    ("near-duplicates", ("near-duplicate",), "nearDuplicates"),
)
_DIFFICULTY = ("solved", "unsolved", "no-spread")
_JUDGED = ("unjudged", "quality")
_SPLITS = ("sft", "rlvr", "eval")


@dataclass(frozen=True, slots=True)
class Stage:
    """``into`` samples (or chains) came, ``out`` went on, ``dropped`` says why the others not."""

    name: str
    into: int
    dropped: Counts

    @property
    def out(self) -> int:
        return self.into - sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``dataset/manifest.json`` says, with every count an integer of 0 or more."""

    run: str
    seed: int
    spec: Mapping[str, Any]
    inputs: Mapping[str, str | None]
    sources: Mapping[str, Counts]
    dropped: Counts
    splits: Mapping[str, int]
    tasks: Mapping[str, Counts]  # by split
    questions: Counts  # a teacher's: asked, taught, untaught; empty where templates wrote
    chains: Counts
    prompts: Mapping[str, str]

    @classmethod
    def parse(cls, data: bytes | Mapping[str, Any], name: str = "manifest.json") -> Manifest:
        """Raises ``DataError`` for what is no manifest of a synthesis; names ``name``."""
        try:
            found = json.loads(data) if isinstance(data, bytes) else data
            teaching = found.get("teaching", {})
            splits = {str(k): v for k, v in sorted(found["splits"].items(), key=_split_order)}
            return cls(
                run=str(found["run"]),
                seed=int(found["seed"]),
                spec=dict(found["spec"]),
                inputs=dict(found["inputs"]),
                sources={str(k): _counts(v) for k, v in sorted(found["sources"].items())},
                dropped=_counts(found["dropped"]),
                splits={k: _count(v["samples"]) for k, v in splits.items()},
                tasks={k: _counts(v["tasks"]) for k, v in splits.items()},
                questions=_counts(teaching.get("questions", {})),
                chains=_counts(teaching.get("chains", {})),
                prompts={str(k): str(v) for k, v in found.get("prompts", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(
                f"{name}: not the manifest of a DataSynthesisJob's dataset "
                f"({type(error).__name__}: {str(error)[:160]}); make the dataset again"
            ) from error

    @property
    def made(self) -> int:
        """Samples that the sources gave."""
        return sum(own.get("made", 0) for own in self.sources.values())

    @property
    def samples(self) -> int:
        """Samples in all splits."""
        return sum(self.splits.values())

    def all_tasks(self) -> dict[str, int]:
        """Samples of each task in all splits, the most first."""
        tasks: dict[str, int] = {}
        for own in self.tasks.values():
            for task, n in own.items():
                tasks[task] = tasks.get(task, 0) + n
        return dict(sorted(tasks.items(), key=lambda pair: (-pair[1], pair[0])))


def funnel(manifest: Manifest) -> list[Stage]:
    """The stages in their order, from what the sources made to what the splits hold.

    What routing left over is the one count that no manifest holds: it is the difference. Reasons
    that are not known here stand in a stage of their own.

    Raises:
        DataError: the manifest's counts do not add up.
    """
    faults: dict[str, int] = {}
    for name, source in manifest.sources.items():
        own = {reason: n for reason, n in source.items() if reason not in ("made", "kept")}
        if source.get("made", 0) != source.get("kept", 0) + sum(own.values()):
            raise _wrong(f"source {name!r}")
        for reason, n in own.items():
            faults[reason] = faults.get(reason, 0) + n
    unread = {reason: n for reason, n in faults.items() if reason in RECORD_REASONS.values()}
    stages = [Stage("read", manifest.made, unread)] if unread else []
    into = manifest.made - sum(unread.values())
    stages.append(Stage("verify", into, {r: n for r, n in faults.items() if r not in unread}))
    known = {reason for _, reasons, _ in _CLEANING for reason in reasons} | set(_DIFFICULTY)
    steps = [*_CLEANING, ("other checks", tuple(sorted(manifest.dropped.keys() - known)), None)]
    for name, reasons, asked in steps:
        here = {reason: n for reason in reasons if (n := manifest.dropped.get(reason, 0))}
        if here or name == "deduplicate" or (asked and manifest.spec.get(asked) is not None):
            stages.append(Stage(name, stages[-1].out, here))
    measured = {r: n for r in _DIFFICULTY if (n := manifest.dropped.get(r, 0))}
    chosen = manifest.samples + sum(measured.values())
    unused = stages[-1].out - chosen
    if unused < 0:
        raise _wrong("dropped and splits")
    stages.append(Stage("route", stages[-1].out, {NOT_NEEDED: unused} if unused else {}))
    if measured or manifest.spec.get("difficulty") is not None:
        stages.append(Stage("difficulty", chosen, measured))
    return stages


def chain_funnel(manifest: Manifest) -> list[Stage]:
    """The same for a teacher's chains, ending with one for each taught question; [] without one.

    Raises:
        DataError: the manifest's counts do not add up.
    """
    counts = {reason: n for reason, n in manifest.chains.items() if n}
    if not counts:
        return []
    written, kept = counts.pop("written", 0), counts.pop("kept", 0)
    best = {"not-best": n} if (n := counts.pop("not-best", 0)) else {}
    judged = {reason: counts.pop(reason) for reason in _JUDGED if reason in counts}
    stages = [Stage("verify", written, counts)]
    stages.append(Stage("judge", stages[-1].out, judged))
    stages.append(Stage("select", stages[-1].out, best))
    if stages[-1].out != kept or kept != manifest.questions.get("taught", 0):
        raise _wrong("teaching.chains")
    return stages


def reasons_of(stages: Sequence[Stage]) -> dict[str, int]:
    """Everything that was dropped, by reason."""
    return {reason: n for stage in stages for reason, n in stage.dropped.items()}


def _split_order(item: tuple[str, object]) -> tuple[int, str]:
    """As they are used: sft, rlvr, eval; any others behind."""
    name = str(item[0])
    return (_SPLITS.index(name) if name in _SPLITS else len(_SPLITS)), name


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _counts(value: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): _count(n) for name, n in sorted(value.items())}


def _wrong(where: str) -> DataError:
    return DataError(f"manifest.json: the counts of {where} do not add up; make the dataset again")
