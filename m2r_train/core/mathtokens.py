r"""The tokens of a mathematical answer, in LaTeX or typed: ``\frac``, ``2.5``, ``x``, ``≤``.

One or two linear passes: dressing goes, and what has several spellings gets one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Final

from m2r_train.core.numerals import KNOWN_UNITS, NUMBER_WORDS

FUNCTIONS: Final = frozenset(
    re.findall(
        r"\w+",
        "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh ln log lg exp",
    )
)
"""Tokens of functions are these with a backslash before them."""
_SAME_FUNCTION = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}

_DRESSING = re.compile(
    r"\\(?:left|right|bigl|bigr|Bigl|Bigr|big|Big|displaystyle|limits|mathrm|mathbf|mathit|mathsf"
    r"|boldsymbol|vec|overline|hat|bar|operatorname)(?![A-Za-z])\s*\.?"
    r"|\\[,!;: ()\[\]\n$]|[$`]|\\$"
)
_MATRIX = re.compile(r"\\(begin|end)\s*\{[pbB]?matrix\*?\}")
_WORDS = re.compile(
    r"\\(?:text|textbf|textit|textrm|mbox|mathrm)\s*\{([^{}]*)\}(\s*\^\s*\{?[23]\}?)?"
)
_OR = re.compile(r"\s*(?:,\s*)?\b(?:and|or)\b\s*", re.IGNORECASE)
_QUAD = re.compile(r"(?:,\s*)?\\q?quad(?![a-z])")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|\\,)(?=[0-9]{3}(?![0-9]))")
_PACKED = re.compile(r"(?:\(|\[|\\\{)[^()\[\]{}]*")  # a bracket up to the next one
_REPEATING = re.compile(
    r"([0-9]*)\.([0-9]*)\s*\\(?:bar|overline|dot)\s*(?:\{\s*([0-9]+)\s*\}|([0-9]))"
)
_MARKED = re.compile(
    r"\\(bar|overline|hat|tilde)\s*(?:\{\s*([A-Za-z])\s*\}|([A-Za-z])(?![A-Za-z]))"
)
_TYPED_ROOT = re.compile(r"(?:√|(?<![\\A-Za-z])sqrt)\s*([0-9]+(?:\.[0-9]+)?)")
_NAMED_BEFORE = re.compile(
    r"\A\s*(?:\\(?:text|textbf|mathrm)\s*\{[A-Za-z .]+\}|[A-Za-z][A-Za-z ]{2,})\s*=(?![=>])"
)
_MOST_WRAPS = 4
_WRAP = re.compile(r"(?:\\(?:boxed|fbox)\s*)?\{")
_LEADING = re.compile(r"\A\s*\\(?:sim|therefore|implies|Rightarrow|approx)(?![A-Za-z])")
_TRAILING_UNIT = re.compile(
    r"(?<=\S)\s+((?:[A-Za-z]{2,}[²³]?(?:\s*\^\s*\{?[23]\}?)?\s*)(?:/?\s*[A-Za-z]{2,}\s*){0,2})$"
)
_OPERATOR = re.compile(r"[-+*/^=<>\\_0-9|!]")
_TOKEN = re.compile(
    r"[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
    r"|\\[A-Za-z]+|\\.|[A-Za-z]+|<=|>=|!=|\*\*|\S",
    re.DOTALL,
)

_GREEK = dict(
    zip(
        re.findall(
            r"\w+",
            """
            alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi omicron pi
            rho varsigma sigma tau upsilon phi chi psi omega
            """,
        ),
        range(ord("α"), ord("ω") + 1),
        strict=True,
    )
)
_CAPITALS = re.findall(r"\w+", "Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega")
_GREEK |= {name: ord(letter) for name, letter in zip(_CAPITALS, "ΓΔΘΛΞΣΦΨΩ", strict=True)}
del _GREEK["pi"]

_MARKS = {
    **dict.fromkeys(("\\cdot", "\\times", "\\ast", "×", "·", "∗", "⋅"), "*"),
    **dict.fromkeys(("\\div", "÷", ":"), "/"),
    **dict.fromkeys(("−", "–", "—"), "-"),
    **dict.fromkeys(("\\leq", "\\le", "\\leqslant", "<="), "≤"),
    **dict.fromkeys(("\\geq", "\\ge", "\\geqslant", ">="), "≥"),
    **dict.fromkeys(("\\neq", "\\ne", "!="), "≠"),
    **dict.fromkeys(("\\approx", "\\simeq", "≃"), "≈"),
    **dict.fromkeys(("\\dfrac", "\\tfrac", "\\cfrac"), "\\frac"),
    **dict.fromkeys(("\\circ", "\\degree"), "°"),
    **dict.fromkeys(("\\lvert", "\\rvert", "\\vert", "\\mid"), "|"),
    **dict.fromkeys(("\\dbinom", "\\tbinom"), "\\binom"),
    **dict.fromkeys(("\\lor", "\\vee", ";", "∨"), ","),
    **{chr(code): f"\\{name}" for name, code in _GREEK.items()},
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
    text = text.replace("~", " ").strip().rstrip(".,;").replace("²", "^2").replace("³", "^3")
    text = text.replace("\\$", "").replace("€", "").replace("£", "")
    text = _unwrapped(text)
    text = _LEADING.sub("", _NAMED_BEFORE.sub("", text, count=1), count=1)
    text = _THOUSANDS.sub("", text.replace("\\!", ""))
    text = _PACKED.sub(_separated, text)
    text = _MARKED.sub(r"{\2\3}_{\1}", _REPEATING.sub(_repeating, text))
    text = _TYPED_ROOT.sub(r"\\sqrt{\1}", _QUAD.sub(" , ", text))
    text = _MATRIX.sub(lambda m: "⟦" if m[1] == "begin" else "⟧", text).replace("\\\\", "¦")
    text = _TRAILING_UNIT.sub(_trailing_unit, _WORDS.sub(_word, text))
    text = _DRESSING.sub(" ", _OR.sub(" , ", text))
    plain_text = _OPERATOR.search(text) is None
    out: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0].isascii() and token[0].isalpha():
            if plain_text and len(token) > 2:  # "dog, cat": words
                raise NotMathematics
            out += _letters(token)
        else:
            out.append(_MARKS.get(token, token))
    return out


def _word(match: re.Match[str]) -> str:
    """What words in an answer are: signs, an option's letter, or a unit behind it."""
    words = match[1].strip()
    if _OR.fullmatch(words):
        return " , "
    if words in ("%", "\\%"):
        return "%"
    before, after = match.string[: match.start()].strip(), match.string[match.end() :].strip()
    if len(words) == 1 and words.isalpha() and (not before or words in "eid"):
        return words
    if _tells(words):
        raise NotMathematics
    if before and after in ("", ".", "$", "\\)", "\\]"):
        return " "
    raise NotMathematics


def _unwrapped(text: str) -> str:
    """Without ``\\boxed`` and braces around all of it, unless they are those of a set."""
    for _ in range(_MOST_WRAPS):
        match = _WRAP.match(text)
        if match is None or not text.endswith("}") or not _is_whole(text, match.end()):
            break
        text = text[match.end() : -1].strip()
    return text


def _is_whole(text: str, start: int) -> bool:
    """Whether the brace before ``start`` closes at the end, and has no comma of its own."""
    braces, brackets = 1, 0
    for at in range(start, len(text) - 1):
        sign = text[at]
        braces += (sign == "{") - (sign == "}")
        brackets += (sign in "([") - (sign in ")]")
        if braces == 0 or (sign == "," and braces == 1 and brackets == 0):
            return False
    return True


_TELLING = NUMBER_WORDS | frozenset(
    re.findall(
        r"\w+",
        """
        am pm east west north south left right up down clockwise counterclockwise anticlockwise
        """,
    )
)


def _tells(words: str) -> bool:
    """Whether words behind a number are more than its unit: "million", "p.m.", "west"."""
    found = re.findall(r"[A-Za-z]+", words.casefold().replace(".", ""))
    words = re.sub(r"\^\s*\{?-?[1-4]\}?", "", words)  # of units: cm^3
    return bool(re.search(r"[-0-9+*=<>^\\]", words)) or not _TELLING.isdisjoint(found)


def _trailing_unit(match: re.Match[str]) -> str:
    """Nothing for typed units behind an answer, ``cm^2``; else what stands there."""
    words = re.findall(r"[A-Za-z]+", match[1])
    before = match.string[: match.start()]
    units = all(word.casefold() in KNOWN_UNITS for word in words)
    return (
        " " if units and before.strip() and before.strip()[-1] not in "+-*/^=<>(,[{" else match[0]
    )


def _separated(match: re.Match[str]) -> str:
    """``(1,200)`` is a pair: digits in a bracket are grouped only where others are apart."""
    return match[0] if ", " in match[0] else match[0].replace(",", ", ")


def _repeating(match: re.Match[str]) -> str:
    """``0.1\\overline{6}`` as the fraction that it is."""
    whole, fixed, digits = match[1], match[2], match[3] or match[4]
    top = int((whole + fixed + digits) or "0") - int((whole + fixed) or "0")
    value = Fraction(top, (10 ** len(digits) - 1) * 10 ** len(fixed))
    return rf"(\frac{{{value.numerator}}}{{{value.denominator}}})"


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
