"""However a choice is written, it becomes bare texts and a letter, or an error."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from m2r_train.core import answers
from m2r_train.data.choices import option_letter, plain_options

CAT_DOG = ["cat", "dog", "a bird"]


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["cat", "dog"], ("cat", "dog")),
        (["A. cat", "B. dog"], ("cat", "dog")),
        (["(A) cat", "(B) dog"], ("cat", "dog")),
        (["a) cat", "b) dog"], ("cat", "dog")),
        (["A: cat", " B : dog "], ("cat", "dog")),
        (["A.1.5", "B.2.5"], ("1.5", "2.5")),
        (["B. cat", "A. dog"], ("B. cat", "A. dog")),
        (["A. cat", "dog"], ("A. cat", "dog")),
        (["A dog", "B movie"], ("A dog", "B movie")),
        (["AA", "Aa", "aa"], ("AA", "Aa", "aa")),
        (["A", "B"], ("A", "B")),
        (["A.", "B."], ("A.", "B.")),
        ([" 22.6 ", "22.60"], ("22.6", "22.60")),
    ],
)
def test_letters_are_taken_off_options_only_where_all_have_them_in_order(options, texts):
    assert plain_options(options) == texts


@pytest.mark.parametrize(
    "options", [[], ["a"], ["a", "a"], ["A. a", "B. a"], ["a", " a. "], ["x"] * 27]
)
def test_options_that_cannot_be_told_apart_or_lettered_are_refused(options):
    with pytest.raises(ValueError, match="option"):
        plain_options(options)


@pytest.mark.parametrize(
    ("answer", "options", "letter"),
    [
        ("B", CAT_DOG, "B"),
        ("b", CAT_DOG, "B"),
        (" (b) ", CAT_DOG, "B"),
        ("B.", CAT_DOG, "B"),
        ("B. dog", CAT_DOG, "B"),
        ("(B) dog", CAT_DOG, "B"),
        ("B: the dog", CAT_DOG, "B"),
        ("dog", CAT_DOG, "B"),
        ("Dog.", CAT_DOG, "B"),
        ("a  bird", CAT_DOG, "C"),
        ("A bird", CAT_DOG, "C"),
        ("Aa", ["AA", "Aa", "aa"], "B"),
        ("C. 22.6", ["20.1", "21.4", "22.6 cm"], "C"),
        ("B: drive", ["A: drive", "C: drive", "B: drive"], "C"),
        ("A", ["A", "B"], "A"),
        ("1.5", ["1.5", "2.5"], "A"),
    ],
)
def test_an_answer_is_a_letter_or_an_options_text(answer, options, letter):
    assert option_letter(answer, options) == letter


@pytest.mark.parametrize(
    ("answer", "options", "reason"),
    [
        ("D", CAT_DOG, "is no option: neither a letter A-C nor a text"),
        ("a fish", CAT_DOG, "is no option"),
        ("A fish", CAT_DOG, "is no option"),
        ("2", CAT_DOG, "is no option"),
        ("A and B", CAT_DOG, "is no option"),
        ("A. dog", CAT_DOG, "can mean option A or B"),
        ("B", ["B", "C"], "can mean option A or B"),
        ("aA", ["AA", "Aa"], "can mean option A or B"),
    ],
)
def test_an_answer_that_means_none_or_two_options_is_refused(answer, options, reason):
    with pytest.raises(ValueError, match=reason):
        option_letter(answer, options)


words = st.text("abcdefgh XYZ.:()1", min_size=1, max_size=12).filter(str.strip)


@given(st.lists(words, min_size=2, max_size=8), st.data())
def test_lettered_options_and_answers_mean_the_same_as_bare_ones(texts, data):
    try:
        options = plain_options(texts)
    except ValueError:
        assume(False)
    index = data.draw(st.integers(0, len(options) - 1))
    letter = "ABCDEFGH"[index]
    lettered = [f"{'ABCDEFGH'[i]}. {text}" for i, text in enumerate(options)]
    assert plain_options(lettered) == options
    try:
        meant = option_letter(options[index], options)
    except ValueError as error:
        assert "can mean option" in str(error)  # a text that is another's letter
    else:
        assert meant == letter
        assert answers.option_letter(meant) == letter, "the reward reads the letter that we store"
