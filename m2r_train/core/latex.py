"""From the LaTeX and Markdown that models write to a plain notation that can be compared.

Everything here is one or two linear passes over a short text: `plain` rewrites commands into
single characters, `canonical` turns the result into a list of tokens in which ``\\frac{a+b}{2}``
and ``(a+b)/2`` are the same. Nothing is evaluated: a tower of powers costs only its characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

FRAC = "\ue000"
"""Stands for ``\\frac`` in plain notation (a private-use character: no text contains it)."""

MAX_EXPRESSION_CHARS = 512
"""Longer texts have no canonical form: they are compared as they are written."""

_MAX_DEPTH = 40

_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)?", re.DOTALL)

_COMMANDS: dict[str, str] = {
    **dict.fromkeys(("text", "textbf", "textit", "textrm", "mbox", "operatorname", "boxed"), ""),
    **dict.fromkeys(("mathrm", "mathbf", "mathit", "mathsf", "displaystyle"), ""),
    **dict.fromkeys(("left", "right", "bigl", "bigr", "big", "Big"), ""),
    **dict.fromkeys(("!", "(", ")", "[", "]", "$"), ""),
    **dict.fromkeys((",", ";", ":", " ", "quad", "qquad", "\\", "\n"), " "),
    **dict.fromkeys(("frac", "dfrac", "tfrac", "cfrac"), FRAC),
    **dict.fromkeys(("times", "cdot", "ast"), "×"),
    **dict.fromkeys(("circ", "degree"), "°"),
    **dict.fromkeys(("leq", "le", "leqslant"), "≤"),
    **dict.fromkeys(("geq", "ge", "geqslant"), "≥"),
    **dict.fromkeys(("neq", "ne"), "≠"),
    **dict.fromkeys(("approx", "simeq"), "≈"),
    "sqrt": "√",
    "div": "/",
    "pm": "±",
    "pi": "π",
    "infty": "∞",
    "theta": "θ",
    "alpha": "α",
    "beta": "β",
    "": "",
}

_CHARACTERS = str.maketrans(
    {
        "$": "",
        "€": "",
        "£": "",
        "¥": "",
        "−": "-",
        "–": "-",
        "·": "×",
        "∗": "×",
        "*": "×",
        "÷": "/",
        "≃": "≈",
        "~": " ",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
        FRAC: "",
    }
)

_THIN_SPACE = re.compile(r"(?<=[0-9])\\[,!](?=[0-9]{3}(?![0-9]))")  # 1\,000
_BARE_FRACTION = re.compile(rf"{FRAC}\s*([0-9])\s*([0-9])")

_NUMBER_OR_CHARACTER = re.compile(r"[0-9]+(?:\.[0-9]+)?|\.[0-9]+|\S")

_CLOSERS = {"{": "}", "(": ")"}


def _command(match: re.Match[str]) -> str:
    name = match[0][1:]
    return _COMMANDS.get(name, name)


def plain(text: str) -> str:
    """``text`` without LaTeX and Markdown dressing, commands as single characters.

    Math delimiters, currency signs, font commands and thin spaces go; ``\\frac`` becomes `FRAC`,
    ``\\times``, ``\\cdot`` and ``*`` become ``×``, ``\\sqrt`` ``√``, ``\\circ`` ``°``, typographic
    minus signs ``-``; an unknown command keeps its name. Braces, escaped or not, stay. Linear.
    """
    text = text.strip().strip("*").translate(_CHARACTERS)
    if "\\" in text:
        text = _THIN_SPACE.sub("", text)
        text = _COMMAND.sub(_command, text)
        text = _BARE_FRACTION.sub(rf"{FRAC}{{\1}}{{\2}}", text)  # \frac12 is one half
    text = (
        text.replace("{%}", "%").replace("{,}", ",").replace("^°", "°").replace("^{°}", "°").strip()
    )
    while len(text) > 1 and text[0] == "{" and text.find("}") == len(text) - 1:
        text = text[1:-1].strip()  # \text{C} has become {C}
    return text.removesuffix(".").rstrip()


class _TooDeep(Exception):  # noqa: N818 - never leaves this module
    """Nesting beyond `_MAX_DEPTH`: no canonical form."""


def canonical(text: str) -> tuple[str, ...] | None:
    """The tokens of an expression or a short text, or None beyond the caps on length and nesting.

    Case, spaces, multiplication signs, grouping braces and brackets around a single token do not
    count; ``\\frac{a}{b}`` is ``a/b``, ``x^{2}`` is ``x^2``; numbers are exact (``0.50``: ``.5``).
    """
    return None if len(text) > MAX_EXPRESSION_CHARS else _canonical(text)


@lru_cache(maxsize=4096)  # the completions of a group share their truth, and often their answer
def _canonical(text: str) -> tuple[str, ...] | None:
    tokens = iter(_NUMBER_OR_CHARACTER.findall(plain(text).casefold()))
    try:
        return tuple(_group(tokens, "", 0))
    except _TooDeep:
        return None


def same_expression(a: str, b: str) -> bool:
    """Whether two texts have one canonical form; ``x = 5`` is also ``5``, but not ``y = 5``."""
    left, right = canonical(a), canonical(b)
    if left is None or right is None:
        return False
    if ("=" in left) != ("=" in right):
        left, right = _assigned(left), _assigned(right)
    return left == right


def _assigned(tokens: tuple[str, ...]) -> tuple[str, ...]:
    return tokens[2:] if tokens[1:2] == ("=",) and tokens[0].isalpha() else tokens


def _group(tokens: Iterator[str], closer: str, depth: int) -> list[str]:
    """Tokens up to ``closer`` (or the end: an unclosed bracket closes there)."""
    if depth > _MAX_DEPTH:
        raise _TooDeep
    out: list[str] = []
    for token in tokens:
        if token == closer:
            break
        if token == FRAC:
            numerator = _wrapped(_argument(tokens, depth))
            out += [*numerator, "/", *_wrapped(_argument(tokens, depth))]
        elif token in "^√":
            out += [token, *_wrapped(_argument(tokens, depth))]
        elif token == "{":
            out += _group(tokens, "}", depth + 1)
        elif token == "(":
            out += _wrapped(_group(tokens, ")", depth + 1))
        elif token != "×":
            out.append(_number(token))
    return out


def _argument(tokens: Iterator[str], depth: int) -> list[str]:
    """What follows a command: a bracketed group, a signed token, or one token."""
    if depth > _MAX_DEPTH:
        raise _TooDeep
    token = next(tokens, "")
    if token in _CLOSERS:
        return _group(tokens, _CLOSERS[token], depth + 1)
    if token == "-":
        return ["-", *_argument(tokens, depth + 1)]
    return [_number(token)] if token else []


def _wrapped(tokens: list[str]) -> list[str]:
    return tokens if len(tokens) == 1 else ["(", *tokens, ")"]


def _number(token: str) -> str:
    """A number without leading and trailing zeros; any other token as it is."""
    if token[-1] not in "0123456789":
        return token
    whole, _, decimals = token.partition(".")
    whole, decimals = whole.lstrip("0") or "0", decimals.rstrip("0")
    return f"{whole}.{decimals}" if decimals else whole
