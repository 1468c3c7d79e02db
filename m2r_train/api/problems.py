"""Pydantic's errors as lines for people: where, what, and what to change.

``examples/x.yaml: RLVRJob/m2-rlvr: spec.rollout.groupSize: must be >= 2 (got 1); set it to 2 or
more``. Values that may hold a password are never repeated.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from m2r_train.api.errors import SpecError
from m2r_train.api.schema import PATTERN_HINTS, RULE_ERROR, looks_like_secret

_SHOWN: Final = 60
_SHORTEST_STEM: Final = 3


class SpecErrors(SpecError):  # noqa: N818 - holds several errors
    """Everything that is wrong with some manifests: ``lines`` has one line for each problem."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines: tuple[str, ...] = tuple(lines)
        super().__init__("\n".join(self.lines))


def problem_lines(
    error: ValidationError, model: type[BaseModel], where: str, root: str = ""
) -> list[str]:
    """One line for each problem: ``<where>: <field path>: <what is wrong>; <remedy>``.

    ``model`` is the class that was parsed (for suggestions), ``root`` the path of its root.
    """
    lines = []
    for details in error.errors(include_url=False):
        if _is_echo(details):
            continue
        for path, text in _problems(details, model):
            full = ".".join(part for part in (root, path) if part)
            lines.append(": ".join(part for part in (where, full, text) if part))
    return lines


def _is_echo(details: ErrorDetails) -> bool:
    """Pydantic leaves wrong items out of a list and then also finds the list too short."""
    shortest = details.get("ctx", {}).get("min_length", 0)
    return details["type"] == "too_short" and len(details["input"]) >= shortest


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``word``, if any is close or begins so; letter case does not matter."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    if not found and len(word) >= _SHORTEST_STEM:
        found = [choice for choice in by_lower if choice.startswith(word.lower())]
    return by_lower[found[0]] if found else None


def field_path(loc: Iterable[int | str]) -> str:
    """A pydantic location in YAML's notation: ``sources[0].simulator.tasks[1]``."""
    path = ""
    for part in loc:
        if part == "[key]":
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


def _problems(details: ErrorDetails, model: type[BaseModel]) -> list[tuple[str, str]]:
    """(path, text) pairs; a broken rule may name several fields."""
    path, context = field_path(details["loc"]), details.get("ctx", {})
    if details["type"] == RULE_ERROR:
        return [(".".join(p for p in (path, sub) if p), msg) for sub, msg in context["broken"]]
    return [(path, _text(details, model))]


def _text(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_field(details["loc"], model)
    if kind == "literal_error":
        return _not_a_choice(details)
    if kind == "missing":
        return "is required; add it"
    if kind == "json_invalid":
        return f"is not JSON ({context['error']}); write it anew"
    plain = (details["msg"].lower(), "correct it")
    wrong, remedy = _TEXTS[kind](context) if kind in _TEXTS else plain
    return f"{wrong} (got {_shown(details['input'])}); {remedy}"


_Texts = Callable[[Mapping[str, Any]], tuple[str, str]]


def _at_least(c: Mapping[str, Any]) -> tuple[str, str]:
    bound = _number(c["ge"])
    return f"must be >= {bound}", f"set it to {bound} or more"


def _at_most(c: Mapping[str, Any]) -> tuple[str, str]:
    bound = _number(c["le"])
    return f"must be <= {bound}", f"set it to {bound} or less"


def _size(bound: str, count: int, unit: str) -> str:
    return f"must have at {bound} {count} {unit}{'' if count == 1 else 's'}"


_TEXTS: Final[dict[str, _Texts]] = {
    "greater_than_equal": _at_least,
    "less_than_equal": _at_most,
    "int_type": lambda _: ("must be a whole number", "write digits only, without quotes"),
    "int_from_float": lambda _: ("must be a whole number", "write it without a fraction"),
    "float_type": lambda _: ("must be a number", "write it without quotes"),
    "finite_number": lambda _: ("must be a finite number", "write an ordinary number"),
    "bool_type": lambda _: ("must be true or false", "write one of them without quotes"),
    "string_type": lambda _: ("must be text", "write it in quotes"),
    "tuple_type": lambda _: ("must be a list", "write [..] or lines beginning with -"),
    "dict_type": lambda _: ("must be a map", "write {key: value}"),
    "model_type": lambda _: ("must be a map", "write {field: value}"),
    "string_pattern_mismatch": lambda c: (
        "has the wrong form",
        PATTERN_HINTS.get(c["pattern"], f"match {c['pattern']}"),
    ),
    "string_too_long": lambda c: (_size("most", c["max_length"], "character"), "shorten it"),
    "string_too_short": lambda c: (_size("least", c["min_length"], "character"), "fill it in"),
    "too_long": lambda c: (_size("most", c["max_length"], "item"), "remove some"),
    "too_short": lambda c: (_size("least", c["min_length"], "item"), "add one"),
    "datetime_from_date_parsing": lambda _: ("must be a time", "write it as RFC 3339"),
    "datetime_parsing": lambda _: ("must be a time", "write it as RFC 3339"),
    "datetime_type": lambda _: ("must be a time", "write it as RFC 3339"),
}


def _unknown_field(loc: tuple[int | str, ...], model: type[BaseModel]) -> str:
    here: Any = model
    for part in loc[:-1]:
        here = _step(here, part)
    known = fields_of(here)
    word = str(loc[-1])
    guess = nearest(word, known) or next((path for path in _deeper(here, word)), None)
    if guess is not None:
        return f"unknown field; did you mean {guess}?"
    return f"unknown field; remove it (fields here: {', '.join(known)})"


def _not_a_choice(details: ErrorDetails) -> str:
    expected = details["ctx"]["expected"]
    choices = [part.strip("' ") for part in expected.replace(" or ", ", ").split(",")]
    value = details["input"]
    guess = nearest(value, choices) if isinstance(value, str) else None
    if details["loc"][-1] == "[key]":
        return f"unknown key; use {guess or 'one of ' + ', '.join(choices)}"
    if len(choices) == 1:
        return f"must be {choices[0]} (got {_shown(value)}); write {choices[0]}"
    remedy = f"write {guess or 'one of them'}"
    return f"must be one of {', '.join(choices)} (got {_shown(value)}); {remedy}"


def fields_of(annotation: Any) -> dict[str, Any]:
    """YAML's field names of a model, each with its annotation; nothing for other types."""
    model = _without_none(annotation)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return {str(info.alias): info.annotation for info in model.model_fields.values()}
    return {}


def _step(annotation: Any, part: int | str) -> Any:
    """What stands at one part of a location: a field, an item of a list, a value of a map."""
    annotation = _without_none(annotation)
    if typing.get_origin(annotation) is tuple:
        return typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is Mapping:
        return typing.get_args(annotation)[1]
    return fields_of(annotation).get(str(part))


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, types.UnionType):
        return next(arg for arg in typing.get_args(annotation) if arg is not type(None))
    return annotation


def _deeper(annotation: Any, word: str, path: str = "") -> Iterator[str]:
    """Paths of the fields further inside that have this very name."""
    for name, inner in fields_of(annotation).items():
        if path and name == word:
            yield f"{path}{name}"
        yield from _deeper(inner, word, f"{path}{name}.")


def _shown(value: object) -> str:
    """A value as JSON, short; hidden where it may hold a password or key."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if looks_like_secret(text) or ("@" in text and "://" in text):
        return "a value that is not shown"
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _number(bound: object) -> str:
    """2.0 as 2, 1e-12 as it is."""
    return f"{bound:g}" if isinstance(bound, float) else str(bound)
