r"""The tokens of a mathematical answer, in LaTeX or typed: ``\frac``, ``2.5``, ``x``, ``≤``.

One or two linear passes: dressing goes, and what has several spellings gets one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

FUNCTIONS: Final = frozenset(
    re.findall(
        r"\w+",
        "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh ln log lg exp",
    )
)
"""Tokens of functions are these with a backslash before them."""
_SAME_FUNCTION = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}

_DRESSING = re.compile(
    r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|displaystyle|limits|mathrm|mathbf|mathit|mathsf"
    r"|boldsymbol|vec|overline(?!\{[0-9])|hat|bar|operatorname)(?![A-Za-z])\s*\.?"
    r"|\\[,!;: ()\[\]\n$]|\\q?quad(?![a-z])|[$~`]|\\$"
)
_MATRIX = re.compile(r"\\(begin|end)\s*\{[pbvB]?matrix\*?\}")
_WORDS = re.compile(
    r"\\(?:text|textbf|textit|textrm|mbox|mathrm)\s*\{([^{}]*)\}(\s*\^\s*\{?[23]\}?)?"
)
_OR = re.compile(r"\s*(?:,\s*)?\b(?:and|or)\b\s*", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|\\,)(?=[0-9]{3}(?![0-9]))")
_TOKEN = re.compile(
    r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
    r"|\\[A-Za-z]+|\\.|[A-Za-z]+|<=|>=|!=|\*\*|\S",
    re.DOTALL,
)

_MARKS = {
    **dict.fromkeys(("\\cdot", "\\times", "\\ast", "×", "·", "∗", "⋅"), "*"),
    **dict.fromkeys(("\\div", "÷", ":"), "/"),
    **dict.fromkeys(("−", "–", "—"), "-"),
    **dict.fromkeys(("\\leq", "\\le", "\\leqslant", "<="), "≤"),
    **dict.fromkeys(("\\geq", "\\ge", "\\geqslant", ">="), "≥"),
    **dict.fromkeys(("\\neq", "\\ne", "!="), "≠"),
    **dict.fromkeys(("\\approx", "\\simeq", "≈", "\\equiv"), "="),
    **dict.fromkeys(("\\dfrac", "\\tfrac", "\\cfrac"), "\\frac"),
    **dict.fromkeys(("\\circ", "\\degree"), "°"),
    **dict.fromkeys(("\\lvert", "\\rvert", "\\vert", "\\mid"), "|"),
    **dict.fromkeys(("\\dbinom", "\\tbinom"), "\\binom"),
    **dict.fromkeys(("\\wedge", "\\lor", "\\vee", "\\land", ";", "∨"), ","),
    **dict.fromkeys(("\\varnothing", "∅"), "\\emptyset"),
    "**": "^",
    "\\lt": "<",
    "\\gt": ">",
    "\\pm": "±",
    "\\mp": "∓",
    "\\cup": "∪",
    "\\in": "∈",
    "\\%": "%",
    "\\infty": "∞",
    "\\pi": "π",
    "\\lbrace": "\\{",
    "\\rbrace": "\\}",
    "\\lfloor": "⌊",
    "\\rfloor": "⌋",
    "\\lceil": "⌈",
    "\\rceil": "⌉",
    "\\prime": "'",
    "√": "\\sqrt",
}
_NAMED = {"pi": "π", "sqrt": "\\sqrt", "infinity": "∞", "inf": "∞", "infty": "∞", "in": "∈"}


class NotMathematics(Exception):  # noqa: N818 - never leaves the core
    """The text has no tree."""


def tokens_of(text: str) -> list[str]:
    r"""Numbers, letters, marks and commands of an answer, of each kind of writing one.

    Words in ``\text{..}`` behind an answer are its unit and are dropped.

    Raises:
        NotMathematics: it has other words.
    """
    text = text.strip().rstrip(".").replace("²", "^2").replace("³", "^3")
    text = text.replace("\\$", "").replace("€", "").replace("£", "")
    text = _THOUSANDS.sub("", text)
    text = _MATRIX.sub(lambda m: "⟦" if m[1] == "begin" else "⟧", text).replace("\\\\", "¦")
    text = _WORDS.sub(_word, text)
    text = _DRESSING.sub(" ", _OR.sub(" , ", text))
    out: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0].isascii() and token[0].isalpha():
            out += _letters(token)
        else:
            out.append(_MARKS.get(token, token))
    return out


def _word(match: re.Match[str]) -> str:
    """What words in an answer are: signs, an option's letter, or a unit behind it."""
    words = match[1].strip()
    if _OR.fullmatch(words):
        return " , "
    before, after = match.string[: match.start()].strip(), match.string[match.end() :].strip()
    if len(words) == 1 and words.isalpha() and (not before or "mathrm" in match[0]):
        return words
    if before and after in ("", ".", "$", "\\)", "\\]"):
        return " "
    raise NotMathematics


def _letters(run: str) -> Iterator[str]:
    """The functions and constants that a run of letters names, or the letters of a short run.

    ``sinx`` is sin x; ``abc`` is a product; longer runs are words.
    """
    if run in _NAMED:
        yield _NAMED[run]
    elif _SAME_FUNCTION.get(run, run) in FUNCTIONS:
        yield "\\" + _SAME_FUNCTION.get(run, run)
    elif len(run) <= 3:
        yield from run
    else:
        for name in ("sqrt", "sin", "cos", "tan", "log", "ln"):
            if run.startswith(name) and len(run) - len(name) <= 2:
                yield _NAMED.get(name, "\\" + name)
                yield from run[len(name) :]
                return
        raise NotMathematics
