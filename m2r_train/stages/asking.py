"""One benchmark of an evaluation: the questions put to the model, and the scores of its answers.

What cannot be scored, or is not all there, is said before the first answer is paid for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2r_train.api.errors import DataError
from m2r_train.api.evaljob import Benchmark
from m2r_train.benchmarks.base import Benchmark as Rules
from m2r_train.benchmarks.base import Judged, RecordError, Row
from m2r_train.benchmarks.figures import prefixed
from m2r_train.benchmarks.kept import Mode, draws, facts, over_draws, with_headline
from m2r_train.benchmarks.prompts import question
from m2r_train.benchmarks.registry import BENCHMARKS
from m2r_train.benchmarks.scoring import AnswerForm, Result, score_set
from m2r_train.core.estimates import Figure
from m2r_train.core.records import Sample
from m2r_train.data.published import Published, read_published

_NAMED = 3  # bad records and missing parts that a message names
_SHARED_IDS = ("key", "varid", "problem_version")  # what tells records of one id apart


class Questions:
    """The records of a published benchmark, in order, with the samples that ask them."""

    def __init__(self, asked: Benchmark, published: Sequence[Published]) -> None:
        """Raises DataError for records that cannot be scored and for missing parts, unless
        ``asked.partial``: then such records are left out.
        """
        self.asked = asked
        self.rules: Rules = BENCHMARKS[asked.name]
        self.published_form = asked.form == "Published"
        self.answer: AnswerForm = "raw" if self.published_form else "tagged"
        self.unscored: list[str] = []
        kept = [(one, q) for one in published if (q := self._question(one)) is not None]
        self.records = [one.record for one, _ in kept]
        self.missing = self.rules.missing(self.records) if kept else ["every record"]
        problems = [*self.unscored, *(f"missing: {part}" for part in self.missing)]
        if not kept or (problems and not asked.partial):
            more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
            raise DataError(
                f"{asked.name}: {'; '.join(problems[:_NAMED])}{more}; give the whole benchmark, "
                "or set partial: true for figures of a part"
            )
        ids = _unique([self._id(record, i) for i, record in enumerate(self.records)])
        self.samples = [
            _sample(asked.name, identity, text, one)
            for identity, (one, text) in zip(ids, kept, strict=True)
        ]

    def score(self, number: int, text: str) -> float:
        """The score, 0..1, of an answer to the record ``number``."""
        [sample] = self._scored([self.records[number] | {"prediction": text}]).samples
        return float(sample["score"])

    def figures(self, rows: Sequence[dict[str, Any]]) -> dict[str, Figure]:
        """The figures of the sampled answers, and under ``greedy/`` of the greedy ones.

        ``overall`` is the benchmark's headline; a figure of its own of that name is ``all``.
        """
        sampled = self._figures(rows, "sampled")
        return sampled | prefixed("greedy", self._figures(rows, "greedy"))

    def facts(self, number: int) -> dict[str, Any]:
        """What the figures read of the record ``number``."""
        return facts(self.asked.name, self.records[number])

    def protocol(self) -> dict[str, Any]:
        """What the figures were made by."""
        own = self.rules
        figures = own.figures([Row(record, 0.0, i) for i, record in enumerate(self.records)])
        return {
            "headline": own.headline(figures),
            "rule": self.asked.rule,
            "form": self.asked.form,
            "answer": self.answer,
            "judge": own.judge.get(self.asked.rule, "not needed"),
            "partial": bool(self.missing or self.unscored),
            "missing": self.missing,
            "whole": len(self.records) in own.sizes,
            "unscored": self.unscored,
        }

    def _figures(self, rows: Sequence[dict[str, Any]], mode: Mode) -> dict[str, Figure]:
        drawn: list[dict[str, Figure]] = []
        for i in range(draws(rows, mode)):
            answered = [
                record | {"prediction": row[mode][i]["text"]}
                for record, row in zip(self.records, rows, strict=True)
            ]
            said = [row[mode][i].get("judged") for row in rows]
            verdicts = [
                Judged(one["extracted"], row[mode][i]["score"])
                for one, row in zip(said, rows, strict=True)
                if one is not None
            ]
            figures = self._scored(answered, verdicts or None).figures
            drawn.append(with_headline(figures, self.rules.headline(figures)))
        return over_draws(drawn)

    def _scored(
        self, answered: Sequence[dict[str, Any]], verdicts: Sequence[Judged] | None = None
    ) -> Result:
        result = score_set(
            self.rules,
            answered,
            rule=self.asked.rule,
            answer=self.answer,
            partial=True,
            verdicts=verdicts,
        )
        if result.errors or result.summary is None:
            raise AssertionError(f"records were checked when they were loaded: {result.errors[:1]}")
        return result

    def _question(self, one: Published) -> str | None:
        try:
            self.rules.scorer(self.asked.rule, cut=True)(one.record, "")
            return question(self.asked.name, one.record, published=self.published_form)
        except RecordError as error:
            self.unscored.append(f"{self._id(one.record, len(self.unscored))}: {error}")
            return None

    def _id(self, record: dict[str, Any], number: int) -> str:
        own = next((n for n in self.rules.ids if record.get(n) is not None), None)
        name = f"#{number}" if own is None else str(record[own])
        return "/".join([name, *(str(record[n]) for n in _SHARED_IDS if record.get(n) is not None)])


def questions(asked: Benchmark, folder: Path) -> Questions:
    """The questions of a copy of a published benchmark in ``folder``."""
    return Questions(asked, read_published(asked.name, folder, asked.data.split, asked.frames))


def _sample(name: str, identity: str, text: str, one: Published) -> Sample:
    return Sample(
        id=identity,
        domain="spatial" if name in ("cv-bench", "vsi-bench") else "general",
        task=name,
        source=name,
        question=text,
        answer=str(next((one.record[k] for k in _TRUTHS if one.record.get(k) is not None), "")),
        answer_type="text",  # the benchmark's own rule scores it, from its own record
        reward="exact",
        images=one.images,
        video=one.video,
    )


_TRUTHS = ("answer", "ground_truth")


def _unique(ids: Sequence[str]) -> list[str]:
    """Ids that occur more than once are numbered: each answer's random numbers hang on its id."""
    seen: Counter[str] = Counter()
    out = []
    for one in ids:
        seen[one] += 1
        out.append(one if seen[one] == 1 else f"{one}#{seen[one]}")
    return out
