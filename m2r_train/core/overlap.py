"""Whether a question was taken from a benchmark, told from its words.

A text is its words: case, punctuation, LaTeX's dressing and the options that stand behind it do not
count. A question of a benchmark is found again where most of its runs of ``n`` words stand in the
sample's question, so that copies with another beginning, other punctuation or other options are
found too. Benchmarks ask many pictures the same ("How many chairs are in this room?"): such a
template says nothing of a sample that has pictures; there the pictures decide.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_WORD = re.compile(r"[^\W\d_]+|\d+|[+*/=<>^]|-(?=\s*\d)")
_LATEX = re.compile(r"\\(?:left|right|text|mathrm|displaystyle|[()\[\],;!])|\$")
_SIGNS = str.maketrans({"−": "-", "–": "-", "×": "*", "÷": "/", "·": "*", "’": "'"})
_OPTIONS = re.compile(
    r"\b(?:choices|options)\s*:|(?<!\w)[(\[]?A[)\].:]\s.{0,400}?(?<!\w)[(\[]?B[)\].:]\s", re.DOTALL
)
_WIDE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

MAX_WORDS = 4096  # of a question; what follows them is not compared
_TEMPLATE_WORDS = 5  # a run of so many words ...
_TEMPLATE_ITEMS = 3  # ... that so many questions of the benchmarks share belongs to a template
_TEMPLATE_SHARE = 0.3  # a question is a template's when so much of it is
_FRAGMENT_RUNS = 12  # a shorter part of a benchmark's question is an everyday phrase


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What is compared: the question, its options, and whether pictures go with it.

    ``problem`` is a name that the versions of one problem share: they do not make it a template.
    """

    question: str
    options: tuple[str, ...] = ()
    pictured: bool = False
    problem: str | None = None


def words_of(text: str) -> list[str]:
    """The words, numbers and operators of a question, lower case, without its list of options."""
    cut = _OPTIONS.search(text)
    body = text[: cut.start()] if cut and cut.start() > 0 else text
    folded = unicodedata.normalize("NFKC", _LATEX.sub(" ", body)).translate(_SIGNS).casefold()
    words: list[str] = []
    for word in _WORD.findall(folded):
        words += list(word) if _WIDE.search(word) else [word]
        if len(words) >= MAX_WORDS:
            break
    return words[:MAX_WORDS]


def runs_of(words: Sequence[str], n: int) -> set[int]:
    """64-bit hashes of all runs of ``n`` words; none where there are fewer."""
    return {_hash(" ".join(words[k : k + n])) for k in range(len(words) - n + 1)}


class TextIndex:
    """The questions of the benchmarks, by their runs of ``n`` words.

    Memory: 12 bytes a run (some 30 while it is made), whatever the number of samples looked up.
    """

    def __init__(self, items: Iterable[Text], n: int, share: float) -> None:
        self._n, self._share = n, share
        self._short: set[int] = set()
        owners, runs = array("I"), array("Q")
        self._sizes: list[int] = []
        phrases: list[NDArray[np.uint64]] = []
        problems: list[str | int] = []
        for item in items:
            words = words_of(item.question)
            own = sorted(runs_of(words, n))
            if not own and not item.pictured:
                self._short.add(_short_key(words, item.options))
            owners.extend([len(self._sizes)] * len(own))
            runs.extend(own)
            self._sizes.append(len(own))
            phrases.append(np.array(sorted(runs_of(words, _TEMPLATE_WORDS)), np.uint64))
            problems.append(len(problems) if item.problem is None else item.problem)
        self._template = _templates(phrases, problems)
        order = np.argsort(np.array(runs, np.uint64), kind="stable")
        self._runs = np.array(runs, np.uint64)[order]
        self._owners = np.array(owners, np.uint32)[order]

    def holds(self, text: Text) -> bool:
        """Whether a benchmark asks this."""
        words = words_of(text.question)
        own = runs_of(words, self._n)
        if not own:
            return not text.pictured and _short_key(words, text.options) in self._short
        return any(
            self._alike(hits, self._sizes[item], len(own))
            and not (text.pictured and self._template[item])
            for item, hits in self._hits(own).items()
        )

    def _hits(self, own: set[int]) -> Counter[int]:
        wanted = np.array(sorted(own), np.uint64)
        first = np.searchsorted(self._runs, wanted, "left")
        last = np.searchsorted(self._runs, wanted, "right")
        hits: Counter[int] = Counter()
        for a, b in zip(first.tolist(), last.tolist(), strict=True):
            hits.update(self._owners[a:b].tolist())
        return hits

    def _alike(self, hits: int, theirs: int, ours: int) -> bool:
        if hits >= self._share * theirs:
            return True
        return ours >= _FRAGMENT_RUNS and hits >= self._share * ours


def _templates(phrases: Sequence[NDArray[np.uint64]], problems: Sequence[str | int]) -> list[bool]:
    """For each question, of whose (N,) short runs: whether they are mostly those of other problems
    too.
    """
    if not phrases:
        return []
    own: dict[str | int, list[NDArray[np.uint64]]] = {}
    for problem, part in zip(problems, phrases, strict=True):
        own.setdefault(problem, []).append(part)
    distinct = [np.unique(np.concatenate(parts)) for parts in own.values()]
    runs, spread = np.unique(np.concatenate(distinct), return_counts=True)
    common = [int((spread[np.searchsorted(runs, p)] >= _TEMPLATE_ITEMS).sum()) for p in phrases]
    return [n >= _TEMPLATE_SHARE * max(1, len(p)) for n, p in zip(common, phrases, strict=True)]


def _short_key(words: Sequence[str], options: Sequence[str]) -> int:
    """A short question counts only as a whole, with its options in any order."""
    listed = sorted(" ".join(words_of(option)) for option in options)
    return _hash("\n".join((" ".join(words), *listed)))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
