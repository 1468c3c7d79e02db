"""Chains judged by a model, however it is reached: canaries mixed in, asked again on rubbish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from m2r_train.api.chains import Judge
from m2r_train.api.errors import ConfigError
from m2r_train.core import judging
from m2r_train.core.quality import NOTHING, grade
from m2r_train.core.records import Quality, Sample
from m2r_train.model.prompts import messages

VERDICT_TOKENS: Final = 1024

Item = tuple[Sample, str] | judging.Canary


class Turn(NamedTuple):
    """What a judge is asked about one chain; ``path`` names the try, its number last.

    ``sample`` has the pictures to be shown before the text; None: there are none.
    """

    sample: Sample | None
    text: str
    path: tuple[int | str, ...]

    @property
    def attempt(self) -> int:
        """How often the same was asked before."""
        return int(self.path[-1])

    @property
    def temperature(self) -> float:
        """0 at first; the same draw would be the same verdict, so half a degree more each time."""
        return 0.5 * self.attempt


Grader = Callable[[Sequence[Turn]], list[str]]
"""Whoever replies to turns, in order."""


class ChainJudge:
    """Implements ``Judge``.

    What the rules see to be no chain, or to speak to its judge, gets 0 and is not sent.
    """

    def __init__(self, seed: int, asked: Judge, grader: Grader) -> None:
        self._seed, self._asked, self._grader = seed, asked, grader

    def __call__(self, part: int, pairs: Sequence[tuple[Sample, str]]) -> list[Quality | None]:
        """Scores in order.

        Raises:
            ConfigError: the judge missed too many of the part's canaries; else as the grader.
        """
        if not pairs:
            return []
        items = self._with_canaries(part, pairs)
        told = list(zip(items, self._scores(part, items), strict=True))
        found = [judging.finds(x, q) for x, q in told if isinstance(x, judging.Canary)]
        if fault := judging.judge_fault(found, self._asked.canaries_missed):
            raise ConfigError(f"spec.quality.judge: {fault}")
        return [q for x, q in told if not isinstance(x, judging.Canary)]

    def _with_canaries(self, part: int, pairs: Sequence[tuple[Sample, str]]) -> list[Item]:
        places = judging.canary_places(
            self._seed, part, len(pairs), self._asked.canary_every, len(judging.CANARIES)
        )
        before: dict[int, list[judging.Canary]] = {}
        for at, kind in places:
            before.setdefault(at, []).append(judging.CANARIES[kind])
        items: list[Item] = []
        for i in range(len(pairs) + 1):
            items += before.get(i, [])
            items += pairs[i : i + 1]
        return items

    def _scores(self, part: int, items: Sequence[Item]) -> list[Quality | None]:
        """All that is open is asked together, until nothing is."""
        scores: dict[int, Quality | None] = {}
        answers: dict[int, list[bool]] = {}
        for at, item in enumerate(items):
            if not isinstance(item, judging.Canary) and _is_nothing(*item):
                scores[at] = NOTHING
            else:
                answers[at] = []
        while asked := [at for at in answers if at not in scores]:
            turns = [self._turn(items[at], part, at, len(answers[at])) for at in asked]
            for at, text in zip(asked, self._grader(turns), strict=True):
                verdict = _read(text)
                answers[at].append(verdict is not None)
                if judging.next_move(answers[at], self._asked.retries) != "ask":
                    scores[at] = verdict
        return [scores[at] for at in range(len(items))]

    def _turn(self, item: Item, part: int, at: int, attempt: int) -> Turn:
        path = ("judge", part, at, attempt)
        if isinstance(item, judging.Canary):
            return Turn(None, self._prompt(item.question, item.answer, item.chain), path)
        sample, chain = item
        return Turn(sample, self._prompt(question(sample), sample.answer, chain), path)

    def _prompt(self, question: str, answer: str, chain: str) -> str:
        template = judge_prompt(self._asked)
        return judging.prompt(template, question=question, answer=answer, chain=chain)


def judge_prompt(asked: Judge) -> str:
    """The template of what a judge is asked."""
    return asked.prompt or judging.TEMPLATE


def question(sample: Sample) -> str:
    """The question with its lettered options."""
    text: str = messages(sample)[1]["content"][-1]["text"]
    return text


def _is_nothing(sample: Sample, chain: str) -> bool:
    by_rules = grade(
        chain,
        question=sample.question,
        answer=sample.answer,
        answer_type=sample.answer_type,
        options=sample.options or (),
    )
    return by_rules.quality == NOTHING


def _read(text: str) -> Quality | None:
    try:
        return judging.parse_verdict(text).quality
    except judging.BadVerdict:
        return None
