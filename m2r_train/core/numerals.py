"""Numbers as models write them, read exactly and in linear time.

Lengths and exponents are capped before any arithmetic, so ``1e999999999`` and ``9^{9^{9}}`` cost a
failed match and not a core for a minute (reliability.md section 4, rows 8 and 9).
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from m2r_train.core.latex import FRAC, plain

MAX_NUMERAL_CHARS = 256
"""Longer texts are not numbers: a double needs 17 digits, the longest unit a few dozen letters."""

MAX_EXPONENT = 400
"""Largest power of ten that is computed; finite doubles end at 308."""


class Numeral(NamedTuple):
    """An exact value; ``percent`` says that it was written with a percent sign (75% is 3/4)."""

    value: Fraction
    percent: bool


_DECIMAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:\.[0-9]*)?|[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_POWER_OF_TEN = r"10\s*\^\s*\{?\s*([+-]?[0-9]+)\s*\}?"

_NUMERAL = re.compile(
    rf"""
    (?:[A-Za-z](?:_\w|_\{{\w+\}})?\s*[=≈]|≈|~|(?i:about|approximately|around|roughly)\s)?\s*
    (?P<sign>[+-]?)\s*
    (?:
        (?:(?P<whole>[0-9]+)\s*)?
        {FRAC}\s*\{{\s*(?P<top>-?\s*{_DECIMAL})\s*\}}\s*\{{\s*(?P<bottom>{_DECIMAL})\s*\}}
      | (?P<mixed>[0-9]+)\s+(?P<mixed_top>[0-9]+)\s*/\s*(?P<mixed_bottom>[0-9]+)
      | (?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})
      | (?P<mantissa>{_DECIMAL})\s*[×x]\s*{_POWER_OF_TEN.replace("(", "(?P<scale>", 1)}
      | {_POWER_OF_TEN.replace("(", "(?P<power>", 1)}
      | (?P<decimal>{_DECIMAL})(?:[eE](?P<exponent>[+-]?[0-9]+))?
    )
    \s*(?P<percent>%?)\s*(?P<unit>.*)
    """,
    re.VERBOSE | re.DOTALL,
)

# A letter, then letters, separators and small exponents: "m", "km/h", "m^{2}", "square meters".
_UNIT = re.compile(
    r"""[°'"′″A-Za-zµμΩ℃℉{]
    (?: [°'"′″A-Za-zµμΩ²³\s./×(){}-] | \^\s*\{?-?[1-4] | (?<=[a-z}])[23](?![0-9]) )*""",
    re.VERBOSE,
)
_WORD = re.compile(r"[A-Za-zµμΩ]+")

# Words that are units even in an expression, where "5 x" is a product and "5 or so" a text.
KNOWN_UNITS = frozenset(
    re.findall(
        r"\w+",
        """
        mm cm dm m km in ft yd mi millimeter millimeters centimeter centimeters centimetre
        centimetres meter meters metre metres kilometer kilometers inch inches foot feet yard yards
        mile miles sq square cubic ms s sec second seconds min minute minutes h hr hrs hour hours
        day days week weeks month months year years mg g kg gram grams kilogram kilograms lb lbs
        pound pounds ton tons ml l liter liters litre litres degree degrees deg rad radian radians
        unit units dollar dollars cent cents percent per n j w v a k c f hz khz mhz pa kpa mol ohm
        """,
    )
)
# One letter beside a number is a variable unless it is the symbol of a unit.
_UNIT_SYMBOLS = frozenset("mgshlLNJWVAKCFΩ")
_MAGNITUDES = frozenset({"hundred", "thousand", "million", "billion", "trillion", "dozen"})
# Behind a number these make it another one, or more than one.
NUMBER_WORDS = _MAGNITUDES | frozenset(
    re.findall(
        r"\w+",
        """
        lakh crore grand half halves third thirds quarter quarters fifth fifths sixth sixths eighth
        eighths tenth tenths hundredth hundredths thousandth thousandths squared cubed factorial pi
        plus minus times over divided or and not below negative zero one two three four five six
        seven eight nine ten eleven twelve sqrt sin cos tan log ln
        """,
    )
)


def parse_numeral(text: str, *, any_unit: bool = True) -> Numeral | None:
    """The number that ``text`` is, exactly, or None when it is not one number.

    Read: sign, thousands separators, decimals, ``3/4``, ``\\frac{3}{4}``, mixed numbers, ``1.5e3``,
    ``1.5 \\times 10^{3}``, percent (divided by 100), a leading ``x =``, a unit behind (dropped).
    ``any_unit`` takes any words as a unit ("3 chairs"); without it only known units are dropped, so
    that ``5x`` stays an expression. Words for magnitudes ("5 million") and a second number make the
    text no number. Never raises; constant work beyond `MAX_NUMERAL_CHARS`.
    """
    return None if len(text) > MAX_NUMERAL_CHARS else _parse(text, any_unit)


@lru_cache(maxsize=4096)  # the completions of a group share their truth, and often their answer
def _parse(text: str, any_unit: bool) -> Numeral | None:
    match = _NUMERAL.fullmatch(plain(text))
    if match is None:
        return None
    unit = match["unit"]
    glued = bool(unit) and match.string[match.start("unit") - 1] in "0123456789."
    if not _is_unit(unit, any_unit=any_unit, glued=glued):
        return None
    value = _value(match)
    if value is None:
        return None
    if match["sign"] == "-":
        value = -value
    percent = bool(match["percent"]) or match["unit"].strip().casefold() in ("percent", "per cent")
    return Numeral(value / 100 if percent else value, percent)


def parse_number(text: str) -> float | None:
    """The number that ``text`` is as the nearest double, or None (no number, or not finite).

    Units are dropped, percents divided by 100: "22.5 m^2" is 22.5, "75%" is 0.75. See
    `parse_numeral` for what is read.
    """
    numeral = parse_numeral(text)
    if numeral is None:
        return None
    try:
        number = float(numeral.value)
    except OverflowError:  # beyond the doubles: not finite
        return None
    return number if math.isfinite(number) else None


def same_number(a: Numeral, b: Numeral) -> bool:
    """Exact equality; where one side alone has a percent sign, ``75%`` is ``0.75`` and ``75``."""
    if a.percent != b.percent and a.value and b.value:
        return a.value == b.value or a.value == b.value * (100 if b.percent else Fraction(1, 100))
    return a.value == b.value


@lru_cache(maxsize=1024)  # a handful of units come back with every answer
def _is_unit(text: str, *, any_unit: bool, glued: bool) -> bool:
    if not text:
        return True
    if not _UNIT.fullmatch(text) or re.match(r"\{\s*×", text):
        return False
    words = _WORD.findall(text)
    if any(len(w) == 1 and w not in _UNIT_SYMBOLS for w in words):
        return False
    lowered = [w.casefold() for w in words]
    if any_unit:
        first = lowered[0] if lowered else ""
        product = glued and 1 < len(first) <= 3 and first not in KNOWN_UNITS  # 3xy
        squares = {"squared", "cubed"} if len(words) > 1 else set()  # "meters squared"
        return not product and NUMBER_WORDS.isdisjoint({*lowered} - squares)
    letter = glued and [len(w) for w in words] == [1] and text[0] != "°"  # 2s^2, 7A: no units
    return not letter and KNOWN_UNITS.issuperset(lowered)


def _value(match: re.Match[str]) -> Fraction | None:
    """The unsigned value of a match; None for a zero denominator or a capped exponent."""
    if decimal := match["decimal"]:
        return _scaled(decimal, match["exponent"] or "0")
    if mantissa := match["mantissa"]:
        return _scaled(mantissa, match["scale"])
    if power := match["power"]:
        return _scaled("1", power)
    top = match["top"] or match["mixed_top"] or match["over"]
    bottom = match["bottom"] or match["mixed_bottom"] or match["under"]
    whole = match["whole"] or match["mixed"] or "0"
    denominator = _decimal(bottom)
    if denominator == 0:
        return None
    return int(whole) + _decimal(top) / denominator


def _scaled(mantissa: str, exponent: str) -> Fraction | None:
    # Length first: int("9" * 200) would be computed only to be refused.
    if len(exponent) > 5 or abs(int(exponent)) > MAX_EXPONENT:
        return None
    value = _decimal(mantissa)
    if exponent == "0":
        return value
    return value * Fraction(10) ** int(exponent)


def _decimal(text: str) -> Fraction:
    """``1,234.50`` (with an optional sign) without the cost of Fraction's own parser."""
    whole, _, decimals = text.replace(",", "").replace(" ", "").partition(".")
    return Fraction(int((whole + decimals) or "0"), 10 ** len(decimals))
