"""What the benchmarks share: records, verdicts, and a benchmark as a value."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from m2r_train.benchmarks.figures import grouped
from m2r_train.core.estimates import Figure, mean

Rule = Literal["official", "vlmevalkit", "lmms-eval"]

Record = Mapping[str, Any]
"""A line of the published data, with the model's text as ``prediction``."""

PICTURE_DIGEST = "picture_sha256"
"""A field that an evaluation adds to records whose picture may be asked about more than once."""

MAX_TEXT_CHARS = 1_000_000
"""A longer text is no answer: every rule reads a text once or twice, and stops here."""

_MAX_FLOAT_CHARS = 1000


class RecordError(ValueError):
    """A record that cannot be scored: names the field and the remedy."""


class Judged(NamedTuple):
    """What a rule read from a text (None: no answer) and its score, 0..1."""

    extracted: str | None
    score: float


class Row(NamedTuple):
    """A record with its score, 0..1; ``unit`` tells the question from the others of its set."""

    record: Record
    score: float
    unit: Hashable


Scorer = Callable[[Record, str], Judged]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark: rules by name, the figures they lead to, and what a whole set consists of.

    ``missing`` names the parts that a set of records lacks (sub-tasks, sources, variants,
    sub-problems); ``sizes`` are the numbers of records of its published splits; ``fields`` are
    those that ``figures`` reads of a record; ``cut_rules`` replace ``rules`` for an answer that is
    cut out of the text already; ``lax`` names a laxer rule to log beside one; ``judge`` says what
    is done in place of a model's judgement; ``headline`` names the figure to quote, given all
    figures.
    """

    name: str
    rules: Mapping[Rule, Scorer]
    figures: Callable[[Sequence[Row]], dict[str, Figure]]
    headline: Callable[[Mapping[str, Figure]], str]
    ids: tuple[str, ...]
    fields: tuple[str, ...]
    sizes: tuple[int, ...]
    missing: Callable[[Sequence[Record]], list[str]] = lambda _: []
    cut_rules: Mapping[Rule, Scorer] = field(default_factory=dict)
    lax: Mapping[Rule, Rule] = field(default_factory=dict)
    judge: Mapping[Rule, str] = field(default_factory=dict)

    def scorer(self, rule: Rule, *, cut: bool) -> Scorer:
        """The scorer of a rule, for a whole text or for an answer that is ``cut`` out of it."""
        return (cut and self.cut_rules.get(rule)) or self.rules[rule]


def text_field(record: Record, *names: str) -> str:
    """The first of the fields that the record has, as text (a number as it is printed).

    Raises RecordError where all are absent, or the value is neither text nor a number.
    """
    for name in names:
        value = record.get(name)
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if value is not None:
            raise RecordError(f"{name}: is {type(value).__name__}; give a text")
    raise RecordError(f"{names[0]}: is missing; give the benchmark's own record")


def texts_field(record: Record, name: str) -> list[str]:
    """A list of texts; empty where the field is absent or null."""
    value = record.get(name)
    if value is None:
        return []
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RecordError(f"{name}: is {type(value).__name__}; give a list of texts")
    return [str(item) for item in value]


def choice_field(record: Record, name: str, allowed: Sequence[str]) -> str:
    """A text out of a closed set."""
    value = text_field(record, name)
    if value not in allowed:
        raise RecordError(f"{name}: {value[:80]!r} is not one of {', '.join(allowed)}")
    return value


def number_field(record: Record, name: str) -> float:
    """A truth that has to be a number."""
    value = text_field(record, name)
    number = as_float(value)
    if number is None:
        raise RecordError(f"{name}: {value[:80]!r} is not a number")
    return number


def as_float(text: str) -> float | None:
    """``float(text)`` of the language, as the published scorers call it; None where it fails.

    Differs from `core.numerals.parse_number` on purpose: "1e1", "+7", ".5", "1_0", "nan" and "inf"
    parse, "3cm", "75%" and "3/4" do not.
    """
    if len(text) > _MAX_FLOAT_CHARS:
        return None
    try:
        return float(text)
    except ValueError:
        return None


def accuracy(rows: Sequence[Row], cluster: Callable[[Record], str | None] | None = None) -> Figure:
    """The mean score. Rows of one ``cluster`` (None: alone) share what makes them right or wrong,
    such as a seed question or a scene: the standard error is by cluster.
    """
    clusters = [None if cluster is None else cluster(row.record) for row in rows]
    return mean(
        [row.score for row in rows],
        [row.unit if own is None else own for row, own in zip(rows, clusters, strict=True)],
    )


def groups_of(rows: Sequence[Row], key: Callable[[Record], str | None]) -> dict[str, list[Row]]:
    """Rows by a key of their record, those without one left out, keys in alphabetical order."""
    known = [row for row in rows if key(row.record)]
    return grouped(known, lambda row: key(row.record) or "")


def letters(count: int) -> list[str]:
    """The first ``count`` capital letters."""
    return [chr(ord("A") + i) for i in range(min(count, 26))]


def lettered(options: Sequence[str]) -> dict[str, str]:
    """Options by their letters, A first."""
    return dict(zip(letters(len(options)), options, strict=False))
