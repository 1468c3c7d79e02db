"""The question that a model gets for a record of each benchmark.

Three benchmarks carry their prompt in the data (MathVista ``query``, MathVerse ``query_cot``,
CV-Bench ``prompt``); VSI-Bench's is that of thinking-in-space @51e089c. The published prompts of
the other four ask for a form of answer (JSON, text behind "Answer") that contradicts the model's
own template, ``<think>``/``<answer>``: here the question and its options are asked, and what kind
of answer is scored is said in our own words. The published form, for models without such a
template, asks for what the published rules read, in our own words too where the data has none.
"""

from __future__ import annotations

from collections.abc import Callable

from m2r_train.benchmarks.base import Record, lettered, text_field, texts_field

_VSI_FRAMES = "These are frames of a video."
_VSI_NUMBER = "Please answer the question using a single word or phrase."
_VSI_CHOICE = "Answer with the option's letter from the given choices directly."

_LETTER = "Answer with the letter of the right option."
_LETTERS = "Answer with the letter of the right option; with several right, with all their letters."
_DYNAMATH = {
    "float": "Answer with a number, to three decimals where it is not whole.",
    "multiple choice": _LETTER,
}
"""By ``answer_type``: numbers count within 0.001, choices by their letter."""

_BOXED = "Put the final answer into \\boxed{}; of a question with options, its letter alone."
_JSON = (
    'Reply with a JSON object of two texts: "solution", the reasoning, and "short answer", the '
    "answer alone: the letter of the right option, or a number to three decimals."
)
_BEHIND = 'Reason step by step, then end with "Answer: " and the letter of the right option.'


def question(name: str, record: Record, *, published: bool = False) -> str:
    """The text of the question, pictures apart; ``published``: in the published form.

    Raises RecordError where the record lacks the fields of the benchmark called ``name``.
    """
    own = _PUBLISHED.get(name) if published else None
    return (own or _QUESTIONS[name])(record)


def _of_field(field: str) -> Callable[[Record], str]:
    return lambda record: text_field(record, field)


def _mathvision(record: Record) -> str:
    options = lettered(texts_field(record, "options"))
    asked = [text_field(record, "question"), *(f"({k}) {v}" for k, v in options.items())]
    return "\n".join([*asked, _LETTER] if options else asked)


def _mathvision_boxed(record: Record) -> str:
    return f"{_mathvision(record)}\n{_BOXED}".replace(f"\n{_LETTER}", "")


def _dynamath(record: Record) -> str:
    asked = text_field(record, "question")
    hint = _DYNAMATH.get(text_field(record, "answer_type"))
    return asked if hint is None else f"{asked}\n{hint}"


def _dynamath_json(record: Record) -> str:
    text_field(record, "answer_type")
    return f"{text_field(record, 'question')}\n{_JSON}"


def _we_math_behind(record: Record) -> str:
    return f"{text_field(record, 'question')}\n{text_field(record, 'option')}\n{_BEHIND}"


def _we_math(record: Record) -> str:
    options = text_field(record, "option")
    return f"{text_field(record, 'question')}\n{options}\n{_LETTER}"


def _logicvista(record: Record) -> str:
    return f"{text_field(record, 'question')}\n{_LETTERS}"


def _vsi_bench(record: Record) -> str:
    asked = f"{_VSI_FRAMES}\n{text_field(record, 'question')}"
    options = texts_field(record, "options")
    if not options:
        return f"{asked}\n{_VSI_NUMBER}"
    return "\n".join([asked, "Options:", *options, _VSI_CHOICE])


_QUESTIONS: dict[str, Callable[[Record], str]] = {
    "mathvista": _of_field("query"),
    "mathvision": _mathvision,
    "mathverse": _of_field("query_cot"),
    "dynamath": _dynamath,
    "we-math": _we_math,
    "logicvista": _logicvista,
    "cv-bench": _of_field("prompt"),
    "vsi-bench": _vsi_bench,
}

_PUBLISHED: dict[str, Callable[[Record], str]] = {
    "mathvision": _mathvision_boxed,
    "dynamath": _dynamath_json,
    "we-math": _we_math_behind,
}
"""Those whose published form is another than that of `_QUESTIONS`."""
