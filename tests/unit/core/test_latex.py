"""Plain notation and canonical forms of expressions."""

from __future__ import annotations

import pytest

from m2r_train.core.latex import FRAC, canonical, plain, same_expression


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"$\text{left}$", "left"),
        (r"\( 7 \)", "7"),
        ("**7.**", "7"),
        (r"\dfrac{1}{2}", FRAC + "{1}{2}"),
        (r"\frac12", FRAC + "{1}{2}"),
        (r"3 \times 10^{2}", "3 × 10^{2}"),
        (r"45^{\circ}", "45°"),
        (r"\left( x \right)", "( x )"),
        (r"1{,}000", "1,000"),
        (r"\sin x", "sin x"),
        ("{{7}}", "{{7}}"),
        ("−7", "-7"),
        ("7\\", "7"),
        ("", ""),
    ],
)
def test_plain_notation(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (r"\frac{a+b}{2}", "( a + b ) / 2"),
        ("(a+b)/2", "( a + b ) / 2"),
        (r"\frac{\sqrt{3}}{2}", "( √ 3 ) / 2"),
        ("x^{10}", "x ^ 10"),
        ("x^{n+1}", "x ^ ( n + 1 )"),
        ("x^-1", "x ^ ( - 1 )"),
        ("2*X", "2 x"),
        ("007.50", "7.5"),
        ("0.0", "0"),
        ("(7)", "7"),
        ("(7", "7"),
        (r"\frac", "( ) / ( )"),
    ],
)
def test_canonical_tokens(text: str, tokens: str) -> None:
    assert canonical(text) == tuple(tokens.split())


def test_there_is_no_canonical_form_beyond_the_caps() -> None:
    assert canonical("x" * 512) is not None
    assert canonical("x" * 513) is None
    assert canonical("(" * 30 + "7") == ("7",)
    for opening in ("(", "{", "^("):
        assert canonical(opening * 100) is None
    assert canonical("^" + "-" * 100) is None


def test_texts_beyond_the_caps_are_the_same_expression_as_nothing() -> None:
    assert not same_expression("(" * 100, "(" * 100)
