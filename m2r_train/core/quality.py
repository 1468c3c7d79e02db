"""The built-in judge: three dimensions of a chain's quality, measured from its text.

The paper names them (section 2.1.1): structural correctness of reasoning, cognitive load
management, verification richness. What is measured for each is ours; a text alone does not show
whether a step follows from a picture, so these rules see false sums, jumps, loops, padding and
missing checks, and not a wrong look at the picture. How far they agree with gradings by hand is
told by ``tests/unit/core/test_quality.py``.

1 is lowest, 5 highest. What is no chain at all (empty, off format, no answer) and what speaks to
its judge instead of to the question gets 0 in all three.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

from m2r_train.core.answers import equivalent, option_letter
from m2r_train.core.contract import extract_answer, format_valid
from m2r_train.core.equations import Equation, equations, plain_operators
from m2r_train.core.records import AnswerType, Quality
from m2r_train.core.repetition import has_repetition

NOTHING = Quality(structure=0, load=0, verification=0)

_WORD = re.compile(r"[^\W\d_]+|\d+(?:\.\d+)?")
_IDEOGRAPH = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")  # bounded: its value is computed
_STEP_END = re.compile(r"(?<=[.!?;])\s+|(?<=[。！？；])|\n+")
_LABEL = re.compile(r"^\s*(?:step\s*)?\d{1,2}\s*[.):]\s*", re.IGNORECASE)

_INJECTION = re.compile(
    r"<\|?(?:im_start|im_end|system|assistant|endoftext)\|?>|\[/?INST\]"
    r"|\b(?:ignore|disregard|forget)\b.{0,20}"
    r"\b(?:previous|prior|earlier|above|your|these|all|any)\b.{0,20}"
    r"\b(?:instruction|prompt|rubric|rule)s?\b"
    r"|\b(?:dear|hey|hello|attention|note to(?: the)?)\s+(?:\w+\s+)?"
    r"(?:judge|grader|evaluator|rater)"
    r"|\bas (?:a|the) (?:\w+ )?(?:judge|grader|evaluator|rater)\b"
    r"|\byou are (?:now |a |an |the )+(?:\w+ )?(?:judge|grader|evaluator|rater|assistant)\b"
    r"|\b(?:this|my) (?:chain|answer|response|reasoning|solution|output)\b.{0,60}"
    r"(?:\b(?:full|top|maximum|highest|perfect)\s+(?:marks?|scores?|grades?|rating)"
    r"|\bscores?\s+(?:of\s+)?5\b|\b5\s*/\s*5\b|\ba 5 (?:in|on|for)\b)"
    r"|[\"'](?:structure|load|verification)[\"']\s*:"
    r"|忽略.{0,12}(?:指令|指示|提示)|给.{0,8}(?:最高|满)分"
    r"|ignor(?:iere|a|ez|e).{0,30}(?:anweisung|instruccion|instruction)"
    r"|игнорируй.{0,30}инструкц",
    re.IGNORECASE | re.DOTALL,
)
_CHECK = re.compile(
    r"\b(?:re|double[- ]|cross[- ]|sanity[- ])?check|\bverif|\bv[ée]rif|\bconfirm|\bcomprob"
    r"|\bsubstitut|\bplug\w*\b.{0,20}\b(?:back|in)\b|\balternativ|\banother (?:way|method)"
    r"|\bsecond (?:way|method)|\b(?:look|count|measur|comput)\w*\s+again\b|\brecount|\brevisit"
    r"|\bplausib|\breasonable|\bsanity|\bconsistent with|\bcompared? with\b|\bprobe\b|überprüf"
    r"|\bthe unit\b|\bas it must be\b|провер|验证|验算|检查|检验|確認|検算|검산|확인",
    re.IGNORECASE,
)
_RANGE = re.compile(
    r"\b(?:usual|typical|plausib|reasonable|range|between|at most|at least|larger|smaller|unit)",
    re.IGNORECASE,
)
_REPAIR = re.compile(
    r"\b(?:wait|actually|mistake|correction|sorry|oops|that is wrong|that's wrong|moment)\b"
    r"|\bno,|不对|等等|falsch|nein,",
    re.IGNORECASE,
)
_GUESS = re.compile(
    r"\bguess|\bprobably\b.{0,12}\b(?:[A-H]|the)\b|\bnot sure\b|\bcannot (?:really )?see\b"
    r"|\bcan't (?:really )?see\b|\bi suppose\b|\bjust pick|\blooks right\b|\bno idea\b|随便|猜",
    re.IGNORECASE,
)
_FILLER = re.compile(
    r"\b(?:okay|ok|hmm+|well|anyway|you know|let me think|let me see|as i was saying|as i said"
    r"|needless to say|as everybody knows|it is important to|interesting|definitely|carefully"
    r"|wait|really|still correct)\b",
    re.IGNORECASE,
)
_CONCLUDES = re.compile(
    r"\b(?:so|thus|hence|therefore|the answer is|donc|also|entonces|поэтому)\b|所以|因此",
    re.IGNORECASE,
)
_CLAIM = re.compile(r"\b(?:the )?(?:final )?answer is\s*:?\s*([^\s.,;]+(?:\s\w+)?)", re.IGNORECASE)
_CODE = re.compile(r"```|\bdef \w+\(|\bprint\(|\bimport \w+")

# Words that an assurance is made of: a check that consists of them does nothing.
_ASSURANCES = """
i i've have has had this that it it's is are was the a an and so yes all everything answer result
solution let me to be us my again once more still very indeed correct right true fine consistent
definitely carefully verified verify verification verifying check checked checking double confirm
confirmed confirming reasonable plausible makes make sense sure as of in with above everything's
step steps now what asked needed review whether
"""
_HOLLOW = frozenset(_ASSURANCES.split())


@dataclass(frozen=True, slots=True)
class Graded:
    """The three scores, and in words what cost points (empty where nothing did)."""

    quality: Quality
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain taken apart once: its steps with their positions, its words, its equations."""

    text: str  # the thought, through plain_operators
    steps: tuple[tuple[int, str], ...]
    words: tuple[str, ...]
    known: frozenset[str]  # words of the question, its options and the answer
    stems: frozenset[str]  # of those of them that are long enough to mean something
    found: tuple[Equation, ...]
    given: str  # the chain's own answer
    numeric: Fraction | None  # its value where it is a number
    reached: int | None  # where the text has first stated the answer

    @property
    def size(self) -> int:
        return len(self.words)


class _Tally:
    """A score that begins at 5 and is lowered, with reasons."""

    def __init__(self, name: str) -> None:
        self.score = 5
        self.name = name
        self.reasons: list[str] = []

    def less(self, points: int, why: str) -> None:
        self.score = max(1, self.score - points)
        self.reasons.append(f"{self.name}: {why}")

    def at_most(self, score: int, why: str) -> None:
        if self.score > score:
            self.score = score
            self.reasons.append(f"{self.name}: {why}")


def grade(
    chain: str,
    *,
    question: str,
    answer: str,
    answer_type: AnswerType,
    options: tuple[str, ...] = (),
) -> Graded:
    """Score a whole assistant turn; total (no text makes it raise), linear in the text."""
    given = extract_answer(chain)
    if not chain.strip() or not format_valid(chain):
        return Graded(NOTHING, ("off format",))
    if not given:
        return Graded(NOTHING, ("no answer",))
    if _INJECTION.search(chain):
        return Graded(NOTHING, ("speaks to its judge",))
    thought = chain[chain.index("<think>") + len("<think>") : chain.index("</think>")]
    parts = _take_apart(thought, " ".join((question, *options)), given)
    right = equivalent(given, answer, answer_type)
    tallies = (_structure(parts, right), _load(parts), _verification(parts))
    return Graded(
        Quality(structure=tallies[0].score, load=tallies[1].score, verification=tallies[2].score),
        tuple(reason for tally in tallies for reason in tally.reasons),
    )


def passes(quality: Quality, min_each: int, min_mean: float) -> bool:
    """The bar: every score at least ``min_each`` and their mean at least ``min_mean``."""
    scores = (quality.structure, quality.load, quality.verification)
    return min(scores) >= min_each and sum(scores) >= 3 * min_mean - 1e-9


def _take_apart(thought: str, question: str, given: str) -> _Chain:
    text = plain_operators(thought)
    given = given.strip()
    bare = given.replace(",", "").lstrip("-")
    numeric = Fraction(bare) if _NUMBER.fullmatch(bare) else None
    known = frozenset((*_words(question), *_words(given)))
    return _Chain(
        text=text,
        steps=tuple(_steps(text)),
        words=tuple(_words(text)),
        known=known,
        stems=frozenset(_stem(word) for word in known if len(word) > 3),
        found=tuple(equations(text)),
        given=given,
        numeric=numeric,
        reached=_first_mention(text, given, numeric),
    )


def _steps(text: str) -> list[tuple[int, str]]:
    """(position, text) of the sentences and lines that say anything, labels taken off."""
    steps, at = [], 0
    ends = [(m.start(), m.end()) for m in _STEP_END.finditer(text)]
    for stop, following in (*ends, (len(text), len(text))):
        step = _LABEL.sub("", text[at:stop])
        if _WORD.search(step):
            steps.append((at, step))
        at = following
    return steps


def _words(text: str) -> list[str]:
    """Lower-case words and numbers; of scripts without spaces, pairs of characters."""
    words = []
    for word in _WORD.findall(text.casefold()):
        if _IDEOGRAPH.search(word):
            words += [word[k : k + 2] for k in range(0, len(word), 2)]
        else:
            words.append(word)
    return words


def _structure(chain: _Chain, right: bool) -> _Tally:
    tally = _Tally("structure")
    wrong = [e for e in chain.found if not e.holds]
    repaired = [e for e in wrong if _repaired(chain, e)]
    left = len(wrong) - len(repaired)
    if not right:
        tally.at_most(1, "the answer is wrong")
    if left:
        tally.at_most(2 if left == 1 else 1, "an equation does not hold")
    if repaired or (_repairs(chain) and not wrong):
        tally.less(1, "a slip, repaired")
    if chain.reached is None:
        tally.at_most(2, "the answer is not reached")
    elif _contradicted(chain):
        tally.at_most(1, "the conclusion is another one")
    if len({claim.casefold() for claim in _CLAIM.findall(chain.text)}) > 1 and not _repairs(chain):
        tally.at_most(2, "two conclusions")
    if _GUESS.search(chain.text):
        tally.at_most(1, "a guess")
    if _bare(chain):
        tally.at_most(2, "nothing is derived")
    elif _from_nowhere(chain):
        tally.at_most(2, "a number from nowhere")
    if len(chain.steps) > 1 and _CLAIM.search(chain.steps[0][1]):
        tally.at_most(3, "the answer stands before its reasons")
    if _CODE.search(chain.text):
        tally.at_most(2, "code that nobody ran")
    return tally


def _load(chain: _Chain) -> _Tally:
    tally = _Tally("load")
    if _bare(chain):
        tally.at_most(1, "everything in one jump")
    elif len(chain.steps) == 1 and chain.size < 20:
        tally.at_most(3, "one terse step")
    longest = max((len(_words(step)) for _, step in chain.steps), default=0)
    _steps_down(tally, longest, (40, 60, 80), "a step of many words")
    _steps_down(tally, chain.size, (800, 1600), "a long chain")
    _steps_down(tally, _repeated_share(chain), (0.15, 0.35, 0.6), "much is said again")
    if has_repetition(chain.text):
        tally.at_most(1, "a loop")
    fillers = len(_FILLER.findall(chain.text)) / max(1, len(chain.steps))
    _steps_down(tally, fillers, (0.2, 0.6, 1.2), "padding")
    if len(chain.steps) >= 4:
        stray = sum(not _anchored(chain, step) for _, step in chain.steps) / len(chain.steps)
        _steps_down(tally, stray, (0.4, 0.6), "steps off the question")
    if _CODE.search(chain.text):
        tally.at_most(2, "code")
    return tally


def _steps_down(tally: _Tally, amount: float, bounds: tuple[float, ...], why: str) -> None:
    """One point less for each bound that is exceeded."""
    if exceeded := sum(amount > bound for bound in bounds):
        tally.less(exceeded, why)


def _verification(chain: _Chain) -> _Tally:
    """Begins at 1 (no check) and rises with the checks that could have caught an error."""
    strong = weak = hollow = 0
    for at, step in chain.steps:
        within = _within(chain, at, at + len(step) + 4)
        if _REPAIR.search(step) and within and all(e.holds for e in within):
            strong += 1
            continue
        if chain.reached is None or chain.reached > at or not _CHECK.search(step):
            continue
        if within:
            holds = all(e.holds for e in within)
            strong += holds * (2 if len(within) >= 4 else 1)
            hollow += not holds
        elif len(_news(chain, step)) < 3:
            hollow += 1
        elif _RANGE.search(step):
            weak += 1
        else:
            strong += 1
    tally = _Tally("verification")
    if strong == 0:
        weakly = (3, "one weak check") if weak else (2, "a check that does nothing")
        tally.at_most(*(weakly if weak or hollow else (1, "no check")))
    elif strong + weak == 1:
        tally.at_most(4, "one check")
    return tally


def _news(chain: _Chain, step: str) -> set[str]:
    """What a step says beyond assurances and the answer."""
    return {w for w in _words(step) if w not in _HOLLOW} - set(_words(chain.given))


def _bare(chain: _Chain) -> bool:
    """Whether the thought says no more than its question and answer."""
    return len(set(chain.words) - chain.known - _HOLLOW) <= 1 and not chain.found


def _anchored(chain: _Chain, step: str) -> bool:
    """Whether a step is about the question: a number, or a longer word of it."""
    if _NUMBER.search(step) or _CHECK.search(step) or _IDEOGRAPH.search(step):
        return True
    return any(len(word) > 3 and _stem(word) in chain.stems for word in _words(step))


def _stem(word: str) -> str:
    return word[:-1] if word.endswith("s") else word


def _within(chain: _Chain, start: int, stop: int) -> tuple[Equation, ...]:
    """The equations that begin between two positions."""
    key = lambda e: e.start  # noqa: E731
    first = bisect_left(chain.found, start, key=key)
    return chain.found[first : bisect_left(chain.found, stop, key=key)]


def _first_mention(text: str, given: str, numeric: Fraction | None) -> int | None:
    """Where a text has stated an answer (its value, its letter, its words); None: nowhere."""
    if numeric is not None:
        ends = (m.end() for m in _NUMBER.finditer(text) if Fraction(m[0]) == numeric)
        return next(ends, None)
    letter = option_letter(given) if len(given) <= 3 else None
    if letter is not None:
        match = re.search(rf"(?<![A-Za-z]){letter}(?![A-Za-z])", text)
        return None if match is None else match.end()
    folded = text.casefold()
    places = [folded.find(word) for word in set(_words(given))]
    return None if min(places, default=-1) < 0 else max(places)


def _contradicted(chain: _Chain) -> bool:
    """Whether the last conclusion of a numeric chain names numbers, and not its answer."""
    if chain.numeric is None:
        return False
    drawn = [step for _, step in chain.steps if _CONCLUDES.search(step)]
    if not drawn or _CHECK.search(drawn[-1]):
        return False
    last = chain.text.rfind(drawn[-1])
    values = {Fraction(n) for n in _NUMBER.findall(chain.text[last:])}
    return bool(_NUMBER.search(drawn[-1])) and chain.numeric not in values


def _from_nowhere(chain: _Chain) -> bool:
    """Whether a numeric answer stands there without any other number or sum before it."""
    if chain.numeric is None or any(e.result == chain.numeric for e in chain.found):
        return False
    if _IDEOGRAPH.search(chain.text):
        return False
    body = "\n".join(step for _, step in chain.steps)
    return all(Fraction(n) == chain.numeric for n in _NUMBER.findall(body))


def _repairs(chain: _Chain) -> bool:
    return _REPAIR.search(chain.text) is not None


def _repaired(chain: _Chain, wrong: Equation) -> bool:
    """Whether right after a wrong equation the chain says so and states one that holds."""
    stop = wrong.end + 200
    said = _REPAIR.search(chain.text, wrong.end, stop) is not None
    return said and any(e.holds for e in _within(chain, wrong.end, stop))


def _repeated_share(chain: _Chain) -> float:
    """Share of the word triples that stand in the thought more than once."""
    triples = Counter(zip(chain.words, chain.words[1:], chain.words[2:], strict=False))
    total = sum(triples.values())
    return sum(n - 1 for n in triples.values()) / total if total else 0.0
