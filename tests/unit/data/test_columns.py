"""Columns of a few bytes an entry say the same as lists and dictionaries."""

from __future__ import annotations

import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from m2r_train.data.columns import Names, Places, Texts

texts = st.lists(st.text(max_size=6), max_size=30)


@given(texts, st.data())
def test_texts_are_the_list_of_them(own: list[str], data: st.DataObject) -> None:
    column = Texts(own)
    assert list(column) == own == [column[k] for k in range(len(column))]
    assert column[1:4] == own[1:4]
    rows = data.draw(st.lists(st.integers(0, len(own) - 1), max_size=9)) if own else []
    picked = column.pick(np.array(rows, np.int64))
    assert list(picked) == [own[r] for r in rows]
    column.append("later")
    assert list(picked) == [own[r] for r in rows]


def test_half_of_a_surrogate_pair_is_kept() -> None:
    assert list(Texts(["a\ud800", "é"])) == ["a\ud800", "é"]


@given(texts, st.sets(st.text(max_size=2)))
def test_names_are_the_list_of_them(own: list[str], wanted: set[str]) -> None:
    column = Names()
    for name in own:
        column.append(name)
    assert list(column) == own
    assert column.among(wanted).tolist() == [name in wanted for name in own]
    rows = np.arange(len(own))[::-1]
    assert list(column.pick(rows)) == own[::-1]


@given(texts)
def test_places_are_those_of_the_first(own: list[str]) -> None:
    table, first = Places(), {}
    for place, text in enumerate(own):
        assert table.first(text, place) == first.get(text)
        first.setdefault(text, place)
    assert len(table) == len(first)


def test_a_table_of_places_grows_and_stays_small() -> None:
    table = Places()
    assert all(table.first(f"id-{n}", n) is None for n in range(20_000))
    assert all(table.first(f"id-{n}", 0) == n for n in range(0, 20_000, 97))
    assert len(table) == 20_000
    size = sys.getsizeof(table._keys) + sys.getsizeof(table._values)
    assert size <= 20_000 * 55
